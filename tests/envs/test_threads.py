"""Threads, and the memory layout of what they are given: neither changes a bit of the answer."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from recworld.envs import RecVectorEnv
from recworld.errors import InputError


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_change_nothing(threads):
    arguments = {"slate_size": 3, "num_candidates": 20, "horizon": 5}
    envs = [RecVectorEnv(37, **arguments), RecVectorEnv(37, threads=threads, **arguments)]
    for env in envs:
        env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(12):
        action = rng.integers(0, 20, (37, 3))
        one, other = (env.step(action) for env in envs)
        assert data_equivalence(one, other, exact=True)


def test_a_wrong_number_of_threads_is_said():
    with pytest.raises(InputError, match="threads must be a whole number"):
        RecVectorEnv(4, threads=0)


def test_the_layout_of_an_action_does_not_matter():
    env, other = (RecVectorEnv(5, slate_size=3, num_candidates=20) for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=0)
    action = np.random.default_rng(0).permuted(np.tile(np.arange(20), (5, 1)), axis=1)[:, ::5][:, :3]
    assert not action.flags.c_contiguous
    one = env.step(np.asfortranarray(action.astype(np.int32)))
    assert data_equivalence(one, other.step(np.ascontiguousarray(action)), exact=True)
    again = env.simulator.step(action)[1]
    np.testing.assert_array_equal(again.ints, other.simulator.step(np.ascontiguousarray(action))[1].ints)
