"""Propensities and weights: closed forms, and a world in which only weights are right."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.logs.log import RatingScale
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.selection import (
    consumption_propensity,
    effective_share,
    inverse_weights,
    naive_bayes_propensity,
)

STARS = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
WIDE = RatingScale("continuous", (), -10.0, 10.0)
QUICK = RatingSettings(
    rank=1, width=2, samples_per_member=4, thinning=2, burn_in=8, max_iterations=16, folds=2, implicit_rank=0
)


def pairs(users: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    u, i = np.divmod(np.arange(users * items), items)
    return u.astype(np.int32), i.astype(np.int32)


def test_weights_put_right_what_the_model_cannot_see() -> None:
    random = np.random.default_rng(0)
    u, i = pairs(60, 80)
    liked = random.random(len(u)) < 0.5  # of each pair by itself: no factor tells it
    value = np.where(liked, 2.0, -2.0)  # mean 0 over the catalogue
    chance = np.where(liked, 0.4, 0.05)
    rated = random.random(len(u)) < chance
    nothing = np.zeros((60, 1), np.float32), np.zeros((80, 1), np.float32)
    means = {}
    for name, weight in (("plain", None), ("weighted", inverse_weights(chance[rated], 100.0))):
        rows = RatingRows(u[rated], i[rated], value[rated].astype(np.float32), weight)
        means[name] = fit_rating(rows, *nothing, WIDE, QUICK, 1, 0).predict(u, i).mean()
    assert means["plain"] > 1.2  # (0.4 - 0.05) / (0.4 + 0.05) * 2 = 1.56
    assert abs(means["weighted"]) < 0.5


def test_consumption_propensity_finds_what_made_the_log() -> None:
    random = np.random.default_rng(1)
    u, i = pairs(150, 100)
    logit = -2.5 + 1.2 * random.standard_normal(100)[i]
    truth = 1 / (1 + np.exp(-logit))
    rated = random.random(len(u)) < truth
    nothing = np.zeros((150, 1), np.float32), np.zeros((100, 1), np.float32)
    found = consumption_propensity(u[rated], i[rated], *nothing, AttractionSettings(threads=1), 0)
    assert ((found > 0) & (found <= 1)).all()
    assert np.corrcoef(np.log(found), np.log(truth[rated]))[0, 1] > 0.9
    # Horvitz-Thompson: the weights of the rated pairs add up to all pairs.
    assert (1 / found).sum() == pytest.approx(len(u), rel=0.35)


def test_naive_bayes_is_bayes_rule() -> None:
    random = np.random.default_rng(2)
    u, i = pairs(100, 100)
    rating = random.integers(1, 6, len(u)).astype(np.float32)
    chance = np.array([0.02, 0.03, 0.05, 0.1, 0.3])[rating.astype(int) - 1]
    rated = random.random(len(u)) < chance
    asked = random.choice(len(u), 3000, replace=False)
    rows = RatingRows(u[rated], i[rated], rating[rated])
    found = naive_bayes_propensity(rows, RatingRows(u[asked], i[asked], rating[asked]), STARS, len(u))
    np.testing.assert_allclose(found, chance[rated], rtol=0.3)
    weight = inverse_weights(found, 100.0)
    assert np.average(rating[rated], weights=weight) == pytest.approx(3.0, abs=0.1)
    assert rating[rated].mean() > 3.8
    with pytest.raises(InputError, match="ratings of random pairs"):
        naive_bayes_propensity(rows, rows.take(np.zeros(len(rows), bool)), STARS, len(u))
    with pytest.raises(InputError, match="need levels"):
        naive_bayes_propensity(rows, rows, WIDE, len(u))


def test_weights_are_clipped_and_of_mean_one() -> None:
    weight = inverse_weights(np.array([0.5, 0.5, 0.5, 0.01]), 2.0)
    assert weight.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(
        weight[3] / weight[0], 2.0 * 26.5 / 2.0, rtol=1e-5
    )  # 2 means of (2, 2, 2, 100)
    assert effective_share(np.ones(7)) == pytest.approx(1.0)
    assert effective_share(np.array([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)
    for wrong in (0.0, 1.1, np.nan):
        with pytest.raises(InputError, match="above 0, at most 1"):
            inverse_weights(np.array([0.5, wrong]))
    with pytest.raises(InputError, match="1 or more"):
        inverse_weights(np.array([0.5]), 0.5)
