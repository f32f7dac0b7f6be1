"""Counter-based randomness for compiled code: every draw is a pure function of its coordinates.

A stream is never stored. Keys are mixed from (seed, stream, episode, step) by the output function of SplitMix64 (Steele,
Lea, Flood 2014, "Fast splittable pseudorandom number generators"). A draw adds odd multiples of the purpose and of the slot
or item to a key and takes the folded product of wyrand (Wang Yi, wyhash, 2019; passes BigCrush and PractRand): one
multiplication, where a step needs some seventy draws. So a user's episodes do not depend on how many users run beside them,
and two policies meet the same luck wherever they show the same item to the same user in the same step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, uint64

from recworld.simulators.arithmetic import folded_product

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
PURPOSE = np.uint64(0xD1342543DE82EF95)
SLOT = np.uint64(0xDA942042E4DD58B5)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_inner = njit(nogil=True, error_model="numpy", _nrt=False)
_FOLD = np.uint64(0xE7037ED1A0B428DB)
_S30, _S27, _S31, _S40 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(40)

# Coefficients of AS 241 (PPND16), from the constant up.
_MIDDLE_TOP = (
    3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
    45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727,
)  # fmt: skip
_MIDDLE_BOTTOM = (
    1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
    21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610,
)  # fmt: skip
_SIDE_TOP = (
    1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
    1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4,
)  # fmt: skip
_SIDE_BOTTOM = (
    1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
    0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
_FAR_TOP = (
    6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
    0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
)  # fmt: skip
_FAR_BOTTOM = (
    1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
    7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
)  # fmt: skip

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
    counter = uint64(key) + uint64(purpose) * PURPOSE + uint64(slot) * SLOT
    return folded_product(counter, counter ^ _FOLD)


@_inner
def uniform(key: uint64, purpose: int, slot: int) -> Any:
    """Return a float64 in the open interval (0, 1), on the grid of 2^-24 steps plus half a step."""
    return (float(bits(key, purpose, slot) >> _S40) + 0.5) * (1.0 / 16777216.0)


@_inner
def below(key: uint64, purpose: int, slot: int, n: int) -> Any:
    """Return an integer in [0, n), n < 2^32, by multiplication of the upper 32 bits (bias below n / 2^32)."""
    return np.int64(((bits(key, purpose, slot) >> np.uint64(32)) * uint64(n)) >> np.uint64(32))


@_inner
def _ratio(r: float, top: Any, bottom: Any) -> Any:
    """Return the ratio of two polynomials of degree 7, coefficients from the constant up."""
    above = (
        (((((top[7] * r + top[6]) * r + top[5]) * r + top[4]) * r + top[3]) * r + top[2]) * r + top[1]
    ) * r
    below_ = (
        ((((bottom[7] * r + bottom[6]) * r + bottom[5]) * r + bottom[4]) * r + bottom[3]) * r + bottom[2]
    ) * r
    return (above + top[0]) / ((below_ + bottom[1]) * r + bottom[0])


@_inner
def normal_quantile(p: float) -> Any:
    """Return the standard normal quantile of `p` in (0, 1), relative error below 1e-15.

    Rational approximations of Wichura (1988), "Algorithm AS 241: the percentage points of the normal distribution": one in
    the middle, one to each side, one for the far tails.
    """
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(0.180625 - q * q, _MIDDLE_TOP, _MIDDLE_BOTTOM)
    r = math.sqrt(-math.log(p if q < 0.0 else 1.0 - p))
    x = _ratio(r - 1.6, _SIDE_TOP, _SIDE_BOTTOM) if r <= 5.0 else _ratio(r - 5.0, _FAR_TOP, _FAR_BOTTOM)
    return -x if q < 0.0 else x


@_inner
def normal_cdf(x: float) -> Any:
    """Return the standard normal distribution function."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@_inner
def half_below(drawn: uint64, slot: int, n: int) -> Any:
    """Return an integer in [0, n), n < 2^31, from the upper half of 64 bits (even slots) or the lower."""
    part = drawn >> np.uint64(32) if slot & 1 == 0 else drawn & np.uint64(0xFFFFFFFF)
    return np.int64((part * uint64(n)) >> np.uint64(32))
