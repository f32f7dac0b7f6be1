"""Logged slates put before simulated users: what they click, how they rate, when they leave.

The engine is `UserSimulator` itself; only the choice of slates is the log's. Legend: S sessions, L slates of the longest,
K places of a slate, I items.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recworld.logs.log import Exposures
from recworld.seeding import child_seed
from recworld.simulators import state as st
from recworld.simulators.selection_treatment import REPORT_KEY, tables_as_rated
from recworld.simulators.user import UserSimulator
from recworld.simulators.world import World

Ints = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

MOST_SLATES = 200
"""Slates of a session that are replayed; what follows is left out."""
MOST_PLACES = 100
"""Places of a slate that are replayed."""
CELLS = 2_000_000
"""Most places (sessions x slates x K) side by side."""
SURELY = 60.0
"""Logits that make a click certain: the log's own consumptions are replayed so."""


@dataclass(frozen=True)
class Sessions:
    """Slates of S sessions as the log has them.

    Attributes:
        user: (S,) user numbers.
        number: (S,) session numbers of the log.
        item: (S, L, K) int32 item numbers, I where empty.
        click: (S, L, K) bool, what was clicked.
        rating: (S, L, K) float64, NaN where there is none.
        length: (S,) slates.
        scored: (S, L) bool, slates that were held out and count.
        last: (S,) bool, the newest of several sessions of its user: it ends with the log.
    """

    user: Ints
    number: Ints
    item: Items
    click: Mask
    rating: npt.NDArray[np.float64]
    length: Ints
    scored: Mask
    last: Mask

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Replayed:
    """What simulated users did with the slates of S sessions.

    Attributes:
        click: (S, L, K) bool.
        rating: (S, L, K) float32, 0 where nothing was rated.
        there: (S, L) bool, whether the user was still there when the slate was shown.
        left: (S, L) bool, whether the user left after the slate.
    """

    click: Mask
    rating: npt.NDArray[np.float32]
    there: Mask
    left: Mask


def logged_sessions(shown: Exposures, held: Mask, num_items: int) -> Sessions:
    """Return all logged sessions in which a slate was held out, whole, so that a user's state is that of the log.

    Args:
        shown: what was shown.
        held: (n,) which of its rows are held out.
        num_items: I.
    """
    rows = np.flatnonzero(
        np.isin(shown.session, np.unique(shown.session[held])) & (shown.position < MOST_PLACES)
    )
    order = rows[np.lexsort((shown.position[rows], shown.slate[rows], shown.session[rows]))]
    session, slate = shown.session[order], shown.slate[order]
    number, first, place = np.unique(session, return_index=True, return_inverse=True)
    new = np.r_[True, (np.diff(slate) != 0) | (np.diff(session) != 0)]
    running = np.cumsum(new) - 1
    step = running - running[first][place]
    user = shown.user[order[first]].astype(np.int64)
    kept = step < MOST_SLATES
    order, place, step = order[kept], place[kept], step[kept]
    position = shown.position[order].astype(np.int64)
    shape = (len(number), int(step.max()) + 1, int(position.max()) + 1)
    item, rating = np.full(shape, num_items, np.int32), np.full(shape, np.nan)
    click, scored, length = (
        np.zeros(shape, np.bool_),
        np.zeros(shape[:2], np.bool_),
        np.zeros(len(number), np.int64),
    )
    at = (place, step, position)
    item[at], click[at], rating[at] = shown.item[order], shown.clicked[order], shown.rating[order]
    np.logical_or.at(scored, (place, step), held[order])
    np.maximum.at(length, place, step + 1)
    newest, oldest = (
        np.full(int(shown.user.max()) + 1, -1),
        np.full(int(shown.user.max()) + 1, len(shown.session)),
    )
    np.maximum.at(newest, shown.user, shown.session)
    np.minimum.at(oldest, shown.user, shown.session)
    last = (newest[user] == number) & (oldest[user] != number)
    return Sessions(user, number.astype(np.int64), item, click, rating, length, scored, last)


def replay(world: World, user: Ints, item: Items, seed: int, *, leaving: bool) -> Replayed:
    """Show slates to simulated users.

    Args:
        world: the world; its dynamics hold.
        user: (S,) user numbers.
        item: (S, L, K) item numbers, I where empty.
        seed: of everything drawn.
        leaving: whether users may leave before the last slate (then what follows is not answered).
    """
    if not leaving:
        world = world.with_dynamics(world.dynamics.model_copy(update={"leaving": False}))
    count, steps, places = item.shape
    filled: Mask = np.any(item < world.num_items, axis=2)
    length = np.where(filled.any(1), steps - filled[:, ::-1].argmax(1), 0)
    order = np.argsort(length, kind="stable")  # alike lengths side by side: little idling
    click, there = np.zeros(item.shape, np.bool_), np.zeros(item.shape[:2], np.bool_)
    left, rating = np.zeros(item.shape[:2], np.bool_), np.zeros(item.shape, np.float32)
    block = max(1, CELLS // (steps * places))
    for start in range(0, count, block):
        rows = order[start : start + block]
        longest = int(length[rows].max())
        if longest == 0:
            continue
        part = _side_by_side(world, user[rows], item[rows, :longest], child_seed(seed, "replay", start))
        at = (rows[:, None], np.arange(longest)[None, :])
        click[at], rating[at], there[at], left[at] = part.click, part.rating, part.there, part.left
    inside = np.arange(steps)[None, :] < length[:, None]
    return Replayed(click & inside[:, :, None], rating, there & inside, left & inside)


def _side_by_side(world: World, user: Ints, item: Items, seed: int) -> Replayed:
    count, steps, places = item.shape
    simulator = UserSimulator(
        world, count, slate_size=places, num_candidates=places, horizon=steps + 1, history_length=1,
        candidates="popular", users=np.arange(world.num_users, dtype=np.int32), repeats=True,
    )  # fmt: skip
    simulator.seed(seed, np.arange(count))
    simulator.pin(user.astype(np.int32))
    rows = np.arange(count)
    simulator.set_episode(rows, 0)
    simulator.begin(rows, simulator.new_seen())
    offered = slice(simulator.layout.candidates_at, simulator.layout.candidates_at + places)
    action = np.tile(np.arange(places), (count, 1))
    click, rating = np.zeros(item.shape, np.bool_), np.zeros(item.shape, np.float32)
    there, left = np.zeros(item.shape[:2], np.bool_), np.zeros(item.shape[:2], np.bool_)
    for step in range(steps):
        there[:, step] = ~simulator.done
        # What is offered is exactly the logged slate, in its order.
        simulator.int_rows[:, offered] = item[:, step]
        _, happened, _, _ = simulator.step(action)
        taken = happened.ints[:, st.R_INT_HEAD + places : st.R_INT_HEAD + 2 * places] == 1
        click[:, step] = taken & there[:, step, None]
        rating[:, step] = happened.floats[:, st.R_FLOAT_HEAD :] * click[:, step]
        left[:, step] = simulator.done & there[:, step]
    return Replayed(click, rating, there, left)


def rate_logged(world: World, user: Ints, item: Items, seed: int) -> npt.NDArray[np.float32]:
    """Return ratings of the log's own consumptions by simulated users, (S, L, K), 0 where the slot is empty.

    Every item shown is taken for certain, so boredom and taste move as the log's consumptions move them.

    Args:
        world: the world.
        user: (S,) user numbers.
        item: (S, L, K) consumed items, I where empty.
        seed: of the ratings.
    """
    truth = tables_as_rated(world.truth, world.report.get(REPORT_KEY, {}))
    zero = np.zeros_like(truth.item_attraction_bias)
    certain = replace(
        truth,
        user_attraction_bias=np.full_like(truth.user_attraction_bias, SURELY),
        item_attraction_bias=zero,
        item=np.concatenate(
            [truth.item[:, :, : truth.rating_width], np.zeros_like(truth.item[:, :, truth.rating_width :])],
            axis=2,
        ),
    )
    dynamics = world.dynamics.model_copy(
        update={"examination": "position", "examination_decay": 1.0, "base_click_rate": None, "popularity_share": None,
                "click_rating_correlation": 0.0}
    )  # fmt: skip
    sure = replace(world, truth=certain, dynamics=dynamics, attraction_known=True, shown=None)
    return replay(sure, user, item, seed, leaving=False).rating
