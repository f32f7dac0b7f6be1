"""Does a world rank policies as the truth does? Kendall's tau, Spearman's rho and the regret of believing the world.

A simulated world is for choosing between policies. What it must get right is their order, and what an error costs is the
value lost in the truth by deploying the policy that the world likes best. Legend: P policies, n users, S truths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from recworld.errors import InputError
from recworld.evaluation.intervals import LEVEL, Interval
from recworld.seeding import generator

FloatArray = npt.NDArray[np.float64]
RESAMPLES = 10_000


@dataclass(frozen=True)
class PolicyValues:
    """Values of P policies in one world, and how well each difference is known.

    Attributes:
        names: P names.
        value: (P,) values, higher is better.
        error: (P, P) standard errors of the differences value[a] - value[b]; the diagonal is unread.
        freedom: degrees of freedom of the errors.
    """

    names: tuple[str, ...]
    value: FloatArray
    error: FloatArray
    freedom: float = np.inf

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            InputError: fewer than two policies, shapes that do not fit, values that are not finite, negative errors.
        """
        p = len(self.names)
        if p < 2:
            raise InputError(f"A ranking needs at least two policies. Got {p}.")
        if self.value.shape != (p,) or self.error.shape != (p, p):
            raise InputError(
                f"{p} policies need values of shape ({p},) and errors of shape ({p}, {p}). "
                f"Got {self.value.shape} and {self.error.shape}."
            )
        if not np.isfinite(self.value).all() or np.isnan(self.error).any() or (self.error < 0).any():
            raise InputError("The values of policies must be finite, and their standard errors at least 0.")

    @classmethod
    def of_users(cls, table: dict[str, npt.ArrayLike]) -> PolicyValues:
        """Return values with errors paired by user: policies that met the same luck are told apart more finely.

        Args:
            table: per policy the mean value of each of the same n users, (n,), n >= 2.

        Raises:
            InputError: users that differ in number, or fewer than two.
        """
        rows = [np.asarray(values, np.float64) for values in table.values()]
        sizes = {row.shape for row in rows}
        if len(sizes) != 1 or len(rows[0].shape) != 1 or len(rows[0]) < 2:
            raise InputError(
                "Each policy needs one value of each of the same users, two at least. "
                f"Got shapes {sorted(str(size) for size in sizes)}."
            )
        values = np.stack(rows)
        n = values.shape[1]
        covariance = np.atleast_2d(np.cov(values))
        own = np.diag(covariance)
        square = np.maximum(own[:, None] + own[None, :] - 2 * covariance, 0.0)
        return cls(tuple(table), values.mean(1), np.sqrt(square / n), float(n - 1))

    @classmethod
    def of_errors(cls, names: Sequence[str], value: npt.ArrayLike, error: npt.ArrayLike) -> PolicyValues:
        """Return values that were measured independently of each other.

        Args:
            names: P names.
            value: (P,) values.
            error: (P,) standard errors.
        """
        square = np.asarray(error, np.float64) ** 2
        if square.shape != (len(names),):
            raise InputError(f"{len(names)} policies need as many standard errors. Got shape {square.shape}.")
        return cls(tuple(names), np.asarray(value, np.float64), np.sqrt(square[:, None] + square[None, :]))

    def separable(self, level: float = LEVEL) -> npt.NDArray[np.bool_]:
        """Return which differences are told from 0 at this level (two-sided t), (P, P), false on the diagonal."""
        bound = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.error
        out = np.abs(self.value[:, None] - self.value[None, :]) > bound
        np.fill_diagonal(out, False)
        return np.asarray(out)


@dataclass(frozen=True)
class Agreement:
    """How well a world ranks policies, against one truth; NaN where there is nothing to measure it on.

    Attributes:
        tau: Kendall's tau-b of all policies; 0 where the world takes all for equal.
        tau_top: the same among the better half by the truth.
        tau_separable: (pairs in the right order - pairs in the wrong one) / pairs, over the pairs that the truth separates.
        spearman: rank correlation.
        regret: value that the truth loses by the world's best policy (the mean of those that tie), over the truth's best.
        separable: share of the pairs that the truth separates.
    """

    tau: float
    tau_top: float
    tau_separable: float
    spearman: float
    regret: float
    separable: float


MEASURES = tuple(field.name for field in fields(Agreement))


def agreement(world: PolicyValues, truth: PolicyValues, level: float = LEVEL) -> Agreement:
    """Return how well `world` ranks the policies of `truth`.

    Raises:
        InputError: the two hold other policies, or in another order.
    """
    if world.names != truth.names:
        raise InputError(
            "World and truth must hold the same policies in the same order. "
            f"Got {list(world.names)} and {list(truth.names)}."
        )
    ours, true = world.value, truth.value
    top = np.argsort(-true, kind="stable")[: (len(true) + 1) // 2]
    pairs = np.triu(np.ones((len(true), len(true)), np.bool_), 1)
    clear = truth.separable(level) & pairs
    right = np.sign(ours[:, None] - ours[None, :]) * np.sign(true[:, None] - true[None, :])
    best, chosen = float(true.max()), float(true[ours == ours.max()].mean())
    return Agreement(
        tau=_or_nothing(stats.kendalltau(ours, true).statistic),
        tau_top=_or_nothing(stats.kendalltau(ours[top], true[top]).statistic) if len(top) > 1 else np.nan,
        tau_separable=float(right[clear].mean()) if clear.any() else np.nan,
        spearman=0.0
        if np.ptp(ours) == 0 or np.ptp(true) == 0
        else float(stats.spearmanr(ours, true).statistic),
        regret=(best - chosen) / abs(best) if best != 0 else np.nan,
        separable=float(clear.sum() / pairs.sum()),
    )


def _or_nothing(value: Any) -> float:
    return float(value) if np.isfinite(value) else 0.0


@dataclass(frozen=True)
class RankingAgreement:
    """Agreement over S truths.

    Attributes:
        truths: one `Agreement` each.
        mean: by measure, the mean over truths with its bootstrap interval (over truths).
    """

    truths: tuple[Agreement, ...]
    mean: dict[str, Interval]

    def as_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        single = [{name: getattr(one, name) for name in MEASURES} for one in self.truths]
        return {
            "mean": {name: interval.as_json() for name, interval in self.mean.items()},
            "truths": [{k: float(v) if np.isfinite(v) else None for k, v in one.items()} for one in single],
        }


def ranking_agreement(
    worlds: PolicyValues | Sequence[PolicyValues],
    truths: PolicyValues | Sequence[PolicyValues],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RankingAgreement:
    """Return how well worlds rank policies as the truths do that they were fitted to.

    Args:
        worlds: values in the worlds, one per truth.
        truths: values in the truths.
        level: of the intervals, and of the test that separates a pair of policies in a truth.
        resamples: bootstrap samples of the truths (percentile interval).
        seed: of the bootstrap.

    Returns:
        Each truth's agreement and the means; with one truth there are no intervals (NaN).

    Raises:
        InputError: no truth, worlds and truths that differ in number, or other policies in them.
    """
    ours = [worlds] if isinstance(worlds, PolicyValues) else list(worlds)
    theirs = [truths] if isinstance(truths, PolicyValues) else list(truths)
    if not ours or len(ours) != len(theirs):
        raise InputError(f"Each truth needs one world. Got {len(ours)} worlds and {len(theirs)} truths.")
    found = tuple(agreement(w, t, level) for w, t in zip(ours, theirs, strict=True))
    means = {
        name: bootstrap_interval([getattr(one, name) for one in found], level, resamples, seed)
        for name in MEASURES
    }
    return RankingAgreement(found, means)


def bootstrap_interval(
    values: npt.ArrayLike, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean with its percentile bootstrap interval; NaN values are left out, and bounds of a single one.

    Args:
        values: (S,) one value a truth.
        level: of the interval.
        resamples: bootstrap samples.
        seed: of the bootstrap; the same for all, so that differences of two worlds are paired.
    """
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return Interval(np.nan, np.nan, np.nan)
    mean = float(known.mean())
    if len(known) == 1:
        return Interval(mean, np.nan, np.nan)
    drawn = generator(seed, "ranking bootstrap").integers(0, len(known), (resamples, len(known)))
    low, high = np.quantile(known[drawn].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))
