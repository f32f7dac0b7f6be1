"""Figures as functions of user weights: they equal the plain figures, and their intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.evaluation.distances import wasserstein
from recworld.evaluation.resampling import (
    auc_of,
    calibration_of,
    half_weights,
    mean_of,
    measure,
    measure_distance,
    measure_gap,
    measure_margin,
    profile_gap,
    ratio,
)
from recworld.simulators.accuracy import auc, calibration_error

RNG = np.random.default_rng(0)
OWNER = RNG.integers(0, 30, 600)
SCORE = np.round(RNG.random(600), 2)
HIT = RNG.random(600) < SCORE
ONE = np.ones((1, 30))


def test_with_weights_of_one_figures_are_the_plain_ones() -> None:
    assert auc_of(SCORE, HIT, OWNER)(ONE)[0] == pytest.approx(auc(SCORE, HIT))
    assert calibration_of(SCORE, HIT, OWNER)(ONE)[0] == pytest.approx(calibration_error(SCORE, HIT))
    assert mean_of(SCORE**2, OWNER, np.sqrt)(ONE)[0] == pytest.approx(np.sqrt(np.mean(SCORE**2)))


def test_a_user_of_weight_two_counts_as_two_users() -> None:
    weight = RNG.integers(0, 3, 30).astype(float)
    rows = np.repeat(np.arange(600), weight[OWNER].astype(int))
    assert auc_of(SCORE, HIT, OWNER)(weight[None])[0] == pytest.approx(auc(SCORE[rows], HIT[rows]))
    assert mean_of(SCORE, OWNER)(weight[None])[0] == pytest.approx(SCORE[rows].mean())


def test_intervals_cover_as_often_as_they_say() -> None:
    """Rows of one user share an effect: an interval that took rows for independent would cover far less often."""
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        owner = np.repeat(np.arange(60), 10)
        values = rng.normal(size=60)[owner] + 0.3 * rng.normal(size=600)
        found = measure(mean_of(values, owner), 60, seed)
        covered += found.low <= 0 <= found.high
    assert 106 <= covered <= 120


def test_the_floor_is_what_halves_of_the_users_differ_by() -> None:
    rng = np.random.default_rng(1)
    user = rng.normal(size=400)
    found = measure(mean_of(np.repeat(user, 3), np.repeat(np.arange(400), 3)), 400, 0)
    # |difference of two means of 200|: sqrt(2 / 200) sqrt(2 / pi).
    assert found.floor == pytest.approx(np.sqrt(2 / 200) * np.sqrt(2 / np.pi), rel=0.25)
    assert found.floor < found.floor_high


def test_halves_are_halves() -> None:
    half = half_weights(11, 0)
    assert set(np.unique(half)) == {0.0, 1.0}
    assert (half.sum(1) == 5).all()
    assert len(np.unique(half, axis=0)) > 50


def test_a_sample_of_the_truth_gets_the_floor_and_a_shifted_one_does_not() -> None:
    rng = np.random.default_rng(2)
    owner = np.repeat(np.arange(200), 5)
    real, same = (rng.normal(size=1000) for _ in range(2))
    found = measure_distance(wasserstein, real, same, owner, 0)
    assert found.value == pytest.approx(found.floor, rel=0.35)
    assert found.value <= found.floor_high
    shifted = measure_distance(wasserstein, real, same + 1.0, owner, 0)
    assert shifted.value == pytest.approx(1.0, abs=0.1)
    assert shifted.low > shifted.floor_high
    assert shifted.low < 1 < shifted.high


def test_a_gap_is_of_the_same_users_and_its_interval_starts_at_nothing_where_there_is_none() -> None:
    rng = np.random.default_rng(3)
    below, level = np.full(100, 20.0), rng.normal(5, 2, 100)
    real, ours = level * 20, (level + rng.normal(0, 0.1, 100)) * 20
    found = measure_gap(ratio(real, below), ratio(ours, below), 100, 0)
    assert found.low == 0
    assert found.high < 0.05 < found.floor, "paired users differ less than halves of them do"
    moved = measure_gap(ratio(real, below), ratio(ours + 20.0, below), 100, 0)
    assert 0.9 < moved.low < moved.value < moved.high < 1.1


def test_margins_are_paired_by_user() -> None:
    rng = np.random.default_rng(4)
    hard, owner = rng.normal(0, 3, 80), np.arange(80)
    found = measure_margin(mean_of(hard + 0.2, owner), mean_of(hard, owner), 80, 0)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2)


def test_one_user_has_no_interval() -> None:
    found = measure(mean_of(np.array([1.0, 2.0]), np.zeros(2, np.int64)), 1, 0)
    assert found.value == 1.5
    assert np.isnan([found.low, found.high, found.floor]).all()


def test_a_profile_gap_averages_over_places() -> None:
    real, below = np.tile([4.0, 2.0], (50, 1)), np.full((50, 2), 10.0)
    found = profile_gap(real, real + np.array([1.0, -2.0]), below, np.array([0.5, 0.5]), 0.3, 0)
    assert found.value == pytest.approx((0.1 + 0.2) / 2 / 0.3)
    assert found.floor == pytest.approx(0, abs=1e-9)
