"""Compiled loops of the Gibbs sampler: pure functions of their arguments (all random numbers are handed in)."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]


@numba.njit(cache=True, nogil=True)
def _draw(precision: Floats, linear: Floats, noise: Floats, out: Floats, middle: Floats) -> None:
    """Write a draw of Normal(precision^-1 linear, precision^-1) to `out` and its mean to `middle`.

    With the Cholesky factor L of the precision: L y = linear, L' x = y + noise. `precision` and `linear` are overwritten.
    """
    width = len(linear)
    for a in range(width):
        for b in range(a + 1):
            total = precision[a, b]
            for c in range(b):
                total -= precision[a, c] * precision[b, c]
            precision[a, b] = math.sqrt(total) if a == b else total / precision[b, b]
    for a in range(width):
        total = linear[a]
        for c in range(a):
            total -= precision[a, c] * linear[c]
        linear[a] = total / precision[a, a]
    for a in range(width - 1, -1, -1):
        total = linear[a] + noise[a]
        mean = linear[a]
        for c in range(a + 1, width):
            total -= precision[c, a] * out[c]
            mean -= precision[c, a] * middle[c]
        out[a] = total / precision[a, a]
        middle[a] = mean / precision[a, a]


@numba.njit(cache=True, nogil=True)
def sample_side(
    start: Ints, partner: Shorts, target: Floats, weight: Floats, other: Floats,
    prior_mean: Floats, prior_precision: Floats, noise: Floats, out: Floats, middle: Floats,
) -> None:  # fmt: skip
    """Draw the vectors of one side (all users or all items) given the other side.

    A vector is (bias, factors), width W = 1 + rank; the predictor is own bias + other bias + <own, other
    factors>. A member of this side without rows gets its prior mean, not a draw: averages of draws would be
    noise around it.

    Args:
        start: (n + 1,) offsets of each own row range.
        partner: number of the other side, row by row.
        target: the standardised ratings, row by row.
        weight: precision of the noise, row by row.
        other: (m, W) vectors of the other side.
        prior_mean: (n, W).
        prior_precision: (W, W).
        noise: (n, W) standard normals.
        out: (n, W), overwritten: the draws.
        middle: (n, W), overwritten: their means.
    """
    width = other.shape[1]
    most = 0
    for row in range(len(start) - 1):
        most = max(most, start[row + 1] - start[row])
    design, residual = np.empty((most, width)), np.empty(most)
    for row in range(len(start) - 1):
        count = start[row + 1] - start[row]
        if count == 0:
            out[row] = prior_mean[row]
            middle[row] = prior_mean[row]
            continue
        for k in range(count):
            at = start[row] + k
            vector, root = other[partner[at]], math.sqrt(weight[at])
            design[k, 0] = root
            for a in range(1, width):
                design[k, a] = root * vector[a]
            residual[k] = root * (target[at] - vector[0])
        rows = design[:count]
        precision = prior_precision + np.dot(rows.T, rows)
        linear = np.dot(prior_precision, prior_mean[row]) + np.dot(residual[:count], rows)
        _draw(precision, linear, noise[row], out[row], middle[row])


@numba.njit(cache=True, nogil=True)
def predict_rows(user: Shorts, item: Shorts, user_vector: Floats, item_vector: Floats, out: Floats) -> None:
    """Write own bias + other bias + <factors, factors> of each (user, item) pair to `out`."""
    for k in range(len(user)):
        left, right = user_vector[user[k]], item_vector[item[k]]
        total = left[0] + right[0]
        for a in range(1, len(left)):
            total += left[a] * right[a]
        out[k] = total
