"""One table from a CSV, TSV or Parquet file, every cell kept as written."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from recworld.errors import InputError, did_you_mean
from recworld.progress import say

ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet", ".pq")
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_DELIMITERS = ",\t;|"


@dataclass(frozen=True)
class Table:
    """A table as it stands in a file.

    Attributes:
        path: the file.
        columns: headings and pyarrow columns, in the order of the file.
        rows: number of data rows.
        first_row: what a person calls the first data row: 2 in text (the heading is row 1), 1 in Parquet.
        notes: facts to say aloud (another character set, ...).
    """

    path: Path
    columns: dict[str, Any]
    rows: int
    first_row: int
    notes: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """Return "FILE, row N" for a 0-based data row, as it reads in an error."""
        return f"{self.path}, row {self.first_row + row}"

    def missing(self, heading: str, meaning: str) -> InputError:
        """Return the error that says that a heading is not there, and which one is near."""
        wanted = f"column {heading!r}" if heading == meaning else f"column {heading!r} (for {meaning})"
        plain = {name.lower().replace(" ", "_"): name for name in self.columns}
        alike = difflib.get_close_matches(heading.lower(), plain, n=1, cutoff=0.6)
        near = f"Did you mean {plain[alike[0]]!r}?" if alike else did_you_mean(heading, self.columns)
        return InputError(
            f"{self.path} has no {wanted}. {near} Other headings: map them with the setting 'columns'."
        )


def read_table(path: Path) -> Table:
    """Read a table; the form is told by the file's name and checked against its first bytes.

    Raises:
        InputError: the file is missing, unreadable, empty, binary, truncated or ragged.
    """
    data = _read_bytes(path)
    if not data:
        raise InputError(f"{path} is empty: a heading and at least one row were expected.")
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet(path, data)
    if data.startswith(_PARQUET):
        raise InputError(
            f"{path} is a Parquet file: name it {path.name.split('.')[0]}.parquet to have it read as one."
        )
    return _text(path, data)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.{_neighbour(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; a file was expected.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > 20_000_000:
        say(f"Reading {path} ({len(data) / 1e6:.0f} MB) ...")
    if not data.startswith(_GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file: {error}.") from None


def _neighbour(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f" Its folder {path.parent} does not exist or cannot be read."
    near = did_you_mean(path.name, names)
    return f" {near}" if near.startswith("Did") else ""


def _parquet(path: Path, data: bytes) -> Table:
    if not data.startswith(_PARQUET):
        raise InputError(f"{path} is not a Parquet file: it does not begin with 'PAR1'.")
    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is not a whole Parquet file: {_first_line(error)}") from None
    names = [str(name).strip() for name in table.column_names]
    _check_headings(path, names)
    return Table(path, dict(zip(names, table.columns, strict=True)), table.num_rows, 1)


def _decode(path: Path, data: bytes) -> tuple[str, tuple[str, ...]]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), (f"{path.name}: read as UTF-16.",)
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is neither UTF-8 nor UTF-16 text: {error.reason}.") from None
    if b"\0" in data:
        raise InputError(f"{path} is a binary file; CSV text (UTF-8) or a .parquet file was expected.")
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        control = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in data[:65536])
        if control:
            raise InputError(
                f"{path} is a binary file; CSV text (UTF-8) or a .parquet file was expected."
            ) from None
        line = data[: error.start].count(b"\n") + 1
        return data.decode("latin-1"), (
            f"{path.name}: not UTF-8 (line {line}), read as Latin-1 (ISO-8859-1).",
        )


def _text(path: Path, data: bytes) -> Table:
    text, notes = _decode(path, data)
    heading = next((line for line in text.splitlines() if line.strip()), "")
    if not heading:
        raise InputError(f"{path} is empty: a heading and at least one row were expected.")
    delimiter = _delimiter(path, heading)
    try:
        names = [
            name.strip() for name in next(csv.reader(io.StringIO(text.lstrip("\r\n")), delimiter=delimiter))
        ]
    except csv.Error as error:
        raise InputError(f"{path}, row 1: the heading cannot be read: {error}.") from None
    _check_headings(path, names)
    columns, rows = _cells(path, text, names, delimiter)
    return Table(path, columns, rows, 2, notes)


def _delimiter(path: Path, heading: str) -> str:
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return "\t"
    counts = {delimiter: heading.count(delimiter) for delimiter in _DELIMITERS}
    return max(counts, key=lambda delimiter: counts[delimiter])


def _check_headings(path: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f"{path} has two columns named {name!r}; headings must differ.")


def _cells(path: Path, text: str, names: list[str], delimiter: str) -> tuple[dict[str, Any], int]:
    data = text.encode("utf-8")
    if not data.endswith((b"\n", b"\r")):
        data += b"\n"
    keys = [str(number) for number in range(len(names))]
    ragged: list[tuple[int, int]] = []

    def refuse(row: Any) -> str:
        ragged.append((row.number, row.actual_columns))
        return "error"

    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False,
                column_names=keys,
                skip_rows_after_names=1,
                # One block if possible: a quoted text may hold line ends, and a row must fit its block.
                block_size=min(max(len(data) + 1, 1 << 20), (1 << 31) - 1),
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={key: pa.large_string() for key in keys}, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        if ragged:
            row, actual = ragged[0]
            hint = " A quote may be left open." if text.count('"') % 2 else ""
            raise InputError(
                f"{path}, row {row} has {actual} values where the heading has {len(names)}.{hint}"
            ) from None
        raise InputError(f"{path} cannot be read as CSV: {_first_line(error)}") from None
    columns = dict(zip(names, table.columns, strict=True))
    if table.num_rows and text.count('"') % 2 and "\n" in table.column(len(names) - 1)[-1].as_py():
        raise InputError(
            f"{path}: a quote is opened and never closed; the last row runs to the end of the file."
        )
    return columns, int(table.num_rows)


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0].rstrip()
    line = line.removeprefix("Could not open Parquet input source '<Buffer>': ")
    return line if line.endswith(".") else f"{line}."
