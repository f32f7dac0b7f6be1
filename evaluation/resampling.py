"""Figures as functions of user weights: one form gives the estimate, its bootstrap interval and what two halves differ by.

A *statistic* takes weights (B, n) of n users (or sessions) and returns (B,) values. Weights of 1 give the estimate,
multinomial weights a bootstrap over users (rows of one user are alike, so a user is what is drawn), weights of 0 and 1 the
value of a half of the users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.seeding import generator

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

RESAMPLES = 400
"""Bootstrap samples of an interval."""
HALVINGS = 100
"""Random halvings of the users behind a noise floor."""
CELLS = 20_000_000
"""Most weights that are held at once; large logs get fewer resamples."""
BINS = 15
"""Equal-mass bins of a calibration error."""


def bootstrap_weights(users: int, seed: int, count: int = RESAMPLES) -> Floats:
    """Return how often each of n users is drawn, in each of B bootstrap samples, (B, n)."""
    rng, count = generator(seed, "bootstrap"), _affordable(users, count)
    return np.asarray(rng.multinomial(users, np.full(users, 1 / users), size=count), np.float64)


def half_weights(users: int, seed: int, count: int = HALVINGS) -> Floats:
    """Return random halves of n users, 1 for those inside, (B, n); 1 - weights is the other half."""
    rng, count = generator(seed, "halves"), _affordable(users, count)
    order = np.argsort(rng.random((count, users)), axis=1)
    return np.asarray(order < users // 2, np.float64)


def _affordable(users: int, count: int) -> int:
    return max(min(count, CELLS // max(users, 1)), 20)


@dataclass(frozen=True)
class Measured:
    """A figure, its 95 % interval, and its noise floor.

    Attributes:
        value: the figure.
        low: lower end of the interval, NaN where no spread can be told.
        high: upper end.
        floor: the same figure between two halves of the real log, mean over halvings; NaN where there is none.
        floor_high: what 95 % of the halvings stay below.
    """

    value: float
    low: float
    high: float
    floor: float = np.nan
    floor_high: float = np.nan


def measure(statistic: Statistic, users: int, seed: int) -> Measured:
    """Return a statistic with its bootstrap interval; the floor is how far it differs between two halves of the users."""
    value = float(statistic(np.ones((1, users)))[0])
    if users < 2:
        return Measured(value, np.nan, np.nan)
    low, high = _interval(value, statistic(bootstrap_weights(users, seed)))
    half = half_weights(users, seed)
    apart = np.abs(statistic(half) - statistic(1 - half))
    return Measured(value, low, high, *_floor(apart))


def measure_gap(real: Statistic, simulated: Statistic, users: int, seed: int) -> Measured:
    """Return |simulated - real| on the same users, its bootstrap interval, and |real - real| between two halves."""
    one = np.ones((1, users))
    value = float(np.abs(simulated(one) - real(one))[0])
    if users < 2:
        return Measured(value, np.nan, np.nan)
    drawn = bootstrap_weights(users, seed)
    low, high = _percentiles(simulated(drawn) - real(drawn))
    # An interval of the signed gap that holds 0 is one of the absolute gap that starts at 0.
    ends = (
        (0.0, max(-low, high)) if low <= 0 <= high else (min(abs(low), abs(high)), max(abs(low), abs(high)))
    )
    half = half_weights(users, seed)
    return Measured(value, *ends, *_floor(np.abs(real(half) - real(1 - half))))


def measure_margin(ours: Statistic, other: Statistic, users: int, seed: int) -> Measured:
    """Return ours - other on the same users with its bootstrap interval; without a floor."""
    one = np.ones((1, users))
    value = float((ours(one) - other(one))[0])
    if users < 2:
        return Measured(value, np.nan, np.nan)
    drawn = bootstrap_weights(users, seed)
    return Measured(value, *_interval(value, ours(drawn) - other(drawn)))


Distance = Callable[[Any, Any], float]


def measure_distance(
    distance: Distance, real: Any, simulated: Any, owner: npt.NDArray[np.int64], seed: int
) -> Measured:
    """Return the distance of a simulated half from the other half of the real rows; the floor is real from real.

    Both compare samples of the same size and of different owners, so a simulation that is the truth gets the floor. The
    interval is that of halvings: the spread of an estimate over random halves is the spread of the whole's (the delete-half
    jackknife, Shao & Wu 1989, "A general theory for jackknife variance estimation").

    Args:
        distance: of two samples.
        real: (n, ...) rows.
        simulated: (n, ...) rows of the same owners.
        owner: (n,) which user, item or session a row belongs to, 0-based; halves are halves of the owners.
        seed: of the halvings.
    """
    ours, floors = [], []
    for half in half_weights(int(owner.max()) + 1, seed):
        inside = half[owner] == 1
        if not inside.any() or inside.all():
            continue
        for one, other in ((inside, ~inside), (~inside, inside)):
            ours.append(distance(real[one], simulated[other]))
        floors.append(distance(real[inside], real[~inside]))
    if not floors:
        return Measured(distance(real, simulated), np.nan, np.nan)
    low, high = _percentiles(np.asarray(ours))
    return Measured(float(np.mean(ours)), low, high, *_floor(np.asarray(floors)))


def _interval(value: float, drawn: Floats) -> tuple[float, float]:
    """Return percentiles of bootstrap values, freed of the bootstrap's bias: figures that sum up sizes grow by noise."""
    low, high = _percentiles(drawn)
    bias = float(np.nanmean(drawn)) - value if np.isfinite(drawn).any() else 0.0
    # What cannot be negative stays so.
    return (max(low - bias, 0.0) if (drawn >= 0).all() else low - bias), high - bias


def _percentiles(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def _floor(values: Floats) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.nan, np.nan
    return float(known.mean()), float(np.quantile(known, 0.95))


def compact(owner: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return owners numbered 0.. without gaps, (n,)."""
    return np.asarray(np.unique(owner, return_inverse=True)[1], np.int64)


def ratio(above: Floats, below: Floats, unit: float = 1.0) -> Statistic:
    """Return sum of `above` over sum of `below`, both (n,) by user, in units of `unit`; 0 where nothing is below."""
    return lambda weight: np.asarray((weight @ above) / np.maximum(weight @ below, 1e-12) / unit)


def profile_gap(
    real: Floats, simulated: Floats, below: Floats, weight: Floats, unit: float, seed: int
) -> Measured:
    """Return the mean gap of a profile (click rates by position, ...) with its interval, and that between two halves.

    Args:
        real: (n, X) sums by user.
        simulated: (n, X).
        below: (n, X) what both are divided by.
        weight: (X,) of the gaps, sum 1.
        unit: of the answer.
        seed: of bootstrap and halvings.
    """

    def rate(above: Floats, drawn: Floats) -> Floats:
        return np.asarray((drawn @ above) / np.maximum(drawn @ below, 1e-12))

    def gap(first: Floats, second: Floats) -> Floats:
        return np.asarray((np.abs(first - second) * weight).sum(1) / unit)

    users = len(below)
    one = np.ones((1, users))
    value = float(gap(rate(simulated, one), rate(real, one))[0])
    if users < 2:
        return Measured(value, np.nan, np.nan)
    drawn, half = bootstrap_weights(users, seed), half_weights(users, seed)
    ends = _interval(value, gap(rate(simulated, drawn), rate(real, drawn)))
    return Measured(value, *ends, *_floor(gap(rate(real, half), rate(real, 1 - half))))


def mean_of(
    values: Floats, owner: npt.NDArray[np.int64], transform: Callable[[Floats], Floats] = np.asarray
) -> Statistic:
    """Return the mean over rows, then `transform` (the root, for an RMSE).

    Args:
        values: (n,) one a row.
        owner: (n,) its user, 0-based without gaps.
        transform: of the mean.
    """
    users = int(owner.max()) + 1
    count = np.bincount(owner, minlength=users).astype(np.float64)
    plain = ratio(np.bincount(owner, values, users).astype(np.float64), count)
    return lambda weight: np.asarray(transform(plain(weight)))


def auc_of(score: Floats, positive: npt.NDArray[np.bool_], owner: npt.NDArray[np.int64]) -> Statistic:
    """Return the area under the ROC curve, ties half; 0.5 where a class is absent. Arguments (n,), as in `mean_of`."""
    value = np.unique(score, return_inverse=True)[1]
    size = int(value.max()) + 1

    def one(weight: Floats) -> float:
        row = weight[owner]
        hit = np.bincount(value, row * positive, size)
        miss = np.bincount(value, row * ~positive, size)
        whole = hit.sum() * miss.sum()
        if whole == 0:
            return 0.5
        return float((hit * (np.cumsum(miss) - 0.5 * miss)).sum() / whole)

    return lambda weight: np.asarray([one(row) for row in weight])


def calibration_of(
    chance: Floats, positive: npt.NDArray[np.bool_], owner: npt.NDArray[np.int64], bins: int = BINS
) -> Statistic:
    """Return the expected calibration error over equal-mass bins (of all rows). Arguments (n,), as in `mean_of`."""
    bin_of = np.empty(len(chance), np.int64)
    for number, part in enumerate(np.array_split(np.argsort(chance, kind="stable"), min(bins, len(chance)))):
        bin_of[part] = number
    users = int(owner.max()) + 1
    gap = np.zeros((users, bins))
    np.add.at(gap, (owner, bin_of), chance - positive)
    rows = np.bincount(owner, minlength=users).astype(np.float64)
    return lambda weight: np.asarray(np.abs(weight @ gap).sum(1) / np.maximum(weight @ rows, 1e-12))
