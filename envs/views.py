"""Observation and info as named views of the few arrays that a step writes; nothing is copied but text vectors."""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.envs.tables import EnvTables
from recworld.simulators import state as st
from recworld.simulators.compiled import gather_rows
from recworld.simulators.state import Happened, Layout, Seen

Array = npt.NDArray[Any]
Observation = dict[str, Array]


def gathered(table: Array, numbers: Array, rows: Array | None = None) -> Array:
    """Return rows of a table by their numbers, (N, C, D); zeros but for `rows`, where these are given.

    Args:
        table: (I, D) float32, or float16, which costs more time and half the memory.
        numbers: (N, C) int32.
        rows: numbers of the rows n that are wanted, int64.
    """
    shape = (*numbers.shape, table.shape[1])
    out = np.empty(shape, np.float32) if rows is None else untouched_zeros(shape)
    if table.dtype != np.float32:
        some = slice(None) if rows is None else rows
        out[some] = table[numbers[some]]
        return out
    gather_rows(table, numbers, np.arange(len(numbers)) if rows is None else rows, out)
    return out


def untouched_zeros(shape: tuple[int, ...]) -> Array:
    """Return float32 zeros of which few will be written: pages of memory that nobody touches cost nothing."""
    size = 4 * math.prod(shape)
    if size < 1 << 20:
        return np.zeros(shape, np.float32)
    pages = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32).reshape(shape)


class Views:
    """Cuts the arrays of a step into what Gymnasium is given, for all users or for the first one alone.

    Args:
        layout: gives the widths.
        tables: give the text vectors of the "features" form.
        form: "ids" or "features".
    """

    def __init__(self, layout: Layout, tables: EnvTables, form: str) -> None:
        h, c, k = layout.history, layout.candidates, layout.slate
        both = (tables.user_vector, tables.item_vector)
        self._vectors = (
            tuple(
                np.ascontiguousarray(each, None if each.dtype == np.float16 else np.float32) for each in both
            )
            if form == "features"
            else None
        )
        # Cuts of the last axis, made once: with one user, making them costs as much as taking them.
        self._user, self._history, self._items = np.s_[..., :1], np.s_[..., 1 : 1 + h], np.s_[..., 1 + h :]
        self._step, self._feedback, self._age = (
            np.s_[..., :1],
            np.s_[..., 1 : 1 + h],
            np.s_[..., 1 + h : 1 + 2 * h],
        )
        self._score, self._estimate = np.s_[..., 1 + 2 * h : 1 + 2 * h + c], np.s_[..., 1 + 2 * h + c :]
        head = st.R_INT_HEAD
        self._item, self._click = np.s_[..., head : head + k], np.s_[..., head + k : head + 2 * k]
        self._has_rating, self._rating = np.s_[..., head + 2 * k :], np.s_[..., st.R_FLOAT_HEAD :]

    def observation(self, seen: Seen, rows: Array | None = None) -> Observation:
        """Return the observation of all users, each array with N rows.

        Args:
            seen: what the step wrote.
            rows: the rows that say something; text vectors of others are zero. All by default.
        """
        named = self._named(seen)
        if self._vectors is not None:
            users, items = self._vectors
            named["user"] = gathered(users, named["user"], rows)[:, 0]
            for name in ("history", "candidates"):
                named[name] = gathered(items, named[name], rows)
        return named

    def first_observation(self, seen: Seen) -> Observation:
        """Return the observation of the first user, without the N axis."""
        named = self._named(Seen(seen.ints[0], seen.floats[0], seen.mask[0]))
        if self._vectors is not None:
            users, items = self._vectors
            named["user"] = users[named["user"][0]].astype(np.float32)
            for name in ("history", "candidates"):
                named[name] = items[named[name]]
        return named

    def _named(self, seen: Seen) -> Observation:
        """Return the views of rows, (N, ...), or of one row, by name; the text vectors are still numbers."""
        ints, floats, mask = seen
        return {
            "action_mask": mask,
            "candidate_score": floats[self._score],
            "candidates": ints[self._items],
            "history": ints[self._history],
            "history_age": floats[self._age],
            "history_feedback": floats[self._feedback],
            "step": floats[self._step],
            "user": ints[self._user],
            "user_estimate": floats[self._estimate],
        }

    def info(self, happened: Happened) -> dict[str, Any]:
        """Return what happened to all users, each array with N rows; or to one, given its rows."""
        ints, floats = happened
        of_ints, of_floats = ints.T, floats.T  # a column of all users, or a number of one
        return {
            "item": ints[self._item],
            "click": ints[self._click],
            "rating": floats[self._rating],
            "has_rating": ints[self._has_rating],
            "user": of_ints[st.R_USER],
            "satisfaction": of_floats[st.R_SATISFACTION],
            "boredom": of_floats[st.R_BOREDOM],
            "taste_shift": of_floats[st.R_SHIFT],
            "invalid": of_ints[st.R_INVALID],
        }
