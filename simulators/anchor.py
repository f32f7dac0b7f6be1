"""The base rate of a world that has logged exposures: shown again what was shown, its users click as often as they did.

An attraction that is fitted to a log holds the mean boredom of what was shown. A world whose users get bored takes boredom
off once more, and its positions need not be noticed as those of the log were; so the intercept is solved under the world's
own dynamics, with the log's clicks as the past of every slate.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray, InteractionLog
from recworld.seeding import generator
from recworld.simulators.attraction import matching_shift
from recworld.simulators.calibration_kernels import boredom_rows, drift_rows
from recworld.simulators.calibration_table import (
    COLUMNS,
    Pairs,
    SlateTable,
    chosen_units,
    make_pairs,
    slate_table,
)

if TYPE_CHECKING:
    from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]

MOST_ROWS = 20_000
"""Shown rows that a world keeps; of longer logs whole sessions are drawn. At a click rate of 0.2 the standard error of the
mean rate is 1.4 % of it."""
MOST_CLICKED = 0.5
"""Share of the noticed rows that may have been clicked. Above it, the log was looked through more than the world is:
the first places, which are always noticed, decide then."""
BOUND = 15.0
"""Largest shift in logits."""


def sampled_slates(log: InteractionLog, seed: int) -> SlateTable:
    """Return sessions of a log with exposures, drawn until there are `MOST_ROWS` rows."""
    table = slate_table(log)
    if len(table) <= MOST_ROWS:
        return table
    rows = np.bincount(table.row_session, minlength=table.num_sessions)
    return table.sessions(chosen_units(rows, MOST_ROWS, generator(seed, "sessions shown again")))


def click_shift(world: World, share: float) -> FloatArray:
    """Return per member what is added to the attraction logits, (M,) float32; 0 where the world has no slates to show.

    Args:
        world: the world. One choice per slate (`examination` "choice") has no intercept to solve: 0.
        share: of an item's log-popularity that is attraction.
    """
    table, d, truth = world.shown, world.dynamics, world.truth
    if table is None or d.examination == "choice" or not table.clicked.any():
        return np.zeros(truth.num_members, np.float32)
    pairs = _pairs(world, table)
    bored = np.empty(len(table))
    boredom_rows(pairs.start, pairs.near, pairs.age, d.boredom_memory, d.boredom_scale, bored)
    noticed, clicked = np.asarray(d.examination_decay**table.position, np.float64), table.clicked
    if d.examination == "cascade":  # nobody looks on after a click
        before = _clicked_before(table)
        noticed, clicked = noticed * ~before, clicked & ~before
    if clicked.sum() > MOST_CLICKED * noticed.sum() or not noticed.any():
        first = table.position == table.position.min()
        noticed, clicked = first.astype(np.float64), table.clicked & first
    wanted, shifts = float(np.clip(clicked.sum(), 0.5, noticed.sum() - 0.5)), []
    for member in range(truth.num_members):
        logit = _logits(world, table, member, share) - d.boredom * bored
        shifts.append(matching_shift(logit, noticed, wanted, BOUND))
    return np.asarray(shifts, np.float32)


def _logits(world: World, table: SlateTable, member: int, share: float) -> Floats:
    """Return the logits of rows before boredom, with the drift of the tastes by the log's own clicks, (n,)."""
    t, width = world.truth, world.truth.rating_width
    taste, factor = (np.ascontiguousarray(x[member, :, width:], np.float64) for x in (t.taste, t.item))
    drift = np.zeros(len(table))
    if world.dynamics.taste_rate > 0:
        drift_rows(
            table.slate_start, table.session_start, table.session_user, table.item, table.clicked, table.surprise,
            taste, factor, world.dynamics.taste_rate, world.dynamics.taste_return, drift,
        )  # fmt: skip
    own = np.einsum("nf,nf->n", taste[table.user], factor[table.item])
    own += t.user_attraction_bias[member, table.user] + share * t.item_attraction_bias[member, table.item]
    return np.asarray(own + drift)


_LAST: list[tuple[SlateTable, FloatArray, Pairs]] = []


def _pairs(world: World, table: SlateTable) -> Pairs:
    """Return the pairs of a world's slates; they do not depend on its dynamics, and the last ones are kept."""
    for shown, vector, pairs in _LAST:
        if shown is table and vector is world.item_vector:
            return pairs
    found = make_pairs(table, world.boredom_vector.astype(np.float64))
    _LAST[:] = [(table, world.item_vector, found), *_LAST[:1]]
    return found


def _clicked_before(table: SlateTable) -> npt.NDArray[np.bool_]:
    """Return whether an earlier row of the same slate was clicked, (n,)."""
    total = np.concatenate([[0], np.cumsum(table.clicked)])
    start = np.repeat(table.slate_start[:-1], np.diff(table.slate_start))
    return np.asarray(total[:-1] > total[start])


def slate_arrays(table: SlateTable) -> dict[str, Any]:
    """Return a table as named arrays, for a file."""
    return {f.name: getattr(table, f.name) for f in fields(table) if f.name != "unrated"}


def slates_of(arrays: dict[str, Any]) -> SlateTable:
    """Return the table of `slate_arrays`; compiled code relies on what is checked here.

    Raises:
        ValueError: the arrays are no table.
    """
    for name, array in arrays.items():
        kind = {"clicked": "b", "surprise": "f", "liking": "f", "score": "f"}.get(name, "i")
        if array.ndim != 1 or array.dtype.kind != kind:
            raise ValueError(f"shown.{name} has shape {array.shape} and type {array.dtype}")
    table = SlateTable(**arrays)
    if len({len(arrays[name]) for name in COLUMNS}) != 1:
        raise ValueError("the columns of shown differ in length")
    for name, size in (("slate_start", len(table)), ("session_start", len(table.slate_start) - 1)):
        start = arrays[name]
        if len(start) < 2 or start[0] != 0 or start[-1] != size or (np.diff(start) <= 0).any():
            raise ValueError(f"shown.{name} must rise from 0 to {size}")
    if len(table.session_user) != table.num_sessions:
        raise ValueError("shown.session_user must have one entry a session")
    return table
