"""Tables to an `InteractionLog`: identifiers to numbers, duplicates out, texts to their users and items."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs import cells
from recworld.logs.cells import Float64, Int64
from recworld.logs.columns import ColumnMap
from recworld.logs.exposures import read_exposures, rows_as_exposures
from recworld.logs.log import Exposures, InteractionLog
from recworld.logs.scales import find_scale
from recworld.logs.settings import LogSettings
from recworld.logs.tables import Table

Mask = npt.NDArray[np.bool_]


@dataclass
class Keys:
    """Identifiers of one kind (users or items), numbered over all tables together.

    Attributes:
        what: "user" or "item".
        columns: distinct identifiers and row codes, by table.
    """

    what: str
    columns: dict[str, tuple[list[str], Int64]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    numbers: dict[str, npt.NDArray[np.int32]] = field(default_factory=dict)

    def settle(self, tables: dict[str, Table]) -> None:
        """Number the identifiers: of the own table where there is one, else of the interactions."""
        if cells.plain_integers([values for values, _ in self.columns.values()]):
            self.columns = {
                k: ([cells.without_point(v) for v in values], c) for k, (values, c) in self.columns.items()
            }
        own = f"{self.what}s"
        known = self._used(own) if own in self.columns else self._used("interactions")
        if own in self.columns:
            self._refuse_twice(tables[own])
        self.order = cells.in_order(known)
        place = {key: number for number, key in enumerate(self.order)}
        for table, (values, codes) in self.columns.items():
            found = np.array([place.get(value, -1) for value in values], np.int64)
            self.numbers[table] = np.asarray(found[codes], np.int32)
            self._refuse_unknown(table, tables, own if own in self.columns else "interactions")

    def _used(self, table: str) -> set[str]:
        values, codes = self.columns[table]
        return {values[code] for code in np.unique(codes)}

    def _refuse_twice(self, table: Table) -> None:
        values, codes = self.columns[f"{self.what}s"]
        first: dict[str, int] = {}
        for row, code in enumerate(codes):
            if values[code] in first:
                earlier = table.first_row + first[values[code]]
                raise InputError(
                    f"{table.where(row)}: {self.what} {values[code]!r} stands in row {earlier} already."
                )
            first[values[code]] = row

    def _refuse_unknown(self, name: str, tables: dict[str, Table], known: str) -> None:
        rows = np.flatnonzero(self.numbers[name] < 0)
        if len(rows):
            values, codes = self.columns[name]
            first, count = values[codes[rows[0]]], len({values[code] for code in codes[rows]})
            more = f" ({count} {self.what}s are missing)" if count > 1 else ""
            where = tables[name].where(int(rows[0]))
            raise InputError(f"{where}: {self.what} {first!r} is not in {tables[known].path}{more}.")


@dataclass
class _Rows:
    """Interactions on the way to a log."""

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    rating: Float64 | None
    time: Float64 | None

    def keep(self, chosen: Mask | Int64) -> _Rows:
        rating = None if self.rating is None else self.rating[chosen]
        return _Rows(
            self.user[chosen], self.item[chosen], rating, None if self.time is None else self.time[chosen]
        )


def assemble(
    name: str, tables: dict[str, Table], columns: ColumnMap, settings: LogSettings
) -> InteractionLog:
    """Build the log from its tables.

    Args:
        name: the log's name, for people.
        tables: "interactions", and where there are such files "users", "items", "exposures".
        columns: what our columns are called.
        settings: scale and range of the ratings.

    Raises:
        InputError: a column is missing, a cell is wrong, or no interaction is left.
    """
    notes = [note for table in tables.values() for note in table.notes]
    main = tables["interactions"]
    users, items = _read_keys("user", tables, columns), _read_keys("item", tables, columns)
    if main.rows == 0:
        raise InputError(f"{main.path} has a heading and no row; at least one interaction was expected.")
    rows, taken = _read_rows(main, columns, users, items, notes)
    exposures = read_exposures(tables.get("exposures"), columns, users.numbers, items.numbers, notes)
    if taken is not None:
        if not taken.any():
            raise InputError(f"{main.path}: click is 0 in every row; at least one interaction was expected.")
        if not taken.all():
            notes.append(
                f"{int((~taken).sum())} rows with click 0 are no consumption: kept as exposures only"
            )
            exposures = exposures or rows_as_exposures(rows.user, rows.item, taken, rows.time)
            rows = rows.keep(taken)
    if rows.rating is not None:
        # Read here and not before: a row that was not taken up has no rating.
        rows.rating = _ratings(main, columns, taken)
    scale, said = find_scale(rows.rating, settings, str(main.path))
    if scale.kind == "click":
        rows.rating = None
    rows = _without_duplicates(rows, notes)
    notes.insert(0, said)
    user_text = _texts("user", tables, columns, users, notes)
    item_text = _texts("item", tables, columns, items, notes)
    for what, keys, seen in (("users", users, rows.user), ("items", items, rows.item)):
        idle = len(keys.order) - len(np.unique(seen))
        if idle:
            notes.append(f"{idle} {what} have no interaction")
    return InteractionLog(
        name=name,
        user=rows.user,
        item=rows.item,
        rating=np.ones(len(rows.user), np.float32) if rows.rating is None else rows.rating.astype(np.float32),
        time=rows.time,
        user_keys=np.array(users.order, np.str_),
        item_keys=np.array(items.order, np.str_),
        user_text=user_text,
        item_text=item_text,
        scale=scale,
        exposures=_on_scale(exposures, scale.low, scale.high, scale.kind == "click", tables),
        notes=tuple(notes),
    )


def _read_keys(what: str, tables: dict[str, Table], columns: ColumnMap) -> Keys:
    keys = Keys(what)
    for name, table in tables.items():
        if name in ("interactions", "exposures", f"{what}s"):
            heading = columns.find(table, name, f"{what}_id", required=True)
            keys.columns[name] = cells.identifiers(table, str(heading))
    keys.settle(tables)
    return keys


def _read_rows(
    table: Table, columns: ColumnMap, users: Keys, items: Keys, notes: list[str]
) -> tuple[_Rows, Mask | None]:
    """Return the interactions, zeros for ratings yet to be read, and which rows were taken up (None: all)."""
    rating, click, timestamp = (
        columns.find(table, "interactions", k) for k in ("rating", "click", "timestamp")
    )
    taken = cells.flags(table, click) if click else None
    time = None
    if timestamp:
        time, note = cells.times(table, timestamp)
        notes.extend([note] if note else [])
    else:
        notes.append("no timestamp column: the order of the rows stands for time")
    user, item = users.numbers["interactions"], items.numbers["interactions"]
    return _Rows(user, item, np.zeros(len(user)) if rating else None, time), taken


def _ratings(table: Table, columns: ColumnMap, taken: Mask | None) -> Float64:
    heading = str(columns.find(table, "interactions", "rating"))
    if taken is None or taken.all():
        return cells.numbers(table, heading, "a finite number")
    values = cells.numbers(table, heading, "a finite number", empty=True)
    blank = np.flatnonzero(np.isnan(values) & taken)
    if len(blank):
        raise InputError(
            f"{table.where(int(blank[0]))}: {heading} must be a finite number. Got an empty cell."
        )
    return np.asarray(values[taken], np.float64)


def _without_duplicates(rows: _Rows, notes: list[str]) -> _Rows:
    """Drop exact repeats; of a pair rated again keep the last. Clicks on an item at another time stay."""
    n = len(rows.user)
    pair = rows.user.astype(np.int64) * (int(rows.item.max()) + 1) + rows.item
    facts = [pair.astype(np.float64) if pair.max() < 2**53 else np.unique(pair, return_inverse=True)[1]]
    facts += [values for values in (rows.rating, rows.time) if values is not None]
    _, first = np.unique(np.stack(facts, 1), axis=0, return_index=True) if n else (None, np.arange(0))
    if len(first) < n:
        notes.append(f"{n - len(first)} rows that repeat another exactly were dropped")
        chosen = np.sort(first)
        rows, pair = rows.keep(chosen), pair[chosen]
    if rows.rating is None or len(np.unique(pair)) == len(pair):
        return rows
    place = np.arange(len(pair))
    order = np.lexsort((place, pair) if rows.time is None else (place, rows.time, pair))
    last = np.append(pair[order][1:] != pair[order][:-1], True)
    notes.append(
        f"{int((~last).sum())} ratings were given anew later: the last rating of each user-item pair is kept"
    )
    return rows.keep(np.sort(order[last]))


def _texts(
    what: str, tables: dict[str, Table], columns: ColumnMap, keys: Keys, notes: list[str]
) -> tuple[str, ...]:
    """Return one text per user or item."""
    own, info = f"{what}s", f"{what}_info"
    source = own if own in tables else "interactions"
    table, number = tables[source], keys.numbers[source]
    headings = columns.headings(source, info)
    if len(headings) > 1 or columns.find(table, source, info) is None:
        if len(headings) == 1:
            taken = {columns.headings(own, f"{what}_id")[0]}
            headings = tuple(h for h in table.columns if h not in taken) if source == own else ()
        if not headings:
            notes.append(f"no {info}: {own} have no text")
            return ("",) * len(keys.order)
        for heading in headings:
            if heading not in table.columns:
                raise table.missing(heading, info)
        notes.append(f"{info} is made of {', '.join(headings)}")
        values, codes = _pairs(table, headings)
    else:
        values, codes = cells.texts(table, headings[0])
    return _most_frequent(values, codes, number, len(keys.order), own, notes)


def _pairs(table: Table, headings: tuple[str, ...]) -> tuple[list[str], Int64]:
    """Return texts "column: value, column: value" of rows, empty cells left out."""
    read = []
    for heading in headings:
        values, codes = cells.texts(table, heading)
        plain = cells.plain_integers([values])
        read.append(([cells.without_point(v) if plain else v for v in values], codes))
    parts = [
        ", ".join(
            f"{heading}: {values[codes[row]]}"
            for heading, (values, codes) in zip(headings, read, strict=True)
            if values[codes[row]]
        )
        for row in range(table.rows)
    ]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(parts))}
    return list(distinct) or [""], np.array([distinct[text] for text in parts], np.int64)


def _most_frequent(
    values: list[str], codes: Int64, number: npt.NDArray[np.int32], count: int, own: str, notes: list[str]
) -> tuple[str, ...]:
    """Return the text that each user or item has most often (the first of equals), empty ones aside."""
    seen: dict[int, Counter[str]] = {}
    pairs, first, times = np.unique(
        np.stack([number, codes], 1), axis=0, return_index=True, return_counts=True
    )
    for (who, code), _, often in sorted(
        zip(pairs.tolist(), first.tolist(), times.tolist(), strict=True), key=lambda x: x[1]
    ):
        if values[code]:
            seen.setdefault(who, Counter())[values[code]] += often
    several = sum(len(counter) > 1 for counter in seen.values())
    if several:
        notes.append(f"{several} {own} come with more than one text: the most frequent is kept")
    return tuple(seen[who].most_common(1)[0][0] if who in seen else "" for who in range(count))


def _on_scale(
    exposures: Exposures | None, low: float, high: float, click: bool, tables: dict[str, Table]
) -> Exposures | None:
    if exposures is None or click or "exposures" not in tables:
        return exposures
    outside = exposures.rating[(exposures.rating < low) | (exposures.rating > high)]
    if len(outside):
        path = tables["exposures"].path
        raise InputError(
            f"{path}: rating {outside[0]:g} is outside the scale of the interactions, {low:g} to {high:g}."
        )
    return exposures


def stem(path: Path) -> str:
    """Return a file's name without its endings, as the name of a log."""
    return path.name.split(".")[0] or path.name
