"""Worlds whose best slate is known, for tests of learners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recworld.envs import RecVectorEnv
from recworld.simulators.bundled import bundled_world
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.world import World


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def known_world(good_logit: float = 6.0, bad_logit: float = -6.0, **dynamics: Any) -> World:
    """Return a world of 24 items in which every user clicks the 8 items of one kind and no other.

    The kind is told by the text vector alone: the agent-side score is the same for all items. Nothing changes users.
    """
    world = bundled_world(users=20, items=24, width=8, members=1)
    good = np.arange(24) % 3 == 0
    vector = np.random.default_rng(0).normal(size=(24, 8)) * 0.3
    vector[good, 0] += 1.0
    vector[~good, 1] += 1.0
    vector = (vector / np.linalg.norm(vector, axis=1, keepdims=True)).astype(np.float32)
    zero = {name: np.zeros_like(array) for name, array in world.truth.arrays().items()}
    same = {name: zero[name] for name in ("taste", "item", "user_attraction_bias", "item_attraction_bias")}
    logits = np.where(good, good_logit, bad_logit).astype(np.float32)[None]
    settings = {
        "boredom": 0.0,
        "boredom_rating": 0.0,
        "taste_rate": 0.0,
        "taste_return": 0.0,
        "leaving": False,
    }
    settings |= {"examination_decay": 1.0, "popularity_share": 1.0} | dynamics
    truth = replace(world.truth, **{**same, "item_attraction_bias": logits})
    flat = {name: np.zeros_like(getattr(world.agent.response, name)) for name in same}
    agent = replace(world.agent, response=replace(world.agent.response, **flat))
    return replace(
        world,
        truth=truth,
        agent=agent,
        item_vector=vector,
        dynamics=DynamicsSettings.model_validate(settings),
        attraction_known=True,  # the logits are taken as they stand
    )


@pytest.fixture(scope="session")
def good_items() -> Any:
    """(25,) bool: the items of the known world that are clicked; the last is padding."""
    return np.append(np.arange(24) % 3 == 0, False)


@pytest.fixture(scope="session")
def known_env() -> Callable[..., RecVectorEnv]:
    """Return a maker of environments over the known world."""

    def make(num_envs: int = 16, world: World | None = None, **settings: Any) -> RecVectorEnv:
        chosen = {
            "num_candidates": 12,
            "slate_size": 2,
            "horizon": 5,
            "observation": "ids",
            "seed": 0,
            "repeats": True,
        }
        return RecVectorEnv(num_envs, world=world or known_world(), **(chosen | settings))

    return make


@pytest.fixture(scope="session")
def small_env() -> Callable[..., RecVectorEnv]:
    """Return a maker of small environments over the bundled world."""

    def make(num_envs: int = 4, **settings: Any) -> RecVectorEnv:
        chosen = {"num_candidates": 15, "slate_size": 3, "horizon": 6, "observation": "ids", "seed": 0}
        world = settings.pop("world", None) or bundled_world()
        return RecVectorEnv(num_envs, world=world, **(chosen | settings))

    return make


@pytest.fixture(scope="session")
def reward_per_step() -> Callable[..., float]:
    """Return a function that gives an agent's mean reward per user step."""

    def measure(agent: Any, env: RecVectorEnv, steps: int = 10) -> float:
        observation, _ = env.reset(seed=99)
        total = 0.0
        for _ in range(steps):
            observation, reward, *_ = env.step(agent.act(observation))
            total += float(reward.mean())
        return total / steps

    return measure
