"""SAC, TD3 and Wolpertinger over wishes: what a wish means, and that they learn what is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents import make_agent
from recworld.agents.drawing import drawing_from
from recworld.agents.wishes import WishReader, closeness, nearest_slates, principal_components
from recworld.agents.wishing import SACAgent, TD3Agent
from recworld.agents.wolpertinger import WolpertingerAgent
from recworld.envs import RecVectorEnv
from recworld.envs.wrappers import nearest

FAST = {"learning_starts": 200, "report_every": 160}
DECAYS = (0.5, 0.8, 0.95)


@pytest.mark.parametrize(
    ("name", "size", "steps", "settings"),
    [
        ("sac", 1, 1280, FAST | {"learning_rate": 3e-3}),
        ("sac", 2, 1280, FAST | {"learning_rate": 3e-3, "use_score": False}),
        ("td3", 2, 1920, FAST | {"learning_rate": 5e-3}),
        ("wolpertinger", 1, 1280, FAST | {"learning_rate": 1e-2, "neighbours": 3}),
        ("wolpertinger", 2, 1280, FAST | {"learning_rate": 1e-2, "neighbours": 4}),
    ],
)
def test_it_finds_the_items_that_are_clicked(
    name: str,
    size: int,
    steps: int,
    settings: dict[str, Any],
    known_env: Callable[..., RecVectorEnv],
    reward_per_step: Callable[..., float],
) -> None:
    agent: Any = make_agent(name, known_env(slate_size=size), 0, settings)
    before = reward_per_step(agent, known_env(slate_size=size))
    agent.learn(known_env(slate_size=size), steps)
    after = reward_per_step(agent, known_env(slate_size=size))
    wider = known_env(num_envs=7, slate_size=size, num_candidates=24)
    assert before < 0.6 * size
    assert after > 0.9 * size
    assert reward_per_step(agent, wider) > 0.9 * size


@pytest.mark.parametrize("cls", [SACAgent, TD3Agent, WolpertingerAgent])
def test_an_untrained_agent_is_greedy_on_the_score(
    cls: type[Any], small_env: Callable[..., RecVectorEnv]
) -> None:
    env = small_env()
    observation, _ = env.reset(seed=0)
    slates = cls(env, 0).act(observation)
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    chosen = np.take_along_axis(score, slates, 1)
    assert (chosen[:, :-1] >= chosen[:, 1:]).all()
    spread = np.array([row[np.isfinite(row)].std() for row in score])
    # Scores beyond three standard deviations are one to a wish.
    assert (np.sort(score, 1)[:, ::-1][:, :3] - chosen < spread[:, None]).all()


def test_the_slate_of_a_wish_is_that_of_the_wrapper(small_env: Callable[..., RecVectorEnv]) -> None:
    """Principal components are another way to write a text vector: the nearest candidates are the same ones."""
    env = small_env(num_envs=8)
    reader = WishReader(env, 5, DECAYS, use_score=False)
    random = np.random.default_rng(0)
    observation, _ = env.reset(seed=3)
    for _ in range(5):
        wish = torch.as_tensor(random.uniform(-1, 1, (8, 5)), dtype=torch.float32)
        tensors = {key: torch.as_tensor(value) for key, value in observation.items()}
        slates = nearest_slates(wish, *reader.coordinates(tensors), 3).numpy()
        np.testing.assert_array_equal(slates, nearest(env, reader.text_vector(wish).numpy()))
        observation = env.step(slates)[0]


def test_components_keep_most_of_the_variance() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 6)) * [5, 3, 1, 0.1, 0.1, 0.1] + 7
    top = principal_components(vectors, 3)
    np.testing.assert_allclose(top.T @ top, np.eye(3), atol=1e-6)
    kept = ((vectors - vectors.mean(0)) @ top).var(0)
    assert (np.diff(kept) < 0).all()
    assert kept.sum() > 0.99 * vectors.var(0).sum()
    np.testing.assert_array_equal(top, principal_components(vectors, 3))
    assert principal_components(vectors, 99).shape == (6, 6)


def test_leaving_ends_the_return_and_a_time_limit_does_not(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=32, horizon=3)
    agent = SACAgent(env, 0, learning_starts=10**6, reward_scale=0.5)
    kept: dict[str, list[Any]] = {"left": [], "final": [], "reward": []}
    step = env.step

    def spy(action: Any) -> Any:
        result = step(action)
        observation, reward, terminated, truncated, info = result
        final = info["final_obs"] if (terminated | truncated).any() else observation
        rows = (terminated | truncated)[:, None]
        states = [
            agent.network.state({name: torch.as_tensor(np.asarray(array)) for name, array in seen.items()})
            for seen in (final, observation)
        ]
        kept["left"].append(terminated.copy())
        kept["reward"].append(reward.copy())
        kept["final"].append(np.where(rows, *(state.numpy() for state in states)))
        return result

    env.step = spy  # type: ignore[method-assign]
    agent.learn(env, 32 * 8)
    buffer = agent._algorithm.replay_buffer
    left, final, reward = (np.concatenate(kept[name]) for name in ("left", "final", "reward"))
    assert left.any()
    np.testing.assert_array_equal(buffer.arrays["terminated"][: buffer.filled, 0], left)
    np.testing.assert_allclose(buffer.arrays["next"][: buffer.filled], final, atol=1e-5)
    np.testing.assert_allclose(buffer.arrays["reward"][: buffer.filled, 0], 0.5 * reward, rtol=1e-6)
    sample = buffer.sample(500)
    assert sample.dones.shape == sample.rewards.shape == (500, 1)
    assert set(np.unique(sample.dones)) == {0.0, 1.0}


def test_wolpertinger_chooses_among_the_nearest_alone(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=8)
    agent = WolpertingerAgent(env, 0, neighbours=5, **FAST)
    agent.learn(small_env(), 400)
    observation, _ = env.reset(seed=1)
    slates = agent.act(observation)
    with torch.no_grad():
        tensors = {name: torch.as_tensor(array) for name, array in observation.items()}
        reader: Any = agent.network.reader
        state, (coordinates, mask) = reader.state(tensors), reader.coordinates(tensors)
        near = closeness(agent.network.actor(state), coordinates, mask).topk(5, dim=1).indices
        attraction, value = agent.network.critic(state, coordinates).unbind(-1)
        worth = (attraction.sigmoid() * value).numpy()
    for row in range(8):
        best = sorted(near[row].tolist(), key=lambda n: -worth[row, n])[:3]
        assert slates[row].tolist() == best


def test_the_actor_climbs_the_critic_and_leaves_it_as_it_is(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=16)
    network: Any = WolpertingerAgent(env, 0).network
    torch.nn.init.normal_(network.critic.heads.weight, generator=torch.Generator().manual_seed(0))
    tensors = {name: torch.as_tensor(array) for name, array in env.reset(seed=1)[0].items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = network.wish_loss(tensors)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(weight.grad is None for weight in network.critic.parameters())
    assert losses[-1] < losses[0] - 0.01


def test_draws_of_a_library_come_from_the_given_generator() -> None:
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    before = torch.get_rng_state()
    drawn: list[torch.Tensor] = []

    def fails_after_a_draw() -> None:
        with drawing_from(first):
            drawn.append(torch.randn(4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_after_a_draw()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], torch.randn(4, generator=second))
    assert torch.equal(torch.rand(2, generator=first), torch.rand(2, generator=second))
