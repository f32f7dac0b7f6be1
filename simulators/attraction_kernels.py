"""Compiled loops of the attraction model: one pass of Adagrad over rows, and the search for consumed items."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int32]


@numba.njit(cache=True, nogil=True)
def mark_consumed(user: Shorts, item: Shorts, start: Ints, consumed: Shorts, out: npt.NDArray[np.bool_]) -> None:
    """Write whether each (user, item) pair is in the log; `consumed[start[u]:start[u+1]]` is sorted."""
    for k in range(len(user)):
        low, high = start[user[k]], start[user[k] + 1]
        while low < high:
            middle = (low + high) // 2
            if consumed[middle] < item[k]:
                low = middle + 1
            else:
                high = middle
        out[k] = low < start[user[k] + 1] and consumed[low] == item[k]


@numba.njit(cache=True, nogil=True)
def one_pass(
    order: Ints, user: Shorts, item: Shorts, clicked: npt.NDArray[np.bool_], weight: Floats, noticed: Floats,
    user_vector: Floats, item_vector: Floats, user_mean: Floats, item_mean: Floats,
    user_sum: Floats, item_sum: Floats, rate: float, shrinkage: float, bias_shrinkage: float,
) -> None:  # fmt: skip
    """One pass of Adagrad over the rows in the given order; vectors (bias, factors) and squared sums change in place.

    P(click) = e sigmoid(a) with e the probability that the position is noticed (1 for consumption rows):
    the slope of the log-likelihood in a is (1 - s) for a click and -e s (1 - s) / (1 - e s) otherwise.
    """
    width = user_vector.shape[1]
    for row in order:
        u, i = user[row], item[row]
        p, q = user_vector[u], item_vector[i]
        logit = p[0] + q[0]
        for f in range(1, width):
            logit += p[f] * q[f]
        s = 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))
        e = noticed[row]
        slope = (1.0 - s) if clicked[row] else -e * s * (1.0 - s) / max(1.0 - e * s, 1e-9)
        slope *= weight[row]
        for f in range(width):
            pull = bias_shrinkage if f == 0 else shrinkage
            left = slope * (1.0 if f == 0 else q[f]) - pull * (p[f] - user_mean[u, f])
            right = slope * (1.0 if f == 0 else p[f]) - pull * (q[f] - item_mean[i, f])
            user_sum[u, f] += left * left
            item_sum[i, f] += right * right
            p[f] += rate * left / math.sqrt(user_sum[u, f])
            q[f] += rate * right / math.sqrt(item_sum[i, f])
