"""Bandits: posteriors against batch solutions, known worlds, both observation forms, storing and going on bit-exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.agents import check_agent, load_agent, make_agent, save_agent
from recworld.agents.bandit_features import BanditFeatures, principal_components
from recworld.agents.bandit_items import UCBAgent
from recworld.agents.bandits import ContextBandit, EpsilonGreedyBanditAgent, LinUCBAgent, ThompsonAgent
from recworld.agents.posteriors import LinearPosterior, LogisticPosterior
from recworld.envs import RecVectorEnv
from recworld.errors import CorruptError, InputError
from recworld.simulators.bundled import bundled_world

CONTEXTUAL: list[type[ContextBandit]] = [LinUCBAgent, ThompsonAgent, EpsilonGreedyBanditAgent]
ALL: list[type[Any]] = [*CONTEXTUAL, UCBAgent]
REWARDS: list[Any] = ["click", "rating", {"click": 1.0, "rating": 0.5}]


def greedy_slates(env: RecVectorEnv, observation: dict[str, Any]) -> np.ndarray:
    score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
    return np.argsort(-score, axis=1, kind="stable")[:, : env.slate_size]


def test_the_linear_posterior_is_batch_ridge_however_the_rows_are_split() -> None:
    rng = np.random.default_rng(0)
    rows, prior = rng.normal(size=(200, 7)), rng.normal(size=7)
    target = rows @ rng.normal(size=7) + rng.normal(size=200)
    model = LinearPosterior(prior, 2.5)
    for part in np.array_split(np.arange(200), [1, 3, 60]):
        model.update(rows[part], target[part])
    precision = 2.5 * np.eye(7) + rows.T @ rows
    np.testing.assert_allclose(model.mean, np.linalg.solve(precision, 2.5 * prior + rows.T @ target))
    np.testing.assert_allclose(model.root.T @ model.root, np.linalg.inv(precision), atol=1e-12)
    seen = rng.normal(size=(4, 3, 7)).astype(np.float32)
    bound = np.sqrt(np.einsum("nci,ij,ncj->nc", seen, np.linalg.inv(precision), seen))
    np.testing.assert_allclose(model.width(seen), bound, rtol=1e-4)


def test_draws_have_the_posteriors_mean_and_covariance() -> None:
    rng = np.random.default_rng(1)
    model = LinearPosterior(np.zeros(3), 1.0)
    model.update(rng.normal(size=(5, 3)) * [1, 2, 0.3], rng.normal(size=5))
    drawn = model.sample(200_000, 0.5, rng)
    np.testing.assert_allclose(drawn.mean(0), model.mean, atol=0.01)
    np.testing.assert_allclose(np.cov(drawn.T), 0.25 * np.linalg.inv(model.precision), atol=0.01)


def test_the_logistic_posterior_is_at_the_penalised_maximum() -> None:
    rng = np.random.default_rng(2)
    rows, truth = rng.normal(size=(4000, 4)), np.array([1.0, -2.0, 0.5, 0.0])
    target = (rng.random(4000) < 1 / (1 + np.exp(-rows @ truth))).astype(float)
    whole = LogisticPosterior(np.ones(4), 3.0)
    whole.update(rows, target)
    chance = 1 / (1 + np.exp(-rows @ whole.mean))
    np.testing.assert_allclose(rows.T @ (target - chance) - 3.0 * (whole.mean - 1.0), 0, atol=1e-6)
    curvature = 3.0 * np.eye(4) + (rows * (chance * (1 - chance))[:, None]).T @ rows
    np.testing.assert_allclose(whole.precision, curvature, rtol=1e-5)
    parts = LogisticPosterior(np.ones(4), 3.0)
    for part in np.array_split(np.arange(4000), 100):
        parts.update(rows[part], target[part])
    deviation = np.sqrt(np.diag(np.linalg.inv(curvature)))
    assert (np.abs(parts.mean - truth) < 4 * deviation).all()
    assert (np.abs(parts.mean - whole.mean) < deviation).all()


def test_a_logistic_update_survives_rows_that_agree() -> None:
    model = LogisticPosterior(np.array([0.0, 30.0]), 1e-3)
    rows = np.array([[1.0, 1.0], [1.0, -1.0]] * 50)
    model.update(rows, np.array([0.0, 1.0] * 50))  # the contrary of what was believed, without noise
    assert np.isfinite(model.mean).all()
    assert rows[0] @ model.mean < 0 < rows[1] @ model.mean


def test_principal_components_are_those_of_the_texts() -> None:
    rng = np.random.default_rng(3)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    vectors = (rng.normal(size=(900, 6)) * [4, 2, 1, 0.1, 0.1, 0.1] @ axes.T + 5).astype(np.float32)
    mean, projection = principal_components(vectors, 3, seed=0)
    found = (vectors - mean) @ projection
    np.testing.assert_allclose(found.std(0), [1, 0.5, 0.25], rtol=0.1)
    np.testing.assert_allclose(np.corrcoef(found.T), np.eye(3), atol=1e-3)
    assert (np.abs((projection / np.linalg.norm(projection, axis=0)).T @ axes[:, :3]).max(1) > 0.99).all()
    assert principal_components(vectors[:2], 4, seed=0)[1].shape == (6, 4)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("form", ["ids", "features"])
def test_a_bandit_keeps_the_agent_contract(cls: type[Any], form: str) -> None:
    world = bundled_world()
    env = RecVectorEnv(3, world=world, num_candidates=12, slate_size=3, horizon=6, observation=form, seed=0)
    assert check_agent(cls(env, 3), env) == []


@pytest.mark.parametrize("cls", CONTEXTUAL)
@pytest.mark.parametrize("reward", [*REWARDS, {"click": 2.0}, lambda info: info["click"].sum(1)])
def test_an_untrained_bandit_is_greedy_on_the_score(
    cls: type[Any], reward: Any, small_env: Callable[..., RecVectorEnv]
) -> None:
    env = small_env(reward=reward)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(cls(env, 0).act(observation), greedy_slates(env, observation))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("cls", ALL)
def test_it_finds_the_items_that_are_clicked(
    cls: type[Any],
    size: int,
    known_env: Callable[..., RecVectorEnv],
    reward_per_step: Callable[..., float],
) -> None:
    agent = cls(known_env(slate_size=size), 0)
    before = reward_per_step(agent, known_env(slate_size=size))
    agent.learn(known_env(slate_size=size), 960)
    assert before < 0.6 * size
    assert reward_per_step(agent, known_env(slate_size=size)) > 0.95 * size
    assert reward_per_step(agent, known_env(num_envs=7, slate_size=size, num_candidates=24)) > 0.95 * size


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("reward", REWARDS[1:])
def test_it_learns_from_ratings(
    cls: type[Any], reward: Any, small_env: Callable[..., RecVectorEnv], reward_per_step: Callable[..., float]
) -> None:
    env = small_env(64, reward=reward)
    agent = cls(env, 0)
    agent.learn(env, 64 * 60)
    drawn = reward_per_step(make_agent("random", env), env, 30)
    assert reward_per_step(agent, env, 30) > drawn + 0.1


@pytest.mark.parametrize("cls", ALL)
def test_both_forms_are_learnt_from_alike(cls: type[Any], small_env: Callable[..., RecVectorEnv]) -> None:
    agents, envs = [], [small_env(observation=form) for form in ("ids", "features")]
    for env in envs:
        agent = cls(env, 1)
        agent.learn(env, 80)
        agents.append(agent)
    for name, array in agents[0].arrays().items():
        np.testing.assert_array_equal(array, agents[1].arrays()[name], err_msg=name)
    seen = [env.reset(seed=7)[0] for env in envs]
    for deterministic in (True, False):
        slates = [a.act(o, deterministic) for a, o in zip(agents, seen, strict=True)]
        np.testing.assert_array_equal(*slates)


@pytest.mark.parametrize("cls", CONTEXTUAL)
def test_a_row_is_valued_alike_alone_and_among_others(
    cls: type[Any], small_env: Callable[..., RecVectorEnv]
) -> None:
    env = small_env(16)
    agent = cls(env, 0)
    agent.learn(env, 320)
    observation, _ = env.reset(seed=3)
    together = agent.values(agent.context(observation), None)
    for n in (0, 7):
        alone = {name: array[n : n + 1] for name, array in observation.items()}
        np.testing.assert_allclose(agent.values(agent.context(alone), None)[0], together[n], atol=1e-5)


def test_features_say_what_they_are_said_to_say(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(8, num_candidates=30)
    features = BanditFeatures(env, 3, 2, (0.5,), 0)
    env.reset(seed=0)
    for _ in range(3):
        observation, *_ = env.step(np.tile(np.arange(3), (8, 1)))
    out = features(observation)
    assert out.shape == (8, 30, features.width)
    assert np.isfinite(out).all()
    open_ = observation["action_mask"] == 1
    np.testing.assert_allclose(out[..., 1][open_] * 4, observation["candidate_score"][open_], rtol=1e-6)
    slates = np.tile([4, 9, 2], (8, 1))
    shown = features.shown(out, slates)
    np.testing.assert_array_equal(shown[:, :, :-1], out[:, [4, 9, 2], :-1])
    np.testing.assert_array_equal(shown[:, :, -1], np.tile([0, 0.25, 0.5], (8, 1)))
    assert (out[..., -1] == 0).all()


def test_upper_bounds_explore_what_is_not_known(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(8)
    observation, _ = env.reset(seed=0)
    agent = LinUCBAgent(env, 0, alpha=1.0)
    context = agent.context(observation)
    raised = agent.values(context, np.random.default_rng(0)) - agent.values(context, None)
    covariance = np.linalg.inv(agent.model.precision)
    expected = np.sqrt(np.einsum("nci,ij,ncj->nc", context, covariance, context))
    np.testing.assert_allclose(raised, expected, rtol=1e-4)
    agent.learn(small_env(8), 400)
    later = agent.values(context, np.random.default_rng(0)) - agent.values(context, None)
    assert (later < raised).all()
    none = LinUCBAgent(env, 0, alpha=0.0)
    np.testing.assert_array_equal(none.act(observation, False), none.act(observation, True))


def test_deterministic_acts_repeat_and_others_explore(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(64)
    observation, _ = env.reset(seed=0)
    for cls in (ThompsonAgent, EpsilonGreedyBanditAgent, UCBAgent):
        agent = cls(env, 0)
        np.testing.assert_array_equal(agent.act(observation), agent.act(observation))
        first, second = (agent.act(observation, deterministic=False) for _ in range(2))
        assert (first != second).any(), cls


def test_epsilon_is_the_share_of_random_slots(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(2000, num_candidates=60)
    observation, _ = env.reset(seed=0)
    agent = EpsilonGreedyBanditAgent(env, 0, epsilon=0.25)
    best, shown = agent.act(observation), agent.act(observation, deterministic=False)
    assert (np.diff(np.sort(shown, axis=1), axis=1) > 0).all()
    explored = 1 - (shown[:, :, None] == best[:, None, :]).any(2).mean()
    assert abs(explored - 0.25 * 57 / 60) < 0.02
    np.testing.assert_array_equal(EpsilonGreedyBanditAgent(env, 0, epsilon=0.0).act(observation, False), best)
    alone = {name: array.copy() for name, array in observation.items()}
    alone["action_mask"][:, 2:] = 0  # fewer candidates than slots: both are shown, nothing twice
    for epsilon in (0.0, 0.5, 1.0):
        few = EpsilonGreedyBanditAgent(env, 0, epsilon=epsilon).act(alone, False)
        assert (np.diff(np.sort(few, axis=1), axis=1) > 0).all()
        assert ((few == 0).any(1) & (few == 1).any(1)).all()


def test_place_effects_do_not_count_against_items(known_env: Callable[..., RecVectorEnv]) -> None:
    """Places are noticed with chance 1, 0.5, 0.25: the mean of an item when noticed is the same wherever it was shown."""
    world = known_env().world
    halved = world.with_dynamics(world.dynamics.model_copy(update={"examination_decay": 0.5}))
    env = known_env(32, world=halved, slate_size=3)
    agent = UCBAgent(env, 0, exploration=0.5)
    agent.learn(env, 32 * 200)
    np.testing.assert_allclose(agent.place_effect, [1, 0.5, 0.25], atol=0.05)
    good = np.arange(24) % 3 == 0
    when_noticed = agent.reward / agent.noticed
    assert (when_noticed[good] > 0.9).all()
    assert (when_noticed[~good] < 0.1).all()


def test_ucb_tries_every_item_before_it_returns_to_one(known_env: Callable[..., RecVectorEnv]) -> None:
    env = known_env(1, num_candidates=24, slate_size=1)
    agent = UCBAgent(env, 0)
    agent.learn(env, 24)
    np.testing.assert_array_equal(agent.shown.sum(1), np.ones(24))
    noticed = agent.noticed
    expected = agent.reward / noticed + 0.2 * np.sqrt(2 * np.log(noticed.sum()) / noticed)
    np.testing.assert_allclose(agent.index(), expected)


@pytest.mark.parametrize("cls", ALL)
def test_a_killed_training_ends_like_an_unbroken_one(
    cls: type[Any], tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    whole, whole_log = cls(small_env(), 3, report_every=40), []
    whole.learn(
        small_env(), 160, lambda steps, figures: whole_log.append((steps, drop_time(figures))) or True
    )
    broken, log = cls(small_env(), 3, report_every=40), []

    def stop_late(steps: int, figures: dict[str, float]) -> bool:
        log.append((steps, drop_time(figures)))
        broken.act(broken._observation)  # an evaluation in between changes nothing
        broken.checkpoint(tmp_path)
        return steps < 80

    broken.learn(small_env(), 160, stop_late)
    fresh, env = cls(small_env(), 99), small_env(seed=5)
    assert fresh.resume(tmp_path, env) == 80
    fresh.learn(env, 160, lambda steps, figures: log.append((steps, drop_time(figures))) or True)
    assert [steps for steps, _ in log] == [40, 80, 120, 160]
    assert log == whole_log
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, fresh.arrays()[name], err_msg=name)


def drop_time(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("time/")}


@pytest.mark.parametrize("name", ["linucb", "thompson", "epsilon_greedy_bandit", "ucb"])
def test_a_stored_bandit_comes_back(
    name: str, tmp_path: Path, small_env: Callable[..., RecVectorEnv]
) -> None:
    env = small_env()
    agent: Any = make_agent(name, env, 4, {"num_envs": 8})
    agent.learn(small_env(), 80)
    save_agent(agent, tmp_path, name, 4)
    assert not [f for f in tmp_path.iterdir() if f.suffix not in {".json", ".safetensors"}]
    observation, _ = env.reset(seed=0)
    loaded: Any = load_agent(tmp_path, env)
    assert loaded.settings == agent.settings
    np.testing.assert_array_equal(loaded.act(observation), agent.act(observation))
    wide = small_env(num_envs=2, num_candidates=30, slate_size=5, observation="features")
    other: Any = load_agent(tmp_path, wide)
    assert other.act(wide.reset(seed=0)[0]).shape == (2, 5)
    other.learn(wide, 10)
    with pytest.raises(CorruptError, match="does not fit"):
        load_agent(tmp_path, small_env(world=bundled_world(items=50, width=8)))


def test_figures_reach_the_callback_and_false_stops(small_env: Callable[..., RecVectorEnv]) -> None:
    calls: list[tuple[int, dict[str, float]]] = []
    agent = LinUCBAgent(small_env(), 0, report_every=40)
    agent.learn(small_env(), 400, lambda steps, figures: calls.append((steps, figures)) or len(calls) < 2)
    assert [steps for steps, _ in calls] == [40, 80]
    assert {"train/return", "train/click_rate", "train/coverage", "loss/error"} <= set(calls[0][1])


def test_wrong_use_is_told(tmp_path: Path, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    with pytest.raises(InputError, match="Did you mean 'alpha'"):
        LinUCBAgent(env, 0, alfa=1)
    with pytest.raises(InputError, match="reward 'click'"):
        ThompsonAgent(small_env(reward="rating"), 0, model="logistic")
    agent = LinUCBAgent(env, 0)
    with pytest.raises(InputError, match="total_steps"):
        agent.learn(env, 0)
    with pytest.raises(InputError, match="autoreset_mode"):
        agent.learn(small_env(autoreset_mode="Disabled"), 10)
    with pytest.raises(InputError, match="slate size must be 3"):
        agent.learn(small_env(slate_size=2), 10)
    with pytest.raises(InputError, match="call learn first"):
        agent.checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"no training\.json"):
        agent.resume(tmp_path, env)
    with pytest.raises(InputError, match=r"no bandit\.json"):
        agent.load(tmp_path, env)
    agent.save(tmp_path)
    with pytest.raises(InputError, match="kind 'linucb', not 'thompson'"):
        ThompsonAgent(env, 0).load(tmp_path, env)
    agent.learn(env, 8)
    agent.checkpoint(tmp_path)
    agent.resume(tmp_path, env)
    with pytest.raises(InputError, match="environment that resume got"):
        agent.learn(small_env(), 80)
