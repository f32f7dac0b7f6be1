"""Answers of the calibration as objects, and what a log without an order is told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from recworld.cli.settings import DynamicsChoice
from recworld.cli.trust import trust_lines
from recworld.envs import RecVectorEnv
from recworld.errors import InputError
from recworld.logs.log import InteractionLog, RatingScale
from recworld.logs.settings import SyntheticSettings
from recworld.simulators import Calibration, CalibrationSettings, DynamicsSettings, bundled_world, calibrate
from recworld.simulators.calibration import Estimate, fitted_dynamics
from recworld.simulators.calibration_sessions import USUAL_GAP, choose_gap, read_order
from recworld.simulators.calibration_verdicts import unknown
from recworld.simulators.truths import draw_log, wellspecified_world

QUICK = CalibrationSettings(burn_in=20, samples=50)
SIZES = SyntheticSettings(num_users=40, num_items=40, consumptions=8)
ORDERED = ("boredom", "boredom_memory", "taste_rate", "leave_base", "leave_dissatisfaction", "frailty")


def known(name: str, value: float) -> Estimate:
    return Estimate(name, value, value - 0.1, value + 0.1, True, "identified: known here")


def answers(*estimates: Estimate) -> Calibration:
    return Calibration(estimates, {"sessions": 3, "odd": [float("nan"), np.float64(2.0)]})


def consumption(time: np.ndarray, users: int, items: int) -> InteractionLog:
    """Return a log of `len(time)` ratings, the same number for each user, at times (n,)."""
    n = len(time)
    rng = np.random.default_rng(0)
    return InteractionLog(
        name="small", user=np.repeat(np.arange(users), n // users).astype(np.int32),
        item=rng.integers(0, items, n).astype(np.int32), rating=rng.integers(1, 6, n).astype(np.float32), time=time,
        user_keys=np.arange(users).astype(str), item_keys=np.arange(items).astype(str), user_text=("",) * users,
        item_text=("",) * items, scale=RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0),
    )  # fmt: skip


def vectors(items: int) -> np.ndarray:
    raw = np.random.default_rng(1).standard_normal((items, 6))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_answers_survive_json():
    told = answers(known("boredom", 2.5), unknown("taste_rate", "no order"))
    text = json.dumps(told.to_json(), allow_nan=False)
    again = Calibration.from_json(json.loads(text))
    assert again["boredom"] == told["boredom"]
    assert np.isnan(again["taste_rate"].low)
    assert again["taste_rate"].words == told["taste_rate"].words
    assert again.facts == {"sessions": 3, "odd": [None, 2.0]}
    with pytest.raises(InputError, match="no calibration"):
        Calibration.from_json({"estimates": [{"name": "boredom"}], "facts": {}})
    with pytest.raises(InputError, match="boredom"):
        told["boredum"]


def test_fitted_dynamics_take_what_was_identified_and_keep_to_the_range():
    told = answers(
        known("boredom", 2.5), known("leave_step", -0.3), known("boredom_memory", 1.0), known("session_gap", 60.0),
        unknown("frailty", "hardly"),
    )  # fmt: skip
    base = DynamicsSettings()
    found = told.dynamics(base)
    assert (found.boredom, found.leave_step, found.frailty) == (2.5, 0.0, base.frailty)
    assert 0.99 < found.boredom_memory < 1.0
    changed = {n for n in type(base).model_fields if getattr(found, n) != getattr(base, n)}
    assert changed == {"boredom", "leave_step", "boredom_memory"}


def test_one_line_says_what_was_told_and_what_is_assumed():
    out = replace(unknown("leave_step", "hardly"), value=0.0, refuted=True)
    told = answers(known("boredom", 2.5), known("session_gap", 60.0), out, unknown("taste_rate", "no order"))
    assert told.summary() == (
        "the log tells boredom 2.5 [2.4, 2.6]; leaves no room for leave_step; not identified, as assumed: taste_rate"
    )
    assert trust_lines({"calibration": told.to_json()}) == [f"how users change: {told.summary()}"]
    assert answers(unknown("boredom", "no")).summary().startswith("the log tells nothing; not identified")
    assert told.dynamics(DynamicsSettings()).leave_step == 0.0


def test_the_preset_fitted_is_a_worlds_own():
    world = bundled_world()
    with pytest.raises(InputError, match="no calibration") as caught:
        RecVectorEnv(2, dynamics="fitted")
    assert "\n" not in str(caught.value)
    told = replace(world, report={"calibration": answers(known("boredom", 2.5)).to_json()})
    assert fitted_dynamics(told).boredom == 2.5
    assert RecVectorEnv(2, world=told, dynamics="fitted").world.dynamics.boredom == 2.5
    chosen = DynamicsChoice.model_validate({"preset": "fitted", "leave_base": -4.0})
    assert chosen.applied(told).dynamics == DynamicsSettings(boredom=2.5, leave_base=-4.0)
    assert DynamicsChoice.model_validate(chosen.model_dump()).applied(told) == chosen.applied(told)
    own = DynamicsChoice.model_validate({"preset": "fitted", "boredom": 1.0}).applied(told)
    assert own.dynamics.boredom == 1.0
    with pytest.raises(InputError, match="no calibration"):
        DynamicsChoice.model_validate("fitted").applied(world)


def test_tied_times_identify_nothing_that_needs_an_order():
    """As in MovieLens-100K: half of a user's gaps are 0 s, most of the rest seconds."""
    rng = np.random.default_rng(2)
    time = np.cumsum(rng.choice([0.0, 20.0, 90.0], 2000, p=[0.5, 0.4, 0.1]))
    told = calibrate(consumption(time, 20, 50), vectors(50), QUICK)
    assert told.facts["share_of_tied_gaps"] == pytest.approx(0.5, abs=0.04)
    assert not told.facts["order_means_something"]
    for name in ORDERED:
        assert not told[name].identified
        assert "not identified: default used, source:" in told[name].words
        assert "tied" in told[name].words
    assert told["boredom"].value == DynamicsSettings().boredom
    assert told.dynamics(DynamicsSettings()) == DynamicsSettings()


def test_tied_times_of_a_log_with_exposures_leave_only_what_needs_no_order():
    log = draw_log(SIZES, 0)
    item_vector = wellspecified_world(SIZES, 0).item_vector
    tied = replace(log, time=np.floor(log.time / 1e6))
    assert read_order(log, QUICK).ordered
    told = calibrate(tied, item_vector, QUICK)
    assert all("tied" in told[name].words for name in ORDERED)
    assert told["examination_decay"].measured["value"] < 1
    assert told["shown_click_rate"].identified


def test_a_log_of_consumption_tells_its_sessions_but_no_slates():
    rng = np.random.default_rng(3)
    seconds = np.exp(rng.normal(np.log(100), 0.6, 6000))
    away = rng.random(6000) < 0.15
    gaps = np.where(away, np.exp(rng.normal(np.log(80_000), 0.5, 6000)), seconds)
    told = calibrate(consumption(np.cumsum(gaps), 30, 50), vectors(50), QUICK)
    gap = told["session_gap"]
    assert gap.identified
    assert 600 < gap.low <= gap.value <= gap.high < 30_000
    end = told["end_per_interaction"]
    assert end.low < 0.15 < end.high
    assert "what was shown" not in told["boredom"].words or not told["boredom"].identified
    assert not any(told[name].identified for name in ORDERED)


def test_a_gap_is_chosen_only_where_there_are_two_humps():
    rng = np.random.default_rng(4)
    two = np.exp(np.concatenate([rng.normal(3, 0.8, 3000), rng.normal(10, 1.0, 900)]))
    cut, how = choose_gap(two)
    assert np.exp(5) < cut < np.exp(9)
    assert "two humps" in how
    assert choose_gap(np.exp(rng.normal(5, 1.0, 3000)))[0] == USUAL_GAP
    assert choose_gap(two[:50])[0] == USUAL_GAP


def test_vectors_of_another_catalogue_are_refused():
    with pytest.raises(InputError, match=r"item vectors must have shape \(50, D\)"):
        calibrate(consumption(np.arange(40.0), 4, 50), vectors(49))
