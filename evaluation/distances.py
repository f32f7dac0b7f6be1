"""How far apart two samples are: Jensen-Shannon, Wasserstein, Kolmogorov-Smirnov, Frechet; and transitions between clusters.

Legend: n, m sizes of two samples, D width of a vector, G clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, stats
from scipy.spatial.distance import jensenshannon

from recworld.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def jensen_shannon(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the Jensen-Shannon distance of two histograms: the root of the divergence in bits, in [0, 1].

    Args:
        first: counts or probabilities, any shape, not negative, not all 0.
        second: the same shape.

    Raises:
        InputError: shapes differ, or one is empty.
    """
    p, q = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
    if p.shape != q.shape:
        raise InputError(f"Two histograms must have the same shape. Got {p.shape} and {q.shape}.")
    if p.sum() <= 0 or q.sum() <= 0:
        raise InputError("A histogram must hold something. Got one whose sum is 0.")
    with np.errstate(invalid="ignore"):
        distance = float(jensenshannon(p, q, base=2))
    return distance if np.isfinite(distance) else 0.0  # rounding below 0 under the root


def wasserstein(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the 1-Wasserstein distance of two samples, (n,) and (m,), in their unit: the mean way that mass is moved."""
    return float(stats.wasserstein_distance(np.asarray(first), np.asarray(second)))


def kolmogorov_smirnov(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the largest gap of two empirical distribution functions, of (n,) and (m,) values, in [0, 1]."""
    a, b = np.sort(np.asarray(first, np.float64)), np.sort(np.asarray(second, np.float64))
    both = np.concatenate([a, b])
    gap = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)
    return float(np.abs(gap).max())


def frechet_gaussian(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> float:
    """Return the squared Frechet distance of two Gaussians: |m - m'|^2 + tr(S + S' - 2 (S S')^1/2).

    Dowson & Landau (1982), "The Frechet distance between multivariate normal distributions".

    Args:
        first: mean (D,) and covariance (D, D).
        second: the same of the other.
    """
    (mean, spread), (other_mean, other_spread) = first, second
    root = _root(spread)
    middle = linalg.eigvalsh(root @ other_spread @ root)
    cross = np.sqrt(np.maximum(middle, 0.0)).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(spread) + np.trace(other_spread) - 2 * cross
    return float(max(distance, 0.0))


def _root(matrix: Floats) -> Floats:
    values, vectors = linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def frechet(first: Floats, second: Floats) -> float:
    """Return the squared Frechet distance of the Gaussians with the moments of two samples, (n, D) and (m, D)."""
    return frechet_gaussian(_moments(first), _moments(second))


def _moments(sample: Floats) -> tuple[Floats, Floats]:
    spread = (
        np.atleast_2d(np.cov(sample, rowvar=False)) if len(sample) > 1 else np.zeros((sample.shape[1],) * 2)
    )
    return sample.mean(0), spread


def transition_counts(sequences: Sequence[Ints], clusters: int) -> Floats:
    """Return how often a member of each cluster is followed by one of each, (G, G), within sequences of cluster numbers."""
    counts = np.zeros((clusters, clusters))
    for one in sequences:
        np.add.at(counts, (one[:-1], one[1:]), 1.0)
    return counts
