"""Wrappers, the Stable-Baselines3 adapter, and the slate in words."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.envs import RecEnv, RecVectorEnv, Sb3VecEnv, WishedItemVectorWrapper, WishedItemWrapper
from recworld.errors import InputError
from recworld.simulators import bundled_world

WORLD = bundled_world(60, 150, width=12, factors=4)


def slates(env, rng):
    n, c, k = env.num_envs, env.num_candidates, env.slate_size
    return np.argsort(rng.random((n, c)), axis=1)[:, :k]


def make(n=3, **arguments):
    return RecVectorEnv(
        n, **{"world": WORLD, "observation": "ids", "num_candidates": 40, "horizon": 6, **arguments}
    )


def test_wished_for_vector_shows_the_nearest_candidates():
    env = WishedItemVectorWrapper(make(3, slate_size=2))
    observation, _ = env.reset(seed=0)
    target = observation["candidates"][:, 7]
    _, _, _, _, info = env.step(WORLD.item_vector[target])
    info = info.get("final_info", info)
    np.testing.assert_array_equal(info["item"][:, 0], target)
    with pytest.raises(InputError, match="shape"):
        env.step(np.zeros((3, 5)))


def test_sb3_adapter_gives_last_observations_and_time_limits():
    env = Sb3VecEnv(make(20, horizon=4))
    env.seed(3)
    env.reset()
    rng, ends, limits = np.random.default_rng(0), 0, 0
    totals = np.zeros(20)
    for _ in range(12):
        observation, reward, done, infos = env.step(slates(env.env, rng))
        totals += reward
        for n in range(20):
            assert bool(infos[n]) == bool(done[n])
            if done[n]:
                last = infos[n]["terminal_observation"]
                assert last["step"][0] > 0
                assert observation["step"][n, 0] == 0
                assert infos[n]["episode"]["l"] == 4 or not infos[n]["TimeLimit.truncated"]
                assert infos[n]["episode"]["r"] == pytest.approx(totals[n])
                totals[n] = 0
                ends += 1
                limits += infos[n]["TimeLimit.truncated"]
    assert 0 < limits < ends


def test_a_wrapper_keeps_the_text():
    plain, wrapped = (
        RecEnv(world=WORLD, num_candidates=40),
        WishedItemWrapper(RecEnv(world=WORLD, num_candidates=40)),
    )
    a, b = plain.reset(seed=1)[0], wrapped.reset(seed=1)[0]
    for name in ("user", "candidates", "history"):
        np.testing.assert_array_equal(a[name], b[name])
        assert np.abs(b[name]).sum() > 0


def test_render_says_what_happened_in_words():
    env = RecEnv(world=WORLD, render_mode="ansi", num_candidates=30, slate_size=3)
    env.reset(seed=0)
    env.step(np.asarray([0, 0, 1]))
    text = env.render()
    assert "user" in text
    assert "(empty)" in text
    assert "satisfaction" in text
