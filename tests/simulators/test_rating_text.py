"""Ratings from text alone: the equation is found again, nobody has a term of their own, members differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from recworld.logs.log import RatingScale
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings

SETTINGS = RatingSettings(source="text", width=4)
SCALE = RatingScale("continuous", (), -10, 10)


def made(seed: int = 0, rows: int = 6000) -> tuple[RatingRows, Any, Any, Any]:
    """Ratings that the two vectors tell, with a product of theirs, and a little noise."""
    rng = np.random.default_rng(seed)
    user, item = (rng.standard_normal((n, 6)).astype(np.float32) for n in (120, 150))
    user /= np.linalg.norm(user, axis=1, keepdims=True)
    item /= np.linalg.norm(item, axis=1, keepdims=True)
    u, i = rng.integers(0, 120, rows), rng.integers(0, 150, rows)
    told = user @ rng.standard_normal(6)
    liked = item @ rng.standard_normal(6)
    true = 1.0 + told[:, None] + liked[None] + 4 * np.outer(user[:, 0], item[:, 1])
    rating = (true[u, i] + 0.3 * rng.standard_normal(rows)).astype(np.float32)
    return RatingRows(u.astype(np.int32), i.astype(np.int32), rating), user, item, true


def test_the_equation_is_found_again_for_items_that_nobody_rated() -> None:
    rows, user, item, true = made()
    known = rows.item < 120
    fit = fit_rating(rows.take(known), user, item, SCALE, SETTINGS, 1, 0)
    u, i = np.repeat(np.arange(120), 30), np.tile(np.arange(120, 150), 120)
    error = np.sqrt(np.mean((fit.predict(u, i) - true[u, i]) ** 2))
    assert error < 0.25 * true.std()
    assert fit.report["source"] == "text"
    assert fit.report["out_of_fold_member"]["rmse"] < 0.4


def test_who_has_the_same_text_is_the_same() -> None:
    rows, user, item, _ = made()
    user[7], item[9] = user[3], item[2]
    fit = fit_rating(rows, user, item, SCALE, SETTINGS, 1, 0)
    member = fit.members[0]
    assert abs(member.user_bias[7] - member.user_bias[3]) < 1e-12
    np.testing.assert_allclose(member.item[9], member.item[2], atol=1e-12)


def test_members_differ_and_the_same_seed_gives_the_same_bits() -> None:
    rows, user, item, _ = made()
    one, two = (fit_rating(rows, user, item, SCALE, SETTINGS, 2, 5) for _ in range(2))
    tables = one.tables()
    assert tables["taste"].shape == (2, 120, 4)
    assert np.abs(tables["item_rating_bias"][0] - tables["item_rating_bias"][1]).max() > 1e-3
    for name, array in two.tables().items():
        np.testing.assert_array_equal(array, tables[name])


def test_a_log_without_texts_gets_the_mean() -> None:
    rows, user, item, _ = made()
    fit = fit_rating(rows, np.zeros_like(user), np.zeros_like(item), SCALE, SETTINGS, 1, 0)
    guess = fit.predict(rows.user, rows.item)
    np.testing.assert_allclose(guess, rows.rating.mean(), atol=1e-3)
