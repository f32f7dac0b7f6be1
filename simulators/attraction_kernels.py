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
def mark_consumed(
    user: Shorts, item: Shorts, start: Ints, consumed: Shorts, out: npt.NDArray[np.bool_]
) -> None:
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


@numba.njit(cache=True, nogil=True, fastmath=True)
def one_pass(
    order: Ints, user: Shorts, item: Shorts, clicked: npt.NDArray[np.bool_], weight: Floats,
    user_vector: Floats, item_vector: Floats, user_mean: Floats, item_mean: Floats,
    user_sum: Floats, item_sum: Floats, rate: float, shrinkage: float, bias_shrinkage: float,
) -> None:  # fmt: skip
    """One pass of Adagrad over the rows in the given order; vectors (bias, factors) and squared sums change in place.

    A vector has two step sizes, one for its bias and one for its factors (the mean over the factors of the
    squared slopes): one square root a row and side instead of one for every number.
    """
    width = user_vector.shape[1]
    user_slope, item_slope = np.empty(width), np.empty(width)
    for row in order:
        u, i = user[row], item[row]
        p, q = user_vector[u], item_vector[i]
        logit = p[0] + q[0]
        for f in range(1, width):
            logit += p[f] * q[f]
        s = 1.0 / (1.0 + math.exp(-min(max(logit, -30.0), 30.0)))
        slope = weight[row] * ((1.0 if clicked[row] else 0.0) - s)
        left = slope - bias_shrinkage * (p[0] - user_mean[u, 0])
        right = slope - bias_shrinkage * (q[0] - item_mean[i, 0])
        user_sum[u, 0] += left * left
        item_sum[i, 0] += right * right
        p[0] += rate * left / math.sqrt(user_sum[u, 0])
        q[0] += rate * right / math.sqrt(item_sum[i, 0])
        left_squares = right_squares = 0.0
        for f in range(1, width):
            user_slope[f] = slope * q[f] - shrinkage * (p[f] - user_mean[u, f])
            item_slope[f] = slope * p[f] - shrinkage * (q[f] - item_mean[i, f])
            left_squares += user_slope[f] * user_slope[f]
            right_squares += item_slope[f] * item_slope[f]
        user_sum[u, 1] += left_squares / (width - 1)
        item_sum[i, 1] += right_squares / (width - 1)
        user_rate, item_rate = rate / math.sqrt(user_sum[u, 1]), rate / math.sqrt(item_sum[i, 1])
        for f in range(1, width):
            p[f] += user_rate * user_slope[f]
            q[f] += item_rate * item_slope[f]
