"""Wrong arguments, actions, options and rewards are named in one line."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.envs import RecVectorEnv
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


BAD = [
    ({"slate_size": 0}, "slate_size"),
    ({"num_candidates": 10**6}, "at most the 150 items"),
    ({"slate_size": 41}, "slate_size must be at most"),
    ({"candidates": "popluar"}, "candidates"),
    ({"slat_size": 3}, "Did you mean 'slate_size'"),
    ({"users": "tests"}, "Did you mean 'test'"),
    ({"reward": "clicks"}, "Did you mean 'click'"),
    ({"reward": {"click": float("nan")}}, "finite"),
    ({"reward": {"clik": 1}}, "Did you mean 'click'"),
    ({"reward": '{"click": NaN}'}, "finite"),
    ({"reward": '{"click"'}, "not JSON"),
    ({"dynamics": "strng"}, "Did you mean 'strong'"),
    ({"members": [9]}, "members must be numbers from 0 to 1"),
    ({"world": 3}, "world must be"),
    ({"render_mode": "human"}, "render_mode"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(row[0]) for row in BAD])
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros((3, 2), int), "shape"),
        (np.zeros((3, 5)), "whole numbers"),
        (np.full((3, 5), np.nan), "whole numbers"),
    ],
)
def test_wrong_actions_are_named(action, message):
    env = make()
    with pytest.raises(InputError, match="Call reset"):
        env.step(np.zeros((3, 5), int))
    env.reset(seed=0)
    with pytest.raises(InputError, match=message):
        env.step(action)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strem": 1}, "Did you mean 'stream'"),
        ({"user": [1, 2, 99]}, "user numbers from 0 to 59"),
        ({"stream": -1}, "at least 0"),
        ({"episode": 1.5}, "at least 0"),
        ({"reset_mask": [1, 0, 1]}, "truth values"),
    ],
)
def test_wrong_reset_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        make().reset(seed=0, options=options)


def test_weights_may_come_as_json():
    assert make(reward='{"click": 2, "rating": 0.5}').settings["reward"] == {"click": 2.0, "rating": 0.5}


def test_a_reward_function_that_fails_is_named():
    env = make(reward=lambda info: info["nothing"])
    env.reset(seed=0)
    with pytest.raises(InputError, match="failed: KeyError"):
        env.step(np.zeros((3, 5), int))


def test_a_reward_function_that_returns_nonsense_is_named():
    env = make(reward=lambda info: np.full(3, np.nan))
    env.reset(seed=0)
    with pytest.raises(InputError, match="finite numbers"):
        env.step(np.zeros((3, 5), int))
