"""Vectors that were computed elsewhere, read from files and laid beside those of the texts.

A file names the user or item of each row, so that no order can go wrong: ``.npz`` and ``.safetensors`` hold one array
of identifiers and one of vectors, ``.csv``/``.tsv`` and ``.parquet`` one column of identifiers and columns of numbers.
``.npy`` has no identifiers: its rows are taken in the order of the log, which is said.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.encoders.settings import EncoderSettings
from recworld.errors import InputError, did_you_mean
from recworld.logs.log import FloatArray, InteractionLog
from recworld.progress import say
from recworld.storage import content_hash, sha256_file

ENDINGS = (".npz", ".safetensors", ".parquet", ".pq", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npy")
ID_NAMES = ("id", "ids", "key", "keys", "user_id", "item_id", "user", "item")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GivenBlock:
    """Vectors of one role from a file.

    Attributes:
        vectors: (n, W) float32 in the log's order; zero where the file has none.
        present: (n,) whether the file has one.
        fingerprint: content hash of the file.
    """

    vectors: FloatArray
    present: Mask
    fingerprint: str


def read_given(log: InteractionLog, settings: EncoderSettings) -> tuple[GivenBlock | None, GivenBlock | None]:
    """Return the vectors that the files of `settings` give to users and items; None where no file is named.

    Raises:
        InputError: a file cannot be read or does not fit the log, or the kind is given and there is none.
    """
    blocks = [
        None
        if name is None
        else read_block(Path(name).expanduser(), keys, f"encoder.{what}_vectors", f"{what}s")
        for name, what, keys in (
            (settings.user_vectors, "user", log.user_keys if settings.user_vectors else ()),
            (settings.item_vectors, "item", log.item_keys if settings.item_vectors else ()),
        )
    ]
    if settings.kind == "given" and blocks == [None, None]:
        raise InputError(
            "encoder.kind given needs encoder.user_vectors or encoder.item_vectors, a file of vectors."
        )
    return blocks[0], blocks[1]


def read_block(path: Path, keys: Any, setting: str, what: str) -> GivenBlock:
    """Return the vectors that a file gives to the identifiers of a log.

    Args:
        path: the file.
        keys: (n,) identifiers of the log.
        setting: what names the file, for errors.
        what: "users" or "items".

    Raises:
        InputError: it cannot be read, holds NaN, repeats an identifier, or names one that the log lacks.
    """
    ids, vectors = read_vectors(path, setting)
    where = f"{setting}: {path}"
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InputError(f"{where} must hold vectors of shape (n, width). Got {vectors.shape}.")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        named = f"row {row}" if ids is None else f"{ids[row]!r}"
        raise InputError(f"{where} holds NaN or infinity, first in the vector of {named}.")
    known = [str(key) for key in keys]
    if ids is None:
        if len(vectors) != len(known):
            raise InputError(
                f"{where} has no identifiers and {len(vectors)} rows; the log has {len(known)} {what}. "
                "An .npz with the arrays id and vector says which is which."
            )
        say(f"{path} has no identifiers: its rows are taken in the order of the log's {what}.")
        return GivenBlock(vectors, np.ones(len(known), np.bool_), sha256_file(path))
    number = {key: n for n, key in enumerate(known)}
    place = np.array([number.get(key, -1) for key in ids], np.int64)
    _check_ids(ids, place, known, where, what)
    out, present = np.zeros((len(known), vectors.shape[1]), np.float32), np.zeros(len(known), np.bool_)
    out[place], present[place] = vectors, True
    missing = int((~present).sum())
    rest = f"; {missing} have none" if missing else ""
    say(f"{path}: vectors of width {vectors.shape[1]} for {len(ids)} of {len(known)} {what}{rest}.")
    return GivenBlock(out, present, sha256_file(path))


def _check_ids(ids: list[str], place: npt.NDArray[np.int64], known: list[str], where: str, what: str) -> None:
    unknown = np.flatnonzero(place < 0)
    if len(unknown):
        name = ids[int(unknown[0])]
        raise InputError(
            f"{where} names {len(unknown)} {what} that the log does not have, first {name!r}. "
            f"{did_you_mean(name, known, 4)}"
        )
    _, first = np.unique(place, return_index=True)
    if len(first) < len(place):
        row = int(np.setdiff1d(np.arange(len(place)), first)[0])
        raise InputError(f"{where} holds {ids[row]!r} more than once.")


def read_vectors(path: Path, setting: str = "The file") -> tuple[list[str] | None, FloatArray]:
    """Return the identifiers (None: the file has none) and the float32 vectors of a file; no pickle is ever loaded.

    Raises:
        InputError: it is missing, of another kind, broken, or does not hold identifiers and vectors.
    """
    where = f"{setting}: {path}"
    if not path.is_file():
        raise InputError(f"{where} is not a file.")
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        raise InputError(f"{where} must end in one of {', '.join(ENDINGS)}.")
    if name.endswith(".npy"):
        return None, _numbers(_loaded(path, where), where)
    if name.endswith(".npz"):
        return _ids_and_vectors(_loaded(path, where), where)
    if name.endswith(".safetensors"):
        return _ids_and_vectors(_safetensors(path, where), where)
    return _columns(path, where)


def _loaded(path: Path, where: str) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = (
            "it holds objects (a pickle)"
            if "allow_pickle" in str(error)
            else " ".join(str(error).split())[:120]
        )
        raise InputError(f"{where} cannot be read: {reason}.") from None


def _safetensors(path: Path, where: str) -> dict[str, Any]:
    """Return the arrays of a safetensors file; identifiers that are no numbers are a JSON list in its metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            meta = file.metadata() or {}
        texts = {name: np.array(json.loads(meta[name]), np.str_) for name in ID_NAMES if name in meta}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{where} cannot be read: {' '.join(str(error).split())[:120]}.") from None
    return arrays | texts


def _ids_and_vectors(arrays: dict[str, Any], where: str) -> tuple[list[str], FloatArray]:
    """Return the one array of identifiers and the one of vectors, whatever their names."""
    lists = {name: array for name, array in arrays.items() if array.ndim == 1}
    tables = {name: array for name, array in arrays.items() if array.ndim == 2}
    if len(lists) > 1:
        lists = {name: array for name, array in lists.items() if name.lower() in ID_NAMES}
    if len(lists) != 1 or len(tables) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise InputError(
            f"{where} must hold identifiers of shape (n,) under the name id and vectors (n, width). Got {shapes}."
        )
    ids, vectors = _texts(next(iter(lists.values())), where), _numbers(next(iter(tables.values())), where)
    if len(ids) != len(vectors):
        raise InputError(f"{where} has {len(ids)} identifiers and {len(vectors)} vectors.")
    return ids, vectors


def _columns(path: Path, where: str) -> tuple[list[str], FloatArray]:
    """Return identifiers and vectors of a table: columns of numbers, or one column of lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from recworld.logs.tables import read_table

    table = read_table(path)
    name = next((name for name in table.columns if name.lower() in ID_NAMES), next(iter(table.columns)))
    ids = _texts(np.array(list(table.columns[name].to_pylist()), object), where)
    parts = []
    for other, column in table.columns.items():
        if other == name:
            continue
        try:
            if pa.types.is_nested(column.type):
                lists = column.to_pylist()
                widths = {len(row) if row is not None else -1 for row in lists}
                if len(widths) != 1:
                    raise InputError(f"{where}: the vectors of column {other!r} differ in length.")
                parts.append(np.array(lists, np.float32))
            else:
                parts.append(pc.cast(column, pa.float32()).to_numpy()[:, None])
        except (pa.ArrowException, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{where}: column {other!r} must hold numbers ({name!r} holds the identifiers)."
            ) from None
    if not parts:
        raise InputError(f"{where} has no columns of numbers beside {name!r}.")
    return ids, np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)


def _texts(ids: Any, where: str) -> list[str]:
    """Return identifiers as a log has them: whole numbers without a point."""
    if any(value is None for value in (ids if ids.dtype == object else ())):
        raise InputError(f"{where} has a row without an identifier.")
    out = []
    for value in ids.tolist():
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        out.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value).strip())
    return out


def _numbers(array: Any, where: str) -> FloatArray:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(f"{where} must hold numbers. Got {getattr(array, 'dtype', type(array).__name__)}.")
    return np.ascontiguousarray(array, np.float32)


def beside(
    texts: tuple[FloatArray, FloatArray], given: tuple[GivenBlock | None, GivenBlock | None], weight: float
) -> tuple[FloatArray, FloatArray]:
    """Return user and item vectors with the given ones beside those of the texts, (U, W + G) and (I, W + G).

    Given vectors are centred per role and scaled by one number, so that their mean squared length is `weight` squared
    times that of the centred text vectors of that role (times 1 where there are none): neither source drowns the other by
    its unit. Who lacks one of the two stands at its centre, so that nothing is said; who lacks both is zero.
    Users and items share the G columns where their files have the same width, as vectors of one model do.
    """
    widths = [0 if block is None else block.vectors.shape[1] for block in given]
    shared = widths[0] == widths[1] or 0 in widths
    total = max(widths) if shared else sum(widths)
    starts = (0, 0) if shared else (0, widths[0])
    out = []
    for text, block, start in zip(texts, given, starts, strict=True):
        full = np.zeros((len(text), text.shape[1] + total), np.float32)
        described = text.any(axis=1)
        centre = text[described].mean(axis=0) if described.any() else np.zeros(text.shape[1], np.float32)
        full[:, : text.shape[1]] = text
        if block is not None:
            full[~described & block.present, : text.shape[1]] = centre
            size = _spread(text[described] - centre) if described.any() else 1.0
            left = text.shape[1] + start
            full[:, left : left + block.vectors.shape[1]] = _scaled(block, weight * (size or 1.0))
        out.append(full)
    return out[0], out[1]


def _scaled(block: GivenBlock, size: float) -> FloatArray:
    centred = np.zeros_like(block.vectors)
    if block.present.any():
        rows = block.vectors[block.present]
        rows = rows - (rows.mean(axis=0, dtype=np.float64).astype(np.float32) if len(rows) > 1 else 0.0)
        centred[block.present] = rows * (size / (_spread(rows) or 1.0))
    return centred


def _spread(rows: FloatArray) -> float:
    """Return the root of the mean squared length of rows."""
    return float(np.sqrt(np.square(rows, dtype=np.float64).sum() / max(len(rows), 1)))


def given_fingerprint(given: tuple[GivenBlock | None, GivenBlock | None], weight: float) -> str:
    """Return the content hash of both files and of their weight."""
    return content_hash("given/1", *[block.fingerprint if block else "none" for block in given], str(weight))
