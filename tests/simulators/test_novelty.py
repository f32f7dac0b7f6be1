"""What age does to the appeal of items: known curves are found, and where there is none, nothing moves."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.logs.log import Exposures, InteractionLog, RatingScale
from recworld.simulators.attraction import AttractionFit
from recworld.simulators.calibration_verdicts import unknown_or_refuted
from recworld.simulators.factors import Factors
from recworld.simulators.novelty import exposure_times, fit_novelty, late_items

DAY = 86_400.0


def log_of(user, item, clicked, slate, time, users, items):
    """A log whose clicks became interactions at the time of their slate."""
    n = len(user)
    shown = Exposures(
        session=np.zeros(n, np.int32), slate=np.asarray(slate, np.int32), position=np.zeros(n, np.int32),
        user=np.asarray(user, np.int32), item=np.asarray(item, np.int32), clicked=np.asarray(clicked),
        rating=np.full(n, np.nan, np.float32), propensity=np.full(n, np.nan, np.float32),
    )  # fmt: skip
    taken = np.flatnonzero(clicked)
    return InteractionLog(
        name="made", user=shown.user[taken], item=shown.item[taken], rating=np.ones(len(taken), np.float32),
        time=np.asarray(time, np.float64)[taken], user_keys=np.array([f"u{n}" for n in range(users)]),
        item_keys=np.array([f"i{n}" for n in range(items)]), user_text=("",) * users, item_text=("",) * items,
        scale=RatingScale("click", (1.0,), 1.0, 1.0), exposures=shown, notes=(),
    )  # fmt: skip


def drawn(boost, seed=0, users=40, items=60, rows=40_000):
    """Items 40..59 appear during the log and start `boost` logits higher, for ten days; returns log and a flat fit."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, 100 * DAY, rows))
    release = np.where(np.arange(items) < 40, -1.0, rng.uniform(20 * DAY, 60 * DAY, items))
    item = rng.integers(0, items, rows)
    while (hidden := release[item] > time).any():
        item[hidden] = rng.integers(0, items, int(hidden.sum()))
    age = time - release[item]
    new = (release[item] > 0) & (age < 10 * DAY)
    clicked = rng.random(rows) < 1 / (1 + np.exp(1.0 - boost * new))
    log = log_of(rng.integers(0, users, rows), item, clicked, np.arange(rows), time, users, items)
    # What a fit without time finds: each item at its mean.
    rate = (np.bincount(item, clicked, items) + 0.3) / (np.bincount(item, minlength=items) + 1)
    bias = np.log(rate / (1 - rate))
    factors = Factors(
        np.full(users, bias.mean()), bias - bias.mean(), np.zeros((users, 1)), np.zeros((items, 1))
    )
    return log, AttractionFit((factors,), np.ones(1), {})


def test_what_was_new_is_as_it_is_at_the_end():
    log, fit = drawn(boost=1.6)
    found = fit_novelty(log, fit)
    assert found.report["applied"]
    assert found.report["late_items"] == 20
    assert (found.shift[:40] == 0).all()
    moved = found.apply(fit).members[0]
    level = moved.user_bias[0] + moved.item_bias
    assert moved.item_bias.mean() == pytest.approx(0, abs=1e-12)
    assert level[40:].mean() == pytest.approx(-1.0, abs=0.14), "at the end, old as all the others"
    assert level[:40].mean() == pytest.approx(-1.0, abs=0.08)
    before = fit.members[0].user_bias[0] + fit.members[0].item_bias
    assert before[40:].mean() > -0.75, "and the fit alone had them too high"


def test_without_an_effect_of_age_nothing_moves():
    applied = [fit_novelty(*drawn(boost=0.0, seed=seed)).report["applied"] for seed in range(5)]
    assert not any(applied)
    log, fit = drawn(boost=0.0)
    assert (fit_novelty(log, fit).shift == 0).all()


def test_items_are_late_when_their_exposures_cannot_all_have_missed_the_start():
    rng = np.random.default_rng(1)
    time = np.arange(4000.0)
    item = rng.integers(0, 20, 4000)
    item[(item == 3) & (time < 1000)] = 0
    item[item == 7] = 0
    item[3999] = 7  # seen once, at the very end: that says something
    item[item == 9] = 0
    late = late_items(item, time, 20)
    assert late[3]
    assert late[[3, 7]].all()
    assert late.sum() == 2
    assert not late[9]


def test_slates_lie_in_time_between_the_clicks_of_their_user():
    user, slate = [0, 0, 0, 0, 0, 1, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7]
    clicked = np.array([False, True, False, True, False, False, True, False])
    time = np.array([0, 10.0, 0, 30.0, 0, 0, 50.0, 0])
    log = log_of(user, [5, 1, 2, 1, 4, 0, 3, 2], clicked, slate, time, 3, 6)
    np.testing.assert_allclose(exposure_times(log), [10, 10, 20, 30, 30, 50, 50, np.nan])


def test_the_second_click_on_an_item_is_its_second_interaction():
    log = log_of([0, 0], [1, 1], np.array([True, True]), [0, 1], [5.0, 9.0], 1, 2)
    np.testing.assert_allclose(exposure_times(log), [5, 9])
    # The log's rows may stand in any order.
    assert log.time is not None
    shuffled = log.select(np.array([1, 0]))
    from dataclasses import replace

    np.testing.assert_allclose(exposure_times(replace(shuffled, exposures=log.exposures)), [5, 9])


def test_too_little_or_no_time_tells_nothing():
    from dataclasses import replace

    log, fit = drawn(boost=1.0, rows=600)
    assert fit_novelty(log, fit) is None
    assert fit_novelty(replace(log, time=None), fit) is None


def draws_between(low: float, high: float) -> np.ndarray:
    """Return draws, evenly spread and in no order: what an independent chain would give."""
    return np.random.default_rng(0).permutation(np.linspace(low, high, 99))


def test_an_assumption_that_the_log_leaves_no_room_for_is_left_out():
    small, wide = draws_between(0.1, 0.5), draws_between(0.1, 9.0)
    refuted = unknown_or_refuted("leave_boredom", "why", small, {})
    assert (refuted.value, refuted.refuted, refuted.identified) == (0.0, True, False)
    assert "no room" in refuted.words
    kept = unknown_or_refuted("leave_boredom", "why", wide, {})
    assert (kept.value, kept.refuted) == (1.5, False)
    from recworld.simulators.calibration import Calibration
    from recworld.simulators.dynamics import DynamicsSettings

    told = Calibration((refuted, unknown_or_refuted("taste_rate", "why", wide, {})), {})
    dynamics = Calibration.from_json(told.to_json()).dynamics(DynamicsSettings())
    assert dynamics.leave_boredom == 0
    assert dynamics.taste_rate == DynamicsSettings().taste_rate
    # Boredom is judged by what one click takes: 4 (1 - exp(-1 / 1.5)) = 1.95 logits.
    assert not unknown_or_refuted("boredom", "why", draws_between(1.0, 2.0), {}).refuted
    assert unknown_or_refuted("boredom", "why", draws_between(1.0, 1.9), {}).refuted


def test_a_chain_that_hardly_moved_refutes_nothing():
    stuck = np.sort(draws_between(0.1, 0.5))
    found = unknown_or_refuted("leave_boredom", "why", stuck, {})
    assert (found.value, found.refuted) == (1.5, False)
