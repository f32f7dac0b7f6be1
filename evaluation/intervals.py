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


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error, of which intervals and tests are made; NaN where a spread cannot be told.

    Attributes:
        mean: the estimate.
        error: its standard error.
        freedom: degrees of freedom of the error.
    """

    mean: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> Interval:
        """Return the t interval of this level."""
        if not np.isfinite(self.error):
            return Interval(self.mean, np.nan, np.nan)
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.error if self.error > 0 else 0.0
        return Interval(self.mean, self.mean - half, self.mean + half)

    def above(self, value: float) -> float:
        """Return the p-value of the one-sided test that the truth is above `value`, NaN without a spread."""
        if not np.isfinite(self.error):
            return float("nan")
        if self.error == 0:
            return float(self.mean <= value)
        return float(stats.t.sf((self.mean - value) / self.error, self.freedom))

    def two_sided(self, value: float = 0.0) -> float:
        """Return the p-value of the two-sided test that the truth is `value`; 1 where nothing varies and nothing differs."""
        if self.error == 0:
            return float(self.mean == value)
        up = self.above(value)
        return 2 * min(up, 1 - up) if np.isfinite(up) else up


def mean_interval(values: npt.ArrayLike) -> Interval:
    """Return the mean of per-user values with a t interval, see `two_level`.

    Args:
        values: (n,), or (R, n) for R runs of one algorithm; users with a NaN in any run are left out.
    """
    return two_level(values).interval()


def two_level(values: npt.ArrayLike, other: npt.ArrayLike | None = None) -> Estimate:
    """Return the mean of per-user values, or its difference to another policy's on the same users; runs and users random.

    With R > 1 training runs this is a two-way layout without replication: the variance of the grand mean is
    (MS_runs + MS_users - MS_rest) / (R n), its degrees of freedom are Satterthwaite's. For a difference users are paired
    and the runs of the two are independent of each other: var = var(d_u) / n + (MS_runs - MS_rest) / (R n) of either, with
    d_u the difference of the means of user u over runs. One run alone tells nothing of how runs differ: its interval is
    over users.

    Args:
        values: (n,), or (R, n) for R runs of one algorithm; users with a NaN in any run of either are left out.
        other: (n,) or (R', n), subtracted.
    """
    tables = [np.atleast_2d(np.asarray(one, np.float64)) for one in (values, other) if one is not None]
    kept = np.logical_and.reduce([np.isfinite(table).all(0) for table in tables])
    tables = [table[:, kept] for table in tables]
    users = tables[0].shape[1]
    if users == 0:
        return Estimate(np.nan, np.nan, np.nan)
    by_user = tables[0].mean(0) - (tables[1].mean(0) if other is not None else 0.0)
    mean = float(tables[0].mean() - (tables[1].mean() if other is not None else 0.0))
    if users == 1:
        return Estimate(mean, np.nan, np.nan)
    parts = [(float(by_user.var(ddof=1)) / users, float(users - 1))]
    for table in tables:
        parts += _of_runs(table)
    variance, freedom = _together(parts)
    return Estimate(mean, float(np.sqrt(variance)), freedom)


def _of_runs(table: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return what runs add to the variance of the mean, with degrees of freedom; the second part is taken off."""
    runs, users = table.shape
    if runs == 1:
        return []
    by_user, by_run = table.mean(0), table.mean(1)
    rest = table - by_user[None] - by_run[:, None] + table.mean()
    square = float((rest**2).sum()) / ((runs - 1) * (users - 1))
    return [
        (float(by_run.var(ddof=1)) / runs, float(runs - 1)),
        (-square / (runs * users), float((runs - 1) * (users - 1))),
    ]


def _together(parts: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the sum of variances and its degrees of freedom (Satterthwaite 1946)."""
    variance = sum(part for part, _ in parts)
    # Any source alone is a lower bound: noise must not make the interval narrower than that.
    floor, floor_freedom = max(parts)
    if variance <= floor:
        return max(floor, 0.0), floor_freedom
    spread = sum(part**2 / freedom for part, freedom in parts)
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
        runs: (R,) the share in each run.
    """

    value: float
    alone: npt.NDArray[np.float64]
    runs: npt.NDArray[np.float64]

    @classmethod
    def of(cls, shown: list[sparse.csr_matrix]) -> Coverage:
        """Return the coverage of R runs, each (n, I) sparse."""
        runs = np.array([coverage(one) for one in shown])
        return cls(float(runs.mean()), np.mean([_shown_to_one(one) for one in shown], axis=0), runs)


def _shown_to_one(shown: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    users, items = shown.shape
    once = np.bincount(shown.indices, minlength=items)[shown.indices] == 1
    owner = np.repeat(np.arange(users), np.diff(shown.indptr))
    return np.bincount(owner[once], minlength=users) / items


def coverage_interval(own: Coverage, other: Coverage | None = None) -> Interval:
    """Return the coverage, or its difference to another policy's on the same users, with a jackknife interval over users.

    Leaving user u out loses what was shown to u alone, so the delete-one jackknife is exact arithmetic; its variance is
    never too small on average (Efron & Stein 1981, "The jackknife estimate of variance"), where a bootstrap of distinct
    items is: a resample repeats users and so misses what only one of them was shown. Coverage rises with the number of
    users and episodes; compare it within one table only. Where there are several runs, the variance between them is added.
    """
    estimate = coverage_estimate(own, other)
    found = estimate.interval()
    if other is not None or not np.isfinite(found.low):
        return found
    return Interval(found.mean, max(found.low, 0.0), min(found.high, 1.0))


def coverage_estimate(own: Coverage, other: Coverage | None = None) -> Estimate:
    """Return what `coverage_interval` is made of."""
    value, alone = own.value, own.alone
    if other is not None:
        value, alone = value - other.value, alone - other.alone
    users = len(alone)
    if users == 1:
        return Estimate(value, np.nan, np.nan)
    parts = [(float((users - 1) * alone.var()), float(users - 1))]
    for one in (own, other):
        if one is not None and len(one.runs) > 1:
            parts.append((float(one.runs.var(ddof=1)) / len(one.runs), float(len(one.runs) - 1)))
    variance, freedom = _together(parts)
    return Estimate(value, float(np.sqrt(variance)), freedom)


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
