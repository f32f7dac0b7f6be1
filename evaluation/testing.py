"""Many comparisons, equivalence, and shares of a distance: Holm's correction, two one-sided tests, a ratio of paired means.

Legend: n users, R training runs, B bootstrap samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from recworld.errors import InputError
from recworld.evaluation.intervals import LEVEL, Estimate, Interval, two_level
from recworld.seeding import generator

RESAMPLES = 2000
"""Bootstrap samples of a ratio."""
CELLS = 20_000_000
"""Most weights held at once; many users get fewer bootstrap samples."""


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order given; NaN stays, and counts for nothing.

    The family-wise error is held under any dependence between the tests, which matters here: they share their users.
    """
    values = np.asarray(p, np.float64)
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[place]))
        out[place] = highest
    return [float(value) for value in out]


@dataclass(frozen=True)
class Equivalence:
    """Whether two policies differ by less than a margin (two one-sided tests, Schuirmann 1987).

    Attributes:
        difference: the paired difference.
        margin: what counts as no difference.
        p: the larger of the two one-sided p-values; below 1 - level means equivalent.
        interval: the interval at 90 %, which lies inside the margins exactly when p < 0.05.
    """

    difference: Estimate
    margin: float
    p: float
    interval: Interval

    def verdict(self, p: float | None = None) -> str:
        """Return "equivalent", "different" (beyond its 95 % interval) or "open", in one word.

        Args:
            p: corrected for many comparisons; its own when None.
        """
        if (self.p if p is None else p) < 1 - LEVEL:
            return "equivalent"
        return "different" if self.difference.interval().sign else "open"


def equivalence(difference: Estimate, margin: float) -> Equivalence:
    """Return the test of equivalence within ``-margin..margin``.

    Raises:
        InputError: the margin is not above 0.
    """
    if not margin > 0:
        raise InputError(f"The margin of an equivalence test must be above 0. Got {margin}.")
    if difference.error == 0:
        p = float(abs(difference.mean) >= margin)
    else:
        p = max(difference.above(-margin), 1 - difference.above(margin))
    return Equivalence(difference, margin, float(p), difference.interval(1 - 2 * (1 - LEVEL)))


def share_of_distance(
    own: npt.ArrayLike, reference: npt.ArrayLike, upper: npt.ArrayLike, seed: int = 0
) -> Interval:
    """Return (own - reference) / (upper - reference), a ratio of paired means, with its bootstrap interval.

    Users are drawn together for all three; the runs of each are drawn too. The percentile interval of R draws is too
    narrow where R is small: the runs' deviations are stretched by sqrt(R / (R - 1)) and by the ratio of the t to the normal
    quantile (the expanded percentile interval of Hesterberg 2015, "What teachers should know about the bootstrap").
    NaN where the upper line is not above the reference beyond its interval: a share of nothing is no number.

    Args:
        own: (R, n) or (n,).
        reference: (R', n) or (n,).
        upper: (R'', n) or (n,).
        seed: of the bootstrap.
    """
    tables = [np.atleast_2d(np.asarray(one, np.float64)) for one in (own, reference, upper)]
    kept = np.logical_and.reduce([np.isfinite(table).all(0) for table in tables])
    tables = [table[:, kept] for table in tables]
    users = tables[0].shape[1]
    if users < 2 or two_level(tables[2], tables[1]).interval().sign <= 0:
        return Interval(np.nan, np.nan, np.nan)
    count = max(min(RESAMPLES, CELLS // users), 100)
    rng = generator(seed, "share of a distance")
    weights = rng.multinomial(users, np.full(users, 1 / users), size=count) / users  # (B, n)
    drawn = [weights @ table.mean(0) + _runs_drawn(table, count, rng) for table in tables]
    a, g, u = (float(table.mean()) for table in tables)
    below = drawn[2] - drawn[1]
    ratio = (drawn[0] - drawn[1])[below > 0] / below[below > 0]
    low, high = np.quantile(ratio, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Interval((a - g) / (u - g), float(low), float(high))


def _runs_drawn(table: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> Any:
    """Return how far the mean moves by which runs are drawn, (B,)."""
    runs = len(table)
    if runs == 1:
        return 0.0
    away = table.mean(1) - table.mean()
    stretch = (
        np.sqrt(runs / (runs - 1)) * stats.t.ppf(0.5 + LEVEL / 2, runs - 1) / stats.norm.ppf(0.5 + LEVEL / 2)
    )
    return stretch * (rng.multinomial(runs, np.full(runs, 1 / runs), size=count) / runs) @ away
