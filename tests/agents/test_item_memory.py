"""What is learnt about single items: found by number or by text alike, learnt where texts say nothing; shortlists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents.dqn import DQNAgent
from recworld.agents.facts import POSITIONS, to_tensors
from recworld.agents.item_memory import ItemLookup, ItemMemory
from recworld.agents.networks import SlatePolicyNetwork
from recworld.agents.ppo import PPOAgent
from recworld.agents.scorer import NetworkSettings
from recworld.envs import RecVectorEnv
from recworld.simulators.bundled import bundled_world


def test_an_item_has_one_number_in_both_forms_and_an_unknown_text_has_none() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [-0.0, 1.0], [0.0, 0.0]])
    lookup = ItemLookup(vectors)
    numbers = torch.arange(5)[None]
    np.testing.assert_array_equal(lookup(numbers)[0], [0, 1, 0, 3, 4])  # the third text is the first's
    np.testing.assert_array_equal(lookup(vectors[None])[0], [0, 1, 0, 3, 4])
    np.testing.assert_array_equal(lookup(torch.tensor([[[0.0, 1.0], [0.5, 0.5]]]))[0], [3, 4])


def test_padding_and_items_never_seen_are_not_corrected() -> None:
    memory, estimate = ItemMemory(3, 2), torch.ones(1, 2)
    assert (memory(torch.tensor([[0, 1, 2, 3]]), estimate) == 0).all()
    optimiser = torch.optim.Adam(memory.parameters(), 0.1)
    memory(torch.tensor([[1, 3]]), estimate).sum().backward()
    optimiser.step()
    after = memory(torch.tensor([[0, 1, 2, 3]]), estimate)[0]
    assert after[1] < 0
    assert (after[[0, 2, 3]] == 0).all()


def alike(world: Any) -> Any:
    """Return the world with every text the same but for a hair: a network that reads texts can tell items barely."""
    vectors = np.tile(world.item_vector[:1], (world.num_items, 1))
    vectors[:, 0] += np.arange(world.num_items, dtype=np.float32) * 1e-5
    return replace(world, item_vector=vectors)


@pytest.mark.parametrize("agent_class", [PPOAgent, DQNAgent])
def test_what_texts_do_not_tell_is_learnt_of_single_items(
    agent_class: Any, known_env: Callable[..., RecVectorEnv], reward_per_step: Callable[..., float]
) -> None:
    world = alike(known_env().world)
    returns = {}
    for memory in (True, False):
        options: dict[str, Any] = {"learning_rate": 2e-2, "network": {"item_memory": memory}}
        if agent_class is PPOAgent:
            options |= {"n_steps": 10, "batch_size": 80, "warm_start": 0.8, "feedback_epochs": 4}
        else:
            options |= {"learning_starts": 64, "epsilon_start": 1.0}
        agent = agent_class(known_env(world=world), 0, **options)
        agent.learn(known_env(world=world), 1600)
        returns[memory] = reward_per_step(agent, known_env(world=world))
    assert returns[True] > 1.8
    assert returns[True] > returns[False] + 0.3


def test_the_recommender_s_score_is_the_product_that_an_agent_can_look_up() -> None:
    world = bundled_world()
    env = RecVectorEnv(6, world=world, num_candidates=20, slate_size=3, seed=0)
    observation, _ = env.reset(seed=0)
    for _ in range(3):
        observation = env.step(np.tile(np.arange(3), (6, 1)))[0]
    width = world.agent.response.rating_width
    factors = env.tables.item_estimate[observation["candidates"]][..., width:]  # (N, C, Ga)
    product = np.einsum("ncg,ng->nc", factors, observation["user_estimate"][:, width:])
    rest = observation["candidate_score"] - product  # biases of user and item alone
    bias = world.agent.response.item_attraction_bias[0][observation["candidates"]]
    share = np.polyfit(bias.ravel(), rest.ravel(), 1)[0]
    left = rest - share * bias
    assert np.abs(left - left.mean(1, keepdims=True)).max() < 0.2 * np.abs(product).max()


def crowded(form: str = "ids", **settings: Any) -> RecVectorEnv:
    return RecVectorEnv(
        5,
        world=bundled_world(),
        num_candidates=40,
        slate_size=3,
        horizon=6,
        observation=form,
        seed=0,
        **settings,
    )


def test_a_shortlist_keeps_the_best_and_slates_keep_the_environment_s_numbers() -> None:
    env = crowded()
    observation, _ = env.reset(seed=0)
    agent = PPOAgent(env, 0, network={"shortlist": 8})
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    np.testing.assert_array_equal(agent.act(observation), np.argsort(-score, 1, kind="stable")[:, :3])
    tensors = to_tensors(observation, "cpu")
    distribution, _ = agent.network.distribution(tensors, 3)
    assert distribution.mask.shape == (5, 8)
    slates = distribution.sample(torch.Generator().manual_seed(0))
    best = np.argsort(-score, 1)[:, :8]
    assert all(set(row.tolist()) <= set(kept.tolist()) for row, kept in zip(slates, best, strict=True))
    chances = distribution.log_prob(slates)
    assert torch.isfinite(chances).all()
    local = (distribution.positions[:, None] == slates[:, :, None]).int().argmax(-1)
    distribution.positions = None
    torch.testing.assert_close(distribution.log_prob(local), chances)


def test_what_was_learnt_decides_what_is_shortlisted() -> None:
    env = crowded()
    observation = to_tensors(env.reset(seed=0)[0], "cpu")
    network = SlatePolicyNetwork(env, NetworkSettings(shortlist=8), 3.0)
    worst = observation["candidates"].gather(1, observation["candidate_score"].argmin(1, keepdim=True))
    assert not (network.shortlisted(observation)["candidates"] == worst).any()
    with torch.no_grad():
        assert network.memory is not None
        network.memory.table.weight[worst.flatten().long(), 0] = 50.0
    short = network.shortlisted(observation)
    assert (short["candidates"] == worst).any(1).all()
    torch.testing.assert_close(observation["candidates"].gather(1, short[POSITIONS]), short["candidates"])


@pytest.mark.parametrize("agent_class", [PPOAgent, DQNAgent])
@pytest.mark.parametrize("form", ["ids", "features"])
def test_learning_goes_through_a_shortlist(agent_class: Any, form: str) -> None:
    options: dict[str, Any] = {"network": {"shortlist": 8}}
    options |= (
        {"n_steps": 8, "batch_size": 20}
        if agent_class is PPOAgent
        else {"learning_starts": 20, "batch_size": 8}
    )
    env = crowded(form)
    agent = agent_class(env, 0, **options)
    before = [weight.clone() for weight in agent.network.parameters()]
    agent.learn(env, 160)
    assert any(not torch.equal(a, b) for a, b in zip(before, agent.network.parameters(), strict=True))
    assert agent.act(env.reset(seed=1)[0]).shape == (5, 3)
