"""Observation and info as named views of the few arrays that a step writes; nothing is copied but text vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.envs.tables import EnvTables
from recworld.simulators import state as st
from recworld.simulators.state import Happened, Layout, Seen

Array = npt.NDArray[Any]
Observation = dict[str, Array]


class Views:
    """Cuts the arrays of a step into what Gymnasium is given, for all users or for the first one alone.

    Args:
        layout: gives the widths.
        tables: give the text vectors of the "features" form.
        form: "ids" or "features".
    """

    def __init__(self, layout: Layout, tables: EnvTables, form: str) -> None:
        h, c, k = layout.history, layout.candidates, layout.slate
        self._vectors = (tables.user_vector, tables.item_vector) if form == "features" else None
        self._user, self._history, self._items = slice(0, 1), slice(1, 1 + h), slice(1 + h, 1 + h + c)
        self._step, self._feedback, self._age = slice(0, 1), slice(1, 1 + h), slice(1 + h, 1 + 2 * h)
        self._score, self._estimate = slice(1 + 2 * h, 1 + 2 * h + c), slice(1 + 2 * h + c, None)
        head = st.R_INT_HEAD
        self._item, self._click = slice(head, head + k), slice(head + k, head + 2 * k)
        self._has_rating, self._rating = slice(head + 2 * k, None), slice(st.R_FLOAT_HEAD, None)

    def observation(self, seen: Seen) -> Observation:
        """Return the observation of all users, each array with N rows."""
        ints, floats, mask = seen
        user, history, items = ints[:, self._user], ints[:, self._history], ints[:, self._items]
        if self._vectors is not None:
            user = np.take(self._vectors[0], user[:, 0], axis=0)
            history, items = (
                np.take(self._vectors[1], history, axis=0),
                np.take(self._vectors[1], items, axis=0),
            )
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
