"""Every wrong input is one clear line that names the file, the place, what is there and what is expected."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recworld.errors import InputError
from recworld.logs import LogSettings, check_log, load_log

HEAD = "user_id,item_id,rating,timestamp,user_info,item_info\n"
GOOD = "u1,i1,5,1,a,b\nu1,i2,4,2,a,b\n"

TEXT_CASES: dict[str, tuple[str, str]] = {
    "empty": ("", r"is empty: a heading and at least one row were expected\."),
    "blank lines": ("\n\n", r"is empty: a heading and at least one row were expected\."),
    "header only": (HEAD, r"has a heading and no row; at least one interaction was expected\."),
    "short row": (HEAD + GOOD + "u2,i1,4\n", r"row 4 has 3 values where the heading has 6\."),
    "long row": (HEAD + "u1,i1,5,1,a,b,c\n" + GOOD, r"row 2 has 7 values where the heading has 6\."),
    "word": (HEAD + GOOD + "u2,i1,good,3,a,b\n", r"row 4: rating must be a finite .* Got 'good'\."),
    "nan": (HEAD + "u2,i1,nan,3,a,b\n" + GOOD, r"row 2: rating must be a finite .* Got 'nan'\."),
    "infinity": (HEAD + "u2,i1,-inf,3,a,b\n", r"row 2: rating must be a finite number\. Got '-inf'\."),
    "no rating": (HEAD + "u2,i1,,3,a,b\n", r"row 2: rating must be .* Got an empty cell\."),
    "decimal comma": ("user_id;item_id;rating\n1;2;3,5\n", r"row 2: rating must .* Got '3,5'\."),
    "too large": (
        HEAD + GOOD + "u2,i1,1e39,3,a,b\n",
        r"row 4: rating 1e\+39 is too large for",
    ),
    "constant": (
        HEAD + "u1,i1,3,1,a,b\nu2,i1,3,1,a,b\n",
        r"every rating is 3, which tells no scale\.",
    ),
    "one row": (HEAD + "u1,i1,5,1,a,b\n", r"every rating is 5, which tells no scale"),
    "bad time": (
        HEAD + GOOD + "u2,i1,4,soon,a,b\n",
        r"row 4: timestamp must be a number of seconds.* 'soon'",
    ),
    "bad date": (
        "user_id,item_id,timestamp\n1,1,2020-01-01\n1,2,2020-13-01\n",
        r"row 3: timestamp must .*13-01",
    ),
    "nan time": (HEAD + GOOD + "u2,i1,4,nan,a,b\n", r"row 4: timestamp must be .* Got 'nan'\."),
    "empty id": (HEAD + GOOD + " ,i1,4,3,a,b\n", r"row 4: user_id is empty; every row needs"),
    "long id": (
        HEAD + "u" * 600 + ",i1,5,1,a,b\n",
        r"row 2: user_id has 600 characters \(uuu.*at most 500\.",
    ),
    "no column": ("user,item_id,rating\n1,2,3\n", r"has no column 'user_id'\. Did you mean 'user'\?"),
    "no heading": ("1,2,3\n1,3,4\n", r"has no column 'user_id'\. Known: 1, 2, 3\."),
    "near optional": (
        "user_id,item_id,Ratings\n1,2,3\n",
        r"has no column 'rating'\. .* 'Ratings'\?",
    ),
    "two of a name": ("user_id,item_id,item_id\n1,2,3\n", r"has two columns named 'item_id'"),
    "open quote": (HEAD + GOOD + 'u2,i1,4,3,a,"b\n', r"a quote is opened and never closed"),
    "bad click": (
        "user_id,item_id,click\n1,2,1\n1,3,maybe\n",
        r"row 3: click must be 1 or 0\. Got 'may",
    ),
    "no click": ("user_id,item_id,click\n1,2,0\n", r"click is 0 in every row; at least one interaction"),
}


def refused(dataset: str | Path, **settings: object) -> str:
    """Return the one line that loading answers with; nothing may be warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            load_log(str(dataset), LogSettings.model_validate(settings))
    line = str(caught.value)
    assert "\n" not in line
    assert line[-1] in ".?'"
    return line


@pytest.mark.parametrize("case", TEXT_CASES)
def test_wrong_text(case: str, tmp_path: Path) -> None:
    text, expected = TEXT_CASES[case]
    file = tmp_path / "log.csv"
    file.write_text(text, encoding="utf-8")
    line = refused(file)
    assert str(file) in line
    assert re.search(expected, line)
    assert os.listdir(tmp_path) == ["log.csv"]


def _parquet(path: Path, **columns: object) -> bytes:
    pd.DataFrame(columns).to_parquet(path)
    return path.read_bytes()


def test_wrong_bytes(tmp_path: Path) -> None:
    whole = _parquet(tmp_path / "whole.parquet", user_id=[1, 2], item_id=[1, 2], rating=[1, 2])
    cases = {
        "noise.csv": (np.random.default_rng(0).bytes(3000), "is a binary file; CSV text"),
        "control.csv": (bytes(range(1, 256)) * 3, "is a binary file; CSV text"),
        "hidden.csv": (whole, "is a Parquet file: name it hidden.parquet"),
        "text.parquet": (HEAD.encode(), "is not a Parquet file: it does not begin with 'PAR1'"),
        "cut.parquet": (whole[: len(whole) // 2], "is not a whole Parquet file"),
        "hole.parquet": (whole[:20] + b"\xff" * 30 + whole[50:], "is not a whole Parquet file"),
        "cut.csv.gz": (b"\x1f\x8b\x08\x00abc", "is not a whole gzip file"),
        "half.csv": ("user_id".encode("utf-16") + b"\x00", "is neither UTF-8 nor UTF-16 text"),
        "log.xlsx": (b"PK", "is a .xlsx file; a CSV, TSV or Parquet file was expected"),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        line = refused(tmp_path / name)
        assert name in line
        assert expected in line


def test_wrong_parquet_cells(tmp_path: Path) -> None:
    file = tmp_path / "log.parquet"
    _parquet(file, user_id=[1.0, None], item_id=[1, 2], rating=[1, 2])
    assert "row 2: user_id is empty" in refused(file)
    _parquet(file, user_id=[2.0**60, 1.0], item_id=[1, 2], rating=[1, 2])
    assert "row 1: user_id 1.15292e+18 was rounded; store identifiers as" in refused(file)
    _parquet(file, user_id=[[1], [2]], item_id=[1, 2], rating=[1, 2])
    assert "column 'user_id' holds list" in refused(file)
    _parquet(file, user_id=["a\0b", "c"], item_id=[1, 2], rating=[1, 2])
    assert "row 1: user_id holds a NUL character" in refused(file)
    _parquet(file, user_id=[1, 2], item_id=[1, 2], rating=[1.0, np.inf])
    assert "row 2: rating must be a finite number. Got 'inf'" in refused(file)
    _parquet(file, user_id=[], item_id=[], rating=[])
    assert "has a heading and no row" in refused(file)


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused("ml100k").endswith("Did you mean 'ml-100k'?")
    assert "Known: coat, foreign, ml-100k, wellspecified." in refused("netflix-prize")
    assert "must be a name, a file or a folder" in refused(" ")
    assert "of 5000 characters" in refused("x" * 5000)
    assert "Unknown data set" in refused("a\0b")
    (tmp_path / "interactions.csv").write_text(HEAD + GOOD, encoding="utf-8")
    assert refused("./interaction.csv").endswith("does not exist. Did you mean 'interactions.csv'?")
    assert refused("interactions.cs").endswith("Did you mean 'interactions.csv'?")
    assert "does not exist" in refused("nowhere/log.csv")
    assert "importing 'no_such_module' failed" in refused("no_such_module:load")
    assert "must be a function of (settings, seed)" in refused("json:loads")


def test_a_function_that_returns_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_reader_for_test.py").write_text(
        "def load(settings, seed):\n    return 3\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "must return an InteractionLog. Got int." in refused("own_reader_for_test:load")


def test_folders(folder: Path) -> None:
    content = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.csv")}

    def with_file(name: str, text: str) -> str:
        for known, original in content.items():
            (folder / known).write_text(original, encoding="utf-8")
        (folder / name).write_text(text, encoding="utf-8")
        return refused(folder)

    line = with_file("users.csv", "user_id,user_info\nbob,a man\n")
    assert "interactions.csv, row 2: user 'ann' is not in" in line
    line = with_file("items.csv", "item_id,genre\n2,war\n")
    assert "interactions.csv, row 2: item '10' is not in" in line
    assert line.endswith("items.csv (2 items are missing there).")
    line = with_file("users.csv", content["users.csv"] + "bob,again\n")
    assert "users.csv, row 5: user 'bob' stands in row 2 already." in line
    head, first, *_ = content["exposures.csv"].splitlines()
    assert "no column 'position'" in with_file(
        "exposures.csv", content["exposures.csv"].replace("position", "x")
    )
    assert "a session has one user" in with_file(
        "exposures.csv", f"{head}\n{first}\n{first.replace('ann', 'bob').replace(',0,', ',1,')}\n"
    )
    assert "position must be a whole number" in with_file(
        "exposures.csv", f"{head}\n{first.replace(',0,', ',-1,')}\n"
    )
    assert "propensity must be above 0 and at most 1. Got 0" in with_file(
        "exposures.csv", f"{head}\n{first.replace('0.5', '0')}\n"
    )
    assert "rating 6 is outside the scale of the interactions" in with_file(
        "exposures.csv", f"{head}\n{first.replace('3.5', '6')}\n"
    )
    assert "has both interactions.csv and interactions.tsv" in with_file("interactions.tsv", "x")


def test_folders_without_interactions(tmp_path: Path) -> None:
    assert "It has no CSV, TSV or Parquet file at all." in refused(tmp_path)
    (tmp_path / "interaction.csv").write_text("x", encoding="utf-8")
    assert refused(tmp_path).endswith("Did you mean 'interaction.csv'?")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log.csv"
    file.write_text(HEAD + GOOD, encoding="utf-8")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refused(file) == f"{file} cannot be read: Permission denied."


def test_declared_scales(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(HEAD + GOOD + "u2,i1,3,3,a,b\n", encoding="utf-8")
    assert "row 2: rating 5 is outside the declared scale; at most 4 was expected." in refused(file, high=4)
    assert "row 4: rating 3 is outside the declared scale; at least 4 was expected." in refused(file, low=4)
    assert "low must be below high. Got low 5, high 1." in refused(file, low=5, high=1)
    file.write_text("user_id,item_id\n1,2\n", encoding="utf-8")
    assert "has no ratings, so scale must be auto or click. Got 'discrete'." in refused(
        file, scale="discrete"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("user_idd: uid", "names 'user_idd', which is no column of ours. Did you mean 'user_id'?"),
        ("[1, 2", "is not YAML"),
        ("- a", "must map our names to headings"),
        ("", "must map our names to headings"),
        ("rating: [a, b]", "rating must be one heading. Got ['a', 'b']."),
        ("user_id: null", "user_id must be one heading. Got None."),
        ("users: {rating: x}", "names 'rating', which is no column of ours"),
        ("user: {user_id: x}", "names 'user', which is no column of ours. Did you mean 'users'?"),
        ("rating: stars", "has no column 'stars' (for rating)."),
        ("user_info: [age, job]", "has no column 'age' (for user_info)."),
    ],
)
def test_column_maps(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + GOOD, encoding="utf-8")
    (tmp_path / "map.yaml").write_text(text, encoding="utf-8")
    assert expected in refused(tmp_path / "log.csv", columns=str(tmp_path / "map.yaml"))


def test_a_column_map_that_is_not_there_or_not_for_this(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + GOOD, encoding="utf-8")
    missing = str(tmp_path / "no.yaml")
    assert refused(tmp_path / "log.csv", columns=missing) == f"The column map {missing} does not exist."
    assert "columns is for files and folders" in refused("foreign", columns=missing)


def test_a_log_too_small_for_a_world(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(HEAD + GOOD, encoding="utf-8")
    log = load_log(str(file))
    assert log.num_users == 1
    with pytest.raises(InputError, match=r"^log has 1 user with interactions; a world needs at least 3\.$"):
        check_log(log)
