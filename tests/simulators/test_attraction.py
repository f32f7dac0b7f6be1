"""The attraction model: known worlds, consumption and exposures, cold start by text, honest scale, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from recworld.logs.log import Exposures
from recworld.simulators.accuracy import auc
from recworld.simulators.attraction import fit_attraction
from recworld.simulators.attraction_choice import recall_at
from recworld.simulators.attraction_kernels import mark_consumed
from recworld.simulators.attraction_rows import NegativeSampler, consumption_rows, exposure_rows, grouped
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.factors import Factors
from recworld.simulators.polya_gamma import draw_polya_gamma

QUICK = AttractionSettings(width=4, epochs=25, rank=3, burn_in=20, samples=10, thinning=2)
USERS, ITEMS = 150, 100


def world(seed=0):
    """Logits -1.5 + popularity + 2 groups of taste: (U, I)."""
    random = np.random.default_rng(seed)
    group_u, group_i = random.integers(0, 2, USERS), random.integers(0, 2, ITEMS)
    popularity = 0.8 * random.standard_normal(ITEMS)
    popularity -= popularity.mean()
    taste = np.where(group_u[:, None] == group_i, 1.2, -1.2)
    return -1.5 + popularity + taste, popularity, taste, group_u, group_i


def no_text():
    return np.zeros((USERS, 2), np.float32), np.zeros((ITEMS, 2), np.float32)


def consumption(logit, seed=1, only=None):
    took = np.random.default_rng(seed).random(logit.shape) < expit(logit)
    if only is not None:
        took &= only
    u, i = np.nonzero(took)
    return consumption_rows(u.astype(np.int32), i.astype(np.int32)), took


def exposures(logit, noticed, propensity=None, seed=2, slates=60):
    random = np.random.default_rng(seed)
    size = len(noticed)
    user = np.repeat(np.arange(USERS), slates * size).astype(np.int32)
    item = random.choice(ITEMS, len(user), p=propensity).astype(np.int32)
    position = np.tile(np.arange(size), USERS * slates).astype(np.int32)
    clicked = random.random(len(user)) < noticed[position] * expit(logit[user, item])
    slate = np.repeat(np.arange(USERS * slates), size).astype(np.int32)
    shown_with = np.full(len(user), np.nan) if propensity is None else propensity[item]
    nothing = np.full(len(user), np.nan, np.float32)
    return Exposures(slate, slate, position, user, item, clicked, nothing, shown_with.astype(np.float32))


def grid(factors):
    return factors.user_bias[:, None] + factors.item_bias + factors.user @ factors.item.T


def test_consumed_pairs_are_found():
    user, item = np.array([0, 0, 2], np.int32), np.array([4, 1, 3], np.int32)
    start, consumed = grouped(user, item, 4)
    asked_user, asked_item = (
        np.repeat(np.arange(4), 6).astype(np.int32),
        np.tile(np.arange(6), 4).astype(np.int32),
    )
    out = np.empty(24, np.bool_)
    mark_consumed(asked_user, asked_item, start, consumed, out)
    assert set(zip(asked_user[out].tolist(), asked_item[out].tolist(), strict=True)) == {
        (0, 1),
        (0, 4),
        (2, 3),
    }


def test_negatives_were_never_consumed_and_duplicates_count_once():
    logit, *_ = world()
    rows, took = consumption(logit)
    doubled = consumption_rows(np.tile(rows.user, 2), np.tile(rows.item, 2))
    assert len(doubled) == len(rows) == took.sum()
    both = NegativeSampler(rows, USERS, ITEMS, 3).extend(rows, np.random.default_rng(0))
    assert both.clicked[: len(rows)].all()
    extra_user, extra_item = both.user[len(rows) :], both.item[len(rows) :]
    assert len(extra_user) > 1.5 * len(rows)
    assert not both.clicked[len(rows) :].any()
    assert not took[extra_user, extra_item].any()


def test_consumption_recovers_taste_popularity_and_base_rate():
    logit, popularity, taste, *_ = world()
    rows, took = consumption(logit)
    fit = fit_attraction(rows, *no_text(), QUICK, 2, seed=0)
    member = fit.members[0]
    personal = member.user @ member.item.T
    assert np.corrcoef(personal.ravel(), taste.ravel())[0, 1] > 0.8
    assert np.corrcoef(member.item_bias, popularity)[0, 1] > 0.9
    assert member.item_bias.mean() == pytest.approx(0, abs=1e-9)
    users, items = np.divmod(np.arange(USERS * ITEMS, dtype=np.int32), np.int32(ITEMS))
    mean = fit.probability(users, items).mean()
    assert mean == pytest.approx(took.mean(), rel=0.25)  # the sampling rate was taken out again
    fresh = np.random.default_rng(9).random(logit.shape) < expit(logit)
    assert auc(grid(member).ravel(), fresh.ravel()) > auc(logit.ravel(), fresh.ravel()) - 0.03
    assert fit.report["auc"] > fit.report["popularity_auc"] + 0.05
    assert fit.report["recall_at_20"] > fit.report["popularity_recall_at_20"]


def test_exposures_recover_logits_and_positions():
    logit, *_ = world()
    noticed = 0.8 ** np.arange(4)
    rows = exposure_rows(exposures(logit, noticed), 10.0)
    fit = fit_attraction(rows, *no_text(), QUICK, 1, seed=0)
    np.testing.assert_allclose(fit.noticed, noticed, atol=0.08)
    ours = grid(fit.members[0])
    assert np.corrcoef(ours.ravel(), logit.ravel())[0, 1] > 0.9
    # The link is applied once: mean simulated click rate equals the logged one.
    simulated = (fit.noticed[rows.position] * expit(ours[rows.user, rows.item])).mean()
    assert simulated == pytest.approx(rows.clicked.mean(), rel=0.03)
    assert fit.report["source"] == "exposures"


@pytest.mark.parametrize("tilt", [0.0, 0.7, 3.0, 9.0])
def test_polya_gamma_draws_have_the_known_moments(tilt):
    out = np.empty(40_000)
    draw_polya_gamma(np.full(len(out), -tilt), np.random.default_rng(0), out)
    mean = np.tanh(tilt / 2) / (2 * tilt) if tilt else 0.25
    variance = (np.sinh(tilt) - tilt) / (4 * tilt**3 * np.cosh(tilt / 2) ** 2) if tilt else 1 / 24
    assert out.mean() == pytest.approx(mean, rel=0.02)
    assert out.var() == pytest.approx(variance, rel=0.05)
    assert (out > 0).all()


def test_propensities_become_bounded_inverse_weights():
    logit, *_ = world()
    propensity = np.linspace(1, 5, ITEMS)
    propensity /= propensity.sum()
    shown = exposures(logit, np.ones(2), propensity, slates=20)
    rows = exposure_rows(shown, 10.0)
    assert rows.weight.mean() == pytest.approx(1)
    ratio = rows.weight[rows.item == 0][0] / rows.weight[rows.item == ITEMS - 1][0]
    assert ratio == pytest.approx(5, rel=1e-3)
    assert exposure_rows(shown, 1.5).weight.max() / exposure_rows(shown, 1.5).weight.min() < ratio
    assert (exposure_rows(shown, 1.0).weight == 1).all()
    assert (exposure_rows(exposures(logit, np.ones(2), slates=2), 10.0).weight == 1).all()


def test_unseen_users_and_items_are_placed_by_their_text():
    logit, _, taste, group_u, group_i = world()
    seen = np.outer(np.arange(USERS) >= 30, np.arange(ITEMS) >= 25)
    rows, _ = consumption(logit, only=seen)
    vectors = np.eye(2, dtype=np.float32)[group_u], np.eye(2, dtype=np.float32)[group_i]
    ours = grid(fit_attraction(rows, *vectors, QUICK, 1, seed=0).members[0])[:30, :25]
    match = taste[:30, :25] > 0
    assert ours[match].mean() > ours[~match].mean() + 1
    blind = grid(fit_attraction(rows, *no_text(), QUICK, 1, seed=0).members[0])[:30, :25]
    assert blind.std() < 0.05


def test_without_personal_taste_the_personal_part_stays_small():
    popularity = world()[1]
    rows, _ = consumption(np.repeat((popularity - 1.5)[None], USERS, 0))
    fit = fit_attraction(rows, *no_text(), QUICK, 1, seed=0)
    member = fit.members[0]
    assert (member.user @ member.item.T).std() < 0.5 * member.item_bias.std()
    assert abs(fit.report["auc"] - fit.report["popularity_auc"]) < 0.06


def test_same_seed_same_bits_and_members_differ():
    logit, *_ = world()
    rows, _ = consumption(logit)
    quick = QUICK.model_copy(update={"epochs": 5})
    first = fit_attraction(rows, *no_text(), quick, 2, seed=3).tables()
    again = fit_attraction(rows, *no_text(), quick.model_copy(update={"threads": 1}), 2, seed=3).tables()
    for name, array in first.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again[name]), name
    assert np.abs(first["item_attraction_bias"][0] - first["item_attraction_bias"][1]).max() > 0.01


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (1, 1), (1, 1)]])
def test_tiny_logs_fit(pairs):
    user, item = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    text = np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)
    for name, array in fit_attraction(consumption_rows(user, item), *text, QUICK, 2, seed=0).tables().items():
        assert np.isfinite(array).all(), name


def test_recall_leaves_out_known_items_and_counts_up_to_k():
    nothing = np.zeros((2, 0))
    factors = Factors(np.zeros(2), np.array([4.0, 3.0, 2.0, 1.0]), nothing, np.zeros((4, 0)))
    known = consumption_rows(np.array([0], np.int32), np.array([0], np.int32))
    held = consumption_rows(np.array([0, 0, 1], np.int32), np.array([1, 3, 3], np.int32))
    # User 0 gets 1, 2: one of two; user 1 gets 0, 1: none of one.
    assert recall_at(factors, known, held, 2) == pytest.approx(0.25)
