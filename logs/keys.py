"""Identifiers of users or items, numbered once over all tables of a log."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs import cells
from recworld.logs.cells import Int64
from recworld.logs.columns import ColumnMap
from recworld.logs.tables import Table
from recworld.logs.words import counted


class Keys:
    """Numbers for the identifiers of one kind: those of the own table if there is one, else all that occur.

    Args:
        what: "user" or "item".
        tables: the tables of the log, by kind.
        columns: what our columns are called.

    Attributes:
        order: the identifiers, in the order of their numbers.
        numbers: (rows,) int32 numbers of each table's rows, by table.

    Raises:
        InputError: the column is missing, or an identifier is empty, twice in the own table, or not in it.
    """

    def __init__(self, what: str, tables: dict[str, Table], columns: ColumnMap) -> None:
        self.what, self._own = what, f"{what}s"
        self._columns: dict[str, tuple[list[str], Int64]] = {}
        for name, table in tables.items():
            if name in ("interactions", "exposures", self._own):
                heading = columns.find(table, name, f"{what}_id", required=True)
                self._columns[name] = cells.identifiers(table, str(heading))
        if cells.plain_integers([values for values, _ in self._columns.values()]):
            for name, (values, codes) in self._columns.items():
                self._columns[name] = ([cells.without_point(value) for value in values], codes)
        if self._own in tables:
            self._refuse_twice(tables[self._own])
        sources = [self._own] if self._own in tables else list(self._columns)
        self.order = cells.in_order(set().union(*(self._used(name) for name in sources)))
        place = {key: number for number, key in enumerate(self.order)}
        self.numbers: dict[str, npt.NDArray[np.int32]] = {}
        for name, (values, codes) in self._columns.items():
            found = np.array([place.get(value, -1) for value in values], np.int64)
            self.numbers[name] = np.asarray(found[codes], np.int32)
            self._refuse_unknown(name, tables)

    def _used(self, table: str) -> set[str]:
        values, codes = self._columns[table]
        return {values[code] for code in np.unique(codes)}

    def _refuse_twice(self, table: Table) -> None:
        values, codes = self._columns[self._own]
        first: dict[str, int] = {}
        for row, code in enumerate(codes):
            if values[code] in first:
                earlier = table.first_row + first[values[code]]
                raise InputError(
                    f"{table.where(row)}: {self.what} {values[code]!r} stands in row {earlier} already."
                )
            first[values[code]] = row

    def _refuse_unknown(self, name: str, tables: dict[str, Table]) -> None:
        rows = np.flatnonzero(self.numbers[name] < 0)
        if len(rows):
            values, codes = self._columns[name]
            first, count = values[codes[rows[0]]], len({values[code] for code in codes[rows]})
            more = f" ({counted(count, self.what)} are missing there)" if count > 1 else ""
            where = tables[name].where(int(rows[0]))
            raise InputError(f"{where}: {self.what} {first!r} is not in {tables[self._own].path}{more}.")
