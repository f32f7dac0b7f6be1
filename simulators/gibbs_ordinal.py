"""Ordered levels inside the Gibbs sampler: latent normals between thresholds (Albert & Chib 1993).

    r = levels[c]  where  theta_c-1 < z <= theta_c,      z ~ Normal(eta, 1 / precision)

Thresholds are drawn with the latents integrated out (Cowles 1996 shows why: given the latents they hardly move). Their
posterior is log-concave and, with the thousands of rows behind each, all but normal: a Newton step from the current place
plus a normal draw of its curvature.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_PSEUDO_ROWS = 0.5  # of each level at eta = 0, so that a level nobody gave keeps a finite threshold
_LONGEST = 0.5  # step of a threshold, in standard deviations of the noise
_FAR = 40.0  # stands for infinity


@numba.njit(cache=True, nogil=True)
def _below(value: float) -> float:
    return 0.5 * math.erfc(-value * math.sqrt(0.5))


@numba.njit(cache=True, nogil=True)
def threshold_slopes(
    eta: Floats, root: Floats, level: Ints, count: Floats, edge: Floats, gradient: Floats, diagonal: Floats,
    beside: Floats,
) -> None:  # fmt: skip
    """Add the slopes of the log-likelihood in the thresholds, and its negative curvature (tridiagonal).

    Args:
        eta: (n,) predictors.
        root: (n,) square roots of the rows' precisions.
        level: (n,) numbers of the levels.
        count: (n,) how often each row counts.
        edge: (R + 1,) thresholds between two far ends.
        gradient: (R + 1,), added to; the ends are of no meaning.
        diagonal: (R + 1,), added to.
        beside: (R,), added to: between edge c and edge c + 1.
    """
    half = math.sqrt(2 * math.pi)
    for k in range(len(eta)):
        c = level[k]
        low, high = root[k] * (edge[c] - eta[k]), root[k] * (edge[c + 1] - eta[k])
        a, b = (-high, -low) if low > 0 else (low, high)  # in the tail where differences are exact
        chance = max(_below(b) - _below(a), 1e-12)
        f = root[k] * math.exp(-0.5 * low * low) / (half * chance)
        g = root[k] * math.exp(-0.5 * high * high) / (half * chance)
        gradient[c] -= count[k] * f
        gradient[c + 1] += count[k] * g
        diagonal[c] += count[k] * f * (f - root[k] * low)
        diagonal[c + 1] += count[k] * g * (g + root[k] * high)
        beside[c] -= count[k] * f * g


@numba.njit(cache=True, nogil=True)
def latent_quantiles(
    eta: Floats, root: Floats, level: Ints, edge: Floats, uniform: Floats, sign: Floats, out: Floats
) -> None:
    """Write to `out` the probability whose normal quantile, times `sign`, is the standardised latent of each row."""
    for k in range(len(eta)):
        low, high = root[k] * (edge[level[k]] - eta[k]), root[k] * (edge[level[k] + 1] - eta[k])
        sign[k] = 1.0
        if low > 0:
            low, high, sign[k] = -high, -low, -1.0
        a, b = _below(low), _below(high)
        out[k] = max(a + (b - a) * uniform[k], 1e-300)


class OrdinalLatents:
    """The thresholds and latents of a chain.

    Args:
        level: (n,) numbers of the levels given.
        num_levels: R, at least 2.
    """

    def __init__(self, level: Ints, num_levels: int) -> None:
        self._level = np.ascontiguousarray(level, np.int64)
        count = np.bincount(level, minlength=num_levels) + _PSEUDO_ROWS
        # sqrt(2): the predictor is taken to vary about as much as the noise.
        self.thresholds: Floats = ndtri(count.cumsum()[:-1] / count.sum()) * math.sqrt(2.0)
        self._pseudo = np.arange(num_levels)

    @property
    def _edge(self) -> Floats:
        ends = self.thresholds[[0, -1]] + [-_FAR, _FAR]
        return np.concatenate([ends[:1], self.thresholds, ends[1:]])

    def draw(self, eta: Floats, precision: Floats, random: np.random.Generator) -> Floats:
        """Draw the thresholds, then the latents: (n,), which are normal around the parameters of eta.

        Args:
            eta: (n,) predictors.
            precision: (n,) of the noise.
            random: source of the draws.
        """
        root = np.sqrt(precision)
        self._draw_thresholds(eta, root, random)
        sign, chance = np.empty(len(eta)), np.empty(len(eta))
        latent_quantiles(eta, root, self._level, self._edge, random.random(len(eta)), sign, chance)
        return np.asarray(eta + sign * np.clip(ndtri(chance), -_FAR, _FAR) / root)

    def _draw_thresholds(self, eta: Floats, root: Floats, random: np.random.Generator) -> None:
        size, edge = len(self.thresholds), self._edge
        gradient, diagonal, beside = np.zeros(size + 2), np.zeros(size + 2), np.zeros(size + 1)
        slopes = (edge, gradient, diagonal, beside)
        threshold_slopes(eta, root, self._level, np.ones(len(eta)), *slopes)
        none = np.zeros(size + 1)
        threshold_slopes(none, none + 1.0, self._pseudo, none + _PSEUDO_ROWS, *slopes)
        curvature = np.diag(diagonal[1:-1]) + np.diag(beside[1:-1], 1) + np.diag(beside[1:-1], -1)
        lower = np.linalg.cholesky(curvature + 1e-6 * np.eye(size))
        step = np.linalg.solve(lower.T, np.linalg.solve(lower, gradient[1:-1]) + random.standard_normal(size))
        moved = self.thresholds + np.clip(step, -_LONGEST, _LONGEST)
        if (np.diff(moved) > 1e-6).all():
            self.thresholds = moved
