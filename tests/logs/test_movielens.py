"""MovieLens-100K: both routes give one log; a fetch that fails says what to do and leaves nothing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import urllib.error
import zipfile
from email.message import Message
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from recworld.errors import CorruptError, InputError, UnavailableError
from recworld.logs import LogSettings, canonical_fold, fetch, load_log, movielens
from recworld.logs.movielens import item_text, user_text
from recworld.storage import cache_root, sha256_file

RATINGS = [("2", "1", "5", "881250949"), ("1", "2", "3", "875071561"), ("1", "1", "4", "875071561")]
PEOPLE = [("1", "24", "M", "technician", "85711"), ("2", "53", "F", "other", "94043")]
FILMS = [
    # number, title in u.item, title and year in RecBole, genres
    ("1", "Toy Story (1995)", "Toy Story", "1995", ("Animation", "Children's", "Comedy")),
    ("2", "Misérables, Les (1995)", "Misérables, Les", "1995", ("Drama", "Musical")),
    ("3", "unknown", "unkonwn", "unkonwn", ("unknown",)),
    ("4", "Land Before Time III (1995) (V)", "Land Before Time III (1995)", "V", ("Animation",)),
    ("5", "Maker, The (Uomo, L') (1995)", "Maker, The (Uomo, L')", "1995", ("Drama",)),
]  # fmt: skip
TEXTS = (
    "Toy Story (1995). Animation, Children's, Comedy.",
    "Les Misérables (1995). Drama, Musical.",
    "Unknown title.",
    "Land Before Time III (1995). Animation.",
    "The Maker (L'Uomo) (1995). Drama.",
)


def made_files() -> dict[str, bytes]:
    """Return small files in the form of both publishers, by name."""
    flags = {f[0]: "|".join("1" if genre in f[4] else "0" for genre in movielens.GENRES) for f in FILMS}
    tabbed = "\n".join("\t".join(row) for row in RATINGS) + "\n"
    return {
        "u.data": tabbed.encode(),
        "u.user": "".join("|".join(row) + "\n" for row in PEOPLE).encode(),
        "u.item": "".join(f"{f[0]}|{f[1]}|01-Jan-1995||http://x|{flags[f[0]]}\n" for f in FILMS).encode(
            "latin-1"
        ),
        "ml-100k.inter": ("user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + tabbed).encode(),
        "ml-100k.user": (
            "user_id:token\tage:token\n" + "".join("\t".join(p) + "\n" for p in PEOPLE)
        ).encode(),
        "ml-100k.item": (
            "item_id:token\tmovie_title:token_seq\n"
            + "".join(f"{f[0]}\t{f[2]}\t{f[3]}\t{' '.join(f[4])}\n" for f in FILMS)
        ).encode(),
    }


def archive(folder: str, names: object) -> bytes:
    """Return a zip file with the named files under `folder`."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as content:
        for name in names:  # type: ignore[attr-defined]
            content.writestr(f"{folder}/{name}", made_files()[name])
    return out.getvalue()


@pytest.fixture
def publishers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """Both publishers, played from memory: set "pip" or "zip" to bytes to serve or to an error to raise."""
    for sums in (movielens.PIP_FILES, movielens.ZIP_FILES):
        for name in sums:
            file = tmp_path / name
            file.write_bytes(made_files()[name])
            monkeypatch.setitem(sums, name, sha256_file(file))
            file.unlink()
    served: dict[str, object] = {
        "pip": archive("recbole/dataset_example/ml-100k", movielens.PIP_FILES),
        "zip": archive("ml-100k", movielens.ZIP_FILES),
        "asked": [],
    }

    def answer(kind: str, target: Path) -> Path:
        served["asked"].append(kind)  # type: ignore[attr-defined]
        if isinstance(served[kind], Exception):
            raise served[kind]  # type: ignore[misc]
        target.write_bytes(served[kind])  # type: ignore[arg-type]
        return target

    monkeypatch.setattr(fetch, "pip_wheel", lambda _, folder: answer("pip", folder / "recbole.whl"))
    monkeypatch.setattr(fetch, "https_file", lambda _url, target, _limit: answer("zip", target))
    return served


def test_both_routes_give_the_very_same_log(publishers: dict[str, object]) -> None:
    logs = []
    for route in ("pip", "grouplens"):
        logs.append(load_log("ml-100k", LogSettings.model_validate({"route": route})))
        movielens_files = {file.name for file in (cache_root() / "data" / "ml-100k").iterdir()}
        assert movielens_files == {
            *(movielens.PIP_FILES if route == "pip" else movielens.ZIP_FILES),
            "manifest.json",
        }
        for file in (cache_root() / "data" / "ml-100k").iterdir():
            file.unlink()
        (cache_root() / "data" / "ml-100k").rmdir()
    assert publishers["asked"] == ["pip", "zip"]
    first, second = logs
    assert first.fingerprint == second.fingerprint
    assert first.item_text == second.item_text == TEXTS
    assert first.user_text == ("24 year old man, technician", "53 year old woman")
    assert first.user.tolist() == [1, 0, 0]
    assert first.item.tolist() == [0, 1, 0]
    assert first.rating.tolist() == [5, 3, 4]
    assert first.scale.levels == (1, 2, 3, 4, 5)
    assert first.item_keys.tolist() == ["1", "2", "3", "4", "5"]


def test_a_declared_scale_is_kept_to(publishers: dict[str, object]) -> None:
    assert load_log("ml-100k", LogSettings(low=0, high=5)).scale.levels == (0, 1, 2, 3, 4, 5)
    clicks = load_log("ml-100k", LogSettings(scale="click"))
    assert clicks.scale.kind == "click"
    assert clicks.rating.tolist() == [1, 1, 1]
    with pytest.raises(InputError, match="ml-100k: rating 5 is outside the declared scale; at most 4"):
        load_log("ml-100k", LogSettings(high=4))


def test_the_cache_is_used_and_a_corrupt_one_is_made_anew(
    publishers: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_log("ml-100k")
    assert load_log("ml-100k").fingerprint == first.fingerprint
    assert publishers["asked"] == ["pip"]
    assert "acknowledge GroupLens" in capsys.readouterr().err
    (cache_root() / "data" / "ml-100k" / "ml-100k.inter").write_text("2\t1\t1\t1\n", encoding="utf-8")
    assert load_log("ml-100k").fingerprint == first.fingerprint
    assert publishers["asked"] == ["pip", "pip"]


def test_one_route_stands_in_for_the_other(publishers: dict[str, object]) -> None:
    publishers["pip"] = UnavailableError("pip failed: no matching distribution")
    assert load_log("ml-100k").item_text == TEXTS
    assert publishers["asked"] == ["pip", "zip"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (UnavailableError("x did not answer: refused"), "grouplens: x did not answer: refused"),
        (b"no zip", "grouplens: ml-100k.zip is not a whole zip file"),
        (archive("other", ["u.data"]), "grouplens: ml-100k.zip lacks a file"),
        (archive("ml-100k", movielens.ZIP_FILES)[:-30], "grouplens: ml-100k.zip is not a whole zip file"),
    ],
)
def test_when_both_routes_fail_one_line_names_both(
    publishers: dict[str, object], content: object, said: str
) -> None:
    publishers["pip"] = UnavailableError("this Python has no pip (`python -m ensurepip` brings it)")
    publishers["zip"] = content
    with pytest.raises(UnavailableError) as caught:
        load_log("ml-100k")
    line = str(caught.value)
    assert "\n" not in line
    assert "pip: this Python has no pip (`python -m ensurepip` brings it)" in line
    assert said in line
    assert f"put ml-100k.zip ({movielens.URL}) at {cache_root() / 'data' / 'ml-100k.zip'}." in line
    assert list((cache_root() / "data").iterdir()) == []


def test_wrong_content_is_refused(publishers: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(movielens.ZIP_FILES, "u.item", "0" * 64)
    with pytest.raises(UnavailableError, match=r"grouplens: u\.item has not the published checksum"):
        load_log("ml-100k", LogSettings(route="grouplens"))
    assert publishers["asked"] == ["zip"]


def test_a_zip_that_was_put_in_place_needs_no_network(
    publishers: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECWORLD_OFFLINE", "1")
    place = cache_root() / "data" / "ml-100k.zip"
    with pytest.raises(UnavailableError, match=r"RECWORLD_OFFLINE is set; put ml-100k\.zip at"):
        load_log("ml-100k")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(publishers["zip"])  # type: ignore[arg-type]
    assert load_log("ml-100k").item_text == TEXTS
    assert publishers["asked"] == []


def test_pip_that_is_missing_or_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--only-binary=:all:" in command
        return subprocess.CompletedProcess(
            command, 1, "", "WARNING: x\nERROR: No matching distribution found\n"
        )

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(UnavailableError, match=r"^pip failed: No matching distribution found$"):
        fetch.pip_wheel("recbole==1.2.1", tmp_path)

    def unanswered(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        said = "WARNING: Retrying after connection broken by X\nERROR: No matching distribution found\n"
        return subprocess.CompletedProcess(command, 1, "", said)

    monkeypatch.setattr(subprocess, "run", unanswered)
    with pytest.raises(UnavailableError, match=r"^the package index did not answer$"):
        fetch.pip_wheel("recbole==1.2.1", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UnavailableError, match="this Python has no pip"):
        fetch.pip_wheel("recbole==1.2.1", tmp_path)


class _Answer(BytesIO):
    """What urlopen gives."""

    def __init__(self, content: bytes, length: int) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(length)}


def test_https_is_retried_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    answers: list[object] = []

    def urlopen(*_: object, **__: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(fetch.urllib.request, "urlopen", urlopen)
    target = tmp_path / "file.zip"
    answers[:] = [urllib.error.URLError("no route"), _Answer(b"ab", 4), _Answer(b"abcd", 4)]
    assert fetch.https_file("https://x/file.zip", target, 10).read_bytes() == b"abcd"
    answers[:] = [TimeoutError("timed out")] * 3
    with pytest.raises(UnavailableError, match="did not answer: timed out"):
        fetch.https_file("https://x/file.zip", target, 10)
    answers[:] = [urllib.error.HTTPError("https://x", 404, "Not Found", Message(), None)]
    with pytest.raises(UnavailableError, match="did not answer: HTTP 404 Not Found"):
        fetch.https_file("https://x/file.zip", target, 10)
    answers[:] = [_Answer(b"x" * 20, 20) for _ in range(3)]
    with pytest.raises(UnavailableError, match="more than 10 bytes came"):
        fetch.https_file("https://x/file.zip", target, 10)
    assert not target.exists()


def test_the_real_data_set() -> None:
    """Fetch MovieLens-100K as a newcomer does, where the package index answers."""
    try:
        log = load_log("ml-100k", LogSettings(route="pip"))
    except UnavailableError as error:
        pytest.skip(str(error))
    assert (len(log), log.num_users, log.num_items) == (100_000, 943, 1682)
    assert log.user_text[0] == "24 year old man, technician"
    assert log.item_text[0] == TEXTS[0]
    assert log.item_text[266] == "Unknown title."
    assert log.item_text[1411].startswith("Land Before Time III: The Time of the Great Giving (1995). ")
    assert np.bincount(log.rating.astype(int)).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    assert log.user_keys[log.user[0]] == "196"


def test_folds() -> None:
    seen = []
    for fold in range(1, 6):
        train, test = canonical_fold(fold)
        assert len(train) == 80_000
        assert test.tolist() == list(range(20_000 * (fold - 1), 20_000 * fold))
        assert not np.isin(train, test).any()
        seen.append(test)
    np.testing.assert_array_equal(np.concatenate(seen), np.arange(100_000))
    with pytest.raises(InputError, match=r"must be a number from 1 to 5\. Got 6"):
        canonical_fold(6)


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        (("24", "M", "none"), "24 year old man, without occupation"),
        (("61", "F", "retired"), "61 year old woman, retired"),
        (("30", "F", "healthcare"), "30 year old woman, works in healthcare"),
        (("7", "X", "student"), "7 year old person, student"),
    ],
)
def test_people_in_words(person: tuple[str, str, str], expected: str) -> None:
    assert user_text(*person) == expected


def test_films_in_words() -> None:
    assert item_text("Paris, Texas (1984)", ("Drama",)) == "Paris, Texas (1984). Drama."
    assert item_text("Shall We Dance? (1937)", ()) == "Shall We Dance? (1937)."
    assert item_text("101  Dalmatians", ("unknown",)) == "101 Dalmatians."


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(CorruptError, match="does not hold MovieLens-100K"):
        movielens.parse(tmp_path)
