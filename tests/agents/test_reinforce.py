"""REINFORCE: the corrections against their definitions, known worlds, going on bit-exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents.reinforce import ReinforceAgent, policy_loss, returns_after, top_k_factor
from recworld.envs import RecVectorEnv
from recworld.errors import InputError

FAST = {"n_steps": 10, "batch_size": 80, "learning_rate": 1e-2, "epochs": 2}
CAP = 2.0


def logits_and_slates(size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(size)
    logits = torch.randn(6, 9, generator=random).requires_grad_()
    slates = torch.rand(6, 9, generator=random).topk(size).indices
    return logits, slates, torch.randn(6, size, generator=random)


def test_with_one_item_and_its_own_rollout_it_is_plain_reinforce() -> None:
    logits, slates, advantage = logits_and_slates(1)
    log_pi = logits.log_softmax(1).gather(1, slates)
    loss = policy_loss(log_pi, log_pi.detach(), advantage, torch.ones(6, 1), 1, CAP)
    (found,) = torch.autograd.grad(loss, logits)
    # By hand: the gradient of log softmax is one-hot less probabilities.
    one_hot = torch.zeros(6, 9).scatter(1, slates, 1.0)
    expected = -advantage * (one_hot - logits.detach().softmax(1)) / 6
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_lambda_is_the_derivative_of_the_chance_to_be_among_k_draws(size: int) -> None:
    pi = torch.tensor([0.0, 0.01, 0.3, 0.9, 1.0], dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad((1 - (1 - pi) ** size).sum(), pi)
    torch.testing.assert_close(top_k_factor(pi.log(), size), slope)


def test_every_slot_has_the_weight_of_the_paper() -> None:
    logits, slates, advantage = logits_and_slates(3)
    other = torch.randn(6, 9, generator=torch.Generator().manual_seed(9)) * 2
    log_pi, log_beta = (x.log_softmax(1).gather(1, slates) for x in (logits, other))
    shown = torch.ones(6, 3)
    shown[0, 2] = 0
    loss = policy_loss(log_pi, log_beta, advantage, shown, 3, CAP)
    (found,) = torch.autograd.grad(loss, logits)
    pi, beta = logits.detach().softmax(1).numpy(), other.softmax(1).numpy()
    expected = np.zeros((6, 9))
    for n in range(6):
        for k in range(3):
            a = int(slates[n, k])
            weight = min(pi[n, a] / beta[n, a], CAP) * 3 * (1 - pi[n, a]) ** 2 * float(shown[n, k])
            expected[n] -= weight * float(advantage[n, k]) * (np.eye(9)[a] - pi[n]) / 17
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert (pi / beta > CAP).any()


def test_returns_end_where_users_leave_and_go_on_at_time_limits() -> None:
    rewards = np.array([[1.0, 1, 1], [2, 2, 2], [4, 4, 4]])
    over = np.array([[False, True, True], [False, False, False], [False, False, True]])
    following = np.array([[0.0, 0, 7], [0, 0, 0], [10, 10, 0]])  # user 1 left, user 2 met the time limit
    after = returns_after(rewards, following, over, 0.5)
    expected = [[0.5 * (2 + 0.5 * 9), 0, 3.5], [0.5 * 9, 0.5 * 9, 0.5 * 4], [5, 5, 0]]
    np.testing.assert_allclose(after, expected)


def test_rollouts_hold_what_happened(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(8, horizon=4)
    agent = ReinforceAgent(env, 0, n_steps=9, reward_scale=1.0, gamma=0.0, replay=1)
    seen: dict[str, list[Any]] = {"reward": [], "over": []}
    step = env.step

    def spy(action: Any) -> Any:
        result = step(action)
        seen["reward"].append(result[1])
        seen["over"].append(result[2] | result[3])
        return result

    env.step = spy  # type: ignore[method-assign]
    agent.learn(env, 72)
    (rollout,) = agent._algorithm.rollouts
    assert np.any(seen["over"])
    # The clicks of a step in which an episode ended are the last episode's, not the next one's.
    np.testing.assert_allclose(rollout["earned"].sum(1), np.concatenate(seen["reward"]))
    np.testing.assert_allclose(rollout["after"], 0)
    mask = np.take_along_axis(rollout["observation/action_mask"], rollout["slate"], 1)
    np.testing.assert_array_equal(rollout["shown"], mask)
    untrained = ReinforceAgent(env, 0)
    with torch.no_grad():
        tensors = {
            name.removeprefix("observation/"): torch.as_tensor(array)
            for name, array in rollout.items()
            if name.startswith("observation/")
        }
        logits, mask_, _ = untrained.network(tensors)
        chance = logits.masked_fill(~mask_, -1e9).log_softmax(1).gather(1, torch.as_tensor(rollout["slate"]))
    np.testing.assert_allclose(rollout["log_beta"], chance.numpy(), atol=1e-4)


def test_an_untrained_policy_is_greedy_on_the_score(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    observation, _ = env.reset(seed=0)
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    expected = np.argsort(-score, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(ReinforceAgent(env, 0).act(observation), expected)


@pytest.mark.parametrize(
    ("size", "gamma", "reward"), [(1, 0.9, "click"), (2, 0.0, "click"), (2, 0.9, {"click": 1.0})]
)
def test_it_finds_the_items_that_are_clicked(
    size: int,
    gamma: float,
    reward: Any,
    known_env: Callable[..., RecVectorEnv],
    reward_per_step: Callable[..., float],
) -> None:
    agent = ReinforceAgent(known_env(slate_size=size, reward=reward), 0, gamma=gamma, **FAST)
    before = reward_per_step(agent, known_env(slate_size=size))
    agent.learn(known_env(slate_size=size, reward=reward), 2400)
    assert before < 0.6 * size
    assert reward_per_step(agent, known_env(slate_size=size)) > 0.95 * size
    wider = known_env(num_envs=7, slate_size=size, num_candidates=24, observation="features")
    assert reward_per_step(agent, wider) > 0.95 * size


def test_it_looks_ahead(small_env: Callable[..., RecVectorEnv]) -> None:
    """The value of a state is the discounted sum of what follows, not the next reward."""
    env = small_env(32, horizon=6)
    agent = ReinforceAgent(env, 0, reward_scale=1.0, **FAST)
    agent.learn(env, 32 * 60)
    env.reset(seed=2)
    found = []
    for _ in range(4):
        observation, reward, *_ = env.step(agent.act(env.restore(env.state())))
        with torch.no_grad():
            tensors = {name: torch.as_tensor(array) for name, array in observation.items()}
            found.append(float(agent.network(tensors)[2].mean()))
        assert found[-1] > 1.5 * reward.mean()


@pytest.mark.parametrize("size", [1])
def test_a_killed_training_ends_like_an_unbroken_one(
    size: int, tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    options, total = {"n_steps": 5, "batch_size": 7, "replay": 2}, 4 * 5 * 4
    whole, whole_log = ReinforceAgent(small_env(slate_size=size), 3, **options), []
    whole.learn(
        small_env(slate_size=size),
        total,
        lambda steps, figures: whole_log.append((steps, drop_time(figures))) or True,
    )
    broken, log = ReinforceAgent(small_env(slate_size=size), 3, **options), []

    def stop_late(steps: int, figures: dict[str, float]) -> bool:
        log.append((steps, drop_time(figures)))
        if steps == 40:
            broken.checkpoint(tmp_path)
        return steps < 40

    broken.learn(small_env(slate_size=size), total, stop_late)
    fresh, env = ReinforceAgent(small_env(slate_size=size), 99), small_env(slate_size=size, seed=5)
    assert fresh.resume(tmp_path, env) == 40
    fresh.learn(env, total, lambda steps, figures: log.append((steps, drop_time(figures))) or True)
    assert log == whole_log
    for (name, a), b in zip(
        whole.network.state_dict().items(), fresh.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def drop_time(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("time/")}


def test_replay_keeps_the_newest_rollouts(small_env: Callable[..., RecVectorEnv]) -> None:
    agent = ReinforceAgent(small_env(), 0, n_steps=2, replay=3)
    sizes: list[int] = []
    agent.learn(small_env(), 40, lambda *_: sizes.append(len(agent._algorithm.rollouts)) or True)
    assert sizes == [1, 2, 3, 3, 3]
    steps = [rollout["observation/step"][0, 0] for rollout in agent._algorithm.rollouts]
    assert len(set(steps)) > 1


def test_wrong_use_is_told(small_env: Callable[..., RecVectorEnv]) -> None:
    with pytest.raises(InputError, match="Did you mean 'weight_cap'"):
        ReinforceAgent(small_env(), 0, weight_cup=1)
    with pytest.raises(InputError, match="SAME_STEP"):
        ReinforceAgent(small_env(), 0).learn(small_env(autoreset_mode="Disabled"), 10)
