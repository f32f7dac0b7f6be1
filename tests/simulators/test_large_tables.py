"""Tables that are read where a world has them, and rows that are sorted some at a time, against the plain way."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from recworld.envs import RecEnv, RecVectorEnv
from recworld.simulators import bundled_world, prepare
from recworld.simulators import state as st


def played(world, **arguments):
    env, rng = (
        RecVectorEnv(5, world=world, num_candidates=30, horizon=6, users="all", **arguments),
        np.random.default_rng(0),
    )
    out = list(env.reset(seed=3)[0].values())
    for _ in range(15):
        observation, reward, *_, info = env.step(rng.integers(-1, 30, (5, 5)))
        out += [
            reward,
            *observation.values(),
            *[each for each in info.values() if isinstance(each, np.ndarray)],
        ]
    return env, [array.tobytes() for array in out]


@pytest.mark.parametrize("factors", [4, 8])
def test_tables_of_users_are_read_in_place_with_the_same_bits(factors, monkeypatch):
    world = bundled_world(40, 60, width=12, factors=factors)
    copied, bits = played(world)
    monkeypatch.setattr(st, "IN_PLACE", 1)
    read, same = played(world)
    assert bits == same
    kept = [array.ctypes.data for array in read.simulator._in_place]
    assert not copied.simulator._in_place
    # Factors that fill the lanes need no padding, so the world's own array is read.
    assert (world.truth.taste.ctypes.data in kept) == (factors == 8)
    assert world.agent.history_item.ctypes.data in kept
    assert len(read.simulator._x) < len(copied.simulator._x)


def test_items_are_sorted_within_users(monkeypatch):
    rng = np.random.default_rng(0)
    starts = np.concatenate([[0], np.cumsum(rng.integers(0, 9, 50))])
    items = rng.integers(0, 1000, starts[-1]).astype(np.int32)
    monkeypatch.setattr(prepare, "USERS_SORTED", 7)
    found = prepare._sorted_by_user(items, starts)
    for first, last in itertools.pairwise(starts):
        assert found[first:last].tolist() == sorted(items[first:last].tolist())


def test_text_vectors_of_users_in_half_precision_change_nothing_but_their_last_digits():
    world = bundled_world(40, 60, width=12, factors=4)
    half = replace(world, user_vector=world.user_vector.astype(np.float16))
    assert played(world)[1] == played(half)[1]
    for n in (1, 5):
        envs = [
            RecVectorEnv(n, world=each, num_candidates=30, horizon=3, observation="features")
            for each in (world, half)
        ]
        rows = [env.reset(seed=1)[0] for env in envs]
        for _ in range(5):
            assert rows[1]["user"].dtype == np.float32
            assert envs[1].observation_space.contains(rows[1])
            np.testing.assert_allclose(rows[0]["user"], rows[1]["user"], atol=5e-4)
            for name in rows[0]:
                assert name == "user" or rows[0][name].tobytes() == rows[1][name].tobytes()
            stepped = [env.step(np.tile(np.arange(5), (n, 1))) for env in envs]
            rows = [one[0] for one in stepped]
            for name, array in stepped[0][4].get("final_obs", {}).items():
                np.testing.assert_allclose(array, stepped[1][4]["final_obs"][name], atol=5e-4)
    one = RecEnv(world=half, num_candidates=30, observation="features").reset(seed=1)[0]["user"]
    assert one.dtype == np.float32
