"""Arithmetic on stretches of flat arrays, for compiled code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Reordering of sums only: NaN and infinity keep their meaning."""

inner = njit(
    nogil=True, fastmath=FAST, error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True
)
"""Inner functions allocate nothing, so the reference counting of arrays is off (`_nrt`): it costs more than the step."""


@inner
def dot(a: Any, i: int, b: Any, j: int, width: int) -> Any:
    """Return the scalar product of two stretches of flat arrays."""
    # Unsigned places: a signed one may count from the end, and testing for that would keep the loop from being vectorised.
    i_, j_ = np.uint64(i), np.uint64(j)
    total = np.float32(0.0)
    for k in range(np.uint64(width)):
        total += a[i_ + k] * b[j_ + k]
    return total


@inner
def apart(a: Any, i: int, b: Any, j: int, width: int) -> Any:
    """Return the squared distance of two stretches of flat arrays."""
    i_, j_ = np.uint64(i), np.uint64(j)
    total = np.float32(0.0)
    for k in range(np.uint64(width)):
        total += (a[i_ + k] - b[j_ + k]) ** 2
    return total


@inner
def add(a: Any, i: int, factor: float, b: Any, j: int, width: int) -> None:
    """Add `factor` times a stretch of b to a stretch of a."""
    i_, j_ = np.uint64(i), np.uint64(j)
    for k in range(np.uint64(width)):
        a[i_ + k] += factor * b[j_ + k]


@inner
def multiply(a: Any, i: int, factor: float, width: int) -> None:
    """Multiply a stretch of a by `factor`."""
    i_ = np.uint64(i)
    for k in range(np.uint64(width)):
        a[i_ + k] *= factor


@inner
def copy(a: Any, i: int, b: Any, j: int, width: int) -> None:
    """Copy a stretch of b to a, front to back: b may be a itself where j > i."""
    i_, j_ = np.uint64(i), np.uint64(j)
    for k in range(np.uint64(width)):
        a[i_ + k] = b[j_ + k]


@inner
def sigmoid(x: float) -> Any:
    """Return 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + math.exp(-x))
