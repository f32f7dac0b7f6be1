"""DQN over slates: learns what is known, explores each user by itself, keeps leaving and time limits apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents.dqn import DQNAgent, SlateDQN, random_slates
from recworld.agents.replay import SlateReplay
from recworld.envs import RecVectorEnv
from recworld.errors import InputError

FAST = {"learning_starts": 100, "learning_rate": 1e-2, "batch_size": 64, "report_every": 160}


def started(agent: DQNAgent, env: RecVectorEnv, steps: int) -> SlateDQN:
    agent.learn(env, steps)
    algorithm: SlateDQN = agent._algorithm
    return algorithm


def test_an_untrained_agent_is_greedy_on_the_score(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    observation, _ = env.reset(seed=0)
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    expected = np.argsort(-score, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(DQNAgent(env, 0).act(observation), expected)


@pytest.mark.parametrize("size", [1, 2])
def test_it_finds_the_items_that_are_clicked(
    size: int, known_env: Callable[..., RecVectorEnv], reward_per_step: Callable[..., float]
) -> None:
    agent = DQNAgent(known_env(slate_size=size), 0, **FAST)
    before = reward_per_step(agent, known_env(slate_size=size))
    agent.learn(known_env(slate_size=size), 1600)
    assert before < 0.6 * size
    assert reward_per_step(agent, known_env(slate_size=size)) > 0.95 * size
    assert reward_per_step(agent, known_env(num_envs=7, slate_size=size, num_candidates=24)) > 0.95 * size


def test_worth_counts_the_future(known_env: Callable[..., RecVectorEnv]) -> None:
    """Every good slate is clicked for sure, so with T steps to go the value is sum gamma^t times the clicks per step."""
    agent = DQNAgent(known_env(), 0, gamma=0.5, reward_scale=1.0, tau=0.1, **FAST)
    agent.learn(known_env(num_envs=32), 5000)
    env = known_env()
    observation, _ = env.reset(seed=3)
    tensors = {name: torch.as_tensor(array) for name, array in observation.items()}
    with torch.no_grad():
        value = agent.network.slate_value(tensors, torch.as_tensor(agent.act(observation)))
    assert abs(float(value.mean()) - 2 / (1 - 0.5)) < 0.6  # a time limit does not end the sum


def test_targets_keep_leaving_and_time_limits_apart(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=32, horizon=3)
    agent = DQNAgent(env, 0, gamma=0.9, reward_scale=1.0, report_every=64)
    kept: dict[str, list[Any]] = {"left": [], "final": []}
    step = env.step

    def spy(action: Any) -> Any:
        result = step(action)
        observation, _, terminated, truncated, info = result
        over = terminated | truncated
        final = info["final_obs"]["step"] if over.any() else observation["step"]
        kept["left"].append(terminated.copy())
        kept["final"].append(np.where(over[:, None], final, observation["step"]))
        return result

    env.step = spy  # type: ignore[method-assign]
    algorithm = started(agent, env, 32 * 8)
    buffer = algorithm.replay_buffer
    left, final = np.concatenate(kept["left"]), np.concatenate(kept["final"])
    np.testing.assert_array_equal(buffer.arrays["terminated"][: buffer.filled], left)
    np.testing.assert_array_equal(buffer.arrays["next/step"][: buffer.filled], final)
    assert left.any()
    assert (final == 1.0).any()
    batch = {name: torch.as_tensor(array[: buffer.filled]) for name, array in buffer.arrays.items()}
    targets, reward = algorithm.targets(batch), batch["reward"]
    assert torch.equal(targets[left], reward[left])
    limit = (batch["next/step"][:, 0] == 1.0) & ~batch["terminated"]
    assert limit.any()
    assert (targets[limit] != reward[limit]).all()
    algorithm.gamma = 0.0
    assert torch.equal(algorithm.targets(batch), reward)


def test_each_user_is_explored_by_a_coin_of_their_own(known_env: Callable[..., RecVectorEnv]) -> None:
    env = known_env(num_envs=400)
    agent = DQNAgent(env, 0, epsilon_start=0.5, epsilon_end=0.5, learning_starts=10**6)
    algorithm = started(agent, env, 400)
    actions, _ = algorithm._sample_action(0, None, 400)
    explored = (actions != agent.act(algorithm._last_obs)).any(1).mean()
    assert 0.4 < explored < 0.6


def test_random_slates_are_uniform_over_what_is_open() -> None:
    mask = torch.tensor([[1, 0, 1, 1]] * 9000, dtype=torch.int8)
    drawn = random_slates(mask, 2, torch.Generator().manual_seed(0)).numpy()
    assert not (drawn == 1).any()
    assert (drawn[:, 0] != drawn[:, 1]).all()
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 6
    assert (abs(counts - 1500) < 5 * np.sqrt(1500)).all()


def test_a_killed_training_ends_like_an_unbroken_one(
    tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    options = {"learning_starts": 20, "batch_size": 16, "report_every": 40, "buffer_size": 90}
    total = 160
    whole, whole_log = DQNAgent(small_env(), 3, **options), []
    whole.learn(
        small_env(), total, lambda steps, figures: whole_log.append((steps, drop_time(figures))) or True
    )
    broken, log = DQNAgent(small_env(), 3, **options), []

    def stop_late(steps: int, figures: dict[str, float]) -> bool:
        log.append((steps, drop_time(figures)))
        (tmp_path / str(steps)).mkdir()
        broken.checkpoint(tmp_path / str(steps))
        return steps < 100

    broken.learn(small_env(), total, stop_late)
    last = log[-1][0]
    assert 100 <= last < total
    fresh, env = DQNAgent(small_env(), 99), small_env(seed=5)
    assert fresh.resume(tmp_path / str(last), env) == last
    fresh.learn(env, total, lambda steps, figures: log.append((steps, drop_time(figures))) or True)
    assert log == whole_log
    for (name, a), b in zip(
        whole.network.state_dict().items(), fresh.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def drop_time(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("time/")}


def test_save_and_load_give_the_same_acts(tmp_path: Path, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    agent = DQNAgent(env, 0, **FAST)
    agent.learn(small_env(), 200)
    agent.save(tmp_path)
    other = DQNAgent(env, 5)
    other.load(tmp_path, env)
    observation, _ = env.reset(seed=2)
    np.testing.assert_array_equal(agent.act(observation), other.act(observation))


def test_replay_is_a_ring_of_what_happened(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=2)
    space, actions = env.single_observation_space, env.single_action_space
    replay = SlateReplay(7, space, actions, n_envs=2, random=np.random.default_rng(0))
    assert replay.rows == 6
    observation, _ = env.reset(seed=0)
    for number in range(5):
        fields = {"slate": np.zeros((2, 3)), "click": np.zeros((2, 3)), "shown": np.ones((2, 3))}
        replay.add(observation, observation, reward=np.full(2, number), terminated=np.zeros(2), **fields)
    assert sorted(replay.arrays["reward"].tolist()) == [2, 2, 3, 3, 4, 4]
    assert set(replay.sample(100)["reward"].tolist()) == {2.0, 3.0, 4.0}
    other = SlateReplay(7, space, actions, n_envs=2, random=np.random.default_rng(0))
    other.load(replay.state())
    assert (other.position, other.filled) == (replay.position, replay.filled)
    np.testing.assert_array_equal(other.arrays["now/candidates"], replay.arrays["now/candidates"])
    with pytest.raises(InputError, match="observation='ids'"):
        SlateReplay(10**9, space, actions, random=np.random.default_rng(0))
