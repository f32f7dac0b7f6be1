"""What was shown: the exposures table of a folder, or the rows with click 0 of an interactions table."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs import cells
from recworld.logs.cells import Float64
from recworld.logs.columns import ColumnMap
from recworld.logs.log import Exposures
from recworld.logs.tables import Table

Numbers = dict[str, npt.NDArray[np.int32]]


def read_exposures(
    table: Table | None, columns: ColumnMap, users: Numbers, items: Numbers, notes: list[str]
) -> Exposures | None:
    """Read the exposures table.

    Sessions are numbered by user and first time (order of appearance without timestamps), slates by
    appearance; a `slate_id` need be distinct within its session only. Rows with `shown` 0 are left out.

    Args:
        table: the table, or None where there is none.
        columns: what our columns are called.
        users: user numbers of each table's rows, by table.
        items: item numbers of each table's rows, by table.
        notes: facts to say aloud; added to.

    Raises:
        InputError: a column is missing or a cell is wrong.
    """
    if table is None or table.rows == 0:
        return None

    def find(ours: str, required: bool = False) -> str | None:
        return columns.find(table, "exposures", ours, required)

    user, item = users["exposures"], items["exposures"]
    session = cells.identifiers(table, str(find("session_id", required=True)))[1]
    slate = cells.identifiers(table, str(find("slate_id", required=True)))[1]
    position = _positions(table, str(find("position", required=True)))
    clicked = cells.flags(table, str(find("clicked", required=True)))
    timestamp, shown = find("timestamp"), find("shown")
    time = cells.times(table, timestamp)[0] if timestamp else np.arange(table.rows, dtype=np.float64)
    _one_user_each(table, session, user)
    kept = cells.flags(table, shown) if shown else np.ones(table.rows, np.bool_)
    if not kept.all():
        notes.append(f"{int((~kept).sum())} exposures with shown 0 were left out")
    exposures = Exposures(
        session=_number_sessions(session, user, time),
        slate=_number_pairs(session, slate),
        position=position,
        user=user,
        item=item,
        clicked=clicked,
        rating=_optional(table, find("rating"), clicked, "a finite number or empty"),
        propensity=_propensities(table, find("propensity")),
    )
    notes.append(f"{int(kept.sum())} exposures, {int(clicked[kept].sum())} of them clicked")
    return Exposures(**{name: getattr(exposures, name)[kept] for name in Exposures.__annotations__})


def rows_as_exposures(
    user: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    taken: npt.NDArray[np.bool_],
    time: Float64 | None,
) -> Exposures:
    """Return rows of a click column as exposures: each row a slate of one item, each user one session.

    Args:
        user: (n,) user numbers.
        item: (n,) item numbers.
        taken: (n,) whether the item was taken up.
        time: (n,) seconds, or None.
    """
    n = len(user)
    order = np.lexsort((np.arange(n), user) if time is None else (np.arange(n), time, user))
    nowhere = np.full(n, np.nan, np.float32)
    return Exposures(
        session=np.asarray(np.unique(user[order], return_inverse=True)[1], np.int32),
        slate=np.arange(n, dtype=np.int32),
        position=np.zeros(n, np.int32),
        user=user[order],
        item=item[order],
        clicked=taken[order],
        rating=nowhere,
        propensity=nowhere.copy(),
    )


def _positions(table: Table, heading: str) -> npt.NDArray[np.int32]:
    values = cells.numbers(table, heading, "a whole number, 0 for the first place")
    wrong = np.flatnonzero((values < 0) | (values != np.round(values)) | (values > 1e6))
    if len(wrong):
        row = int(wrong[0])
        wanted = "a whole number, 0 for the first place"
        raise InputError(f"{table.where(row)}: {heading} must be {wanted}. Got {values[row]:g}.")
    return np.asarray(values, np.int32)


def _one_user_each(table: Table, session: cells.Int64, user: npt.NDArray[np.int32]) -> None:
    first = np.unique(session, return_index=True)[1]
    owner = np.zeros(int(session.max()) + 1, np.int64)
    owner[session[first]] = user[first]
    wrong = np.flatnonzero(owner[session] != user)
    if len(wrong):
        raise InputError(f"{table.where(int(wrong[0]))}: a session has one user; this one has two.")


def _number_sessions(
    session: cells.Int64, user: npt.NDArray[np.int32], time: Float64
) -> npt.NDArray[np.int32]:
    start = np.full(int(session.max()) + 1, np.inf)
    np.minimum.at(start, session, time)
    first = np.unique(session, return_index=True)[1]
    present = session[first]
    order = np.lexsort((first, start[present], user[first]))
    number = np.zeros(len(start), np.int32)
    number[present[order]] = np.arange(len(present), dtype=np.int32)
    return np.asarray(number[session], np.int32)


def _number_pairs(session: cells.Int64, slate: cells.Int64) -> npt.NDArray[np.int32]:
    pair = session * (int(slate.max()) + 1) + slate
    _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return np.asarray(rank[inverse], np.int32)


def _optional(
    table: Table, heading: str | None, where: npt.NDArray[np.bool_], what: str
) -> npt.NDArray[np.float32]:
    if heading is None:
        return np.full(table.rows, np.nan, np.float32)
    values = cells.numbers(table, heading, what, empty=True)
    return np.asarray(np.where(where, values, np.nan), np.float32)


def _propensities(table: Table, heading: str | None) -> npt.NDArray[np.float32]:
    values = _optional(table, heading, np.ones(table.rows, np.bool_), "a probability or empty")
    wrong = np.flatnonzero((values <= 0) | (values > 1))
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{table.where(row)}: {heading} must be above 0 and at most 1. Got {values[row]:g}.")
    return values
