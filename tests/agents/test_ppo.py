"""PPO and A2C learn what is known, treat time limits as time limits, and go on bit-exactly after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents.ppo import A2CAgent, A2CSettings, PPOAgent, PPOSettings
from recworld.envs import RecVectorEnv
from recworld.errors import CorruptError, InputError
from recworld.simulators.bundled import bundled_world

FAST = {
    "n_steps": 10,
    "batch_size": 80,
    "learning_rate": 1e-2,
    "n_epochs": 4,
    "slow_share": 1.0,
    "warm_start": 0.0,
}


def greedy_slates(env: RecVectorEnv, observation: dict[str, Any]) -> np.ndarray:
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    return np.argsort(-score, axis=1, kind="stable")[:, : env.slate_size]


def test_an_untrained_policy_is_greedy_on_the_score(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    observation, _ = env.reset(seed=0)
    for agent in (PPOAgent(env, 0), A2CAgent(env, 1)):
        np.testing.assert_array_equal(agent.act(observation), greedy_slates(env, observation))


@pytest.mark.parametrize(
    ("size", "gamma", "feedback_epochs", "steps"),
    [(1, 0.9, 0, 2400), (2, 0.0, 0, 2400), (1, 0.0, 2, 960), (2, 0.9, 2, 960)],
)
def test_ppo_finds_the_items_that_are_clicked(
    size: int,
    gamma: float,
    feedback_epochs: int,
    steps: int,
    known_env: Callable[..., RecVectorEnv],
    reward_per_step: Callable[..., float],
) -> None:
    agent = PPOAgent(known_env(slate_size=size), 0, gamma=gamma, feedback_epochs=feedback_epochs, **FAST)
    before = reward_per_step(agent, known_env(slate_size=size))
    agent.learn(known_env(slate_size=size), steps)
    assert before < 0.6 * size
    assert reward_per_step(agent, known_env(slate_size=size)) > 0.95 * size
    wider = known_env(num_envs=7, slate_size=size, num_candidates=24)
    assert reward_per_step(agent, wider) > 0.95 * size


def test_the_score_is_corrected_by_rewards_where_it_is_no_click_logit(
    known_env: Callable[..., RecVectorEnv], reward_per_step: Callable[..., float], good_items: Any
) -> None:
    """Of the slate's reward alone (here: clicks under another name), the estimator finds each item's share."""
    mixed = {"click": 1.0, "rating": 0.0}
    agent = PPOAgent(known_env(reward=mixed), 0, feedback_epochs=8, start_scale=0.5, **FAST)
    assert not agent.network.is_click_logit
    agent.learn(known_env(reward=mixed), 1600)
    assert reward_per_step(agent, known_env(reward=mixed)) > 1.9
    observation, _ = known_env(reward=mixed).reset(seed=4)
    with torch.no_grad():
        facts = agent.network.reader({name: torch.as_tensor(array) for name, array in observation.items()})
        estimate = agent.network.estimate(facts).numpy()
    good = good_items[observation["candidates"]]
    assert abs(estimate[good].mean() - 1.0) < 0.25
    assert estimate[good].mean() - estimate[~good].mean() > 0.7


def test_a2c_finds_the_items_that_are_clicked(
    known_env: Callable[..., RecVectorEnv], reward_per_step: Callable[..., float]
) -> None:
    agent = A2CAgent(known_env(), 0, n_steps=5, learning_rate=5e-3)
    agent.learn(known_env(), 3200)
    assert reward_per_step(agent, known_env()) > 1.9


def test_features_observations_train_too(
    known_env: Callable[..., RecVectorEnv], reward_per_step: Callable[..., float]
) -> None:
    agent = PPOAgent(known_env(observation="features"), 0, **FAST)
    agent.learn(known_env(observation="features"), 960)
    assert reward_per_step(agent, known_env(observation="features")) > 1.9
    assert reward_per_step(agent, known_env(observation="ids")) > 1.9


def advantages_by_hand(
    rewards: Any, values: Any, ends: Any, limits: Any, final: Any, last: Any, gamma: float, lam: float
) -> Any:
    """GAE written from its definition: a user who leaves has value 0 next, a time limit the value of the final state."""
    steps, n = rewards.shape
    out = np.zeros((steps, n))
    for user in range(n):
        running = 0.0
        for t in reversed(range(steps)):
            over = ends[t, user]
            following = (
                final[t, user]
                if limits[t, user]
                else 0.0
                if over
                else (last[user] if t == steps - 1 else values[t + 1, user])
            )
            delta = rewards[t, user] + gamma * following - values[t, user]
            running = delta + (0.0 if over else gamma * lam * running)
            out[t, user] = running
    return out


def test_a_time_limit_is_bootstrapped_and_leaving_is_not(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=16, horizon=3)
    agent = PPOAgent(env, 0, n_steps=12, reward_scale=1.0, gamma=0.9, gae_lambda=0.8, warm_start=0.0)
    seen: dict[str, list[Any]] = {"reward": [], "end": [], "limit": [], "final": []}
    step = env.step

    def spy(action: Any) -> Any:
        result = step(action)
        _, reward, terminated, truncated, info = result
        final = np.zeros(env.num_envs)
        if truncated.any():
            with torch.no_grad():
                tensors = {name: torch.as_tensor(array) for name, array in info["final_obs"].items()}
                final = agent.network(tensors)[2].flatten().numpy()
        for name, array in zip(seen, (reward, terminated | truncated, truncated, final), strict=True):
            seen[name].append(np.array(array))
        return result

    env.step = spy  # type: ignore[method-assign]
    found: dict[str, Any] = {}

    def keep_rollout(self: Any) -> None:
        buffer = self.rollout_buffer
        found.update(advantages=buffer.advantages.copy(), values=buffer.values.copy())
        with torch.no_grad():
            found["last"] = (
                self.policy.predict_values({k: torch.as_tensor(v) for k, v in self._last_obs.items()})
                .flatten()
                .numpy()
            )

    build = agent.build_algorithm

    def build_and_spy(*args: Any) -> Any:
        algorithm = build(*args)
        algorithm.train = lambda: keep_rollout(algorithm)
        return algorithm

    agent.build_algorithm = build_and_spy  # type: ignore[method-assign]
    agent.learn(env, 12 * 16)
    reward, end, limit, final = (np.array(seen[name]) for name in seen)
    assert limit.any()
    assert (end & ~limit).any()
    expected = advantages_by_hand(reward, found["values"], end, limit, final, found["last"], 0.9, 0.8)
    np.testing.assert_allclose(found["advantages"], expected, atol=1e-4)


def test_masked_candidates_are_never_shown(known_env: Callable[..., RecVectorEnv]) -> None:
    """Without repeats everything good is consumed at some point; what is left must still be legal."""
    env = known_env(num_envs=8, repeats=False, horizon=10, slate_size=3)
    agent = PPOAgent(env, 0, **FAST)
    invalid: list[int] = []
    step = env.step

    def spy(action: Any) -> Any:
        enough = env.simulator.observe().mask.sum(1) >= 3
        result = step(action)
        info = result[4].get("final_info", result[4])
        invalid.extend(info["invalid"][enough].tolist())
        return result

    env.step = spy  # type: ignore[method-assign]
    agent.learn(env, 800)
    assert len(invalid) > 400
    assert not any(invalid)


@pytest.mark.parametrize("cls", [PPOAgent, A2CAgent])
def test_a_killed_training_ends_like_an_unbroken_one(
    cls: type[Any], tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    options = {"n_steps": 5} | ({"batch_size": 7} if cls is PPOAgent else {})
    total = 3 * 5 * 4
    whole, whole_log = cls(small_env(), 3, **options), []
    whole.learn(
        small_env(), total, lambda steps, figures: whole_log.append((steps, drop_time(figures))) or True
    )

    broken, log = cls(small_env(), 3, **options), []

    def stop_after_first(steps: int, figures: dict[str, float]) -> bool:
        log.append((steps, drop_time(figures)))
        broken.checkpoint(tmp_path)
        return False

    broken.learn(small_env(), total, stop_after_first)
    assert len(log) == 1
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 (what others do to the global generators must not matter)
    fresh, env = cls(small_env(), 99), small_env(seed=5)
    assert fresh.resume(tmp_path, env) == 20
    fresh.learn(env, total, lambda steps, figures: log.append((steps, drop_time(figures))) or True)
    assert log == whole_log
    for (name, a), b in zip(
        whole.network.state_dict().items(), fresh.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def drop_time(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("time/")}


def test_two_agents_in_one_process_do_not_disturb_each_other(small_env: Callable[..., RecVectorEnv]) -> None:
    def trained(disturb: bool) -> dict[str, torch.Tensor]:
        agent = PPOAgent(small_env(), 0, n_steps=4, batch_size=8)
        other = PPOAgent(small_env(), 7, n_steps=4, batch_size=8)
        before = torch.random.get_rng_state()
        agent.learn(small_env(), 32, (lambda *_: other.learn(small_env(), 16) or True) if disturb else None)
        assert torch.equal(before, torch.random.get_rng_state())
        return dict(agent.network.state_dict())

    alone, together = trained(False), trained(True)
    assert all(torch.equal(alone[name], together[name]) for name in alone)


def test_save_and_load_give_the_same_acts(tmp_path: Path, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    agent = PPOAgent(env, 0, n_steps=4, network={"hidden": 8, "projection": 4})
    agent.learn(small_env(), 64)
    agent.save(tmp_path)
    other = PPOAgent(env, 5)
    other.load(tmp_path, env)
    assert other.settings.network.hidden == 8
    observation, _ = env.reset(seed=2)
    np.testing.assert_array_equal(agent.act(observation), other.act(observation))
    with pytest.raises(InputError, match="kind 'ppo', not 'a2c'"):
        A2CAgent(env, 0).load(tmp_path, env)
    narrow = small_env(world=bundled_world(width=8))
    with pytest.raises(CorruptError, match="shape"):
        PPOAgent(narrow, 0).load(tmp_path, narrow)


def test_figures_reach_the_callback_and_false_stops(small_env: Callable[..., RecVectorEnv]) -> None:
    calls: list[tuple[int, dict[str, float]]] = []
    agent = PPOAgent(small_env(), 0, n_steps=10, warm_start=0.0)
    agent.learn(small_env(), 400, lambda steps, figures: calls.append((steps, figures)) or len(calls) < 2)
    assert [steps for steps, _ in calls] == [40, 80]
    wanted = {
        "train/return",
        "train/click_rate",
        "train/session_length",
        "train/coverage",
        "time/steps_per_second",
    }
    wanted |= {"loss/policy", "loss/value", "loss/entropy", "loss/approx_kl"}
    assert wanted <= set(calls[0][1])
    assert 0 < calls[0][1]["train/coverage"] <= 1


def test_settings_are_checked(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    with pytest.raises(InputError, match="Did you mean 'gamma'"):
        PPOAgent(env, 0, gama=0.5)
    with pytest.raises(InputError, match="A2CSettings"):
        A2CAgent(env, 0, settings=PPOSettings())
    with pytest.raises(InputError, match="device must be cpu"):
        PPOAgent(env, 0, device="abacus")
    with pytest.raises(InputError, match="total_steps"):
        A2CAgent(env, 0, settings=A2CSettings()).learn(env, 0)
    with pytest.raises(InputError, match="call learn first"):
        PPOAgent(env, 0).checkpoint(Path("."))
    with pytest.raises(InputError, match=r"no training\.json"):
        PPOAgent(env, 0).resume(Path("."), env)


@pytest.mark.parametrize(("agent_class", "warm_start"), [(PPOAgent, 0.5), (A2CAgent, 0.45), (PPOAgent, 0.0)])
def test_gradients_never_see_what_was_drawn_while_warming_up(
    agent_class: Any, warm_start: float, small_env: Callable[..., RecVectorEnv]
) -> None:
    """A rollout warms up as a whole or not at all, and the first gradient step meets the probabilities of the draws."""
    agent = agent_class(small_env(num_envs=16), 0, n_steps=5, warm_start=warm_start)
    build, ratios, warmed = agent.build_algorithm, [], []

    def spied(*args: Any) -> Any:
        algorithm = build(*args)
        train = algorithm.train

        def look_and_train() -> None:
            warmed.append(algorithm.warming)
            if not algorithm.warming:
                rows = next(iter(algorithm.rollout_buffer.get(80)))
                log_prob = algorithm.policy.evaluate_actions(rows.observations, rows.actions)[1]
                ratios.append((log_prob - rows.old_log_prob).exp().detach().numpy())
            train()

        algorithm.train = look_and_train
        return algorithm

    agent.build_algorithm = spied  # type: ignore[method-assign]
    agent.learn(small_env(num_envs=16), 800)
    assert sum(warmed) == np.ceil(warm_start * 10)
    assert warmed == sorted(warmed, reverse=True)
    np.testing.assert_allclose(np.concatenate(ratios), 1.0, atol=1e-4)


def test_a_run_that_is_trained_on_does_not_warm_up_again(
    tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    env = small_env(num_envs=16)
    agent = PPOAgent(env, 0, n_steps=5, warm_start=0.5)
    agent.learn(env, 400)
    agent.checkpoint(tmp_path)
    again = small_env(num_envs=16)
    longer = PPOAgent(again, 0, n_steps=5, warm_start=0.5)
    assert longer.resume(tmp_path, again) == 400
    warmed = []
    longer.learn(again, 1600, lambda steps, figures: warmed.append(longer._algorithm.warming) or True)
    assert len(warmed) == 15
    assert not any(warmed)
