"""95 % intervals over users, and over training runs where there are several; for coverage, by jackknife over users.

Episodes of one user are alike, so a user is one observation: seeds and episodes are averaged within users first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; NaN where there is nothing to estimate from.

    Attributes:
        mean: the estimate.
        low: lower bound, NaN when a spread cannot be told (a single user).
        high: upper bound.
    """

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2

    @property
    def sign(self) -> int:
        """1 when the whole interval is above 0, -1 when it is below, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def as_json(self) -> dict[str, float | None]:
        """Return mean, low and high; None where NaN."""
        return {
            name: float(value) if np.isfinite(value) else None
            for name, value in (("mean", self.mean), ("low", self.low), ("high", self.high))
        }


NOTHING = Interval(np.nan, np.nan, np.nan)


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Return the mean of per-user values with a t interval.

    With R > 1 training runs, runs and users are both random (a two-way layout without replication): the variance of the
    grand mean is (MS_runs + MS_users - MS_rest) / (R n), its degrees of freedom are Satterthwaite's.

    Args:
        values: (n,), or (R, n) for R runs of one algorithm; users with a NaN in any run are left out.
    """
    table = np.atleast_2d(np.asarray(values, np.float64))
    table = table[:, np.isfinite(table).all(0)]
    runs, users = table.shape
    if users == 0:
        return NOTHING
    mean = float(table.mean())
    if users == 1:
        return Interval(mean, np.nan, np.nan)
    by_user = table.mean(0)
    square_users = runs * by_user.var(ddof=1)
    if runs == 1:
        variance, freedom = square_users / users, float(users - 1)
    else:
        by_run = table.mean(1)
        square_runs = users * by_run.var(ddof=1)
        rest = table - by_user[None] - by_run[:, None] + mean
        square_rest = float((rest**2).sum()) / ((runs - 1) * (users - 1))
        variance, freedom = _two_way(square_runs, square_users, square_rest, runs, users)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, freedom) * np.sqrt(variance)) if variance > 0 else 0.0
    return Interval(mean, mean - half, mean + half)


def _two_way(by_runs: float, by_users: float, rest: float, runs: int, users: int) -> tuple[float, float]:
    """Return the variance of the grand mean and its degrees of freedom, from the three mean squares."""
    cells = runs * users
    parts = [(by_runs, runs - 1), (by_users, users - 1), (-rest, (runs - 1) * (users - 1))]
    variance = sum(square for square, _ in parts) / cells
    # Either factor alone is a lower bound: noise must not make the interval narrower than that.
    floor, floor_freedom = max((by_runs, runs - 1), (by_users, users - 1))
    if variance <= floor / cells:
        return floor / cells, float(floor_freedom)
    spread = sum((square / cells) ** 2 / freedom for square, freedom in parts)
    return variance, max(1.0, variance**2 / spread)


def coverage(shown: sparse.csr_matrix) -> float:
    """Return the share of the catalogue that was shown to anybody."""
    return float(len(np.unique(shown.indices)) / shown.shape[1])


@dataclass(frozen=True)
class Coverage:
    """Coverage of one policy, and what each user adds to it.

    Attributes:
        value: share of the catalogue shown to anybody, of the mean run.
        alone: (n,) share of the catalogue that was shown to this user only.
    """

    value: float
    alone: npt.NDArray[np.float64]

    @classmethod
    def of(cls, shown: list[sparse.csr_matrix]) -> Coverage:
        """Return the coverage of R runs, each (n, I) sparse."""
        return cls(
            float(np.mean([coverage(one) for one in shown])),
            np.mean([_shown_to_one(one) for one in shown], axis=0),
        )


def _shown_to_one(shown: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    users, items = shown.shape
    once = np.bincount(shown.indices, minlength=items)[shown.indices] == 1
    owner = np.repeat(np.arange(users), np.diff(shown.indptr))
    return np.bincount(owner[once], minlength=users) / items


def coverage_interval(own: Coverage, other: Coverage | None = None) -> Interval:
    """Return the coverage, or its difference to another policy's on the same users, with a jackknife interval.

    Leaving user u out loses what was shown to u alone, so the delete-one jackknife is exact arithmetic; its variance is
    never too small on average (Efron & Stein 1981, "The jackknife estimate of variance"), where a bootstrap of distinct
    items is: a resample repeats users and so misses what only one of them was shown. Coverage rises with the number of
    users and episodes; compare it within one table only.
    """
    estimate, alone = own.value, own.alone
    if other is not None:
        estimate, alone = estimate - other.value, alone - other.alone
    users = len(alone)
    if users == 1:
        return Interval(estimate, np.nan, np.nan)
    deviation = np.sqrt((users - 1) * alone.var())
    half = float(stats.t.ppf(0.5 + LEVEL / 2, users - 1) * deviation)
    low, high = estimate - half, estimate + half
    return (
        Interval(estimate, low, high)
        if other is not None
        else Interval(estimate, max(low, 0.0), min(high, 1.0))
    )


def shown_matrix(item: npt.NDArray[Any], num_items: int) -> sparse.csr_matrix:
    """Return which user was shown which item, (n, I) sparse bool.

    Args:
        item: (T', n, K) item numbers, I where empty.
        num_items: I.
    """
    step, user, place = np.nonzero(item < num_items)
    columns = item[step, user, place]
    matrix = sparse.coo_matrix((np.ones(len(user), bool), (user, columns)), shape=(item.shape[1], num_items))
    return sparse.csr_matrix(matrix, dtype=bool)
