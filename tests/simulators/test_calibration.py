"""What a log tells of how its users change: known answers, tied times, round trips, and what `fitted` takes of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.logs.settings import SyntheticSettings
from recworld.simulators import Calibration, CalibrationSettings, calibrate, dynamics_preset
from recworld.simulators.bundled import bundled_world
from recworld.simulators.calibration import Estimate, fitted_dynamics, world_calibration
from recworld.simulators.truths import draw_log, wellspecified_world

SIZES = SyntheticSettings(num_users=120, num_items=100, consumptions=15)
QUICK = CalibrationSettings(burn_in=60, samples=100, checks=False)
ORDERED = ("boredom", "taste_rate", "leave_base", "leave_dissatisfaction", "leave_boredom")


@pytest.fixture(scope="module")
def strong():
    log = draw_log(SIZES, 11)
    vectors = wellspecified_world(SIZES, 11).item_vector
    return log, vectors, calibrate(log, vectors, QUICK, seed=0)


def estimate(name, value, identified):
    return Estimate(name, value, value - 1, value + 1, identified, "identified: so" if identified else "not")


def test_strong_effects_are_seen_where_they_are(strong):
    found, truth = strong[2], dynamics_preset("strong")
    for name in ("examination_decay", "boredom", "leave_dissatisfaction"):
        measured = found[name].measured
        width = measured["high"] - measured["low"]
        # The 95 % interval, with as much again on either side: one log in many lies outside the interval itself.
        assert measured["low"] - width / 2 < getattr(truth, name) < measured["high"] + width / 2, name
    assert found["boredom"].measured["low"] > 0.5
    assert found["leave_dissatisfaction"].measured["low"] > 0


def test_without_checks_nothing_that_needs_them_is_called_identified(strong):
    assert not any(strong[2][name].identified for name in ("boredom", "taste_rate", "leave_dissatisfaction"))


def test_the_same_seed_gives_the_same_answers(strong):
    log, vectors, found = strong
    again = calibrate(log, vectors, QUICK, seed=0)
    assert json.dumps(again.to_json()) == json.dumps(found.to_json())


def test_answers_survive_json(strong):
    found = strong[2]
    text = json.dumps(found.to_json())
    assert "NaN" not in text
    back = Calibration.from_json(json.loads(text))
    assert [e.name for e in back.estimates] == [e.name for e in found.estimates]
    assert json.dumps(back.to_json()) == text
    assert math.isnan(back["boredom"].low)
    with pytest.raises(InputError, match="no calibration"):
        Calibration.from_json({"estimates": [{}]})
    with pytest.raises(InputError, match="Did you mean 'boredom'"):
        found["boredon"]


def test_times_that_are_tied_tell_nothing_of_order(strong):
    log, vectors, _ = strong
    rng = np.random.default_rng(0)
    # Every user's rows entered in one go: as in MovieLens, the order is that of a form and not of consumption.
    tied = replace(log, exposures=None, time=1e9 + 1e6 * rng.random(log.num_users)[log.user])
    found = calibrate(tied, vectors, QUICK)
    for name in ORDERED:
        assert not found[name].identified
        assert "not identified: default used, source: " in found[name].words
        assert "tied" in found[name].words
    assert found.facts["share_of_tied_gaps"] == 1.0
    assert not found.facts["order_means_something"]
    assert found.dynamics(dynamics_preset("strong")) == dynamics_preset("strong")


def test_a_log_without_what_was_shown_says_so(strong):
    log, vectors, _ = strong
    found = calibrate(replace(log, exposures=None), vectors, QUICK)
    assert "does not say what was shown" in found["examination_decay"].words
    assert not found["boredom"].identified


def test_fitted_takes_what_was_identified_and_nothing_else():
    found = Calibration(
        (estimate("boredom", 2.5, True), estimate("frailty", 3.0, False), estimate("taste_rate", 1.7, True),
         estimate("session_gap", 900.0, True)),
        {},
    )  # fmt: skip
    base = dynamics_preset("strong")
    fitted = found.dynamics(base)
    assert fitted == base.model_copy(update={"boredom": 2.5, "taste_rate": 1.0})  # cut to the setting's range


def test_fitted_needs_a_world_that_was_asked():
    world = bundled_world(12, 20, width=4, factors=2)
    with pytest.raises(InputError, match="has no calibration"):
        fitted_dynamics(world)
    asked = replace(
        world, report={"calibration": Calibration((estimate("boredom", 2.5, True),), {}).to_json()}
    )
    assert world_calibration(asked)["boredom"].value == 2.5
    assert fitted_dynamics(asked).boredom == 2.5


def test_vectors_must_fit_the_log(strong):
    log, vectors, _ = strong
    with pytest.raises(InputError, match=r"shape \(100, D\)"):
        calibrate(log, vectors[:-1], QUICK)
