"""Logs of known truths: what is found back, what a placebo kills, and what a still world must not be said to do."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from recworld.logs.settings import SyntheticSettings
from recworld.simulators import Calibration, CalibrationSettings, DynamicsSettings, calibrate
from recworld.simulators.calibration_chain import JointChain
from recworld.simulators.calibration_draws import run_joint
from recworld.simulators.calibration_table import slate_table
from recworld.simulators.truths import draw_log, wellspecified_world

SIZES = SyntheticSettings(num_users=110, num_items=100, consumptions=20)
LIVELY = DynamicsSettings(
    boredom=6.0, boredom_scale=1.2, leave_dissatisfaction=5.0, examination_decay=0.75, frailty=0.2
)
STILL = DynamicsSettings(
    boredom=0.0, boredom_rating=0.0, taste_rate=0.0, taste_return=0.0, leave_dissatisfaction=0.0, leave_boredom=0.0,
    leave_step=0.0, leave_base=-2.0, frailty=0.0,
)  # fmt: skip
SETTINGS = CalibrationSettings(burn_in=60, samples=150)


@lru_cache(maxsize=2)
def told(dynamics: DynamicsSettings) -> Calibration:
    log = draw_log(SIZES, 3, dynamics)
    return calibrate(log, wellspecified_world(SIZES, 3, dynamics).item_vector, SETTINGS, seed=0)


def test_strong_effects_are_identified_and_found_back():
    found = told(LIVELY)
    for name in (
        "boredom",
        "boredom_memory",
        "examination_decay",
        "leave_dissatisfaction",
        "satisfaction_rate",
    ):
        estimate = found[name]
        assert estimate.identified, estimate.words
        assert estimate.words.startswith("identified: ")
        slack = 0.25 * (estimate.high - estimate.low)  # one log: 95 % intervals miss now and then
        assert estimate.low - slack < getattr(LIVELY, name) < estimate.high + slack, name
    assert found["boredom"].held_out["gain_interval"][0] > 0
    fitted = found.dynamics(DynamicsSettings())
    assert fitted.boredom == found["boredom"].value
    assert fitted.taste_return == DynamicsSettings().taste_return


def test_a_placebo_takes_the_effects_away():
    found = told(LIVELY)
    boredom, decay, leaving = (found[n] for n in ("boredom", "examination_decay", "leave_dissatisfaction"))
    assert boredom.placebo["high"] < boredom.low
    assert boredom.placebo["value"] < 0.3 * boredom.value
    assert decay.placebo["value"] > 0.95 > decay.high
    assert abs(leaving.placebo["value"]) < 0.5 * leaving.value
    # Boredom is nearly symmetric in time, so that the order within a session carries less of it than the session does.
    assert boredom.placebo["shuffled_within_sessions"]["value"] > boredom.placebo["value"]


def test_a_still_world_is_not_said_to_move():
    found = told(STILL)
    for name in (
        "boredom",
        "boredom_memory",
        "boredom_scale",
        "taste_rate",
        "leave_dissatisfaction",
        "leave_boredom",
    ):
        assert not found[name].identified, found[name].words
        assert np.isnan(found[name].low)
    assert (
        found["leave_dissatisfaction"].measured["low"] < 0 < found["leave_dissatisfaction"].measured["high"]
    )
    assert found["shown_click_rate"].identified
    assert not found["base_click_rate"].identified
    assert "pairs were shown" in found["base_click_rate"].words


def test_a_chain_repeats_with_its_seed_and_keeps_what_is_held():
    sizes = SIZES.model_copy(update={"num_users": 40, "num_items": 40, "consumptions": 8})
    table = slate_table(draw_log(sizes, 0))
    vector = wellspecified_world(sizes, 0).item_vector
    first, again = (
        run_joint(JointChain(table, vector, 40, 4, 7, fixed={"taste_rate": 0.03}), 6, 5).values
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[:, 1] == 0.03).all()
    assert len(np.unique(first[:, 0])) == 5
    chain = JointChain(table, vector, 40, 4, 7)
    chain.hold("examination_decay", 0.9)
    chain.hold("boredom", 0.0)
    assert run_joint(chain, 6, 5).values[:, [0, 2]] == pytest.approx(np.tile([0.0, 0.9], (5, 1)))
