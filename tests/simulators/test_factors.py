"""Bilinear predictors: compression and centring leave the predictor alone."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.simulators.factors import Factors, Mixture, compress
from recworld.simulators.side_features import side_features, truncated_svd


def random_factors(users: int = 9, items: int = 7, width: int = 3, seed: int = 0) -> Factors:
    random = np.random.default_rng(seed)
    return Factors(*(1 + random.standard_normal(s) for s in [users, items, (users, width), (items, width)]))


def everything(factors: Factors) -> np.ndarray:
    users, items = len(factors.user_bias), len(factors.item_bias)
    u, i = np.divmod(np.arange(users * items), items)
    return factors.predict(u.astype(np.int32), i.astype(np.int32)).reshape(users, items)


def test_predict_is_the_formula():
    f = random_factors()
    expected = f.user_bias[:, None] + f.item_bias + f.user @ f.item.T
    np.testing.assert_allclose(everything(f), expected, rtol=1e-12)


def test_centring_keeps_predictions_and_leaves_no_common_direction():
    f = random_factors()
    centred = f.centred()
    np.testing.assert_allclose(everything(f), everything(centred), rtol=1e-10)
    np.testing.assert_allclose(centred.item.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(centred.user.mean(0), 0, atol=1e-12)


@pytest.mark.parametrize("width", [3, 5, 20])
def test_compression_to_enough_factors_is_exact_and_pads_with_zeros(width):
    f = random_factors()
    user, item = compress(f.user, f.item, width)
    assert user.shape == (9, width)
    np.testing.assert_allclose(user @ item.T, f.user @ f.item.T, atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(user, axis=0), np.linalg.norm(item, axis=0), atol=1e-10)


def test_compression_is_the_best_of_its_rank():
    f = random_factors(30, 20, 6)
    user, item = compress(f.user, f.item, 2)
    sizes = np.linalg.svd(f.user @ f.item.T, compute_uv=False)
    gap = np.linalg.norm(user @ item.T - f.user @ f.item.T)
    assert gap == pytest.approx(np.sqrt((sizes[2:] ** 2).sum()))


def test_a_mixture_is_the_average_of_its_samples():
    random = np.random.default_rng(3)
    samples = [(random.standard_normal((9, 3)), random.standard_normal((7, 3))) for _ in range(4)]
    mixture = Mixture(8)
    for user, item in samples:
        mixture.add(user, item)
    mean = np.mean([u[:, :1] + i[:, 0] + u[:, 1:] @ i[:, 1:].T for u, i in samples], axis=0)
    np.testing.assert_allclose(everything(mixture.factors(3.0, 0.5)), 3 + 0.5 * mean, atol=1e-10)


def test_randomised_svd_agrees_with_the_exact_one():
    import scipy.sparse as sp

    matrix = sp.random_array((60, 40), density=0.2, rng=np.random.default_rng(0), format="csr")
    _, sizes, _ = truncated_svd(matrix, 8, 0)
    exact = np.linalg.svd(matrix.toarray(), compute_uv=False)[:8]
    np.testing.assert_allclose(sizes, exact, rtol=1e-3)


def test_someone_without_rows_has_text_only():
    own, partner = np.array([0, 0, 1], np.int32), np.array([0, 1, 1], np.int32)
    text = np.eye(3, 4, dtype=np.float32)
    features = side_features(own, partner, 3, 2, text, 4, 2, 0)
    alone = features.values[2]
    assert alone[features.block == 0] == 1
    assert np.abs(alone[features.block == 1]).sum() > 0
    blind = side_features(own, partner, 3, 2, np.zeros_like(text), 4, 2, 0)
    assert (blind.values[2, blind.block >= 2] == 0).all()
    rows = np.bincount(own)
    # Before they are drawn to 0 by rows / (rows + 20), the features are 0 in the mean over rows.
    np.testing.assert_allclose((rows + 20) @ blind.values[:2, blind.block >= 2], 0, atol=1e-12)


def test_constant_and_missing_text_gives_no_features():
    empty = np.zeros(0, np.int32)
    for text in (np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32)):
        assert side_features(empty, empty, 3, 2, text, 4, 2, 0).values.shape[1] == 1


def test_what_someone_without_rows_would_have_met_is_expected_from_the_text():
    random = np.random.default_rng(0)
    group = np.arange(60) % 2
    own = np.repeat(np.arange(50), 6).astype(np.int32)  # the last ten have no rows
    partner = (group[own] * 10 + random.integers(0, 10, len(own))).astype(np.int32)
    own, partner = np.unique(np.column_stack([own, partner]), axis=0).T.astype(np.int32)
    features = side_features(own, partner, 60, 20, np.eye(2, dtype=np.float32)[group], 2, 4, 0)
    met = features.values[:, features.block == 2]
    for g in (0, 1):
        seen, unseen = met[:50][group[:50] == g].mean(0), met[50:][group[50:] == g].mean(0)
        assert np.linalg.norm(seen - unseen) < 0.4 * np.linalg.norm(seen)


def test_a_set_of_few_rows_stays_near_what_the_text_tells():
    random = np.random.default_rng(0)
    group = np.arange(60) % 2
    own = np.repeat(np.arange(60), np.where(np.arange(60) < 50, 40, 1)).astype(np.int32)
    partner = (group[own] * 100 + random.integers(0, 100, len(own))).astype(np.int32)
    own, partner = np.unique(np.column_stack([own, partner]), axis=0).T.astype(np.int32)
    features = side_features(own, partner, 60, 200, np.eye(2, dtype=np.float32)[group], 2, 4, 0)
    rows = features.block >= 2
    gap = np.linalg.norm((features.values - features.expected)[:, rows], axis=1)
    size = np.linalg.norm(features.expected[:, rows], axis=1)
    assert (gap[50:] < 0.35 * size[50:]).all()
    assert (gap[:50] > 0).all()
