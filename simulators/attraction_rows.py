"""What the attraction model is fitted on: shown rows, or consumption with sampled negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import Exposures, IntArray
from recworld.simulators.attraction_kernels import mark_consumed

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AttractionRows:
    """What the model is fitted on: shown rows, or consumption (every row a click, negatives sampled).

    Attributes:
        user: (n,) int32.
        item: (n,) int32.
        clicked: (n,) bool.
        position: (n,) int64 place in the slate; 0 throughout for consumption.
        weight: (n,) float64, mean 1: inverse propensities where they are known.
        shown: whether the rows were shown (then no negatives are sampled).
    """

    user: IntArray
    item: IntArray
    clicked: npt.NDArray[np.bool_]
    position: npt.NDArray[np.int64]
    weight: Floats
    shown: bool

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[Any]) -> AttractionRows:
        """Return the chosen rows (numbers or a mask)."""
        return AttractionRows(
            self.user[rows],
            self.item[rows],
            self.clicked[rows],
            self.position[rows],
            self.weight[rows],
            self.shown,
        )


def consumption_rows(user: IntArray, item: IntArray) -> AttractionRows:
    """Return rows of a log without exposures; duplicate (user, item) pairs count once."""
    order = np.lexsort((item, user))
    keep = np.ones(len(order), np.bool_)
    keep[1:] = (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)
    rows = np.sort(order[keep])
    n = len(rows)
    return AttractionRows(
        user[rows], item[rows], np.ones(n, np.bool_), np.zeros(n, np.int64), np.ones(n), False
    )


def exposure_rows(exposures: Exposures, largest_weight: float) -> AttractionRows:
    """Return the rows of a log's exposures, weighted by inverse propensity where it is known.

    Args:
        exposures: what was shown.
        largest_weight: bound on a weight, relative to the mean (clipped inverse propensities: Strehl et al. 2010);
            1 leaves all rows equal, which is right where what was shown depends on user and item only, as the model
            has effects of both.
    """
    propensity = exposures.propensity.astype(np.float64)
    known = np.isfinite(propensity) & (propensity > 0)
    weight = np.ones(len(exposures))
    if known.any() and largest_weight > 1:
        inverse = 1.0 / propensity[known]
        weight[known] = np.minimum(inverse / inverse.mean(), largest_weight)
    return AttractionRows(
        exposures.user, exposures.item, exposures.clicked, exposures.position.astype(np.int64),
        weight / weight.mean(), True,
    )  # fmt: skip


def grouped(user: IntArray, item: IntArray, num_users: int) -> tuple[npt.NDArray[np.int64], IntArray]:
    """Return (U + 1,) offsets and the items sorted by user, then number."""
    start = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=num_users))]).astype(np.int64)
    return start, np.ascontiguousarray(item[np.lexsort((item, user))])


class NegativeSampler:
    """Samples items that users did not consume, uniformly; shown rows have negatives of their own and stay as they are.

    Args:
        rows: all that counts as consumed.
        num_users: U.
        num_items: I.
        times: items sampled per row; those that were consumed are dropped.
    """

    def __init__(self, rows: AttractionRows, num_users: int, num_items: int, times: int) -> None:
        self._items, self._times = num_items, times
        self._start, self._consumed = grouped(rows.user, rows.item, num_users)

    def extend(self, rows: AttractionRows, random: np.random.Generator) -> AttractionRows:
        """Return `rows` with sampled negatives of the same users and weights appended."""
        if rows.shown:
            return rows
        user = np.repeat(rows.user, self._times)
        item = random.integers(0, self._items, len(user), dtype=np.int32)
        taken = np.empty(len(user), np.bool_)
        mark_consumed(user, item, self._start, self._consumed, taken)
        free = ~taken
        extra = int(free.sum())
        return AttractionRows(
            np.concatenate([rows.user, user[free]]),
            np.concatenate([rows.item, item[free]]),
            np.concatenate([rows.clicked, np.zeros(extra, np.bool_)]),
            np.concatenate([rows.position, np.zeros(extra, np.int64)]),
            np.concatenate([rows.weight, np.repeat(rows.weight, self._times)[free]]),
            False,
        )
