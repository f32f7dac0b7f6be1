"""Layout of the compiled step's memory: a few flat arrays with named places.

The step reads one blob of floats, one of integers (the tables), a row of floats and a row of integers per user (what
changes), and writes one row of integers and one of floats per user (what is observed and what happened). Few arrays keep
the call cheap, and `state()` is a copy of three of them.

Legend: N users side by side, F width of the taste, G width of the recommender's taste, D width of text vectors, H history
length, C candidates, K slate size, T horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recworld.simulators.lanes import padded

Array = npt.NDArray[Any]

FILTER_WORDS = 64
"""Words of 32 bits of the per-user filter that says at once that an item was not consumed; exact up to 2,048 items."""
FILTER_BITS = 32 * FILTER_WORDS
BLOCK = 64
"""Items scored at once when a whole catalogue is gone through."""
IN_PLACE = 1 << 26
"""Bytes from which on a table of users is read where the world has it, and not copied."""
OF_USERS = {
    "taste", "user_rating", "user_attraction", "user_shift", "user_scale", "user_sigma", "agent_taste",
    "agent_user_rating", "agent_user_attraction", "history_feedback", "users", "history_item", "seen_item",
}  # fmt: skip
"""Tables of which no row behind the last is ever read."""
ALIGNMENT = 16
"""Tables and rows start at multiples of so many 32-bit words: a line of the processor's cache."""

# Columns of the integer row of a user: head, history items (H), candidates (C, padded), steps of the history (H), consumed
# items (T K), filter words.
USER, MEMBER, EPISODE, STEP, DONE, PINNED, CONSUMED = range(7)
INT_HEAD = 8
# Columns of the float row: head, taste z, boredom memory s, recommender's taste, history feedback (H); z and the taste are
# two blocks each, of rating and of attraction, and every block is padded with zeros to a multiple of eight.
SATISFACTION, FRAILTY, NORM_RATING, NORM_ATTRACTION = range(4)
FLOAT_HEAD = 8
# Columns of the rows of what happened: integers, then K items, K clicks, K has-rating marks; floats, then K ratings.
R_TERMINATED, R_TRUNCATED, R_INVALID, R_USER, R_INT_HEAD = range(5)
R_REWARD, R_SATISFACTION, R_BOREDOM, R_SHIFT, R_FLOAT_HEAD = range(5)

# Places in the float parameters.
P_DECAY, P_BOREDOM, P_BOREDOM_RATING, P_MEMORY, P_SCALE = range(5)
P_TASTE_RATE, P_TASTE_RETURN, P_SAT_RATE, P_SAT_START = range(5, 9)
P_LEAVE_BASE, P_LEAVE_DISSATISFACTION, P_LEAVE_BOREDOM, P_LEAVE_STEP, P_FRAILTY = range(9, 14)
P_RHO, P_NO_CLICK, P_W_CLICK, P_W_RATING, P_MIDDLE = range(14, 19)
P_HALF, P_LOW, P_HIGH, P_FOLD_IN, NUM_P = range(19, 24)

# Places in the integer parameters: widths (padded; those of the recommender's taste also as they are) and switches,
I_FR, I_F, I_GR, I_G, I_D, I_H, I_C, I_K, I_T, I_ITEMS, I_USERS, I_MEMBERS, I_LEVELS, I_POOL = range(14)
I_SCALE, I_EXAMINATION, I_LEAVING, I_CANDIDATES, I_REPEATS, I_SCORE_RATING = range(14, 20)
I_OWN_GR, I_OWN_GA, I_HASH, I_FOLD, I_EXACT = range(20, 25)
# widths of rows and offsets of segments in them and in the scratch space,
W_FLOAT, W_INT, S_MEMORY, S_AGENT, S_FEEDBACK, S_WHEN, S_CANDIDATES, S_CONSUMED, S_FILTER = range(25, 34)
S_SLATE, S_CHOSEN, S_BLOCK, S_ETA, S_NEAR, S_CHANCE, S_BLOCK_SCORE, S_BLOCK_ETA = range(34, 42)
# offsets of tables in the blob of floats and in the blob of integers (in the order of the fields of `Tables`).
T_TASTE, T_ITEM, T_USER_RATING, T_ITEM_RATING, T_USER_ATTRACTION, T_ITEM_ATTRACTION = range(42, 48)
T_THRESHOLDS, T_USER_SHIFT, T_USER_SCALE, T_USER_SIGMA, T_LEVELS, T_TEXT, T_AGENT_TASTE, T_AGENT_ITEM = range(
    48, 56
)
T_AGENT_USER_RATING, T_AGENT_ITEM_RATING, T_AGENT_USER_ATTRACTION, T_AGENT_ITEM_ATTRACTION = range(56, 60)
T_HISTORY_FEEDBACK, N_POOL, N_POPULAR, N_HISTORY_START, N_HISTORY_ITEM, N_SEEN_ITEM = range(60, 66)
# Where the attraction factors of items start.
T_ITEM_ATTRACTING, T_AGENT_ITEM_ATTRACTING, NUM_I = range(66, 69)

SCALE_CODE = {"click": 0, "discrete": 1, "continuous": 2}
EXAMINATION_CODE = {"position": 0, "cascade": 1, "choice": 2}
CANDIDATE_CODE = {"random": 0, "popular": 1, "all": 2, "retrieved": 3, "indexed": 4}


class Tables(NamedTuple):
    """Read-only arrays of a world in the order in which they are packed: floats first, then integers."""

    taste: Array  # (M, U, F)
    item: Array  # (M, I, F)
    user_rating: Array  # (M, U)
    item_rating: Array  # (M, I)
    user_attraction: Array  # (M, U), intercept solved for the base click rate
    item_attraction: Array  # (M, I), popularity share applied
    thresholds: Array  # (M, R-1)
    user_shift: Array  # (M, U)
    user_scale: Array  # (M, U)
    user_sigma: Array  # (M, U)
    levels: Array  # (R,)
    text: Array  # (I, D) centred unit vectors
    agent_taste: Array  # (U, G)
    agent_item: Array  # (I, G)
    agent_user_rating: Array  # (U,)
    agent_item_rating: Array  # (I,)
    agent_user_attraction: Array  # (U,)
    agent_item_attraction: Array  # (I,)
    history_feedback: Array  # normalised ratings of the early items
    users: Array  # users that episodes may draw
    popular: Array  # (I,) items, most popular first
    history_start: Array  # (U + 1,)
    history_item: Array  # early items by user in time order
    seen_item: Array  # early items by user in rising order, offsets as above

    def pack(self, switches: Array, layout: Layout) -> tuple[Array, Array, list[Array]]:
        """Return (floats, integers, tables read in place) and write the offset of every table into `switches`.

        Every table starts at a multiple of `ALIGNMENT`, rows of factors and texts are padded, and behind the last table
        there is room for one more row: the row behind an item table may be read, its value is never used. A large table of
        users that needs no padding stays where it is: its offset leads out of the blob, and it must live as long.
        """
        blocks = {
            "taste": layout.factors,
            "item": layout.factors,
            "agent_taste": layout.agent_factors,
            "agent_item": layout.agent_factors,
            "text": (layout.vector,),
        }
        apart = {"item": T_ITEM_ATTRACTING, "agent_item": T_AGENT_ITEM_ATTRACTING}
        blobs, kept, place = [], [], T_TASTE
        for fields, dtype in (
            (self._fields[: N_POOL - T_TASTE], np.float32),
            (self._fields[N_POOL - T_TASTE :], np.int32),
        ):
            sizes = []
            for name in fields:
                array = getattr(self, name)
                widths = blocks.get(name)
                rows = array.size if widths is None else array.size // max(sum(widths), 1)
                words = rows if widths is None else rows * sum(map(padded, widths))
                sizes.append(0 if _stays(name, array, words, dtype) else words)
            starts = np.concatenate([[0], np.cumsum([-(-size // ALIGNMENT) * ALIGNMENT for size in sizes])])
            blob = aligned_zeros(int(starts[-1]) + max(layout.row_widths), dtype)
            for name, start, size in zip(fields, starts[:-1], sizes, strict=True):
                switches[place] = start
                place += 1
                target, array, widths = blob[start : start + size], getattr(self, name), blocks.get(name)
                if size == 0 and array.size:
                    switches[place - 1] = (array.ctypes.data - blob.ctypes.data) // 4
                    kept.append(array)
                elif widths is not None and name in apart:
                    # Attraction is looked up far oftener: its rows lie side by side, behind those of rating.
                    rating = size // sum(padded(width) for width in widths) * padded(widths[0])
                    switches[apart[name]] = start + rating
                    _fill(target[:rating], array[..., : widths[0]], widths[:1])
                    _fill(target[rating:], array[..., widths[0] :], widths[1:])
                else:
                    _fill(target, array, widths)
            blobs.append(blob)
        return blobs[0], blobs[1], kept


def _stays(name: str, array: Array, words: int, dtype: npt.DTypeLike) -> bool:
    """Return whether a table may be read where it is."""
    fits = (
        array.dtype == dtype
        and array.flags.c_contiguous
        and array.size == words
        and array.ctypes.data % 4 == 0
    )
    return bool(fits and name in OF_USERS and array.nbytes >= IN_PLACE)


def _fill(target: Array, array: Array, widths: tuple[int, ...] | None) -> None:
    """Copy an array to its place in a blob, its columns in padded blocks."""
    if widths is None:
        target[:] = array.ravel()
        return
    if not sum(widths):
        return
    rows = array.reshape(-1, sum(widths))
    into, at, start = target.reshape(len(rows), -1), 0, 0
    for width in widths:
        into[:, at : at + width] = rows[:, start : start + width]
        at, start = at + padded(width), start + width


def aligned_zeros(size: int, dtype: npt.DTypeLike) -> Array:
    """Return zeros of 32 bits, (size,), that start at a multiple of `ALIGNMENT` words in memory and share no line of it."""
    whole = np.zeros(size + 3 * ALIGNMENT, dtype)
    start = -(whole.ctypes.data // 4) % ALIGNMENT + ALIGNMENT
    return whole[start : start + size]


@dataclass(frozen=True)
class Layout:
    """Widths, and from them the offsets of the pieces of a row.

    Attributes:
        factors: widths of the rating and of the attraction factors.
        agent_factors: the same of the recommender's.
        vector: D.
        history: H.
        candidates: C.
        slate: K.
        horizon: T.
    """

    factors: tuple[int, int]
    agent_factors: tuple[int, int]
    vector: int
    history: int
    candidates: int
    slate: int
    horizon: int

    @property
    def agent(self) -> int:
        """G, width of the recommender's taste as it is observed."""
        return sum(self.agent_factors)

    @property
    def row_widths(self) -> tuple[int, int, int]:
        """Padded widths of rows of factors, of the recommender's factors, and of texts."""
        return sum(map(padded, self.factors)), sum(map(padded, self.agent_factors)), padded(self.vector)

    @property
    def memory_at(self) -> int:
        """Offset of the boredom memory in the float row."""
        return FLOAT_HEAD + self.row_widths[0]

    @property
    def agent_at(self) -> int:
        """Offset of the recommender's taste in the float row."""
        return self.memory_at + self.row_widths[2]

    @property
    def feedback_at(self) -> int:
        """Offset of the history's feedback in the float row."""
        return self.agent_at + self.row_widths[1]

    @property
    def float_width(self) -> int:
        """Width of the float row."""
        return -(-(self.feedback_at + self.history) // ALIGNMENT) * ALIGNMENT

    @property
    def candidates_at(self) -> int:
        """Offset of the candidates in the integer row."""
        return INT_HEAD + self.history

    @property
    def when_at(self) -> int:
        """Offset of the steps of the history in the integer row."""
        return self.candidates_at + padded(self.candidates)

    @property
    def consumed_at(self) -> int:
        """Offset of the consumed items in the integer row."""
        return self.when_at + self.history

    @property
    def filter_at(self) -> int:
        """Offset of the filter in the integer row."""
        return self.consumed_at + padded(self.horizon * self.slate)

    @property
    def int_width(self) -> int:
        """Width of the integer row."""
        return -(-(self.filter_at + FILTER_WORDS) // ALIGNMENT) * ALIGNMENT

    @property
    def taste_columns(self) -> Array:
        """Columns of the taste z in the float row, padding left out. Shape (F,)."""
        return FLOAT_HEAD + _columns(self.factors)

    @property
    def scratch(self) -> tuple[int, int, int]:
        """Words of scratch space of a thread: integers, floats, doubles."""
        c, k = padded(self.candidates), padded(self.slate)
        return FILTER_WORDS + k + c + BLOCK, 2 * c + 2 * k + 2 * BLOCK, k

    def write(self, switches: Array) -> None:
        """Write widths and offsets into the integer parameters."""
        q = switches
        q[I_F], q[I_G], q[I_D] = self.row_widths
        q[I_FR], q[I_GR] = padded(self.factors[0]), padded(self.agent_factors[0])
        q[I_OWN_GR], q[I_OWN_GA] = self.agent_factors
        q[I_H], q[I_C], q[I_K], q[I_T] = self.history, self.candidates, self.slate, self.horizon
        q[W_FLOAT], q[W_INT] = self.float_width, self.int_width
        q[S_MEMORY], q[S_AGENT], q[S_FEEDBACK] = self.memory_at, self.agent_at, self.feedback_at
        q[S_WHEN], q[S_CANDIDATES] = self.when_at, self.candidates_at
        q[S_CONSUMED], q[S_FILTER] = self.consumed_at, self.filter_at
        c, k = padded(self.candidates), padded(self.slate)
        q[S_SLATE], q[S_CHOSEN], q[S_BLOCK] = FILTER_WORDS, FILTER_WORDS + k, FILTER_WORDS + k + c
        q[S_ETA], q[S_NEAR], q[S_CHANCE] = c, 2 * c, 2 * c + k
        q[S_BLOCK_SCORE], q[S_BLOCK_ETA] = 2 * c + 2 * k, 2 * c + 2 * k + BLOCK


def _columns(widths: tuple[int, int]) -> Array:
    return np.concatenate([np.arange(widths[0]), padded(widths[0]) + np.arange(widths[1])])


class Seen(NamedTuple):
    """Fresh arrays that hold one observation of every user."""

    ints: Array  # (N, 1 + H + C) int32: user, history, candidates
    floats: Array  # (N, 1 + 2 H + C + G) float32: step, feedback, age, score, recommender's taste
    mask: Array  # (N, C) int8


class Happened(NamedTuple):
    """Fresh arrays that hold what one step brought, columns as named above."""

    ints: Array  # (N, 4 + 3 K) int32
    floats: Array  # (N, 4 + K) float32


class Restarted(NamedTuple):
    """Fresh arrays about rows whose episode ended and whose next one began; empty where nothing restarts."""

    last: Seen  # last observations of the episodes that ended, zero in other rows
    after: Happened  # what happened, with those rows as they stand at the start
