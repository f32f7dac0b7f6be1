"""Coat: 290 people rated 24 coats of their own choice (the log) and 16 coats drawn at random (an unbiased test).

T. Schnabel, A. Swaminathan, A. Singh, N. Chandak and T. Joachims. Recommendations as Treatments: Debiasing Learning and
Evaluation. ICML 2016. The files are read where the user put them; nothing is fetched.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError, did_you_mean
from recworld.logs.log import InteractionLog, RatingScale
from recworld.logs.settings import LogSettings

Floats = npt.NDArray[np.float64]

URL = "https://www.cs.cornell.edu/~schnabts/mnar/"
SCALE = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
FEATURES = "user_item_features"
_PEOPLE = {"men": "man", "women": "woman"}


def coat(settings: LogSettings, seed: int = 0) -> InteractionLog:
    """Return the self-selected ratings of Coat, with users and coats in words; without timestamps.

    Args:
        settings: `path` names the folder with train.ascii, test.ascii, propensities.ascii and user_item_features.
        seed: not used.

    Raises:
        InputError: no folder is named, a file is missing, or a file is not of the published form.
    """
    del seed
    if settings.path is None:
        raise InputError(
            f"The data set 'coat' is read from a folder: unpack {URL} and name it by the setting path."
        )
    folder = Path(settings.path).expanduser()
    return _log(folder, _matrix(folder, "train.ascii"), "coat", "self-selected ratings")


def coat_test(folder: Path | str) -> InteractionLog:
    """Return the ratings of random coats, with the users and items of `coat`.

    A few pairs (366 of 4,640) are in the training ratings too, with the same rating: the random draw knew nothing of them.

    Raises:
        InputError: a file is missing, or not of the published form.
    """
    folder = Path(folder).expanduser()
    shape = _matrix(folder, "train.ascii").shape
    return _log(folder, _matrix(folder, "test.ascii", shape), "coat-test", "ratings of random items")


def coat_propensities(folder: Path | str) -> Floats:
    """Return the published probabilities, (U, I) in (0, 1], that a pair is among the self-selected ratings.

    They are estimates of the publishers (logistic regression on user and item features).

    Raises:
        InputError: the file is missing, or not of the published form.
    """
    folder = Path(folder).expanduser()
    shape = _matrix(folder, "train.ascii").shape
    values = _table(folder, "propensities.ascii", shape)
    if not ((values > 0) & (values <= 1)).all():
        wrong = values[~((values > 0) & (values <= 1))][0]
        raise InputError(
            f"{folder / 'propensities.ascii'}: a probability above 0, at most 1, was expected. Got {wrong:g}."
        )
    return values


def coat_features(folder: Path | str) -> tuple[Floats, Floats]:
    """Return the published features as numbers: (U, P) of users and (I, Q) of items, each 0 or 1.

    Raises:
        InputError: a file is missing, or not of the published form.
    """
    folder = Path(folder).expanduser()
    users, items = _matrix(folder, "train.ascii").shape
    return _features(folder, "user", users)[1], _features(folder, "item", items)[1]


def _log(folder: Path, matrix: Floats, name: str, what: str) -> InteractionLog:
    users, items = matrix.shape
    user, item = np.nonzero(matrix)
    return InteractionLog(
        name=name,
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        rating=matrix[user, item].astype(np.float32),
        time=None,
        user_keys=np.array([str(n + 1) for n in range(users)], np.str_),
        item_keys=np.array([str(n + 1) for n in range(items)], np.str_),
        user_text=tuple(user_text(row) for row in _named(folder, "user", users)),
        item_text=tuple(item_text(row) for row in _named(folder, "item", items)),
        scale=SCALE,
        notes=(SCALE.describe(), what),
    )


def _file(folder: Path, name: str) -> Path:
    """Return the path of a file that must be there."""
    if not folder.is_dir():
        raise InputError(f"The folder of the data set 'coat', {folder}, does not exist. It comes from {URL}.")
    path = folder / name
    if not path.is_file():
        near = did_you_mean(path.name, [entry.name for entry in path.parent.glob("*")])
        near = f" {near}" if near.startswith("Did") else ""
        raise InputError(f"{path} does not exist; the data set 'coat' needs it. It comes from {URL}.{near}")
    return path


def _table(folder: Path, name: str, shape: tuple[int, ...] | None = None) -> Floats:
    """Read numbers in rows; `shape` is what the other files make one expect (rows alone, or rows and columns)."""
    path = _file(folder, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # loadtxt warns of an empty file, which is refused below
            values = np.loadtxt(path, np.float64, ndmin=2, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a table of numbers of one width: {' '.join(str(error).split())}"
        ) from None
    if values.size == 0 or not np.isfinite(values).all():
        fault = "It is empty" if values.size == 0 else "It has a value that is not finite"
        raise InputError(f"{path}: a table of numbers was expected. {fault}.")
    if shape is not None and values.shape[: len(shape)] != shape:
        wanted, got = (" x ".join(map(str, s)) for s in (shape, values.shape[: len(shape)]))
        columns = "" if len(shape) > 1 else " rows"
        raise InputError(
            f"{path}: {wanted}{columns} were expected, as in train.ascii (290 x 300 in the published files). Got {got}."
        )
    return values


def _matrix(folder: Path, name: str, shape: tuple[int, ...] | None = None) -> Floats:
    """Read a (U, I) matrix of ratings 1 to 5 with 0 for none."""
    values = _table(folder, name, shape)
    wrong = values[~np.isin(values, (0.0, *SCALE.levels))]
    if len(wrong):
        raise InputError(f"{folder / name}: ratings 1 to 5, or 0 for none, were expected. Got {wrong[0]:g}.")
    if not values.any():
        raise InputError(f"{folder / name} has no rating; at least one was expected.")
    return values


def _features(folder: Path, what: str, rows: int) -> tuple[list[str], Floats]:
    """Return the names "group:value" of a side's features, and 0/1 flags, (rows, P)."""
    table = f"{FEATURES}/{what}_features.ascii"
    flags = _table(folder, table, (rows,))
    source = _file(folder, f"{FEATURES}/{what}_features_map.txt")
    try:
        names = [line.strip() for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{source} is not a readable text file.") from None
    if len(names) != flags.shape[1]:
        raise InputError(
            f"{source} names {len(names)} features, and {folder / table} has {flags.shape[1]} columns."
        )
    return names, flags


def _named(folder: Path, what: str, rows: int) -> list[dict[str, str]]:
    """Return what each user or item is, group by group."""
    names, flags = _features(folder, what, rows)
    pairs = [name.partition(":")[::2] for name in names]
    return [{pairs[p][0]: pairs[p][1].strip() for p in np.flatnonzero(row > 0)} for row in flags]


def user_text(is_a: dict[str, str]) -> str:
    """Return a user in words.

    >>> user_text({"gender": "women", "age": "20-30", "location": "urban", "fashioninterest": "very"})
    'woman, 20-30 years old, urban, very interested in fashion'
    """
    left = dict(is_a)
    gender, age, interest = left.pop("gender", ""), left.pop("age", ""), left.pop("fashioninterest", "")
    parts = [
        _PEOPLE.get(gender, gender), f"{age} years old" if age else "", left.pop("location", ""),
        f"{interest} interested in fashion" if interest else "", *_rest(left),
    ]  # fmt: skip
    return ", ".join(part for part in parts if part)


def item_text(is_a: dict[str, str]) -> str:
    """Return a coat in words.

    >>> item_text({"gender": "men", "jackettype": "bomber", "color": "black", "onfrontpage": "no"})
    "men's jacket, bomber, black"
    """
    left = dict(is_a)
    gender, front = left.pop("gender", ""), left.pop("onfrontpage", "no")
    parts = [
        f"{gender}'s jacket" if gender else "jacket", left.pop("jackettype", ""), left.pop("color", ""),
        "on the front page" if front == "yes" else "", *_rest(left),
    ]  # fmt: skip
    return ", ".join(part for part in parts if part)


def _rest(left: dict[str, str]) -> list[str]:
    return [f"{group} {value}".strip() for group, value in left.items()]
