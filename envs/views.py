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
        table: (I, D) float32.
        numbers: (N, C) int32.
        rows: numbers of the rows n that are wanted, int64.
    """
    shape = (*numbers.shape, table.shape[1])
    out = np.empty(shape, np.float32) if rows is None else untouched_zeros(shape)
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
            tuple(np.ascontiguousarray(each, np.float32) for each in both) if form == "features" else None
        )
        self._user, self._history, self._items = slice(0, 1), slice(1, 1 + h), slice(1 + h, 1 + h + c)
        self._step, self._feedback, self._age = slice(0, 1), slice(1, 1 + h), slice(1 + h, 1 + 2 * h)
        self._score, self._estimate = slice(1 + 2 * h, 1 + 2 * h + c), slice(1 + 2 * h + c, None)
        head = st.R_INT_HEAD
        self._item, self._click = slice(head, head + k), slice(head + k, head + 2 * k)
        self._has_rating, self._rating = slice(head + 2 * k, None), slice(st.R_FLOAT_HEAD, None)

    def observation(self, seen: Seen, rows: Array | None = None) -> Observation:
        """Return the observation of all users, each array with N rows.

        Args:
            seen: what the step wrote.
            rows: the rows that say something; text vectors of others are zero. All by default.
        """
        ints, floats, mask = seen
        user, history, items = ints[:, self._user], ints[:, self._history], ints[:, self._items]
        if self._vectors is not None:
            users, vectors = self._vectors
            user = gathered(users, user, rows)[:, 0]
            history, items = gathered(vectors, history, rows), gathered(vectors, items, rows)
        return {
            "action_mask": mask,
            "candidate_score": floats[:, self._score],
            "candidates": items,
            "history": history,
            "history_age": floats[:, self._age],
            "history_feedback": floats[:, self._feedback],
            "step": floats[:, self._step],
            "user": user,
            "user_estimate": floats[:, self._estimate],
        }

    def info(self, happened: Happened) -> dict[str, Any]:
        """Return what happened to all users, each array with N rows."""
        ints, floats = happened
        return {
            "item": ints[:, self._item],
            "click": ints[:, self._click],
            "rating": floats[:, self._rating],
            "has_rating": ints[:, self._has_rating],
            "user": ints[:, st.R_USER],
            "satisfaction": floats[:, st.R_SATISFACTION],
            "boredom": floats[:, st.R_BOREDOM],
            "taste_shift": floats[:, st.R_SHIFT],
            "invalid": ints[:, st.R_INVALID],
        }

    def first_observation(self, seen: Seen) -> Observation:
        """Return the observation of the first user, without the N axis."""
        ints, floats, mask = seen.ints[0], seen.floats[0], seen.mask[0]
        user, history, items = ints[self._user], ints[self._history], ints[self._items]
        if self._vectors is not None:
            users, vectors = self._vectors
            user, history, items = users[user[0]].copy(), vectors[history], vectors[items]
        return {
            "action_mask": mask,
            "candidate_score": floats[self._score],
            "candidates": items,
            "history": history,
            "history_age": floats[self._age],
            "history_feedback": floats[self._feedback],
            "step": floats[self._step],
            "user": user,
            "user_estimate": floats[self._estimate],
        }

    def first_info(self, ints: Array, floats: Array) -> dict[str, Any]:
        """Return what happened to one user, from rows of `Happened`."""
        return {
            "item": ints[self._item],
            "click": ints[self._click],
            "rating": floats[self._rating],
            "has_rating": ints[self._has_rating],
            "user": ints[st.R_USER],
            "satisfaction": floats[st.R_SATISFACTION],
            "boredom": floats[st.R_BOREDOM],
            "taste_shift": floats[st.R_SHIFT],
            "invalid": ints[st.R_INVALID],
        }
