"""The ordinal link: one link, probabilities that sum to one, and parameters that are recovered."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from recworld.logs.log import RatingScale
from recworld.simulators.observation import accuracy_figures, fit_observation
from recworld.simulators.ordinal import fit_ordinal, level_probabilities

STARS = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)


def draw(users: int, rows: int, seed: int = 0):
    random = np.random.default_rng(seed)
    thresholds = np.array([-1.8, -1.0, 0.1, 1.2])
    shift, scale = 0.5 * random.standard_normal(users), np.exp(0.35 * random.standard_normal(users))
    user = random.integers(0, users, rows).astype(np.int32)
    eta = random.standard_normal(rows)
    latent = scale[user] * eta - shift[user] + random.standard_normal(rows)
    return eta, (latent[:, None] > thresholds).sum(1), user, thresholds, shift, scale


@given(
    eta=hnp.arrays(np.float64, 7, elements=st.floats(-50, 50)),
    gaps=hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(1e-3, 3)),
    scale=st.floats(0.05, 5),
)
def test_probabilities_sum_to_one_and_rise_with_eta(eta, gaps, scale):
    thresholds = np.cumsum(gaps) - 3
    eta = np.sort(eta)
    chance = level_probabilities(eta, thresholds, np.full(7, 0.3), np.full(7, scale))
    assert chance.shape == (7, len(gaps) + 1)
    np.testing.assert_allclose(chance.sum(1), 1.0, atol=1e-12)
    assert (chance >= 0).all()
    mean = chance @ np.arange(len(gaps) + 1)
    assert (np.diff(mean) >= -1e-9).all()


def test_exactly_one_link():
    chance = level_probabilities(np.array([0.7]), np.array([-0.4, 0.9]), np.array([0.2]), np.array([1.5]))
    below = [norm.cdf(-0.4 + 0.2 - 1.05), norm.cdf(0.9 + 0.2 - 1.05)]
    np.testing.assert_allclose(chance[0], [below[0], below[1] - below[0], 1 - below[1]], rtol=1e-12)


def test_recovers_thresholds_and_each_users_use_of_the_scale():
    eta, level, user, thresholds, shift, scale = draw(40, 24_000)
    link = fit_ordinal(eta, level, user, 40, 5)
    # Shift and thresholds share a constant: compare what they predict, and the parameters up to it.
    offset = (link.thresholds - thresholds).mean()
    np.testing.assert_allclose(link.thresholds - offset, thresholds, atol=0.08)
    np.testing.assert_allclose(link.user_shift + offset, shift, atol=0.25)
    np.testing.assert_allclose(link.user_scale, scale, rtol=0.25)
    assert np.corrcoef(np.log(link.user_scale), np.log(scale))[0, 1] > 0.95
    truth = level_probabilities(eta, thresholds, shift[user], scale[user])
    ours = level_probabilities(eta, link.thresholds, link.user_shift[user], link.user_scale[user])
    assert np.abs(truth - ours).mean() < 0.01


def test_the_place_of_the_predictor_does_not_matter():
    eta, level, user, *_ = draw(20, 4_000)
    plain, moved = fit_ordinal(eta, level, user, 20, 5), fit_ordinal(3 + 0.7 * eta, level, user, 20, 5)
    a = level_probabilities(eta, plain.thresholds, plain.user_shift[user], plain.user_scale[user])
    b = level_probabilities(3 + 0.7 * eta, moved.thresholds, moved.user_shift[user], moved.user_scale[user])
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_users_without_rows_take_the_common_scale_and_few_rows_shrink():
    eta, level, user, *_ = draw(30, 6_000)
    user[user == 29] = 28
    rows = np.flatnonzero(user == 27)[3:]
    keep = np.ones(len(user), bool)
    keep[rows] = False  # user 27 keeps three rows
    link = fit_ordinal(eta[keep], level[keep], user[keep], 30, 5)
    log_scale = np.log(link.user_scale)
    assert abs(log_scale[27] - log_scale[29]) < 0.6 * np.abs(log_scale - log_scale[29]).max()
    assert np.isfinite(log_scale).all()


@pytest.mark.parametrize("levels", [2, 5])
def test_a_level_that_nobody_gave_keeps_a_finite_threshold(levels):
    link = fit_ordinal(np.zeros(6), np.ones(6, np.int64), np.zeros(6, np.int32), 1, levels)
    assert np.isfinite(link.thresholds).all()
    assert (np.diff(link.thresholds) > 0).all()
    assert (link.user_scale > 0).all()
    chance = level_probabilities(np.zeros(1), link.thresholds, link.user_shift, link.user_scale)[0]
    assert chance.argmax() == 1


def test_one_level_has_no_threshold():
    link = fit_ordinal(np.zeros(3), np.zeros(3, np.int64), np.zeros(3, np.int32), 2, 1)
    assert link.thresholds.shape == (0,)
    assert level_probabilities(np.zeros(3), link.thresholds, np.zeros(3), np.ones(3)).tolist() == [[1.0]] * 3


def test_the_spread_of_a_continuous_scale_is_each_users_own():
    random = np.random.default_rng(1)
    user = np.repeat(np.arange(10, dtype=np.int32), 400)
    sigma = np.linspace(0.5, 4, 10)
    eta = random.uniform(-5, 5, len(user))
    rating = (eta + sigma[user] * random.standard_normal(len(user))).astype(np.float32)
    model = fit_observation(eta, rating, user, 11, RatingScale("continuous", (), -10.0, 10.0))
    np.testing.assert_allclose(model.user_sigma[:10], sigma, rtol=0.2)
    assert 0.5 < model.user_sigma[10] < 4  # no rows: the common spread


def test_figures_of_a_perfect_and_of_a_constant_prediction():
    rating = np.array([1, 2, 4, 5], np.float32)
    perfect = accuracy_figures(rating.astype(float), (rating >= 4).astype(float), rating, STARS)
    assert (perfect["rmse"], perfect["mae"], perfect["liked_auc"]) == (0, 0, 1)
    constant = accuracy_figures(np.full(4, 3.0), np.full(4, 0.5), rating, STARS)
    assert constant["liked_auc"] == 0.5
    assert constant["rmse"] == pytest.approx(np.sqrt(2.5), abs=1e-5)
    assert constant["liked_log_loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert constant["liked_calibration_error"] <= 0.5
