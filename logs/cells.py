"""Cells to values: identifiers, numbers, times, flags, texts; a wrong cell is named with its file and row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from recworld.errors import InputError
from recworld.logs.tables import Table

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

LONGEST_ID = 500
_INTEGER = re.compile(r"-?\d+")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
_TRUE, _FALSE = {"1", "1.0", "true", "yes", "t", "y"}, {"0", "0.0", "false", "no", "f", "n"}


def distinct(table: Table, heading: str) -> tuple[list[str], Int64]:
    """Return a column's distinct cells as stripped text ("" where missing), and each row's index into them.

    Raises:
        InputError: the column holds lists or other things that are not single values.
    """
    column = table.columns[heading]
    if pa.types.is_nested(column.type):
        raise InputError(
            f"{table.path}, column {heading!r} holds {column.type}; single values were expected."
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    encoded = pa.compute.dictionary_encode(
        column.combine_chunks() if hasattr(column, "combine_chunks") else column
    )
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no chunk at all: an empty column
        return [""], np.zeros(0, np.int64)
    values = [_as_text(value) for value in encoded.dictionary.to_pylist()] + [""]
    codes = np.asarray(encoded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False), np.int64)
    return values, codes


def _as_text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return f"{int(value)}.0"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value).strip()


def identifiers(table: Table, heading: str) -> tuple[list[str], Int64]:
    """Return the distinct identifiers of a column and each row's index into them.

    Raises:
        InputError: an identifier is empty, too long or holds a NUL character.
    """
    _refuse_rounded(table, heading)
    values, codes = distinct(table, heading)
    for number, value in enumerate(values):
        fault = _fault(value)
        if fault:
            rows = np.flatnonzero(codes == number)
            if len(rows):
                raise InputError(f"{table.where(int(rows[0]))}: {heading} {fault}")
    return values, codes


def _refuse_rounded(table: Table, heading: str) -> None:
    """Refuse whole numbers that a column of floats cannot tell apart."""
    column = table.columns[heading]
    if not pa.types.is_floating(column.type):
        return
    values = column.to_numpy()
    rows = np.flatnonzero(np.abs(np.nan_to_num(values)) >= 2**53)
    if len(rows):
        where, value = table.where(int(rows[0])), values[rows[0]]
        raise InputError(f"{where}: {heading} {value:g} was rounded; store identifiers as integers or text.")


def _fault(value: str) -> str:
    if not value:
        return "is empty; every row needs an identifier."
    if len(value) > LONGEST_ID:
        return f"has {len(value)} characters ({value[:20]}...); an identifier has at most {LONGEST_ID}."
    return "holds a NUL character; identifiers are plain text." if "\0" in value else ""


def plain_integers(columns: Sequence[Sequence[str]]) -> bool:
    """Return whether "1.0" stands for 1 in these columns: all are whole numbers, written either way.

    >>> plain_integers([["1.0", "2.0"], ["1", "2", "3"]]), plain_integers([["1.0", "2.1"]])
    (True, False)
    """
    return all(_INTEGER.fullmatch(v) or _WHOLE_FLOAT.fullmatch(v) for values in columns for v in values if v)


def without_point(value: str) -> str:
    """Return "3" for "3.0" and everything else as it is."""
    found = _WHOLE_FLOAT.fullmatch(value)
    return found.group(1) if found else value


def in_order(keys: set[str]) -> list[str]:
    """Return identifiers in numeric order where all are integers, else in the order of their characters.

    >>> in_order({"10", "9"}), in_order({"10", "9", "b"})
    (['9', '10'], ['10', '9', 'b'])
    """
    if all(_INTEGER.fullmatch(key) and len(key) < 100 for key in keys):
        return sorted(keys, key=lambda key: (int(key), key))
    return sorted(keys)


def numbers(table: Table, heading: str, what: str, empty: bool = False) -> Float64:
    """Return a column as float64; an empty cell is NaN where `empty` is allowed.

    Raises:
        InputError: a cell is empty, not a number, NaN or infinite.
    """
    values, codes = distinct(table, heading)
    parsed = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(
        np.float64, na_value=np.nan
    )
    blank = np.array([value == "" for value in values])
    wrong = ~np.isfinite(parsed) & ~(blank & empty)
    rows = np.flatnonzero(wrong[codes])
    if len(rows):
        value = values[codes[rows[0]]]
        raise InputError(f"{table.where(int(rows[0]))}: {heading} must be {what}. Got {_shown(value)}.")
    return np.asarray(parsed[codes], np.float64)


def _shown(value: str) -> str:
    return "an empty cell" if not value else repr(value if len(value) <= 60 else f"{value[:57]}...")


def flags(table: Table, heading: str) -> npt.NDArray[np.bool_]:
    """Return a column of 1/0, true/false or yes/no as booleans.

    Raises:
        InputError: a cell is something else.
    """
    values, codes = distinct(table, heading)
    lower = [value.lower() for value in values]
    rows = np.flatnonzero(np.array([value not in _TRUE | _FALSE for value in lower])[codes])
    if len(rows):
        value = values[codes[rows[0]]]
        raise InputError(f"{table.where(int(rows[0]))}: {heading} must be 1 or 0. Got {_shown(value)}.")
    return np.asarray(np.array([value in _TRUE for value in lower])[codes], np.bool_)


def times(table: Table, heading: str) -> tuple[Float64, str]:
    """Return a column of times as float64 seconds, and a note where the unit was told by the size ("" else).

    Numbers are seconds since 1970 (milli-, micro- and nanoseconds are recognised by their size); anything
    else is read as an ISO 8601 date, UTC where it names no zone.

    Raises:
        InputError: a cell is neither.
    """
    kind = table.columns[heading].type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _dates(table, heading), ""
    values, _ = distinct(table, heading)
    parsed = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(
        np.float64, na_value=np.nan
    )
    if not np.isfinite(parsed).any():
        return _dates(table, heading), ""
    seconds = numbers(table, heading, "a number of seconds, as in the other rows")
    size = float(np.median(np.abs(seconds)))
    for bound, unit, factor in (
        (1e17, "nanoseconds", 1e9),
        (1e14, "microseconds", 1e6),
        (1e11, "milliseconds", 1e3),
    ):
        if size > bound:
            return seconds / factor, f"{table.path.name}: {heading} taken as {unit}."
    return seconds, ""


def _dates(table: Table, heading: str) -> Float64:
    values, codes = distinct(table, heading)
    parsed = pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601", utc=True, errors="coerce")
    rows = np.flatnonzero(parsed.isna().to_numpy()[codes])
    if len(rows):
        shown = _shown(values[codes[rows[0]]])
        raise InputError(
            f"{table.where(int(rows[0]))}: {heading} must be seconds or an ISO 8601 date. Got {shown}."
        )
    epoch = pd.Timestamp(0, unit="s", tz="UTC")
    return np.asarray(((parsed - epoch) / pd.Timedelta(seconds=1)).to_numpy(np.float64)[codes], np.float64)


def texts(table: Table, heading: str) -> tuple[list[str], Int64]:
    """Return the distinct texts of a column with white space made single, and each row's index into them."""
    values, codes = distinct(table, heading)
    return [" ".join(value.replace("\0", " ").split()) for value in values], codes
