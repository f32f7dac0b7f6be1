"""Pólya-Gamma draws, which make a logistic likelihood a Gaussian one given the draw.

Source: Polson, Scott & Windle (2013), "Bayesian inference for logistic models using Pólya-Gamma latent variables"; the
sampler of PG(1, z) is that of their section 4, after Devroye (2009).
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CUT = 0.64  # where the two bounds of the density meet (their t)


@numba.njit(cache=True, nogil=True)
def _normal_below(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@numba.njit(cache=True, nogil=True)
def _term(n: int, x: float) -> float:
    """The n-th term of the alternating series of the density, on either side of the cut."""
    k = n + 0.5
    if x <= _CUT:
        return (
            math.pi * k * math.sqrt(2.0 / (math.pi * x)) * (2.0 / (math.pi * x)) * math.exp(-2.0 * k * k / x)
        )
    return math.pi * k * math.exp(-0.5 * k * k * math.pi * math.pi * x)


@numba.njit(cache=True, nogil=True)
def _inverse_gaussian(z: float, random: np.random.Generator) -> float:
    """Draw from the inverse Gaussian with mean 1/z and shape 1, given that it lies below the cut."""
    if z < 1.0 / _CUT:
        while True:
            while True:
                first, second = random.standard_exponential(), random.standard_exponential()
                if first * first <= 2.0 * second / _CUT:
                    break
            x = _CUT / (1.0 + _CUT * first) ** 2
            if random.random() <= math.exp(-0.5 * z * z * x):
                return x
    mean = 1.0 / z
    while True:
        y = random.standard_normal() ** 2
        x = mean + 0.5 * mean * mean * y - 0.5 * mean * math.sqrt(4.0 * mean * y + (mean * y) ** 2)
        if random.random() > mean / (mean + x):
            x = mean * mean / x
        if x <= _CUT:
            return x


@numba.njit(cache=True, nogil=True)
def _draw_one(tilt: float, random: np.random.Generator) -> float:
    z = 0.5 * min(abs(tilt), 60.0)
    rate = math.pi**2 / 8.0 + 0.5 * z * z
    right = math.pi / (2.0 * rate) * math.exp(-rate * _CUT)
    root = math.sqrt(1.0 / _CUT)
    left = 2.0 * (
        math.exp(-z) * _normal_below(root * (_CUT * z - 1.0))
        + math.exp(z) * _normal_below(-root * (_CUT * z + 1.0))
    )
    share = right / (right + left)
    while True:
        beyond = random.random() < share
        x = _CUT + random.standard_exponential() / rate if beyond else _inverse_gaussian(z, random)
        total = _term(0, x)
        level, n = random.random() * total, 0
        while True:
            n += 1
            if n % 2 == 1:
                total -= _term(n, x)
                if level <= total:
                    return 0.25 * x
            else:
                total += _term(n, x)
                if level > total:
                    break


@numba.njit(cache=True, nogil=True)
def draw_polya_gamma(tilt: Floats, random: np.random.Generator, out: Floats) -> None:
    """Write a draw of PG(1, tilt) for each entry to `out`; both (n,)."""
    for k in range(len(tilt)):
        out[k] = _draw_one(tilt[k], random)
