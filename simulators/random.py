"""Counter-based randomness for compiled code: every draw is a pure function of its coordinates.

A stream is never stored. A draw is the SplitMix64 output function (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
number generators") applied to a key that was itself mixed from (seed, stream, episode, step), plus an odd multiple of
the purpose and of the slot or item. So a user's episodes do not depend on how many users run beside them, and two policies
meet the same luck wherever they show the same item to the same user in the same step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, uint64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
PURPOSE = np.uint64(0xD1342543DE82EF95)
SLOT = np.uint64(0xDA942042E4DD58B5)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_inner = njit(nogil=True, error_model="numpy", _nrt=False)
_S30, _S27, _S31, _S40 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(40)

USER, MEMBER, FRAILTY, CANDIDATE, CLICK, RATING, LEAVE, NO_CLICK = 1, 2, 3, 4, 5, 6, 7, 8
"""Purposes of draws; numbers are part of the format: changing one changes every recorded episode."""


@_inner
def mix(x: uint64) -> Any:
    """Return SplitMix64's output for the 64-bit counter `x`."""
    z = uint64(x)
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@_inner
def stream_key(seed: uint64, stream: uint64) -> Any:
    """Return the key of a stream of a seed."""
    return mix(mix(uint64(seed) + GOLDEN) ^ (uint64(stream) * PURPOSE + GOLDEN))


@_inner
def child_key(key: uint64, number: int) -> Any:
    """Return the key of an episode of a stream, or of a step of an episode."""
    return mix(uint64(key) + uint64(number + 1) * GOLDEN)


@_inner
def bits(key: uint64, purpose: int, slot: int) -> Any:
    """Return 64 random bits for (key, purpose, slot)."""
    return mix(uint64(key) + uint64(purpose) * PURPOSE + uint64(slot) * SLOT)


@_inner
def uniform(key: uint64, purpose: int, slot: int) -> Any:
    """Return a float64 in the open interval (0, 1), on the grid of 2^-24 steps plus half a step."""
    return (float(bits(key, purpose, slot) >> _S40) + 0.5) * (1.0 / 16777216.0)


@_inner
def below(key: uint64, purpose: int, slot: int, n: int) -> Any:
    """Return an integer in [0, n), n < 2^32, by multiplication of the upper 32 bits (bias below n / 2^32)."""
    return np.int64(((bits(key, purpose, slot) >> np.uint64(32)) * uint64(n)) >> np.uint64(32))


@_inner
def normal_quantile(p: float) -> Any:
    """Return the standard normal quantile of `p` in (0, 1), absolute error below 2e-9.

    Start from a central or tail approximation by Hastings (Abramowitz and Stegun 1964, 26.2.23, error below 4.5e-4),
    then two Halley steps on the exact distribution function.
    """
    tail = p if p < 0.5 else 1.0 - p
    t = math.sqrt(-2.0 * math.log(tail))
    x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (
        1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    )
    for _ in range(2):
        error = 0.5 * math.erfc(x * 0.7071067811865476) - tail
        step = error * 2.5066282746310002 * math.exp(0.5 * x * x)
        x += step / (1.0 - 0.5 * x * step)
    return -x if p < 0.5 else x


@_inner
def normal_cdf(x: float) -> Any:
    """Return the standard normal distribution function."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@_inner
def half_below(key: uint64, purpose: int, slot: int, n: int) -> Any:
    """Return an integer in [0, n), n < 2^31, from half of 64 bits: slots 2 j and 2 j + 1 share one draw of 64."""
    drawn = bits(key, purpose, slot >> 1)
    part = drawn >> np.uint64(32) if slot & 1 == 0 else drawn & np.uint64(0xFFFFFFFF)
    return np.int64((part * uint64(n)) >> np.uint64(32))
