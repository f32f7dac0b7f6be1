"""Tables to an `InteractionLog`: identifiers to numbers, duplicates out, texts to their users and items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs import cells
from recworld.logs.cells import Float64, Int64
from recworld.logs.columns import ColumnMap
from recworld.logs.exposures import read_exposures, rows_as_exposures
from recworld.logs.info import read_texts
from recworld.logs.keys import Keys
from recworld.logs.log import Exposures, InteractionLog
from recworld.logs.scales import find_scale
from recworld.logs.settings import LogSettings
from recworld.logs.tables import Table
from recworld.logs.words import counted

Mask = npt.NDArray[np.bool_]


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
    users, items = Keys("user", tables, columns), Keys("item", tables, columns)
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
    place = np.arange(main.rows) if taken is None else np.flatnonzero(taken)
    scale, said = find_scale(rows.rating, settings, str(main.path), lambda row: main.where(int(place[row])))
    if scale.kind == "click":
        rows.rating = None
    rows = _without_duplicates(rows, notes)
    notes.insert(0, said)
    user_text = read_texts(users, tables, columns, notes)
    item_text = read_texts(items, tables, columns, notes)
    for keys, seen in ((users, rows.user), (items, rows.item)):
        idle = len(keys.order) - len(np.unique(seen))
        if idle:
            notes.append(f"{counted(idle, keys.what)} without interaction")
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
    place = np.arange(len(rows.user))
    pair = rows.user.astype(np.int64) * (int(rows.item.max()) + 1) + rows.item
    time = np.zeros(len(pair)) if rows.time is None else rows.time
    rating = np.zeros(len(pair)) if rows.rating is None else rows.rating
    order = np.lexsort((place, rating, time, pair))
    new = np.ones(len(pair), np.bool_)
    new[1:] = False
    for values in (pair, time, rating):
        new[1:] |= values[order][1:] != values[order][:-1]
    if not new.all():
        notes.append(f"dropped as exact repeats: {counted(int((~new).sum()), 'row')}")
        chosen = np.sort(order[new])
        return _without_duplicates(rows.keep(chosen), notes)
    if rows.rating is None:
        return rows
    order = np.lexsort((place, time, pair))
    last = np.append(pair[order][1:] != pair[order][:-1], True)
    if not last.all():
        again = counted(int((~last).sum()), "earlier rating")
        notes.append(f"of a user-item pair rated again the last rating is kept: {again} dropped")
    return rows.keep(np.sort(order[last]))


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
