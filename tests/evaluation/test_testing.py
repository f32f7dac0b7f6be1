"""Holm by hand, equivalence by hand, shares of a distance, and intervals of two levels that hold on simulated data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recworld.errors import InputError
from recworld.evaluation.intervals import Estimate, two_level
from recworld.evaluation.testing import equivalence, holm, share_of_distance


def draw(rng, runs, users, run_spread, user, noise):
    """Return one policy's table (R, n): effects of runs, of users, and what is left."""
    return run_spread * rng.normal(size=(runs, 1)) + user + noise * rng.normal(size=(runs, users))


def test_holm_by_hand():
    # sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 -> not below the one before: .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    found = holm([0.01, float("nan"), 0.02])
    assert found[0] == pytest.approx(0.02)  # two tests, not three
    assert np.isnan(found[1])


def test_holm_holds_the_error_of_the_family():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2000, 1))  # tests that share their users lean on each other
    z = (shared + rng.normal(size=(2000, 8))) / np.sqrt(2)
    p = 2 * stats.norm.sf(np.abs(z))
    wrong = [min(holm(list(row))) < 0.05 for row in p]
    alone = [(row < 0.05).any() for row in p]
    assert np.mean(wrong) < 0.06
    assert np.mean(alone) > 0.15


def test_p_values_and_intervals_agree():
    estimate = two_level([1.0, 2.0, 4.0, 7.0])
    found = stats.ttest_1samp([1.0, 2.0, 4.0, 7.0], 0.0)
    assert estimate.two_sided() == pytest.approx(found.pvalue)
    rng = np.random.default_rng(1)
    for _ in range(50):
        one = two_level(rng.normal(0.3, 1, (3, 20)), rng.normal(0, 1, (2, 20)))
        assert (one.two_sided() < 0.05) == (one.interval().sign != 0)
    nothing = two_level(np.ones(5), np.ones(5))
    assert (nothing.two_sided(), nothing.interval().half) == (1.0, 0.0)
    assert two_level(np.ones(5), np.zeros(5)).two_sided() == 0.0
    assert np.isnan(two_level([1.0]).two_sided())


def test_equivalence_by_hand():
    found = equivalence(Estimate(0.1, 0.1, 10), 0.5)
    assert found.p == pytest.approx(stats.t.sf(4, 10))  # (0.5 - 0.1) / 0.1, the nearer margin
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (0.1 - 1.812461 * 0.1, 0.1 + 1.812461 * 0.1)
    )
    assert found.verdict() == "equivalent"
    assert found.verdict(p=0.2) == "open"
    assert equivalence(Estimate(0.4, 0.1, 10), 0.5).verdict() == "different"
    assert equivalence(Estimate(0.4, 0.3, 10), 0.5).verdict() == "open"
    with pytest.raises(InputError, match="above 0"):
        equivalence(Estimate(0.0, 1.0, 3), 0.0)


def test_equivalent_means_the_90_percent_interval_lies_inside():
    rng = np.random.default_rng(2)
    for _ in range(300):
        found = equivalence(Estimate(rng.normal(), rng.exponential(), rng.integers(1, 30)), 1.0)
        assert (found.p < 0.05) == (found.interval.low > -1 and found.interval.high < 1)


def test_equivalence_is_seldom_claimed_where_the_truth_lies_on_the_margin():
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(1000):
        user = rng.normal(size=(1, 30))
        far = draw(rng, 5, 30, 0.2, user, 0.5) + 0.5
        hits.append(equivalence(two_level(far, draw(rng, 5, 30, 0.2, user, 0.5)), 0.5).p < 0.05)
    assert 0.01 < np.mean(hits) < 0.07


@pytest.mark.parametrize(
    ("runs", "spread", "noise"),
    [((5, 3), (0.5, 0.5), 0.5), ((5, 5), (0.0, 0.0), 1.0), ((8, 1), (1.0, 0.0), 0.3)],
)
def test_differences_of_two_policies_with_runs_are_covered(runs, spread, noise):
    rng = np.random.default_rng(4)
    hits, halves, means = [], [], []
    for _ in range(800):
        user = 2 * rng.normal(size=(1, 40))  # what pairing takes away
        one, two = (draw(rng, r, 40, s, user, noise) for r, s in zip(runs, spread, strict=True))
        found = two_level(1 + one, two).interval()
        hits.append(found.low <= 1 <= found.high)
        halves.append(found.half)
        means.append(found.mean)
    assert 0.92 < np.mean(hits) <= 1.0
    assert np.mean(halves) < 2 * 1.96 * np.std(means)


def test_runs_of_the_other_policy_are_random_too():
    """Taking the mean of the other's runs for a fixed number would claim too much."""
    rng = np.random.default_rng(5)
    right, wrong = [], []
    for _ in range(500):
        one, two = draw(rng, 5, 40, 0.0, 0.0, 0.3), draw(rng, 3, 40, 1.0, 0.0, 0.3)
        found, claimed = two_level(one, two).interval(), two_level(one - two.mean(0)).interval()
        right.append(found.low <= 0 <= found.high)
        wrong.append(claimed.low <= 0 <= claimed.high)
    assert np.mean(right) > 0.92
    assert np.mean(wrong) < 0.5


def test_a_share_that_is_exact_has_no_width():
    rng = np.random.default_rng(6)
    greedy, gap = rng.normal(5, 1, 50), rng.exponential(1, 50)
    found = share_of_distance(greedy + 0.5 * gap, greedy, greedy + gap)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert share_of_distance(greedy, greedy, greedy + gap).mean == 0.0
    nothing = share_of_distance(greedy + 1, greedy, greedy + rng.normal(0, 1, 50) * 0.01)
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_the_share_of_a_distance_is_by_hand_and_the_same_for_the_same_seed():
    greedy, upper, own = [1.0, 2.0, 3.0], [3.0, 4.0, 4.5], [[1.0, 3.0, 4.0], [2.0, 2.0, 3.0]]
    found = share_of_distance(own, greedy, upper, seed=3)
    assert found.mean == pytest.approx(0.5 / (5.5 / 3))  # (2.5 - 2) / (11.5 / 3 - 2)
    assert found == share_of_distance(own, greedy, upper, seed=3)


@pytest.mark.parametrize(("runs", "spread"), [(1, 0.0), (4, 0.5), (10, 0.5)])
def test_shares_are_covered(runs, spread):
    rng = np.random.default_rng(7)
    hits = []
    for _ in range(250):
        user = rng.normal(size=(1, 60))
        greedy = user + 0.5 * rng.normal(size=(1, 60))
        own = 1.0 + draw(rng, runs, 60, spread, user, 0.5)
        upper = 2.0 + user + 0.5 * rng.normal(size=(1, 60))
        found = share_of_distance(own, greedy, upper)
        hits.append(found.low <= 0.5 <= found.high)
    assert 0.91 < np.mean(hits) <= 0.995
