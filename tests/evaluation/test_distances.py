"""Distances of samples against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recworld.errors import InputError
from recworld.evaluation.distances import (
    frechet,
    frechet_gaussian,
    jensen_shannon,
    kolmogorov_smirnov,
    transition_counts,
    wasserstein,
)

COUNTS = st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(lambda counts: sum(counts) > 0)


def test_jensen_shannon_of_equal_apart_and_half_apart_histograms() -> None:
    assert jensen_shannon([1, 2, 3], [2, 4, 6]) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon([1, 0], [0, 5]) == pytest.approx(1)
    # M = (3/4, 1/4): D = (log2(4/3) + (log2(2/3) + log2(2)) / 2) / 2.
    expected = (np.log2(4 / 3) + (np.log2(2 / 3) + 1) / 2) / 2
    assert jensen_shannon([1, 0], [0.5, 0.5]) == pytest.approx(np.sqrt(expected))


@given(COUNTS, st.integers(0, 2**31))
def test_jensen_shannon_is_a_bounded_symmetric_distance(counts: list[int], seed: int) -> None:
    other = np.random.default_rng(seed).integers(1, 50, len(counts))
    distance = jensen_shannon(counts, other)
    assert 0 <= distance <= 1 + 1e-9
    assert distance == pytest.approx(jensen_shannon(other, counts), abs=1e-9)


def test_wrong_histograms_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="same shape"):
        jensen_shannon([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="sum is 0"):
        jensen_shannon([1, 2], [0, 0])


@given(st.floats(-5, 5), st.integers(0, 2**31))
def test_a_shift_moves_all_mass_by_itself(shift: float, seed: int) -> None:
    sample = np.random.default_rng(seed).normal(size=40)
    assert wasserstein(sample, sample + shift) == pytest.approx(abs(shift), abs=1e-9)


def test_kolmogorov_smirnov_is_the_largest_gap() -> None:
    assert kolmogorov_smirnov([1, 2, 3], [1, 2, 3]) == 0
    assert kolmogorov_smirnov([0, 1], [2, 3, 4]) == 1
    assert kolmogorov_smirnov([1, 1, 1, 2], [1, 2, 2, 2]) == pytest.approx(0.5)


def test_frechet_of_gaussians_with_a_common_frame() -> None:
    """With commuting covariances the distance is |m - m'|^2 + sum (s - s')^2, in any rotation."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    first, second = np.array([1.0, 2.0, 0.5]), np.array([2.0, 0.1, 0.5])
    spreads = [rotation @ np.diag(s**2) @ rotation.T for s in (first, second)]
    mean, other = np.zeros(3), np.array([1.0, 0.0, 2.0])
    expected = 5.0 + ((first - second) ** 2).sum()
    assert frechet_gaussian((mean, spreads[0]), (other, spreads[1])) == pytest.approx(expected)
    assert frechet_gaussian((mean, spreads[0]), (mean, spreads[0])) == pytest.approx(0, abs=1e-9)


def test_frechet_of_samples_reads_their_moments() -> None:
    sample = np.random.default_rng(0).normal(size=(500, 4))
    assert frechet(sample, sample) == pytest.approx(0, abs=1e-9)
    assert frechet(sample, sample + np.array([3.0, 0, 0, 4.0])) == pytest.approx(25)
    # Doubled: every standard deviation s moves by s, so the trace of the covariance is what is added.
    centred = sample - sample.mean(0)
    assert frechet(centred, 2 * centred) == pytest.approx(np.trace(np.cov(centred.T)))


def test_transitions_are_counted_within_sequences_only() -> None:
    counts = transition_counts([np.array([0, 1, 1]), np.array([2]), np.array([1, 0])], 3)
    np.testing.assert_array_equal(counts, [[0, 1, 0], [1, 1, 0], [0, 0, 0]])
