"""Logs drawn from the simulator's own family, and what a fit to their exposures must give back."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.envs import RecVectorEnv
from recworld.logs.settings import SyntheticSettings
from recworld.simulators import dynamics_preset
from recworld.simulators.build import WorldSettings, build_world
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.prepare import assumptions
from recworld.simulators.truths import draw_log, wellspecified_world

SIZES = SyntheticSettings(num_users=120, num_items=80, consumptions=15)
STATIC = dynamics_preset("static")
UNASKED = WorldSettings(members=1, calibration=CalibrationSettings(enabled=False))


@pytest.fixture(scope="module")
def log():
    return draw_log(SIZES, 0, STATIC)


def test_a_log_is_in_order_and_repeats_with_its_seed(log):
    again = draw_log(SIZES, 0, STATIC)
    assert log.fingerprint == again.fingerprint
    assert draw_log(SIZES, 1, STATIC).fingerprint != log.fingerprint
    shown = log.exposures
    assert shown is not None
    assert shown.clicked.sum() == len(log)
    order = log.order_in_time
    same_user = np.diff(log.user[order]) == 0
    assert (np.diff(log.time[order])[same_user] > 0).all()
    pairs = log.user.astype(np.int64) * log.num_items + log.item
    assert len(np.unique(pairs)) == len(pairs)


def test_clicks_of_the_log_follow_the_truth(log):
    """The logged click rate per position is that of the truth's own probabilities, for the items that were shown."""
    truth, shown = wellspecified_world(SIZES, 0, STATIC).truth, log.exposures
    fr, decay = truth.rating_width, STATIC.examination_decay
    logit = truth.user_attraction_bias[0, shown.user] + truth.item_attraction_bias[0, shown.item]
    logit = logit + np.einsum("nf,nf->n", truth.taste[0, shown.user, fr:], truth.item[0, shown.item, fr:])
    chance = decay**shown.position / (1 + np.exp(-logit))
    for position in range(SIZES.slate_size):
        rows = shown.position == position
        error = np.sqrt((chance[rows] * (1 - chance[rows])).sum())
        assert abs(shown.clicked[rows].sum() - chance[rows].sum()) < 4 * error


def test_a_world_fitted_to_exposures_clicks_as_often_as_the_log(log):
    """Probabilities pass through one link only: the mean simulated click rate on the shown items is the logged one."""
    vectors = wellspecified_world(SIZES, 0, STATIC)
    world = build_world(log, vectors.user_vector, vectors.item_vector, UNASKED, STATIC, 0)
    assert world.attraction_known
    assert assumptions(world) == (1.0, None)
    shown, users = log.exposures, np.unique(log.user)
    env = RecVectorEnv(
        len(users), world=world, observation="ids", candidates="all", users="all", repeats=True, horizon=60
    )
    env.reset(seed=0, options={"user": users})
    rng, clicks, rows = np.random.default_rng(0), 0, 0
    slates = [np.unique(shown.slate[shown.user == u]) for u in users]
    item_of = {}
    for slate, position, item in zip(shown.slate, shown.position, shown.item, strict=True):
        item_of.setdefault(int(slate), {})[int(position)] = int(item)
    for _ in range(25):
        chosen = [item_of[int(rng.choice(mine))] for mine in slates]
        action = np.asarray([[slate.get(k, -1) for k in range(5)] for slate in chosen])
        _, _, _, _, info = env.step(action)
        clicks += info["click"].sum()
        rows += action.size
    logged = shown.clicked.mean()
    assert clicks / rows == pytest.approx(logged, rel=0.12)
