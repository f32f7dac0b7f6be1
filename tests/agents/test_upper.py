"""Upper lines: each knows more than the one below, and says no more than it knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recworld.agents import AGENTS
from recworld.agents.baselines import GreedyAgent
from recworld.agents.episodes import episode_env, play
from recworld.agents.upper import InformedGreedy, Planner, ShortTermOracle, cached_planner, search_planner
from recworld.simulators.bundled import bundled_world

OPTIONS: dict[str, Any] = {"num_candidates": 20, "slate_size": 3, "horizon": 12}


@pytest.fixture(scope="module")
def bored() -> Any:
    """Return the bundled world with users whom repetition bores out of proportion."""
    world = bundled_world()
    return replace(
        world,
        dynamics=world.dynamics.model_copy(
            update={"boredom": 8.0, "boredom_memory": 0.95, "base_click_rate": 0.4}
        ),
    )


def returns(agent_class: Any, world: Any, users: str = "train", episodes: int = 4, **options: Any) -> float:
    env = episode_env(world, OPTIONS, users=users)
    chosen = world.users(users)
    agent = agent_class(env, **options)
    return float(
        np.mean([play(agent, env, chosen, seed=3, episode=e).returns().mean() for e in range(episodes)])
    )


def test_a_planner_without_costs_is_the_short_term_oracle(bored: Any) -> None:
    free = dict.fromkeys(("boredom_cost", "crowd_cost", "slate_cost"), 0.0)
    assert returns(Planner, bored, **free) == returns(ShortTermOracle, bored)


def test_what_is_known_is_worth_something() -> None:
    world = bundled_world()
    world = replace(
        world, dynamics=world.dynamics.model_copy(update={"boredom": 8.0, "boredom_memory": 0.95})
    )
    greedy, informed, oracle = (
        returns(a, world, episodes=16) for a in (GreedyAgent, InformedGreedy, ShortTermOracle)
    )
    assert greedy < informed < oracle


def test_the_search_pays_on_users_it_did_not_see_and_is_the_same_for_the_same_seed(bored: Any) -> None:
    costs = search_planner(bored, OPTIONS, seed=1, budget=48)
    assert costs == search_planner(bored, OPTIONS, seed=1, budget=48)
    assert returns(Planner, bored, **costs) > returns(ShortTermOracle, bored)
    assert (
        cached_planner(bored, OPTIONS, seed=1, budget=48)
        == costs
        == cached_planner(bored, OPTIONS, seed=1, budget=48)
    )


def test_the_last_step_has_no_future(bored: Any) -> None:
    env = episode_env(bored, {**OPTIONS, "horizon": 1}, users="train")
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(
        Planner(env, boredom_cost=0.9, crowd_cost=0.9, slate_cost=0.0, last_steps=1e9).act(observation),
        ShortTermOracle(env).act(observation),
    )


@pytest.mark.parametrize("reward", ["click", "rating"])
def test_informed_expects_what_a_world_of_known_persons_gives(reward: str) -> None:
    """Where the recommender's factors are the true ones, what is expected is the true score, but for spread of ratings."""
    world = bundled_world(members=1)
    seen = replace(world, agent=replace(world.agent, response=world.truth))
    env = episode_env(seen, {**OPTIONS, "reward": reward, "fold_in": 0.0}, users="train")
    observation, _ = env.reset(seed=0)
    expected, true = InformedGreedy(env).scores(observation), env.true_scores()
    there = observation["action_mask"] == 1
    if reward == "click":
        np.testing.assert_allclose(expected[there], true[there], atol=0.05)
    assert np.corrcoef(expected[there], true[there])[0, 1] > 0.95


def test_upper_lines_are_marked() -> None:
    for name in ("oracle", "planner", "informed"):
        assert AGENTS.get(name).is_upper_line
