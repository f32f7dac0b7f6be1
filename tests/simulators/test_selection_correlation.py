"""A known correlation of click and rating is found again, taken out, and carried by a world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, ndtr, ndtri
from scipy.stats import truncnorm

from recworld.logs.log import RatingScale
from recworld.logs.settings import SyntheticSettings
from recworld.simulators import state as st
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.build import WorldSettings, build_world
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.factors import Factors
from recworld.simulators.observation import ObservationModel
from recworld.simulators.ordinal import OrdinalLink
from recworld.simulators.prepare import prepare_parameters
from recworld.simulators.rating import RatingFit
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.selection_correlation import (
    RatedClicks,
    as_rated,
    corrected,
    estimate_correlation,
    mills,
)
from recworld.simulators.truths import draw_log
from recworld.simulators.world import World

STARS = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
WIDE = RatingScale("continuous", (), -10.0, 10.0)
USERS, ITEMS = 200, 100
NOTICED = np.array([1.0, 0.7, 0.5, 0.3])
THRESHOLDS = np.array([1.5, 2.5, 3.5, 4.5])


def observation(scale: RatingScale) -> ObservationModel:
    cut = THRESHOLDS if scale.kind == "discrete" else np.zeros(0)
    return ObservationModel(
        scale, OrdinalLink(cut, np.zeros(USERS), np.ones(USERS)), np.ones(USERS)
    )  # a standard deviation of the error is one unit of the rating


def clicks(rho: float, scale: RatingScale, seed: int = 0, shown: int = 120_000, noticed=NOTICED, hidden=0.0):
    """Return rated clicks of a world with normal errors of correlation rho, and the truth.

    With `hidden`, what no prediction knows moves both the attraction and the rating of a pair.
    """
    random = np.random.default_rng(seed)
    user, item = random.integers(0, USERS, shown), random.integers(0, ITEMS, shown)
    place = random.integers(0, len(noticed), shown)
    secret = random.standard_normal((USERS, ITEMS))[user, item]
    eta = 3 + 0.5 * random.standard_normal(USERS)[user] + 0.5 * random.standard_normal(ITEMS)[item]
    logit = -1.0 + 0.7 * random.standard_normal(ITEMS)[item] + 0.5 * random.standard_normal(shown)
    chance = noticed[place] * expit(logit + hidden * secret)
    luck = random.random(shown)
    taken = luck < chance
    error = rho * -ndtri(luck) + np.sqrt(1 - rho**2) * random.standard_normal(shown)
    value = eta + hidden * secret + error
    rating = 1 + (value[:, None] > THRESHOLDS).sum(1) if scale.kind == "discrete" else value
    # What a fit on clicks predicts: the lift of the mean click is in it.
    known = eta + rho * mills(chance[taken]).mean()
    return RatedClicks(
        user[taken].astype(np.int32), item[taken].astype(np.int32), place[taken],
        rating[taken].astype(np.float32), known[taken], logit[taken], noticed,
    )  # fmt: skip


def test_mills_is_the_mean_of_the_upper_tail() -> None:
    for chance in (0.9, 0.5, 0.1, 0.001):
        expected = truncnorm.mean(-ndtri(chance), np.inf)
        assert mills(np.array([chance]))[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [STARS, WIDE], ids=lambda scale: scale.kind)
@pytest.mark.parametrize("rho", [0.5, 0.0, -0.4])
def test_a_known_correlation_is_found_again(rho: float, scale: RatingScale) -> None:
    found = estimate_correlation(clicks(rho, scale), observation(scale), USERS, ITEMS, 0)
    assert found.identified
    assert found.low < rho < found.high
    assert found.rho == pytest.approx(rho, abs=0.1)
    assert found.high - found.low < 0.25
    assert abs(found.placebo) < 0.1
    assert abs(found.used) <= abs(found.rho)
    if rho == 0:
        assert abs(found.used) < 0.1


def test_the_interval_covers_and_what_moves_both_is_not_taken_for_correlation() -> None:
    runs = [clicks(0.3, WIDE, seed, 20_000) for seed in range(40)]
    found = [estimate_correlation(rows, observation(WIDE), USERS, ITEMS, 0) for rows in runs]
    assert sum(f.low < 0.3 < f.high for f in found) >= 35  # 95 %: 35 or fewer of 40 in 5 % of cases
    both = estimate_correlation(clicks(0.0, WIDE, 3, hidden=0.7), observation(WIDE), USERS, ITEMS, 0)
    assert both.low < 0 < both.high


def test_without_a_change_of_position_nothing_is_told() -> None:
    rows = clicks(0.5, STARS, noticed=np.ones(1))
    found = estimate_correlation(rows, observation(STARS), USERS, ITEMS, 0)
    assert not found.identified
    assert (found.used, found.narrowing, found.rho) == (0.0, 1.0, 0.0)
    few = clicks(0.5, STARS, shown=60)
    assert not estimate_correlation(few, observation(STARS), USERS, ITEMS, 0).identified


@pytest.mark.parametrize("scale", [STARS, WIDE], ids=lambda scale: scale.kind)
def test_the_lift_is_taken_out_and_the_spread_put_back(scale: RatingScale) -> None:
    """Errors N(0, 1) of correlation 0.6, all pairs clicked with the same chance: everything is known in closed form."""
    chance, rho = 0.2, 0.6
    lift = float(mills(np.array([chance]))[0])
    after = np.sqrt(1 - rho**2 * lift * (lift + ndtri(chance)))
    nobody = Factors(
        np.full(USERS, 2.8 + rho * lift), np.zeros(ITEMS), np.zeros((USERS, 1)), np.zeros((ITEMS, 1))
    )
    seen = observation(scale)
    link = OrdinalLink(seen.link.thresholds / after, np.zeros(USERS), np.ones(USERS) / after)
    fit = RatingFit((nobody,), replace(seen, link=link, user_sigma=np.full(USERS, after)), {})
    found = estimate_correlation(clicks(rho, scale), observation(scale), USERS, ITEMS, 0)
    exact = replace(
        found, used=rho, narrowing=after, lift=lift, user_lift=np.zeros(USERS), item_lift=np.zeros(ITEMS)
    )
    free = corrected(fit, exact)
    user, item = np.arange(USERS, dtype=np.int32), np.zeros(USERS, np.int32)
    np.testing.assert_allclose(free.predictor(user, item, 0), 2.8, rtol=1e-6)
    np.testing.assert_allclose(free.observation.user_sigma, 1.0, rtol=1e-6)
    if scale.kind == "discrete":
        above = ndtr(2.8 - THRESHOLDS)
        np.testing.assert_allclose(free.predict(user, item), 1 + above.sum(), rtol=1e-6)
    assert corrected(fit, replace(exact, used=0.0)) is fit


def test_a_world_carries_the_correlation_that_its_log_tells(tmp_path: Path) -> None:
    sizes = SyntheticSettings(num_users=120, num_items=80, consumptions=25, factors=4)
    told = draw_log(sizes, 0, dynamics_preset("static").model_copy(update={"click_rating_correlation": 0.7}))
    quick = RatingSettings(
        rank=2, width=4, samples_per_member=4, thinning=2, burn_in=10, max_iterations=20, folds=2, threads=1
    )
    clicks_model = AttractionSettings(rank=2, width=4, burn_in=20, samples=5, thinning=2, threads=1)
    settings = WorldSettings(
        rating=quick, attraction=clicks_model, members=1, calibration=CalibrationSettings(enabled=False)
    )
    vectors = np.zeros((120, 2), np.float32), np.zeros((80, 2), np.float32)
    worlds = {
        treatment: build_world(
            told, *vectors, settings.model_copy(update={"selection": treatment}), dynamics_preset("static"), 0
        )
        for treatment in ("none", "correlation")
    }
    world, plain = worlds["correlation"], worlds["none"]
    found = world.report["selection"]["correlation"]
    assert 0.35 < found["used"] == world.click_rating_correlation < 0.95
    assert plain.click_rating_correlation == 0
    assert plain.report["selection"]["correlation"] == found  # told all the same
    # The tables are those of pairs that nobody chose: lower ratings.
    fall = plain.truth.user_rating_bias.mean() - world.truth.user_rating_bias.mean()
    assert fall > 0.3
    lines = {line["name"]: line for line in world.report["selection"]["lines"]}
    assert lines["click_rating_correlation"]["low"] > 0
    assert lines["treatment"]["value"] > 0.2
    assert {"rated_above_random", "reweighted_error"} < set(lines)
    # The step takes it unless told otherwise; it survives the disk; and the log's own ratings can be had back.
    world.save(tmp_path)
    again = World.load(tmp_path)
    assert again.fingerprint == world.fingerprint
    assert prepare_parameters(again, (1.0, 0.0), 0.0)[st.P_RHO] == pytest.approx(found["used"])
    off = again.with_dynamics(dynamics_preset("static").model_copy(update={"click_rating_correlation": 0.0}))
    assert prepare_parameters(off, (1.0, 0.0), 0.0)[st.P_RHO] == 0
    back = as_rated(world.truth, found["used"], found["narrowing"], found["lift"])
    np.testing.assert_allclose(back.thresholds, plain.truth.thresholds, rtol=1e-4)
    np.testing.assert_allclose(
        back.user_rating_bias.mean(), plain.truth.user_rating_bias.mean(), atol=0.1 * fall
    )
