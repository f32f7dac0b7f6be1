"""Noise on the vectors of users: how much, the same again on one machine, unknown to who lacks the key."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recworld.encoders import EncoderSettings, encode_log
from recworld.encoders.noise import noise_key, noisy
from recworld.errors import CorruptError
from recworld.logs.log import InteractionLog

KEY = b"k" * 32


def unit(rows: int, width: int = 64, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_amount(noise: float) -> None:
    vectors = unit(2000)
    moved = noisy(vectors, noise, KEY)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    assert (moved * vectors).sum(axis=1).mean() == pytest.approx(1 / np.sqrt(1 + noise**2), rel=0.03)
    away = moved - vectors * (moved * vectors).sum(axis=1, keepdims=True)
    assert np.linalg.norm(away.mean(axis=0)) < 4 / np.sqrt(2000), "in no direction more than in another"


def test_same_vectors_stay_the_same_and_nothing_known_stays_nothing() -> None:
    vectors = np.concatenate([unit(3), unit(3), np.zeros((2, 64), np.float32)])
    moved = noisy(vectors, 1.0, KEY)
    np.testing.assert_array_equal(moved[:3], moved[3:6])
    assert not moved[6:].any()
    np.testing.assert_array_equal(moved, noisy(vectors, 1.0, KEY))
    np.testing.assert_array_equal(noisy(vectors[::-1], 1.0, KEY), moved[::-1])
    np.testing.assert_array_equal(noisy(vectors, 0.0, KEY), vectors)


def test_another_key_or_another_amount_draws_other_noise() -> None:
    vectors = unit(200)
    directions = []
    for noise, key in ((1.0, KEY), (1.0, b"other"), (2.0, KEY)):
        moved = noisy(vectors, noise, key)
        along = moved - vectors * (moved * vectors).sum(axis=1, keepdims=True)
        directions.append(along / np.linalg.norm(along, axis=1, keepdims=True))
    for n in range(3):
        likeness = (directions[n] * directions[n - 1]).sum(axis=1)
        assert abs(likeness.mean()) < 0.05, "two worlds of one log do not tell their noise"


def test_the_key_stays_in_the_cache_and_is_not_made_anew(own_cache: Path) -> None:
    key = noise_key()
    assert noise_key() == key
    (path,) = own_cache.rglob("noise.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir() if "noise" in p.name] == ["noise.key"]
    path.unlink()
    assert noise_key() != key
    path.write_bytes(b"short")
    with pytest.raises(CorruptError, match=r"noise\.key is not a key of 32 bytes"):
        noise_key()


def test_users_of_a_log_get_it_and_items_and_strangers_do_not(
    make_log: Callable[..., InteractionLog], tmp_path: Path, own_cache: Path
) -> None:
    log = make_log(("a red cat", "a blue dog", "", "a red cat"), ("one film", "two films", "three"))
    quiet, loud = (encode_log(log, EncoderSettings(kind="tfidf", width=4, noise=n)) for n in (0.0, 1.0))
    np.testing.assert_array_equal(loud.item, quiet.item)
    assert not loud.user[2].any()
    np.testing.assert_array_equal(loud.user[0], loud.user[3])
    assert not np.allclose(loud.user[:2], quiet.user[:2])
    np.testing.assert_array_equal(loud.encode_new(["a red cat"]), quiet.user[:1])
    again = encode_log(log, EncoderSettings(kind="tfidf", width=4, noise=1.0))
    assert again.fingerprint == loud.fingerprint
    folder = tmp_path / "text"
    folder.mkdir()
    loud.save(folder)
    key = next(own_cache.rglob("noise.key")).read_bytes()
    assert not any(
        key in path.read_bytes() or key.hex().encode() in path.read_bytes() for path in folder.iterdir()
    )
