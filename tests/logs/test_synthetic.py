"""The synthetic truths: their texts tell what they promise, their logs were drawn as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeCV

from recworld.logs import InteractionLog, LogSettings, SyntheticSettings, load_log
from recworld.logs.foreign import START, ForeignUsers, foreign_truth
from recworld.logs.policy import draw_slates
from recworld.logs.synthetic import ATTRACTION_SPREAD, TASTE_SPREAD, synthetic_truth

SETTINGS = SyntheticSettings(num_users=300, num_items=300, consumptions=20)


@pytest.fixture(scope="module")
def foreign_log() -> InteractionLog:
    """One log for all tests."""
    return load_log("foreign", LogSettings(synthetic=SETTINGS), seed=1)


def test_tables_have_the_promised_spread() -> None:
    truth = synthetic_truth(SETTINGS, 0)
    width = truth.rating_width
    eta = truth.taste[:, :width] @ truth.item[:, :width].T
    attraction = truth.taste[:, width:] @ truth.item[:, width:].T
    assert eta.std() == pytest.approx(TASTE_SPREAD, rel=0.05)
    assert attraction.std() == pytest.approx(ATTRACTION_SPREAD, rel=0.05)
    assert truth.item_attraction_bias.mean() == pytest.approx(0, abs=1e-5)
    assert (np.diff(truth.thresholds) > 0).all()
    assert all(
        getattr(truth, name).dtype == np.float32 for name in ("taste", "item", "user_scale", "user_shift")
    )


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_texts_tell_their_share_of_the_tastes(share: float) -> None:
    settings = SyntheticSettings(num_users=1500, num_items=1500, text_share=share, factors=4)
    truth = synthetic_truth(settings, 0)
    for texts, table in ((truth.item_text, truth.item), (truth.user_text, truth.taste)):
        words = CountVectorizer(ngram_range=(1, 3), max_features=1500).fit_transform(texts)
        model = RidgeCV(alphas=(1.0, 10.0, 100.0, 1000.0)).fit(words[:1000], table[:1000])
        told = model.score(words[1000:], table[1000:])
        assert told == pytest.approx(share, abs=0.15)


def test_texts_read_well_and_do_not_repeat() -> None:
    truth = synthetic_truth(SETTINGS, 0)
    assert len(set(truth.item_text)) == truth.num_items
    assert all(text.startswith("The ") and text.endswith(".") for text in truth.item_text)
    assert all(" who likes " in text and text.endswith(".") for text in truth.user_text)


def test_a_seed_gives_a_world_and_another_seed_another() -> None:
    first, again, other = (synthetic_truth(SETTINGS, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.taste, again.taste)
    assert first.item_text == again.item_text
    assert first.item_text != other.item_text


def test_propensities_are_the_probabilities_of_the_draw() -> None:
    rng = np.random.default_rng(0)
    score, allowed = np.array([1.0, 0.0, 0.5, 2.0]), np.array([True, True, True, False])
    draws = 40_000
    slate, propensity = draw_slates(np.tile(score, (draws, 1)), np.tile(allowed, (draws, 1)), 2, rng)
    assert not (slate == 3).any()
    assert (slate[:, 0] != slate[:, 1]).all()
    weight = np.exp(score[:3])
    for i in range(3):
        np.testing.assert_allclose(propensity[slate[:, 0] == i, 0], weight[i] / weight.sum())
        assert (slate[:, 0] == i).mean() == pytest.approx(weight[i] / weight.sum(), abs=0.01)
        for j in {0, 1, 2} - {i}:
            rows = (slate[:, 0] == i) & (slate[:, 1] == j)
            conditional = weight[j] / (weight.sum() - weight[i])
            np.testing.assert_allclose(propensity[rows, 1], conditional)
            assert rows.sum() / (slate[:, 0] == i).sum() == pytest.approx(conditional, abs=0.02)


def test_the_foreign_log_is_in_the_order_of_consumption(foreign_log: InteractionLog) -> None:
    assert foreign_log.time is not None
    assert (np.diff(foreign_log.time) >= 0).all()
    assert foreign_log.time[0] > START
    for u in range(20):
        assert len(np.unique(foreign_log.time[foreign_log.user == u])) == (foreign_log.user == u).sum()


def test_the_foreign_log_has_the_wished_size(foreign_log: InteractionLog) -> None:
    counts = np.bincount(foreign_log.user, minlength=foreign_log.num_users)
    assert counts.min() >= 2
    assert counts.mean() == pytest.approx(SETTINGS.consumptions, rel=0.15)
    assert np.bincount(foreign_log.rating.astype(int), minlength=6)[1:].min() > 0.03 * len(foreign_log)


def test_the_logging_policy_is_biased_to_popular_items(foreign_log: InteractionLog) -> None:
    shown = foreign_log.exposures
    assert shown is not None
    counts = np.sort(np.bincount(shown.item, minlength=foreign_log.num_items))[::-1]
    assert counts[:30].sum() > 0.25 * counts.sum()
    truth = foreign_truth(SETTINGS, 1)
    often = np.bincount(shown.item, minlength=foreign_log.num_items)
    assert np.corrcoef(often, truth.base.item_attraction_bias)[0, 1] > 0.4


def test_what_is_clicked_is_what_attracts_and_early_positions_are_seen(foreign_log: InteractionLog) -> None:
    shown, truth = foreign_log.exposures, foreign_truth(SETTINGS, 1)
    assert shown is not None
    slate = shown.item[:, None].astype(np.int64)
    pull = truth.attraction(shown.user.astype(np.int64), slate, np.full(len(shown), START + 1e7))[:, 0]
    high = pull > np.median(pull)
    assert shown.clicked[high].mean() > 1.5 * shown.clicked[~high].mean()
    by_position = [shown.clicked[shown.position == k].mean() for k in range(SETTINGS.slate_size)]
    assert by_position[0] > 1.5 * by_position[-1]


def test_no_item_is_shown_before_its_release(foreign_log: InteractionLog) -> None:
    truth = foreign_truth(SETTINGS, 1)
    assert foreign_log.time is not None
    assert (foreign_log.time >= truth.release[foreign_log.item]).all()


def test_satiation_lowers_clicks_on_its_genre_and_recovers_with_time() -> None:
    truth = foreign_truth(SETTINGS, 0)
    n = 4000
    users = ForeignUsers(truth, np.arange(n) % 300, np.random.default_rng(0))
    genre = int(truth.base.items.genre[0])
    slate, rows = np.zeros((n, 1), np.int64), np.arange(n)
    fresh = users.step(rows, slate)[0].mean()
    users.satiation[:, genre] = 1.0
    sated = users.step(rows, slate)[0].mean()
    assert sated < 0.4 * fresh
    before = users.satiation[:, genre].copy()
    users.step(rows, np.full((n, 1), int(np.flatnonzero(truth.base.items.genre != genre)[0])))
    assert (users.satiation[:, genre] < before).all()


def test_a_tiny_catalogue_is_drawn_too() -> None:
    tiny = SyntheticSettings(num_users=3, num_items=20, consumptions=50, factors=2, slate_size=9)
    log = load_log("foreign", LogSettings(synthetic=tiny), seed=2)
    assert len(log) >= 6
    shown = log.exposures
    assert shown is not None
    assert not np.isnan(shown.propensity).any()
    assert (shown.propensity > 0).all()
