"""The rating model against data with a known answer, and on logs of every awkward kind."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.logs.log import InteractionLog, RatingScale
from recworld.simulators.accuracy import rmse
from recworld.simulators.gibbs_kernels import sample_side
from recworld.simulators.gibbs_moments import Moments, draw_chain
from recworld.simulators.gibbs_ordinal import OrdinalLatents
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_report import fit_biases, holdout_report
from recworld.simulators.rating_settings import RatingSettings

STARS = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
WIDE = RatingScale("continuous", (), -10.0, 10.0)
QUICK = RatingSettings(
    rank=3, width=6, samples_per_member=6, thinning=2, burn_in=12, max_iterations=40, folds=2, implicit_rank=4
)


def known_world(users=120, items=80, share=0.4, noise=0.4, seed=0):
    """Ratings eta + noise with eta = 3.4 + b_u + b_i + <p_u, q_i>; returns rows, and eta everywhere."""
    random = np.random.default_rng(seed)
    p, q = random.standard_normal((users, 2)), random.standard_normal((items, 2)) * 0.6
    eta = 3.4 + 0.4 * random.standard_normal((users, 1)) + 0.4 * random.standard_normal(items) + p @ q.T
    u, i = np.nonzero(random.random((users, items)) < share)
    rating = eta[u, i] + noise * random.standard_normal(len(u))
    return RatingRows(u.astype(np.int32), i.astype(np.int32), rating.astype(np.float32)), eta


def no_text(rows_or_users, items):
    return np.zeros((rows_or_users, 2), np.float32), np.zeros((items, 2), np.float32)


def rest(rows, eta):
    """Pairs that are not in the rows."""
    free = np.ones(eta.shape, bool)
    free[rows.user, rows.item] = False
    u, i = np.nonzero(free)
    return u.astype(np.int32), i.astype(np.int32)


def test_kernel_draws_from_the_known_normal_posterior():
    random = np.random.default_rng(0)
    other, target = random.standard_normal((5, 3)), random.standard_normal(5)
    weight, mean = random.uniform(0.5, 2, 5), random.standard_normal((1, 3))
    half = random.standard_normal((3, 3))
    prior = half @ half.T + np.eye(3)
    start, partner, out = np.array([0, 5]), np.arange(5, dtype=np.int32), np.empty((1, 3))
    middle = np.empty((1, 3))
    design = np.column_stack([np.ones(5), other[:, 1:]])
    precision = prior + design.T @ (weight[:, None] * design)
    expected = np.linalg.solve(precision, prior @ mean[0] + design.T @ (weight * (target - other[:, 0])))
    sample_side(start, partner, target, weight, other, mean, prior, np.zeros((1, 3)), out, middle)
    np.testing.assert_allclose(out[0], expected, rtol=1e-10)
    moved = []
    for unit in np.eye(3):  # the noise enters as L'^-1 z: its outer products add up to the covariance
        sample_side(start, partner, target, weight, other, mean, prior, unit[None], out, middle)
        np.testing.assert_allclose(middle[0], expected, rtol=1e-10)
        moved.append(out[0] - expected)
    np.testing.assert_allclose(np.array(moved).T @ np.array(moved), np.linalg.inv(precision), rtol=1e-9)


def test_recovers_a_continuous_world():
    rows, eta = known_world()
    fit = fit_rating(rows, *no_text(120, 80), WIDE, QUICK, 2, seed=1)
    u, i = rest(rows, eta)
    assert rmse(fit.predict(u, i), eta[u, i]) < 0.3
    biases = fit_biases(rows, 120, 80, WIDE)
    assert rmse(biases.predict(RatingRows(u, i, np.zeros(len(u), np.float32))), eta[u, i]) > 0.8
    spread = fit.observation.user_sigma.mean()  # of a prediction: the noise and what is not known of eta
    assert 0.4 < spread < 0.6


def test_recovers_a_discrete_world_and_each_single_member_is_good():
    rows, eta = known_world()
    stars = RatingRows(rows.user, rows.item, np.clip(np.round(rows.rating), 1, 5))
    fit = fit_rating(stars, *no_text(120, 80), STARS, QUICK, 2, seed=1)
    u, i = rest(rows, eta)
    wanted = np.clip(eta[u, i], 1, 5)
    ensemble = rmse(fit.predict(u, i), wanted)
    assert ensemble < 0.4
    assert max(rmse(fit.predict(u, i, [m]), wanted) for m in (0, 1)) < 0.45
    chance = fit.distribution(u, i)
    np.testing.assert_allclose(chance.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(chance, (fit.distribution(u, i, [0]) + fit.distribution(u, i, [1])) / 2)
    np.testing.assert_allclose(fit.liked(u, i), chance[:, 3:].sum(1))


def test_checkerboard():
    u, i = np.divmod(np.arange(30 * 20), 20)
    rating = np.where((u + i) % 2 == 0, 5.0, 1.0).astype(np.float32)
    rows = RatingRows(u.astype(np.int32), i.astype(np.int32), rating)
    held = np.random.default_rng(0).random(len(u)) < 0.2
    fit = fit_rating(rows.take(~held), *no_text(30, 20), STARS, QUICK, 1, seed=0)
    predicted = fit.predict(rows.user[held], rows.item[held])
    assert ((predicted > 3) == (rating[held] > 3)).all()


def test_an_unseen_item_and_user_are_placed_by_their_text():
    rows, _ = known_world(users=150, items=100, share=0.5)
    random = np.random.default_rng(5)
    group_u, group_i = random.integers(0, 2, 150), random.integers(0, 2, 100)
    match = group_u[rows.user] == group_i[rows.item]
    rating = np.where(match, 4.5, 1.5) + 0.3 * random.standard_normal(len(rows))
    rows = RatingRows(rows.user, rows.item, rating.astype(np.float32))
    known = (rows.user >= 30) & (rows.item >= 20)
    vectors = np.eye(2, dtype=np.float32)[group_u], np.eye(2, dtype=np.float32)[group_i]
    fit = fit_rating(rows.take(known), *vectors, WIDE, QUICK, 1, seed=0)
    cold = (rows.user < 30) & (rows.item < 20)
    both_unseen = fit.predict(rows.user[cold], rows.item[cold])
    assert rmse(both_unseen, np.where(match[cold], 4.5, 1.5)) < 0.5
    # Without text the same pairs are one guess for all.
    blind = fit_rating(rows.take(known), *no_text(150, 100), WIDE, QUICK, 1, seed=0)
    assert blind.predict(rows.user[cold], rows.item[cold]).std() < 0.05


def test_noisy_users_get_a_wider_distribution_on_a_continuous_scale():
    random = np.random.default_rng(2)
    rows, eta = known_world(users=60, items=100, share=0.7, noise=0.0)
    sigma = np.where(np.arange(60) < 30, 0.3, 1.5)
    rating = eta[rows.user, rows.item] + sigma[rows.user] * random.standard_normal(len(rows))
    noisy = RatingRows(rows.user, rows.item, rating.astype(np.float32))
    spread = fit_rating(noisy, *no_text(60, 100), WIDE, QUICK, 1, 0).observation.user_sigma
    assert 1.3 < spread[30:].mean() < 1.8
    assert spread[:30].mean() < 0.7


def test_simulated_ratings_vary_within_users_as_the_real_ones_do():
    random = np.random.default_rng(2)
    rows, eta = known_world(users=60, items=100, share=0.7, noise=0.0)
    gain = np.where(
        np.arange(60) < 30, 0.4, 1.6
    )  # some users stay in the middle of the scale, some go to its ends
    latent = 3 + gain[rows.user] * (eta[rows.user, rows.item] - 3.4) + 0.6 * random.standard_normal(len(rows))
    rating = np.clip(np.round(latent), 1, 5).astype(np.float32)
    real = RatingRows(rows.user, rows.item, rating)
    fit = fit_rating(real, *no_text(60, 100), STARS, QUICK, 1, 0)
    chance = fit.distribution(rows.user, rows.item)
    drawn = 1 + (random.random((len(rows), 1)) > chance.cumsum(1)).sum(1)

    def within(values, users):
        return np.mean([values[rows.user == u].std() for u in users])

    for users in (range(30), range(30, 60)):
        assert within(drawn, users) == pytest.approx(within(rating, users), rel=0.12)


def test_same_seed_same_bits_other_seed_other_members_and_threads_do_not_matter():
    rows, _ = known_world(users=40, items=30)
    stars = RatingRows(rows.user, rows.item, np.clip(np.round(rows.rating), 1, 5))
    arguments = (stars, *no_text(40, 30), STARS)
    first = fit_rating(*arguments, QUICK, 2, seed=7).tables()
    again = fit_rating(*arguments, QUICK.model_copy(update={"threads": 1}), 2, seed=7).tables()
    other = fit_rating(*arguments, QUICK, 2, seed=8).tables()
    for name, array in first.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, again[name]), name
    assert not np.array_equal(first["item"], other["item"])
    assert np.abs(first["item_rating_bias"][0] - first["item_rating_bias"][1]).max() > 1e-4


def test_tables_hold_the_same_predictions():
    rows, _ = known_world(users=40, items=30)
    fit = fit_rating(rows, *no_text(40, 30), WIDE, QUICK, 2, seed=0)
    t, u, i = fit.tables(), rows.user, rows.item
    eta = (
        t["user_rating_bias"][1, u]
        + t["item_rating_bias"][1, i]
        + (t["taste"][1, u] * t["item"][1, i]).sum(1)
    )
    np.testing.assert_allclose(eta, fit.predictor(u, i, 1), atol=1e-4)
    assert t["thresholds"].shape == (2, 0)
    assert t["taste"].shape == (2, 40, 6)


@pytest.mark.parametrize(
    ("levels", "rating"), [((3.0,), [3.0] * 6), ((1.0, 5.0), [1, 5, 5, 1, 5, 5]), ((1.0, 2.0), [2.0] * 6)]
)
def test_tiny_logs_fit(levels, rating):
    rows = RatingRows(
        np.array([0, 0, 1, 1, 2, 2], np.int32),
        np.array([0, 1, 0, 1, 0, 1], np.int32),
        np.array(rating, np.float32),
    )
    scale = RatingScale("discrete", levels, levels[0], levels[-1])
    fit = fit_rating(rows, *no_text(3, 2), scale, QUICK, 2, seed=0)
    for name, array in fit.tables().items():
        assert np.isfinite(array).all(), name
    assert (fit.predict(rows.user, rows.item) >= levels[0] - 1e-6).all()
    assert fit.tables()["thresholds"].shape == (2, len(levels) - 1)


def test_holdout_report_beats_biases_and_is_measured_on_unseen_rows():
    rows, _ = known_world()
    stars = np.clip(np.round(rows.rating), 1, 5).astype(np.float32)
    keys = (np.arange(120).astype(str), np.arange(80).astype(str))
    log = InteractionLog("x", rows.user, rows.item, stars, None, *keys, ("",) * 120, ("",) * 80, STARS)
    report = holdout_report(log, no_text(120, 80), QUICK, seed=0, members=2)
    assert report["train_rows"] + report["test_rows"] == len(log)
    assert report["train_rows"] == pytest.approx(4 * report["test_rows"], rel=0.01)
    assert report["ensemble"]["rmse"] < report["single_member"]["rmse"] + 0.01 < report["bias"]["rmse"]
    assert report["ensemble"]["liked_calibration_error"] < 0.1
    clicks = InteractionLog(
        "c", rows.user, rows.item, np.ones(len(rows), np.float32), None, *keys, ("",) * 120, ("",) * 80,
        RatingScale("click"),
    )  # fmt: skip
    with pytest.raises(InputError, match="has clicks only"):
        holdout_report(clicks, no_text(120, 80), QUICK, seed=0)


def test_a_row_of_little_weight_says_little():
    random = np.random.default_rng(5)
    users, items = 40, 30
    u, i = (a.ravel().astype(np.int32) for a in np.meshgrid(range(users), range(items), indexing="ij"))
    eta = random.normal(0, 1, users)[u] + random.normal(0, 1, items)[i]
    wrong = random.random(len(u)) < 0.3
    rating = np.where(wrong, -3 * eta, eta + random.normal(0, 0.2, len(u))).astype(np.float32)
    weight = np.where(wrong, 1e-3, 1.0).astype(np.float32)
    plain = RatingRows(u, i, rating)
    weighed = RatingRows(u, i, rating, weight / weight.mean())
    errors = {}
    for name, rows in {"plain": plain, "weighed": weighed}.items():
        fit = fit_rating(rows, *no_text(users, items), WIDE, QUICK, 1, 0)
        errors[name] = rmse(fit.predict(u, i), eta)
    assert errors["weighed"] < 0.15 < 0.5 < errors["plain"]
    half = weighed.take(np.arange(len(u)) % 2 == 0)
    assert half.weight is not None
    assert len(half.weight) == len(half)
    with pytest.raises(InputError, match="positive"):
        RatingRows(u, i, rating, -weight)
    with pytest.raises(InputError, match="shape"):
        RatingRows(u, i, rating, weight[1:])


def test_someone_new_rates_what_they_choose_higher_than_a_random_pair():
    random = np.random.default_rng(4)
    rows, eta = known_world(users=200, items=80, share=1.0)
    # Users rate what they like; the last 50 are held out. Nothing but this choice tells them from others.
    chance = 1 / (1 + np.exp(-2 * (eta[rows.user, rows.item] - 3.4)))
    chosen = rows.take(random.random(len(rows)) < 0.5 * chance)
    old = chosen.user < 150
    fit = fit_rating(chosen.take(old), *no_text(200, 80), WIDE, QUICK, 1, 0)
    new = chosen.take(~old)
    assert abs((fit.predict(new.user, new.item) - new.rating).mean()) < 0.1


def test_moments_tell_the_level_of_ratings_sent_together():
    random = np.random.default_rng(3)
    rows, eta = known_world(users=60, items=80, share=0.6)
    page = random.integers(0, 8, len(rows))
    mood = 1.2 * random.standard_normal((60, 8))
    rating = eta[rows.user, rows.item] + mood[rows.user, page] + 0.3 * random.standard_normal(len(rows))
    timed = RatingRows(rows.user, rows.item, rating.astype(np.float32), None, 1000 * page.astype(np.int64))
    held = random.random(len(rows)) < 0.2
    vectors, test = no_text(60, 80), timed.take(held)
    fit = fit_rating(timed.take(~held), *vectors, WIDE, QUICK.model_copy(update={"moments": True}), 1, 0)
    plain = fit_rating(timed.take(~held), *vectors, WIDE, QUICK, 1, 0)
    dated = fit.predict(test.user, test.item, time=test.time)
    assert rmse(dated, test.rating) < 0.75
    assert rmse(plain.predict(test.user, test.item), test.rating) > 1.1
    assert fit.accuracy(test)["rmse"] == pytest.approx(rmse(dated, test.rating.astype(float)), abs=1e-4)
    # A moment between two others is between them; a user without rows has none.
    between = fit.moments[0].predict(np.array([0], np.int32), np.array([1500]))
    assert abs(between[0]) < np.abs(fit.moments[0].level).max() + 1e-9
    with pytest.raises(InputError, match="without moments"):
        fit.tables()
    assert plain.moments == ()


def test_moments_are_found_whatever_the_order_of_rows():
    user = np.array([2, 0, 2, 0, 2], np.int32)
    time = np.array([7, 5, 3, 5, 7])
    moments = Moments(user, time, 4)
    assert moments.time.tolist() == [5, 3, 7]
    assert moments.of_row.tolist() == [2, 0, 1, 0, 2]
    left, right = moments.locate(np.array([2, 2, 2, 2, 0, 1], np.int32), np.array([1, 3, 4, 9, 5, 5]))
    assert left.tolist() == [-1, 1, 1, 2, 0, -1]
    assert right.tolist() == [1, 1, 2, -1, 0, -1]


def test_the_chain_of_levels_has_the_posterior_of_the_dense_model():
    random = np.random.default_rng(0)
    start, rho, variance = np.array([0, 3, 3, 5]), 0.6, 0.8
    total, precision = random.standard_normal(5), np.array([1.0, 0.0, 2.0, 0.5, 3.0])
    place = np.array([0, 1, 2, 0, 1])
    same = np.array([0, 0, 0, 2, 2])
    prior = variance * rho ** np.abs(place[:, None] - place) * (same[:, None] == same)
    covariance = np.linalg.inv(np.linalg.inv(prior) + np.diag(precision))
    drawn, out = [], np.empty(5)
    for unit in [np.zeros(5), *np.eye(5)]:
        draw_chain(start, total, precision, rho, variance, unit, out)
        drawn.append(out.copy())
    np.testing.assert_allclose(drawn[0], covariance @ total, rtol=1e-9)
    lever = np.array(drawn[1:]) - drawn[0]
    np.testing.assert_allclose(lever.T @ lever, covariance, atol=1e-9)


def test_latents_and_thresholds_recover_the_truth():
    random = np.random.default_rng(1)
    eta, cuts = random.standard_normal(4000), np.array([-1.5, -0.2, 0.9])
    precision = np.where(np.arange(4000) < 2000, 1.0, 4.0)
    latent = eta + random.standard_normal(4000) / np.sqrt(precision)
    level = np.searchsorted(cuts, latent)
    latents = OrdinalLatents(level, 4)
    kept = []
    for step in range(60):
        drawn = latents.draw(eta, precision, random)
        assert (np.searchsorted(latents.thresholds, drawn) == level).mean() > 0.999
        if step >= 20:
            kept.append(latents.thresholds)
    np.testing.assert_allclose(np.mean(kept, axis=0), cuts, atol=0.08)
    assert 0.005 < np.std(kept, axis=0).mean() < 0.06
    # The latents of a well-specified model are normal around eta.
    standard = (drawn - eta) * np.sqrt(precision)
    assert abs(standard.mean()) < 0.06
    assert standard.std() == pytest.approx(1, abs=0.06)


def test_a_continuous_scale_gets_near_the_noise_and_each_user_their_own():
    random = np.random.default_rng(6)
    rows, eta = known_world(users=150, items=100, share=0.7, noise=0.0)
    eta = 3.0 * (eta - 3.4)  # Jester's -10..10
    sigma = random.uniform(0.8, 3.0, 150)
    rating = eta[rows.user, rows.item] + sigma[rows.user] * random.standard_normal(len(rows))
    noisy = RatingRows(rows.user, rows.item, np.clip(rating, -10, 10).astype(np.float32))
    held = random.random(len(rows)) < 0.2
    fit = fit_rating(noisy.take(~held), *no_text(150, 100), WIDE, QUICK, 2, 0)
    test = noisy.take(held)
    floor = rmse(np.clip(eta, -10, 10)[test.user, test.item], test.rating.astype(float))
    assert rmse(fit.predict(test.user, test.item), test.rating.astype(float)) < 1.12 * floor
    assert np.corrcoef(fit.observation.user_sigma, sigma)[0, 1] > 0.9
