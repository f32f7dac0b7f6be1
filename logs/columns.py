"""The column map: our names against a file's headings, from YAML."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from recworld.errors import InputError, did_you_mean
from recworld.logs.tables import Table

TABLES: dict[str, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "rating", "click", "timestamp", "user_info", "item_info"),
    "users": ("user_id", "user_info"),
    "items": ("item_id", "item_info"),
    "exposures": (
        "session_id", "slate_id", "position", "user_id", "item_id",
        "shown", "clicked", "rating", "propensity", "timestamp",
    ),
}  # fmt: skip
"""Our column names, by table. `user_info` and `item_info` stand in the interactions of a single file only."""

INFO = ("user_info", "item_info")


@dataclass(frozen=True)
class ColumnMap:
    """What our column names are called in the files.

    Attributes:
        names: by table, our name to the file's heading (`user_info` and `item_info`: or to several).
    """

    names: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    def headings(self, table: str, ours: str) -> tuple[str, ...]:
        """Return what `ours` is called in a table (more than one heading: a text is made of them)."""
        return self.names.get(table, {}).get(ours, (ours,))

    def find(self, table: Table, kind: str, ours: str, required: bool = False) -> str | None:
        """Return the heading of `ours` in a table, or None where it has none.

        Raises:
            InputError: it is not there, and is required, mapped, or all but spelt like a heading.
        """
        heading = self.headings(kind, ours)[0]
        if heading in table.columns:
            return heading
        if required or ours in self.names.get(kind, {}) or self._misspelt(table, kind, ours):
            raise table.missing(heading, ours)
        return None

    def _misspelt(self, table: Table, kind: str, ours: str) -> bool:
        """Whether an unknown heading looks like `ours`: "Ratings" would else be passed over."""
        meant = {heading for name in TABLES[kind] for heading in self.headings(kind, name)}
        other = [heading.lower().replace(" ", "_") for heading in table.columns if heading not in meant]
        return bool(difflib.get_close_matches(ours, other, n=1, cutoff=0.8))


def read_column_map(path: str | None) -> ColumnMap:
    """Read a column map, flat (`user_id: userId`) or by table (`users: {user_info: [age, job]}`).

    Raises:
        InputError: the file is missing, not YAML, or names a column or table that we do not have.
    """
    if path is None:
        return ColumnMap()
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"The column map {path} does not exist.") from None
    except OSError as error:
        raise InputError(f"The column map {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The column map {path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"The column map {path} must map our names to headings, as in 'user_id: userId'.")
    names: dict[str, dict[str, tuple[str, ...]]] = {table: {} for table in TABLES}
    for key, value in content.items():
        if key in TABLES and isinstance(value, dict):
            for ours, theirs in value.items():
                _put(names, path, (str(key),), ours, theirs)
        else:
            _put(names, path, tuple(TABLES), key, value)
    return ColumnMap({table: found for table, found in names.items() if found})


def _put(
    names: dict[str, dict[str, tuple[str, ...]]], path: str, tables: tuple[str, ...], ours: Any, theirs: Any
) -> None:
    known = {name for table in tables for name in TABLES[table]} | (set(TABLES) if len(tables) > 1 else set())
    if ours not in known or ours in TABLES:
        near = did_you_mean(str(ours), known)
        raise InputError(f"The column map {path} names {ours!r}, which is no column of ours. {near}")
    headings = [str(heading) for heading in theirs] if isinstance(theirs, list) else [str(theirs)]
    if not headings or (len(headings) > 1 and ours not in INFO) or isinstance(theirs, dict) or theirs is None:
        form = "one heading or a list of headings" if ours in INFO else "one heading"
        raise InputError(f"The column map {path}: {ours} must be {form}. Got {theirs!r}.")
    for table in tables:
        # A flat map speaks of every table that has such a column.
        if ours in TABLES[table]:
            names[table][str(ours)] = tuple(headings)
