"""The scorer: same answer in both observation forms, any C and N, indifferent to the order of candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents.facts import FactReader, to_tensors
from recworld.agents.networks import SlatePolicyNetwork, SlateQNetwork
from recworld.agents.plackett_luce import HIDDEN
from recworld.agents.scorer import NetworkSettings
from recworld.envs import RecVectorEnv


def awake(network: torch.nn.Module) -> Any:
    """Give weights that start at zero a value, so that every part of the network is heard."""
    with torch.no_grad():
        random = torch.Generator().manual_seed(0)
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=random)
    return network.eval()


def played(env: RecVectorEnv, steps: int = 3) -> dict[str, Any]:
    observation, _ = env.reset(seed=1)
    slate = np.tile(np.arange(env.slate_size), (env.num_envs, 1))
    for _ in range(steps):
        observation = env.step(slate)[0]
    return observation


def look_up(env: RecVectorEnv, observation: dict[str, Any]) -> dict[str, Any]:
    items, users = env.tables.item_vector, env.tables.user_vector
    return observation | {
        "user": users[observation["user"][:, 0]],
        "history": items[observation["history"]],
        "candidates": items[observation["candidates"]],
    }


@pytest.mark.parametrize("kind", ["policy", "q"])
def test_ids_and_features_give_the_same_answer(kind: str, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    observation = played(env)
    network = awake(
        SlatePolicyNetwork(env, NetworkSettings(), 2.0)
        if kind == "policy"
        else SlateQNetwork(env, NetworkSettings(), 0.1)
    )
    ids, features = to_tensors(observation, "cpu"), to_tensors(look_up(env, observation), "cpu")
    if kind == "policy":
        one, other = network(ids), network(features)
    else:
        one, other = (network.worth(ids),), (network.worth(features),)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_rows_and_candidates_are_judged_one_by_one(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=5)
    observation = to_tensors(played(env), "cpu")
    network = awake(SlatePolicyNetwork(env, NetworkSettings(), 2.0))
    logits, _, value = network(observation)
    row = {name: tensor[2:3] for name, tensor in observation.items()}
    torch.testing.assert_close(network(row)[0], logits[2:3], atol=1e-4, rtol=1e-4)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    mixed = observation | {
        n: observation[n][:, order] for n in ("candidates", "candidate_score", "action_mask")
    }
    torch.testing.assert_close(network(mixed)[0], logits[:, order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network(mixed)[2], value, atol=1e-4, rtol=1e-4)


def test_masked_candidates_change_nothing(small_env: Callable[..., RecVectorEnv]) -> None:
    """Padding that is added to the candidates leaves logits, values and worth as they were."""
    env = small_env()
    observation = to_tensors(played(env), "cpu")
    padding = {"candidates": env.world.num_items, "candidate_score": 0.0, "action_mask": 0}
    wide = observation | {
        name: torch.cat((observation[name], torch.full_like(observation[name][:, :4], fill)), 1)
        for name, fill in padding.items()
    }
    policy, q = (
        awake(SlatePolicyNetwork(env, NetworkSettings(), 2.0)),
        awake(SlateQNetwork(env, NetworkSettings(), 0.1)),
    )
    torch.testing.assert_close(policy(wide)[0][:, :15], policy(observation)[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(policy(wide)[2], policy(observation)[2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(q.worth(wide)[:, :15], q.worth(observation), atol=1e-4, rtol=1e-4)
    assert (q.worth(wide)[:, 15:] == HIDDEN).all()


def test_looking_at_a_slate_equals_looking_at_all(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    observation = to_tensors(played(env), "cpu")
    network = awake(SlateQNetwork(env, NetworkSettings(), 0.1))
    slates = torch.tensor([[0, 3, 7], [1, 2, 14], [5, 4, 3], [9, 8, 0]])
    looked = network.look(observation, slates)
    worth = looked.attraction.sigmoid() * looked.item_value
    expected = network.worth(observation).gather(1, slates)
    shown = observation["action_mask"].gather(1, slates) > 0
    torch.testing.assert_close(worth[shown], expected[shown], atol=1e-4, rtol=1e-4)


def test_similarity_repeats_the_boredom_memory_of_the_world(small_env: Callable[..., RecVectorEnv]) -> None:
    """The decayed sums are <v_i, s> with s the decaying sum of the consumed items' centred unit vectors."""
    env = small_env(num_envs=6, horizon=8)
    reader = FactReader(env, (0.8,))
    vectors = np.concatenate([env.world.boredom_vector, np.zeros((1, env.world.vector_width), np.float32)])
    memory = np.zeros((6, env.world.vector_width))
    observation, _ = env.reset(seed=5)
    slate, clicks = np.tile(np.arange(3), (6, 1)), 0
    for _ in range(4):
        alive = np.ones(6, bool)
        observation, _, terminated, truncated, info = env.step(slate)
        alive = ~(terminated | truncated)
        memory = (0.8 * memory + np.einsum("nkd,nk->nd", vectors[info["item"]], info["click"])) * alive[
            :, None
        ]
        clicks += int(info["click"].sum())
    assert clicks > 0
    expected = np.einsum("ncd,nd->nc", vectors[observation["candidates"]], memory)
    found = reader(to_tensors(observation, "cpu")).similar[..., 0].numpy()
    # What was consumed in the step before is one step old.
    np.testing.assert_allclose(found, expected * 0.8, atol=1e-4)


def test_a_row_without_history_or_candidates_is_finite(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    observation = to_tensors(played(env), "cpu")
    empty = observation | {
        "history": torch.full_like(observation["history"], env.world.num_items),
        "action_mask": torch.zeros_like(observation["action_mask"]),
        "candidates": torch.full_like(observation["candidates"], env.world.num_items),
    }
    for tensor in awake(SlatePolicyNetwork(env, NetworkSettings(), 2.0))(empty):
        assert torch.isfinite(tensor.float()).all()
