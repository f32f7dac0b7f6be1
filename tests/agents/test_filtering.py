"""The filtering planner: what it believes of a person is what the clicks and skips say, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from recworld.agents import AGENTS
from recworld.agents.episodes import episode_env, play
from recworld.agents.filtering import Filtering, moments
from recworld.agents.upper import InformedGreedy, Planner, ShortTermOracle
from recworld.cli import comparison
from recworld.envs import RecVectorEnv
from recworld.logs.log import RatingScale
from recworld.simulators import state as st
from recworld.simulators.bundled import bundled_world
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.world import World

CLICKS = RatingScale("click")
OPTIONS: dict[str, Any] = {"num_candidates": 20, "slate_size": 3, "horizon": 12}
GRID = np.linspace(-30, 30, 200_001)


def strangers(**dynamics: Any) -> World:
    """Return a world whose recommender knows nothing of persons: tastes are drawn from one normal distribution."""
    world = bundled_world(members=1, items=60, factors=3, seed=1)
    random = np.random.default_rng(0)
    taste = random.normal(0, 2.0, size=world.truth.taste.shape).astype(np.float32)
    agent = world.agent.response
    return replace(
        world,
        truth=replace(world.truth, taste=taste),
        agent=replace(world.agent, response=replace(agent, taste=np.zeros_like(agent.taste))),
        user_vector=np.zeros_like(world.user_vector) + np.float32(world.vector_width**-0.5),
        dynamics=dynamics_preset("static").model_copy(update=dynamics),
    )


def posterior(mean: float, variance: float, likelihood: Any) -> tuple[float, float]:
    """Return the moments of a normal logit times a likelihood, summed over a fine grid."""
    weight = np.exp(-((GRID - mean) ** 2) / 2 / variance) * likelihood(GRID)
    weight /= weight.sum()
    centre = float(weight @ GRID)
    return centre, float(weight @ (GRID - centre) ** 2)


@pytest.mark.parametrize("noticed", [1.0, 0.6, 0.1])
@pytest.mark.parametrize("click", [True, False])
def test_moments_are_those_of_the_exact_posterior(click: bool, noticed: float) -> None:
    mean, variance = np.array([-2.0, 0.0, 0.7, 3.0]), np.array([0.1, 1.0, 4.0, 2.0])
    found = moments(mean, variance, np.full(4, click), np.full(4, noticed))
    for n in range(4):
        exact = posterior(
            mean[n], variance[n], lambda a: noticed * expit(a) if click else 1 - noticed * expit(a)
        )
        np.testing.assert_allclose([found[0][n], found[1][n]], exact, rtol=2e-3, atol=2e-3)


def test_a_slate_moves_the_belief_as_bayes_does() -> None:
    """What is believed of the shown item's logit is its exact posterior; all else follows from that by regression."""
    env = episode_env(strangers(), {**OPTIONS, "slate_size": 1, "reward": "click"}, users="train")
    agent = Filtering(env)
    seen, _ = env.reset(seed=0)
    chosen = agent.act(seen)
    item = np.take_along_axis(env.candidate_items(), chosen, 1)[:, 0]
    t = agent._tables
    known = np.concatenate([t.item[0, item, agent._width :], np.ones((len(item), 1))], 1)
    before, spread = agent.belief.mean.copy(), agent.belief.covariance.copy()
    seen, _, _, _, info = env.step(chosen)
    agent.scores(seen)
    assert 0 < info["click"].mean() < 1
    for n in range(12):
        mean, variance = known[n] @ before[n], known[n] @ spread[n] @ known[n]
        base = t.item_attraction[0, item[n]]
        clicked = info["click"][n, 0] == 1
        after, left = posterior(
            mean, variance, lambda a, b=base, c=clicked: expit(a + b) if c else 1 - expit(a + b)
        )
        gain = spread[n] @ known[n] / variance
        np.testing.assert_allclose(agent.belief.mean[n], before[n] + gain * (after - mean), atol=2e-3)
        expected = spread[n] - np.outer(gain, gain) * (variance - left)
        np.testing.assert_allclose(agent.belief.covariance[n], expected, atol=2e-3)


def test_the_more_it_has_seen_the_nearer_it_comes_to_knowing_the_person() -> None:
    world = strangers()
    env = episode_env(world, {**OPTIONS, "horizon": 60, "repeats": True}, users="train")
    users = world.users("train")
    free = {"boredom_cost": 0.0, "crowd_cost": 0.0, "slate_cost": 0.0}
    agents = {"informed": InformedGreedy(env), "oracle": ShortTermOracle(env), "own": Filtering(env, **free)}
    first, last = {}, {}  # mean reward of the first two steps, and of the last ten
    for name, agent in agents.items():
        reward = play(agent, env, users, seed=1).reward
        first[name], last[name] = reward[:2].mean(), reward[-10:].mean()

    def way(of: dict[str, Any]) -> float:
        return float((of["own"] - of["informed"]) / (of["oracle"] - of["informed"]))

    assert way(first) < 0.4 < 0.8 < way(last) < 1.02


@pytest.mark.parametrize("scale", [CLICKS, None])
def test_drift_is_followed(scale: RatingScale | None) -> None:
    """Sure of the right person, it knows the taste of now as well as the world does, clicks, ratings, boredom and all."""
    world = bundled_world(members=1, scale=scale)
    world = replace(world, agent=replace(world.agent, response=world.truth))
    dynamics = world.dynamics.model_copy(update={"taste_rate": 0.2, "taste_return": 0.1, "leaving": False})
    options = {**OPTIONS, "dynamics": dynamics.model_dump(), "fold_in": 0.0}
    env = episode_env(world, options, users="train")
    agent = Filtering(env)
    seen, _ = env.reset(seed=0)
    t = agent._tables
    agent._usual = t.user_rating.astype(float)
    agent._mean = np.concatenate([t.taste[..., agent._width :], t.user_attraction[..., None]], -1).astype(
        float
    )
    agent._missed = 1e-12 * np.eye(agent._mean.shape[-1])[None]
    for _ in range(6):
        seen, *_ = env.step(agent.act(seen))
    there, found = seen["action_mask"] == 1, agent.scores(seen)
    assert agent.belief.held.min() < 0.6
    np.testing.assert_allclose(found[there], env.true_scores()[there], atol=1e-5)


def test_users_side_by_side_are_the_same_as_one_by_one() -> None:
    world = bundled_world()
    whole = play(Filtering(env := episode_env(world, OPTIONS)), env, world.users("test"), seed=2)
    single = episode_env(world, OPTIONS, num_users=1)
    agent = Filtering(single)
    for n in (3, 0, 7):  # one agent, one after the other, in another order
        alone = play(agent, single, whole.user[n : n + 1], seed=2)
        steps = len(alone.reward)
        np.testing.assert_array_equal(alone.item[:, 0], whole.item[:steps, n])
        np.testing.assert_array_equal(alone.reward[:, 0], whole.reward[:steps, n])


def test_a_question_asked_twice_has_one_answer_and_teaches_once() -> None:
    env = RecVectorEnv(8, world=bundled_world(), **OPTIONS)
    once, twice = Filtering(env), Filtering(env)
    seen, _ = env.reset(seed=0)
    for _ in range(5):
        first = once.act(seen)
        twice.scores(seen)
        twice.act(seen)
        np.testing.assert_array_equal(twice.act(seen), first)
        np.testing.assert_array_equal(once.belief.mean, twice.belief.mean)
        seen, *_ = env.step(first)


def test_a_new_episode_is_a_new_person() -> None:
    env = RecVectorEnv(16, world=bundled_world(), **{**OPTIONS, "horizon": 4})
    agent = Filtering(env)
    seen, _ = env.reset(seed=0)
    for _ in range(9):
        seen, *_ = env.step(agent.act(seen))
        agent.scores(seen)
        fresh, prior = env.simulator.int_rows[:, st.STEP] == 0, agent._prior()
        same = (agent.belief.mean == prior.mean).all(1) & (agent.belief.held == 1)
        np.testing.assert_array_equal(same, fresh)
    state = env.state()
    agent.act(env.restore(state))
    seen, *_ = env.step(np.zeros((16, 3), np.int64) + np.arange(3))
    seen, *_ = env.step(np.zeros((16, 3), np.int64) + np.arange(3))  # two slates that it did not choose
    agent.scores(seen)
    assert (agent.belief.held == 1).all()


def test_it_knows_how_slates_are_looked_at() -> None:
    """Behind a click of a cascade nothing is told; the click of a choice tells against what was not chosen."""
    for kind in ("cascade", "choice"):
        env = episode_env(strangers(examination=kind), OPTIONS, users="train")
        agent = Filtering(env)
        seen, _ = env.reset(seed=0)
        seen, _, _, _, info = env.step(agent.act(seen))
        agent._key[:] = -1  # the slate is looked at, but not yet learnt from
        click, told = agent._answers()
        np.testing.assert_array_equal(click, info["click"] == 1)
        behind = np.cumsum(info["click"], 1) - info["click"] > 0
        np.testing.assert_array_equal(told, ~behind if kind == "cascade" else np.ones_like(told))
        noticed, shift = agent._examined(np.zeros(told.shape))
        if kind == "choice":
            odds = 0.85 ** np.arange(3)
            none = np.exp(agent._no_click)
            np.testing.assert_allclose(
                noticed * expit(shift), np.tile(odds / (odds.sum() + none), (len(told), 1))
            )


def test_a_short_history_leaves_open_what_it_forgot() -> None:
    env = episode_env(strangers(base_click_rate=0.9), {**OPTIONS, "history_length": 1}, users="train")
    agent = Filtering(env)
    seen, _ = env.reset(seed=0)
    *_, info = env.step(agent.act(seen))
    click, told = agent._answers()
    real = info["click"] == 1
    assert (real.sum(1) > 1).any()
    np.testing.assert_array_equal(click[told], real[told])
    assert told.any(1).all()


def test_a_comparison_gives_it_the_costs_of_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"boredom_cost": 0.1, "crowd_cost": 0.2, "slate_cost": 0.3, "last_steps": 4.0}
    monkeypatch.setattr(comparison, "cached_planner", lambda *_, **__: costs)
    world = bundled_world()
    found = comparison.baselines(["greedy", "filtering", "planner"], world, OPTIONS, seed=0)
    agents = [found[name](episode_env(world, OPTIONS)) for name in ("filtering", "planner")]
    assert [type(agent) for agent in agents] == [Filtering, Planner]
    assert all({name: getattr(agent, name) for name in costs} == costs for agent in agents)


def test_it_is_an_upper_line() -> None:
    assert AGENTS.get("filtering") is Filtering
    assert Filtering.is_upper_line
