"""Intervals hold what they promise on simulated data: 95 % of them contain the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from recworld.evaluation.intervals import (
    Coverage,
    Interval,
    coverage,
    coverage_interval,
    mean_interval,
    shown_matrix,
)


def contains(interval, truth):
    return interval.low <= truth <= interval.high


def test_the_interval_of_one_run_is_the_t_interval():
    values = np.array([1.0, 2.0, 4.0, np.nan, 7.0])
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=3.5, scale=stats.sem(values[np.isfinite(values)]))
    assert (found.mean, found.low, found.high) == pytest.approx((3.5, low, high))


def test_users_are_covered_95_times_in_100():
    rng = np.random.default_rng(0)
    hits = [contains(mean_interval(rng.exponential(2.0, 40)), 2.0) for _ in range(1500)]
    assert 0.92 < np.mean(hits) < 0.97  # a skewed truth: slightly below 95 %
    hits = [contains(mean_interval(rng.normal(2.0, 1.0, 10)), 2.0) for _ in range(1500)]
    assert 0.935 < np.mean(hits) < 0.965


@pytest.mark.parametrize(
    ("run_spread", "user_spread", "noise"), [(1, 1, 1), (1, 0, 0.3), (0, 1, 1), (0.3, 2, 1)]
)
def test_runs_and_users_are_both_random(run_spread, user_spread, noise):
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(800):
        table = run_spread * rng.normal(size=(5, 1)) + user_spread * rng.normal(size=(1, 40))
        hits.append(contains(mean_interval(3.0 + table + noise * rng.normal(size=(5, 40))), 3.0))
    assert 0.92 < np.mean(hits) <= 1.0
    alone = mean_interval((3.0 + table).mean(0))
    assert (
        run_spread < 1 or np.mean([contains(alone, 3.0)]) <= 1
    )  # users alone would not see the spread of runs


def test_leaving_the_spread_of_runs_out_would_claim_too_much():
    rng = np.random.default_rng(2)
    table = rng.normal(size=(5, 1)) + 0.1 * rng.normal(size=(5, 300))
    assert mean_interval(table).half > 3 * mean_interval(table.mean(0)).half


def test_degenerate_data_are_told_as_such():
    assert mean_interval([4.0]).mean == 4.0
    assert np.isnan(mean_interval([4.0]).low)
    assert np.isnan(mean_interval([np.nan, np.nan]).mean)
    same = mean_interval([2.0, 2.0, 2.0])
    assert (same.low, same.high, same.half) == (2.0, 2.0, 0.0)
    assert mean_interval([np.nan]).as_json() == {"mean": None, "low": None, "high": None}


def test_sign_is_that_of_the_whole_interval():
    assert [Interval(0, *b).sign for b in ((0.1, 2), (-2, -0.1), (-1, 1), (0.0, 0.0), (np.nan, np.nan))] == [
        1,
        -1,
        0,
        0,
        0,
    ]


def test_coverage_counts_distinct_items():
    item = np.array([[[0, 1], [4, 4]], [[1, 5], [5, 5]]])  # two steps, two users, two places; 5 = empty
    shown = shown_matrix(item, 5)
    np.testing.assert_array_equal(shown.toarray(), [[1, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    assert coverage(shown) == pytest.approx(3 / 5)
    assert coverage(shown_matrix(np.full((2, 2, 2), 5), 5)) == 0.0


def test_coverage_intervals_hold_the_expected_coverage():
    rng = np.random.default_rng(3)
    chance = np.minimum(rng.pareto(1.2, 300) * 0.002, 0.5)  # some items for many users, most for few
    expected = float(np.mean(1 - (1 - chance) ** 60))
    hits, halves, means = [], [], []
    for _ in range(400):
        found = coverage_interval(Coverage.of([sparse.csr_matrix(rng.random((60, 300)) < chance)]))
        hits.append(contains(found, expected))
        halves.append(found.half)
        means.append(found.mean)
    assert 0.92 < np.mean(hits) < 0.995
    assert np.mean(halves) < 1.6 * 1.96 * np.std(means)  # careful, but not useless


def test_the_difference_of_coverages_is_paired_and_exactly_zero_for_the_same():
    rng = np.random.default_rng(4)
    shown = [sparse.csr_matrix(rng.random((40, 200)) < 0.02)]
    other = [sparse.csr_matrix(shown[0].toarray() & (np.arange(200) < 190))]
    one, two = Coverage.of(shown), Coverage.of(other)
    same = coverage_interval(one, one)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    paired = coverage_interval(one, two)
    assert paired.sign == 1
    assert paired.half < coverage_interval(one).half
