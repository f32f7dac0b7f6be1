"""The texts of users and items: one column, or several in words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from recworld.logs import cells
from recworld.logs.cells import Int64
from recworld.logs.columns import ColumnMap
from recworld.logs.keys import Keys
from recworld.logs.tables import Table
from recworld.logs.words import counted


def read_texts(keys: Keys, tables: dict[str, Table], columns: ColumnMap, notes: list[str]) -> tuple[str, ...]:
    """Return one text per user or item, "" where there is none.

    The text is the `user_info` (`item_info`) column; a users or items table without it gives its other
    columns as "heading: value, heading: value".

    Args:
        keys: the users or items.
        tables: the tables of the log, by kind.
        columns: what our columns are called.
        notes: facts to say aloud; added to.

    Raises:
        InputError: a column that the column map names is not there.
    """
    own, info = f"{keys.what}s", f"{keys.what}_info"
    source = own if own in tables else "interactions"
    table = tables[source]
    headings = columns.headings(source, info)
    if len(headings) == 1 and columns.find(table, source, info) is not None:
        values, codes = cells.texts(table, headings[0])
    else:
        if len(headings) == 1:
            taken = columns.headings(own, f"{keys.what}_id")
            headings = (
                tuple(h for h in table.columns if h not in taken and _named(h)) if source == own else ()
            )
        if not headings:
            notes.append(f"no column {info}: {own} have no text")
            return ("",) * len(keys.order)
        for heading in headings:
            if heading not in table.columns:
                raise table.missing(heading, info)
        notes.append(f"{info} is made of the columns {', '.join(headings)}")
        values, codes = _pairs(table, headings)
    texts, several = _most_frequent(values, codes, keys.numbers[source], len(keys.order))
    if several:
        notes.append(f"{counted(several, keys.what)} with more than one text: the most frequent is kept")
    return texts


def _named(heading: str) -> bool:
    """Whether a heading is a name, and not what pandas calls the column of row numbers."""
    return heading not in ("", "index", "__index_level_0__") and not heading.startswith("Unnamed: ")


def _pairs(table: Table, headings: tuple[str, ...]) -> tuple[list[str], Int64]:
    """Return texts "heading: value, heading: value" of the rows, empty cells left out."""
    parts: list[list[str]] = [[] for _ in range(table.rows)]
    for heading in headings:
        values, codes = cells.texts(table, heading)
        if cells.plain_integers([values]):
            values = [cells.without_point(value) for value in values]
        for row, code in enumerate(codes):
            if values[code]:
                parts[row].append(f"{heading}: {values[code]}")
    whole = [", ".join(part) for part in parts]
    place = {text: number for number, text in enumerate(dict.fromkeys(whole))}
    return list(place), np.array([place[text] for text in whole], np.int64)


def _most_frequent(
    values: list[str], codes: Int64, number: npt.NDArray[np.int32], count: int
) -> tuple[tuple[str, ...], int]:
    """Return the text each user or item has most often (of equals the first), and how many have more."""
    pair = number.astype(np.int64) * len(values) + codes
    distinct, first, times = np.unique(pair, return_index=True, return_counts=True)
    seen: dict[int, Counter[str]] = {}
    for place in np.argsort(first):
        who, code = divmod(int(distinct[place]), len(values))
        if values[code]:
            seen.setdefault(who, Counter())[values[code]] += int(times[place])
    texts = tuple(seen[who].most_common(1)[0][0] if who in seen else "" for who in range(count))
    return texts, sum(len(counter) > 1 for counter in seen.values())
