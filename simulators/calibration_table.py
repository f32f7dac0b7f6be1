"""What was shown, in the order in which it was answered: rows by user, session, slate and position."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray, InteractionLog
from recworld.simulators.calibration_kernels import count_pairs, first_places, write_pairs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]

COLUMNS = ("user", "item", "position", "clicked", "surprise", "liking", "score")
"""What a `SlateTable` has one entry a row of."""
LEAST_SCORE = 0.1
"""Standard deviation of a policy's log scores within a user below which it told no pair from another."""
MOST_PLACE = 0.7
"""Share of that standard deviation that may lie between places."""
LONGEST_MEMORY = 60
"""Slates after which a click no longer bores; 0.85^60 is 6e-5."""


@dataclass(frozen=True)
class SlateTable:
    """Rows of a log's exposures, sorted; S slates, E sessions, n rows.

    Attributes:
        user: (n,) user numbers.
        item: (n,) item numbers.
        position: (n,) places in the slate.
        clicked: (n,).
        surprise: (n,) g of the taste update, in [-1, 1]; 0 where not clicked.
        liking: (n,) in [0, 1]; 0 where not clicked.
        score: (n,) what the logging policy made of the pair beforehand, mean 0, standard deviation 1; 0 where it did not log
            its propensities.
        slate_start: (S + 1,) offsets of slates in the rows.
        session_start: (E + 1,) offsets of sessions in the slates.
        session_user: (E,) user numbers.
        unrated: share of clicks without a rating, on a scale that has ratings.
    """

    user: Shorts
    item: Shorts
    position: Ints
    clicked: npt.NDArray[np.bool_]
    surprise: Floats
    liking: Floats
    score: Floats
    slate_start: Ints
    session_start: Ints
    session_user: Shorts
    unrated: float = 0.0

    def __len__(self) -> int:
        return len(self.item)

    @property
    def num_slates(self) -> int:
        """S."""
        return len(self.slate_start) - 1

    @property
    def num_sessions(self) -> int:
        """E."""
        return len(self.session_start) - 1

    @property
    def row_session(self) -> Ints:
        """(n,) session of each row."""
        return np.repeat(np.arange(self.num_sessions), np.diff(self.slate_start[self.session_start]))

    def take_rows(self, rows: Ints) -> SlateTable:
        """Return the table with its rows in another order; slates and sessions keep their sizes."""
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})

    def sessions(self, keep: npt.NDArray[np.bool_]) -> SlateTable:
        """Return the table of the chosen sessions, (E,) bool."""
        slates = np.repeat(keep, np.diff(self.session_start))
        rows = np.repeat(slates, np.diff(self.slate_start))
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in COLUMNS},
            slate_start=_offsets(np.diff(self.slate_start)[slates]),
            session_start=_offsets(np.diff(self.session_start)[keep]),
            session_user=self.session_user[keep],
        )


@dataclass(frozen=True)
class Pairs:
    """How near a row's item is to what was clicked earlier in its session.

    Attributes:
        start: (n + 1,) offsets of each row's pairs.
        near: (pairs,) <v_i, v_j> of the row's item and the clicked one.
        age: (pairs,) slates between them, from 1.
    """

    start: Ints
    near: Floats
    age: Ints


def slate_table(log: InteractionLog) -> SlateTable:
    """Return the sorted rows of a log with exposures."""
    shown = log.exposures
    if shown is None:
        raise ValueError("The log must have exposures.")
    order = np.lexsort((shown.position, shown.slate, shown.session, shown.user))
    user, session, slate = shown.user[order], shown.session[order], shown.slate[order]
    clicked = shown.clicked[order]
    new_session = np.concatenate([[True], (np.diff(user) != 0) | (np.diff(session) != 0)])
    new_slate = new_session | np.concatenate([[True], np.diff(slate) != 0])
    slate_start = np.append(np.flatnonzero(new_slate), len(order)).astype(np.int64)
    first = np.flatnonzero(new_session)
    session_start = np.append(np.searchsorted(slate_start, first), len(slate_start) - 1).astype(np.int64)
    surprise, liking, unrated = _feelings(log, user, shown.rating[order], clicked)
    return SlateTable(
        np.asarray(user, np.int32), np.asarray(shown.item[order], np.int32),
        shown.position[order].astype(np.int64), clicked, surprise, liking,
        policy_scores(shown.propensity[order].astype(np.float64), user, slate_start), slate_start, session_start,
        np.asarray(user[first], np.int32), unrated,
    )  # fmt: skip


def policy_scores(propensity: Floats, user: Shorts, slate_start: Ints) -> Floats:
    """Return what the logging policy made of each row's pair before it was shown, standardised around its user's mean.

    A propensity is that of the item at its place, given the items before it; times what those left over, it is the chance
    of the item at the first place, whose logarithm is the policy's score but for a constant of the user. Given the score,
    where an item stood was luck (Rosenbaum & Rubin 1983).

    Args:
        propensity: (n,); where any is missing, the answer is 0 throughout.
        user: (n,).
        slate_start: (S + 1,).
    """
    if not (np.isfinite(propensity) & (propensity > 0)).all():
        return np.zeros(len(propensity))
    first = np.empty(len(propensity))
    first_places(propensity, slate_start, first)
    score = np.log(first)
    count = np.maximum(np.bincount(user), 1)
    score -= (np.bincount(user, score) / count)[user]
    spread = float(score.std())
    place = np.arange(len(score)) - np.repeat(slate_start[:-1], np.diff(slate_start))
    usual = np.bincount(place, score) / np.maximum(np.bincount(place), 1)
    # A policy that chose at random, or wrote one number throughout: what varies is the place, not the pair.
    if spread < LEAST_SCORE or float(usual[place].std()) > MOST_PLACE * spread:
        return np.zeros(len(score))
    return score / spread


def chosen_units(sizes: npt.NDArray[Any], most: int, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which units (users, sessions) of a table to keep, at random, for no more than `most` rows; at least one."""
    keep, total = np.zeros(len(sizes), np.bool_), 0
    for unit in random.permutation(len(sizes)).tolist():
        if total + sizes[unit] <= most:
            keep[unit], total = True, total + int(sizes[unit])
    if not sizes[keep].any():
        keep[np.argmin(np.where(sizes > 0, sizes, np.iinfo(np.int64).max))] = True
    return keep


def _feelings(
    log: InteractionLog, user: Shorts, rating: FloatArray, clicked: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, float]:
    """Return g and liking of rows, as the step has them; a click without a rating counts as one at the user's mean."""
    if log.scale.kind == "click":
        return clicked.astype(np.float64), clicked.astype(np.float64), 0.0
    scale, value = log.scale, rating.astype(np.float64)
    usual = user_means(log)
    missing = ~np.isfinite(value)
    value = np.where(missing, usual[user], value)
    half = (scale.high - scale.low) / 2 or 1.0
    surprise = np.clip((value - usual[user]) / half, -1.0, 1.0)
    liking = 0.5 * ((value - (scale.low + scale.high) / 2) / half + 1.0)
    unrated = float(missing[clicked].mean()) if clicked.any() else 0.0
    return np.where(clicked, surprise, 0.0), np.where(clicked, liking, 0.0), unrated


def user_means(log: InteractionLog, damping: float = 3.0, passes: int = 10) -> Floats:
    """Return each user's mean rating of an average item: mean + b_u of the additive model, damped. Shape (U,)."""
    rating = log.rating.astype(np.float64)
    mean, users, items = rating.mean(), np.zeros(log.num_users), np.zeros(log.num_items)
    for _ in range(passes):
        rest = rating - mean - users[log.user]
        items = np.bincount(log.item, rest, log.num_items) / (
            np.bincount(log.item, minlength=log.num_items) + damping
        )
        rest = rating - mean - items[log.item]
        users = np.bincount(log.user, rest, log.num_users) / (
            np.bincount(log.user, minlength=log.num_users) + damping
        )
    return np.asarray(mean + items.mean() + users)


def centred_vectors(item_vector: FloatArray) -> Floats:
    """Return (I, D) centred unit vectors v_i, as `World.boredom_vector` has them."""
    centred = item_vector.astype(np.float64) - item_vector.mean(0, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.where(norm > 1e-6, centred / np.maximum(norm, 1e-6), 0.0))


def make_pairs(table: SlateTable, vector: Floats) -> Pairs:
    """Return how near each row is to earlier clicks of its session; `vector` (I, D) as of `centred_vectors`."""
    where = (table.slate_start, table.session_start, table.clicked)
    start = np.zeros(len(table) + 1, np.int64)
    count_pairs(*where, LONGEST_MEMORY, start)
    near, age = np.empty(start[-1]), np.empty(start[-1], np.int64)
    write_pairs(*where, table.item, vector, LONGEST_MEMORY, start, near, age)
    return Pairs(start, near, age)


def shuffled_slates(table: SlateTable, random: np.random.Generator) -> SlateTable:
    """Return the table with the slates of every session in random order, each slate kept whole."""
    session = np.repeat(np.arange(table.num_sessions), np.diff(table.session_start))
    return _reordered(table, np.lexsort((random.random(table.num_slates), session)))


def _reordered(table: SlateTable, order: Ints) -> SlateTable:
    """Return the table with whole slates in another order, (S,); sessions keep their lengths."""
    sizes = np.diff(table.slate_start)[order]
    start = _offsets(sizes)
    rows = np.repeat(table.slate_start[:-1][order] - start[:-1], sizes) + np.arange(len(table))
    return replace(table.take_rows(rows), slate_start=start)


def exchanged_slates(table: SlateTable, random: np.random.Generator) -> SlateTable:
    """Return the table with the slates of every user dealt to their sessions at random, each slate kept whole."""
    sizes, lengths = np.diff(table.slate_start), np.diff(table.session_start)
    owner = np.repeat(table.session_user, lengths)
    order = np.argsort(owner, kind="stable")
    dealt = np.empty(len(sizes), np.int64)
    dealt[order] = np.lexsort((random.random(len(sizes)), owner))
    return _reordered(table, dealt)


def shuffled_positions(table: SlateTable, random: np.random.Generator) -> SlateTable:
    """Return the table with the positions of every slate exchanged at random."""
    slate = np.repeat(np.arange(table.num_slates), np.diff(table.slate_start))
    rows = np.lexsort((random.random(len(table)), slate))
    return replace(table, position=table.position[rows])


def _offsets(sizes: npt.NDArray[Any]) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
