"""Agreement of rankings, on cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from recworld.errors import InputError
from recworld.evaluation import PolicyValues, ranking_agreement
from recworld.evaluation.ranking import MEASURES, agreement, bootstrap_interval

NAMES = ("a", "b", "c", "d", "e", "f")


def values(numbers, error=0.1):
    names = tuple(f"p{n}" for n in range(len(numbers)))
    return PolicyValues.of_errors(names, numbers, np.full(len(numbers), error))


def test_the_same_order_is_perfect_whatever_the_values():
    truth = values([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = agreement(values(np.exp([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), truth)
    assert (found.tau, found.tau_top, found.tau_separable, found.spearman) == pytest.approx((1, 1, 1, 1))
    assert found.regret == 0
    assert found.separable == 1


def test_the_reverse_order_is_as_wrong_as_can_be():
    truth = values([1.0, 2.0, 3.0, 4.0])
    found = agreement(values([4.0, 3.0, 2.0, 1.0]), truth)
    assert (found.tau, found.tau_top, found.tau_separable, found.spearman) == pytest.approx((-1, -1, -1, -1))
    assert found.regret == pytest.approx(0.75)  # the world's best is worth 1 of 4


def test_one_swap_by_hand():
    # 5 of 6 pairs right: tau 4/6. Spearman: 1 - 6 * 2 / (4 * 15) = 0.8. Better half (3, 4): swapped.
    found = agreement(values([1.0, 2.0, 4.0, 3.0]), values([1.0, 2.0, 3.0, 4.0]))
    assert found.tau == pytest.approx(4 / 6)
    assert found.spearman == pytest.approx(0.8)
    assert found.tau_top == -1
    assert found.regret == pytest.approx(0.25)


def test_pairs_that_the_truth_does_not_separate_do_not_count():
    truth = values([1.0, 1.05, 3.0], error=0.1)  # the first two lie within noise
    found = agreement(values([2.0, 1.0, 3.0]), truth)
    assert found.tau == pytest.approx(1 / 3)
    assert found.tau_separable == 1
    assert found.separable == pytest.approx(2 / 3)
    assert math.isnan(agreement(values([1.0, 2.0]), values([1.0, 1.0])).tau_separable)


def test_ties_of_the_world_are_no_agreement():
    truth = values([1.0, 2.0, 3.0, 5.0])
    blind = agreement(values([7.0, 7.0, 7.0, 7.0]), truth)
    assert (blind.tau, blind.tau_separable, blind.spearman) == (0, 0, 0)
    assert blind.regret == pytest.approx((5 - 11 / 4) / 5)  # any of them might be taken
    half = agreement(values([1.0, 1.0, 2.0, 2.0]), truth)
    assert half.tau_separable == pytest.approx(4 / 6)
    assert half.tau == pytest.approx(4 / math.sqrt(6 * 4))  # tau-b: two tied pairs on one side
    assert half.regret == pytest.approx(0.2)


def test_pairing_by_user_tells_policies_apart_that_the_spread_of_users_hides():
    rng = np.random.default_rng(0)
    user = rng.normal(5, 3, 50)
    first, second = user + rng.normal(0, 0.05, 50), user + 0.1 + rng.normal(0, 0.05, 50)
    paired = PolicyValues.of_users({"a": first, "b": second})
    alone = PolicyValues.of_errors(
        "ab", [first.mean(), second.mean()], [x.std(ddof=1) / math.sqrt(50) for x in (first, second)]
    )
    assert paired.separable()[0, 1]
    assert not alone.separable()[0, 1]
    difference = second - first
    assert paired.error[0, 1] == pytest.approx(difference.std(ddof=1) / math.sqrt(50))
    assert not paired.separable().diagonal().any()


def test_equal_policies_are_separated_as_often_as_the_level_says():
    rng = np.random.default_rng(1)
    wrong = [
        PolicyValues.of_users({"a": rng.normal(size=12), "b": rng.normal(size=12)}).separable()[0, 1]
        for _ in range(2000)
    ]
    assert 0.035 < np.mean(wrong) < 0.065


def test_means_and_bootstrap_over_truths():
    truth = values([1.0, 2.0, 3.0, 4.0])
    worlds = [truth, values([4.0, 3.0, 2.0, 1.0])]
    both = ranking_agreement(worlds, [truth, truth])
    assert both.mean["tau"].mean == pytest.approx(0)
    assert (both.mean["tau"].low, both.mean["tau"].high) == pytest.approx((-1, 1))
    assert both.mean["regret"].mean == pytest.approx(0.375)
    assert [one.tau for one in both.truths] == pytest.approx([1, -1])
    single = ranking_agreement(truth, truth)
    assert single.mean["tau"].mean == pytest.approx(1)
    assert math.isnan(single.mean["tau"].low)
    assert both.as_json()["mean"]["tau"]["mean"] == pytest.approx(0)
    assert single.as_json()["mean"]["tau"]["low"] is None
    assert set(both.mean) == set(MEASURES)


def test_the_bootstrap_interval_has_the_width_of_a_mean():
    sample = np.random.default_rng(2).normal(3, 1, 400)
    found = bootstrap_interval([*sample, np.nan])
    assert found.mean == pytest.approx(sample.mean())
    assert found.half == pytest.approx(1.96 * sample.std() / 20, rel=0.1)
    assert found == bootstrap_interval([*sample, np.nan])
    assert math.isnan(bootstrap_interval([np.nan]).mean)


@settings(max_examples=60, deadline=None)
@given(some.permutations(range(7)), some.integers(0, 6))
def test_bounds_and_symmetries(order, shift):
    truth = values(np.arange(7) + 1.0, error=0.4)
    found, opposite = (agreement(values(np.asarray(x, float)), truth) for x in (order, [-x for x in order]))
    for name in ("tau", "tau_top", "tau_separable", "spearman"):
        assert -1 <= getattr(found, name) <= 1
        assert getattr(found, name) == pytest.approx(-getattr(opposite, name))
    assert 0 <= found.regret < 1
    moved = agreement(values(np.asarray(order, float) * 3 + shift), truth)
    assert moved == found


@pytest.mark.parametrize(("make", "says"), [
    (lambda: ranking_agreement([], []), "one world"),
    (lambda: ranking_agreement([values([1, 2])], [values([1, 2])] * 2), "1 worlds and 2 truths"),
    (lambda: agreement(values([1, 2]), PolicyValues.of_errors("xy", [1, 2], [0, 0])), "same policies"),
    (lambda: PolicyValues.of_users({"a": [1.0, 2.0], "b": [1.0]}), "same users"),
    (lambda: PolicyValues.of_users({"a": [1.0], "b": [1.0]}), "two at least"),
    (lambda: values([1.0]), "at least two policies"),
    (lambda: values([1.0, np.nan]), "finite"),
    (lambda: PolicyValues.of_errors("ab", [1, 2], [1]), "standard errors"),
    (lambda: PolicyValues(("a", "b"), np.ones(3), np.ones((2, 2))), "shape"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(make, says):
    with pytest.raises(InputError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
