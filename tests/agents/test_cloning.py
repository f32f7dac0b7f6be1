"""Behaviour cloning: what is read off the early log, and that its habits are learnt from text alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recworld.agents.cloning import CloneAgent
from recworld.agents.logged import LoggedChoices
from recworld.envs import RecVectorEnv
from recworld.errors import InputError
from recworld.simulators.bundled import bundled_world
from recworld.simulators.world import World

FAST = {"batch_size": 64, "learning_rate": 1e-2, "report_every": 640}


def logged_world(items_of: Callable[[int], Any], popularity: Any = None) -> World:
    """Return a world of 24 items and 20 users whose early logs are given; kinds 0, 1, 2 are told by text alone."""
    world = bundled_world(users=20, items=24, width=8, members=1)
    vector = np.random.default_rng(0).normal(size=(24, 8)) * 0.3
    vector[np.arange(24), np.arange(24) % 3] += 1.0
    user = np.random.default_rng(1).normal(size=(20, 8)) * 0.3
    user[np.arange(20), np.arange(20) % 2] += 1.0
    logs = [np.asarray(items_of(u), np.int32) for u in range(20)]
    flat = np.concatenate(logs)
    agent = replace(
        world.agent,
        popularity=np.bincount(flat, minlength=24).astype(np.float32) if popularity is None else popularity,
        history_start=np.concatenate([[0], np.cumsum([len(log) for log in logs])]),
        history_item=flat,
        history_feedback=np.linspace(-1, 1, len(flat)).astype(np.float32),
    )
    unit = [(v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32) for v in (vector, user)]
    return replace(world, agent=agent, item_vector=unit[0], user_vector=unit[1])


def logged_env(world: World, **settings: Any) -> RecVectorEnv:
    chosen = {"num_candidates": 12, "slate_size": 2, "horizon": 4, "history_length": 5, "seed": 0}
    return RecVectorEnv(8, world=world, **(chosen | settings))


def shuffled(user: int) -> Any:
    return np.random.default_rng(user).permutation(24)[:9]


def by_user_kind(user: int) -> Any:
    """Users of one text take kind 0, users of the other kind 1."""
    own = np.arange(24)[np.arange(24) % 3 == user % 2]
    return np.random.default_rng(user).permutation(own)[:5]


@pytest.mark.parametrize("kind", ["random", "popular", "retrieved", "all"])
@pytest.mark.parametrize("repeats", [False, True])
def test_a_batch_shows_what_the_log_says(kind: str, repeats: bool) -> None:
    world = logged_world(shuffled)
    env = logged_env(world, candidates=kind, repeats=repeats, observation="ids")
    batch = LoggedChoices(env, 200).batch(300, np.random.default_rng(0))
    train, agent = set(world.users("train").tolist()), world.agent
    for n in range(300):
        user, taken = int(batch["user"][n, 0]), int(batch["candidates"][n, 0])
        assert user in train
        log = agent.history_item[agent.history_start[user] : agent.history_start[user + 1]]
        marks = agent.history_feedback[agent.history_start[user] : agent.history_start[user + 1]]
        time = list(log).index(taken)
        assert time >= 1
        before, shown = log[max(0, time - 5) : time], batch["history"][n]
        np.testing.assert_array_equal(shown[5 - len(before) :], before)
        np.testing.assert_array_equal(shown[: 5 - len(before)], 24)
        np.testing.assert_array_equal(
            batch["history_feedback"][n][5 - len(before) :], marks[max(0, time - 5) : time]
        )
        recent = round(float(batch["step"][n, 0]) * 4)
        assert 0 <= recent <= min(3, time)
        age = [(5 - h) / 4 if 5 - h <= recent else 1.0 for h in range(5)]
        np.testing.assert_allclose(batch["history_age"][n], age)
        offered = batch["candidates"][n][batch["action_mask"][n] == 1]
        assert len(set(offered)) == len(offered)
        assert repeats or not set(offered[1:]) & set(log[:time])
        assert (batch["candidates"][n][batch["action_mask"][n] == 0] == 24).all()
        if kind == "all":
            gone = 0 if repeats else time
            assert len(offered) == 24 - gone
        if kind == "popular" and not repeats:
            ranking = [i for i in np.argsort(-agent.popularity, kind="stable") if i not in set(log[:time])]
            assert set(offered[1:]) == set(ranking[:11]) - {taken}


def test_all_shapes_are_those_of_the_environment() -> None:
    env = logged_env(logged_world(shuffled), observation="ids")
    batch = LoggedChoices(env, 200).batch(8, np.random.default_rng(0))
    observation, _ = env.reset(seed=0)
    assert set(batch) == set(observation)
    for name, array in observation.items():
        assert (batch[name].shape, batch[name].dtype) == (array.shape, array.dtype), name


def test_the_taken_item_is_not_told_by_its_own_popularity() -> None:
    """Every item was taken once: what is taken now has been taken by nobody before."""
    world = logged_world(lambda u: [u, (u + 1) % 24], popularity=np.ones(24, np.float32))
    batch = LoggedChoices(logged_env(world), 200).batch(50, np.random.default_rng(0))
    assert (batch["candidate_score"][:, 0] == 0).all()
    there = batch["action_mask"][:, 1:] == 1
    np.testing.assert_allclose(batch["candidate_score"][:, 1:][there], np.log(2.0), rtol=1e-6)
    assert not batch.get("user_estimate", np.zeros(1)).any()


def test_large_catalogues_are_sampled() -> None:
    env = logged_env(logged_world(shuffled), candidates="all")
    batch = LoggedChoices(env, 6).batch(20, np.random.default_rng(0))
    assert batch["candidates"].shape == (20, 7)


@pytest.mark.parametrize("form", ["ids", "features"])
def test_it_learns_who_takes_what(form: str) -> None:
    world = logged_world(by_user_kind)
    env = logged_env(world, observation=form)
    agent = CloneAgent(env, 0, **FAST)
    errors: list[float] = []
    agent.learn(env, 9_600, lambda _, figures: errors.append(figures["loss/cross_entropy"]) or True)
    assert errors[-1] < 0.75 * errors[0]
    test = logged_env(world, users="all", observation="ids", num_candidates=24)
    observation, _ = test.reset(seed=3, options={"user": np.arange(8)})
    own = observation["candidates"][np.arange(8)[:, None], agent.act(observation)] % 3
    np.testing.assert_array_equal(own, np.tile(np.arange(8)[:, None] % 2, 2))


def test_untrained_it_is_popularity_and_never_the_recommenders_estimate() -> None:
    env = logged_env(logged_world(shuffled, popularity=np.arange(24, dtype=np.float32)), observation="ids")
    agent = CloneAgent(env, 0)
    observation, _ = env.reset(seed=0)
    first = agent.act(observation)
    best = np.argsort(-np.where(observation["action_mask"] == 1, observation["candidates"], -1), axis=1)[
        :, :2
    ]
    np.testing.assert_array_equal(first, best)
    agent.learn(env, 640)
    before = agent.act(observation)
    changed = {**observation, "candidate_score": -observation["candidate_score"]}
    if "user_estimate" in changed:
        changed["user_estimate"] = changed["user_estimate"] + 1
    np.testing.assert_array_equal(agent.act(changed), before)


def test_it_takes_no_step_and_sees_no_reward() -> None:
    env = logged_env(logged_world(shuffled))
    env.step = env.reset = None  # type: ignore[assignment, method-assign]
    CloneAgent(env, 0, **FAST).learn(env, 640)


def test_the_late_log_and_the_truth_do_not_matter() -> None:
    """Worlds that differ in what the agent side does not know give the same clone."""
    world = logged_world(shuffled)
    truth = replace(world.truth, item_attraction_bias=world.truth.item_attraction_bias + 3.0)
    trained = []
    for one in (world, replace(world, truth=truth)):
        agent = CloneAgent(logged_env(one), 0, **FAST)
        agent.learn(logged_env(one), 640)
        trained.append(agent.network.state_dict())
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_a_killed_training_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    env = logged_env(logged_world(shuffled))
    options = {"batch_size": 16, "report_every": 32}
    whole, whole_log = CloneAgent(env, 3, **options), []
    whole.learn(env, 128, lambda steps, figures: whole_log.append((steps, drop_time(figures))) or True)
    broken, log = CloneAgent(env, 3, **options), []

    def stop_late(steps: int, figures: dict[str, float]) -> bool:
        log.append((steps, drop_time(figures)))
        broken.checkpoint(tmp_path)
        return steps < 64

    broken.learn(env, 128, stop_late)
    fresh = CloneAgent(env, 99)
    assert fresh.resume(tmp_path, env) == 64
    fresh.learn(env, 128, lambda steps, figures: log.append((steps, drop_time(figures))) or True)
    assert [steps for steps, _ in log] == [32, 64, 96, 128]
    assert log == whole_log
    for (name, a), b in zip(
        whole.network.state_dict().items(), fresh.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def drop_time(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if not name.startswith("time/")}


def test_a_world_without_a_log_is_told() -> None:
    world = logged_world(lambda u: [u])
    with pytest.raises(InputError, match="no early log to learn from"):
        CloneAgent(logged_env(world), 0).learn(logged_env(world), 10)
