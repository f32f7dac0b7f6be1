"""The base rate: shown again what was shown, users click as often as they did, whatever the dynamics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from recworld.errors import CorruptError
from recworld.evaluation.fidelity_replay import logged_sessions, replay
from recworld.logs.settings import SyntheticSettings
from recworld.simulators import DynamicsSettings, World, anchor
from recworld.simulators.anchor import click_shift, sampled_slates
from recworld.simulators.calibration_table import chosen_units, first_places, policy_scores, slate_table
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.truths import draw_log, wellspecified_world
from recworld.storage import read_arrays, write_arrays

SIZES = SyntheticSettings(num_users=80, num_items=80, consumptions=20)


@pytest.fixture(scope="module")
def log():
    return draw_log(SIZES, 2)


@pytest.fixture(scope="module")
def world(log):
    return replace(wellspecified_world(SIZES, 2), shown=sampled_slates(log, 0))


def test_a_truth_that_made_its_log_needs_no_shift(world):
    assert abs(world.click_shift[0]) < 0.1


def test_slates_shown_again_are_clicked_as_often_as_they_were(world, log):
    # Without boredom this world would click far more often than the log did.
    sessions = logged_sessions(log.exposures, np.ones(len(log.exposures), np.bool_), log.num_items)
    was = sessions.click[sessions.item < world.num_items].mean()
    for dynamics in (dynamics_preset("static"), DynamicsSettings(examination_decay=0.6)):
        other = world.with_dynamics(dynamics)
        rates = {}
        for name, one in (("anchored", other), ("as fitted", replace(other, shown=None))):
            found = replay(one, sessions.user, sessions.item, 1, leaving=False)
            rates[name] = found.click[sessions.item < world.num_items].mean()
        away = {name: abs(rate / was - 1) for name, rate in rates.items()}
        assert away["anchored"] < 0.08
        assert away["as fitted"] > away["anchored"] + 0.05


def test_the_shift_solves_the_mean_of_the_rows(world):
    still = DynamicsSettings(boredom=0.0, taste_rate=0.0, examination_decay=0.8)
    table, truth = world.shown, world.truth
    fr = truth.rating_width
    logit = truth.user_attraction_bias[0, table.user] + truth.item_attraction_bias[0, table.item]
    logit = logit + np.einsum("nf,nf->n", truth.taste[0, table.user, fr:], truth.item[0, table.item, fr:])
    shift = click_shift(world.with_dynamics(still), 1.0)[0]
    rate = (0.8**table.position * expit(logit.astype(np.float64) + shift)).mean()
    assert rate == pytest.approx(table.clicked.mean(), rel=1e-5)
    cascade = still.model_copy(update={"examination": "cascade"})
    slate = np.repeat(np.arange(table.num_slates), np.diff(table.slate_start))
    order = np.flatnonzero(table.clicked)
    first = order[np.unique(slate[order], return_index=True)[1]]
    limit = np.full(table.num_slates, np.iinfo(np.int64).max)
    limit[slate[first]] = first
    at_risk = np.arange(len(table)) <= limit[slate]
    shift = click_shift(world.with_dynamics(cascade), 1.0)[0]
    chance = 0.8**table.position * expit(logit.astype(np.float64) + shift)
    assert chance[at_risk].sum() == pytest.approx(len(first), rel=1e-5)
    choice = still.model_copy(update={"examination": "choice"})
    assert (click_shift(world.with_dynamics(choice), 1.0) == 0).all()


def test_long_logs_leave_whole_sessions(log, monkeypatch):
    monkeypatch.setattr(anchor, "MOST_ROWS", 1000)
    whole, part = slate_table(log), sampled_slates(log, 0)
    assert 0.5 * 1000 < len(part) <= 1000
    assert part.num_slates == part.session_start[-1]
    assert set(np.diff(part.session_start)) <= set(np.diff(whole.session_start))
    np.testing.assert_array_equal(sampled_slates(log, 0).item, part.item)


def test_a_world_keeps_what_was_shown(world, tmp_path):
    world.save(tmp_path)
    again = World.load(tmp_path)
    assert again.fingerprint == world.fingerprint
    np.testing.assert_array_equal(again.click_shift, world.click_shift)
    assert again.fingerprint != replace(world, shown=None).fingerprint
    arrays = dict(read_arrays(tmp_path / "world.safetensors"))
    arrays["shown.item"] = np.full_like(arrays["shown.item"], world.num_items)
    write_arrays(tmp_path / "world.safetensors", arrays)
    with pytest.raises(CorruptError, match=r"shown\.item must lie in"):
        World.load(tmp_path)


def test_the_policys_score_is_found_back_from_its_propensities():
    # Plackett-Luce: at each place, the chance among those left.
    random = np.random.default_rng(0)
    weight = random.dirichlet(np.ones(6), 30)
    order = np.argsort(random.random((30, 6)), 1)[:, :4]
    chosen = np.take_along_axis(weight, order, 1)
    left = 1 - np.concatenate([np.zeros((30, 1)), np.cumsum(chosen, 1)[:, :-1]], 1)
    start, out = np.arange(0, 121, 4), np.empty(120)
    first_places((chosen / left).ravel(), start, out)
    np.testing.assert_allclose(out, chosen.ravel(), rtol=1e-6)
    user = np.repeat(np.arange(30, dtype=np.int32), 4)
    score = policy_scores((chosen / left).ravel(), user, start)
    assert score.std() == pytest.approx(1)
    np.testing.assert_allclose(np.bincount(user, score), 0, atol=1e-9)
    missing = (chosen / left).ravel()
    missing[7] = np.nan
    assert (policy_scores(missing, user, start) == 0).all()


def test_a_policy_without_preferences_has_no_scores():
    # One number throughout, or a uniform policy: what is left varies with the place, and would pass for examination.
    user, start = np.repeat(np.arange(30, dtype=np.int32), 4), np.arange(0, 121, 4)
    uniform = np.tile(1 / (100 - np.arange(4.0)), 30)
    jitter = 1 + 1e-4 * np.random.default_rng(0).random(120)
    for propensity in (
        np.full(120, 0.01),
        np.full(120, 0.01) * jitter,
        np.full(120, 0.2),
        np.ones(120),
        uniform,
    ):
        assert (policy_scores(propensity, user, start) == 0).all()


def test_where_more_was_clicked_than_is_noticed_the_first_places_decide(world):
    table = world.shown
    many = replace(table, clicked=np.random.default_rng(0).random(len(table)) < 0.5)
    still = DynamicsSettings(boredom=0.0, taste_rate=0.0, examination_decay=0.2)
    shift = click_shift(replace(world, shown=many).with_dynamics(still), 1.0)[0]
    whole = click_shift(replace(world, shown=many).with_dynamics(dynamics_preset("static")), 1.0)[0]
    assert abs(shift) < 4
    assert abs(shift - whole) < 1.5


def test_one_great_session_is_kept_rather_than_nothing():
    random = np.random.default_rng(0)
    assert chosen_units(np.array([500]), 100, random).tolist() == [True]
    kept = chosen_units(np.array([500, 3, 4, 500, 5]), 10, random)
    assert kept.sum() >= 2
    assert not kept[[0, 3]].any()


def damaged(arrays, name):
    n = len(arrays["shown.item"])
    return {
        "short column": {"shown.clicked": arrays["shown.clicked"][:-1]},
        "two dimensions": {"shown.item": arrays["shown.item"][:, None]},
        "floats": {"shown.item": arrays["shown.item"].astype(np.float32)},
        "overlap": {"shown.session_start": arrays["shown.session_start"][::-1].copy()},
        "few owners": {"shown.session_user": arrays["shown.session_user"][:1]},
        "no slates": {"shown.slate_start": np.zeros(0, np.int64)},
        "beyond": {"shown.slate_start": np.append(arrays["shown.slate_start"][:-1], n - 1)},
    }[name]


@pytest.mark.parametrize(
    "name", ["short column", "two dimensions", "floats", "overlap", "few owners", "no slates", "beyond"]
)
def test_damaged_slates_do_not_reach_compiled_code(world, tmp_path, name):
    world.save(tmp_path)
    arrays = dict(read_arrays(tmp_path / "world.safetensors"))
    write_arrays(tmp_path / "world.safetensors", arrays | damaged(arrays, name))
    with pytest.raises(CorruptError, match="is not a whole world: "):
        World.load(tmp_path)
