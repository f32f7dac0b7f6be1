"""Coat is read as published, in words; whatever is wrong with its folder is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.logs import LogSettings, load_log
from recworld.logs.coat import URL, coat_features, coat_propensities, coat_test


def read(folder: Path):
    return load_log("coat", LogSettings(path=str(folder)))


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_log_and_random_test_are_what_the_files_say(made_coat: Path) -> None:
    log, test = read(made_coat), coat_test(made_coat)
    for found, name in ((log, "train.ascii"), (test, "test.ascii")):
        matrix = np.zeros((6, 5))
        matrix[found.user, found.item] = found.rating
        np.testing.assert_array_equal(matrix, np.loadtxt(made_coat / name))
    assert log.time is None
    assert test.user_text == log.user_text
    assert log.scale.levels == (1, 2, 3, 4, 5)  # whatever was given: the scale is known
    np.testing.assert_allclose(
        coat_propensities(str(made_coat)), np.loadtxt(made_coat / "propensities.ascii")
    )
    users, items = coat_features(made_coat)
    assert users.shape == (6, 5)
    assert items.shape == (5, 5)
    for text, row in zip(log.user_text, users, strict=True):
        gender = "man" if row[0] else "woman"
        age = "20-30" if row[2] else "over 60"
        assert text == f"{gender}, {age} years old, not at all interested in fashion"
    for text, row in zip(log.item_text, items, strict=True):
        front = ", on the front page" if row[3] else ""
        assert text == f"{'men' if row[0] else 'women'}'s jacket, pea{front}"


def test_unknown_groups_of_features_are_kept_in_words(made_coat: Path) -> None:
    names = made_coat / "user_item_features" / "item_features_map.txt"
    names.write_text("size:small\nsize:large\njackettype:pea\ncut:slim\ncut:wide\n", encoding="utf-8")
    assert set(read(made_coat).item_text) <= {
        f"jacket, pea, size {size}, cut {cut}" for size in ("small", "large") for cut in ("slim", "wide")
    }


def test_a_missing_folder_or_file_is_one_line_with_the_source(made_coat: Path, tmp_path: Path) -> None:
    assert "setting path" in (line := refused_without_path())
    assert URL in line
    assert URL in (line := refused(tmp_path / "nowhere"))
    assert "nowhere" in line
    for name in ("train.ascii", "user_item_features/user_features.ascii"):
        whole = (made_coat / name).read_bytes()
        (made_coat / name).unlink()
        assert name in (line := refused(made_coat))
        assert URL in line
        (made_coat / name).write_bytes(whole)
    (made_coat / "train.ascii").rename(made_coat / "train.asci")
    assert "Did you mean 'train.asci'?" in refused(made_coat)


def refused_without_path() -> str:
    with pytest.raises(InputError) as caught:
        load_log("coat")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("train.ascii", "1 2 0\n0 6 0\n", "ratings 1 to 5, or 0 for none, were expected. Got 6."),
        ("train.ascii", "1 2.5 0\n0 5 0\n", "Got 2.5."),
        ("train.ascii", "0 0\n0 0\n", "has no rating"),
        ("train.ascii", "1 2\n3\n", "is not a table of numbers of one width"),
        ("train.ascii", "a b\n", "is not a table of numbers"),
        ("train.ascii", "", "It is empty."),
        ("train.ascii", "nan 1\n", "not finite"),
        ("train.ascii", "1 2 0 0 0\n", "1 rows were expected, as in train.ascii (290 x 300"),
        ("user_item_features/item_features.ascii", "1 0\n", "5 rows were expected"),
        ("user_item_features/item_features_map.txt", "gender:men\n", "names 1 features"),
    ],
)
def test_a_wrong_file_is_one_line(made_coat: Path, name: str, text: str, expected: str) -> None:
    (made_coat / name).write_text(text, encoding="utf-8")
    line = refused(made_coat)
    assert expected in line
    assert Path(name).name.split("_")[0] in line


def test_test_rows_and_propensities_must_fit_the_training_ratings(made_coat: Path) -> None:
    np.savetxt(made_coat / "test.ascii", np.ones((6, 4)), "%d")
    with pytest.raises(InputError, match=r"6 x 5 were expected.* Got 6 x 4\."):
        coat_test(made_coat)
    np.savetxt(made_coat / "propensities.ascii", np.zeros((6, 5)))
    with pytest.raises(InputError, match=r"a probability above 0, at most 1, was expected\. Got 0\."):
        coat_propensities(made_coat)


def test_the_path_is_for_data_sets_that_take_one(made_coat: Path, folder: Path) -> None:
    for dataset in ("foreign", str(folder)):
        with pytest.raises(InputError, match="setting path is for data set 'coat'"):
            load_log(dataset, LogSettings(path=str(made_coat)))
