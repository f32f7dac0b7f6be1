"""Evaluation: whole episodes per user, common random numbers, metrics equal to a slow loop over the single environment."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from recworld.agents import episodes as episodes_module
from recworld.agents.baselines import GreedyAgent, MMRAgent, RandomAgent
from recworld.agents.episodes import episode_env, play
from recworld.agents.upper import ShortTermOracle
from recworld.envs import RecEnv, RecVectorEnv
from recworld.errors import InputError
from recworld.evaluation import compare, evaluate_policies, evaluate_policy, split_members
from recworld.evaluation.metrics import METRICS, PER_EPISODE, episode_metrics
from recworld.simulators.dynamics import DynamicsSettings


class Clumsy:
    """Chooses position 0 for every slot: one item, the rest repeats."""

    def __init__(self, env, seed=0):
        self.slots = env.slate_size

    def act(self, observation, deterministic=True):
        return np.zeros((len(observation["step"]), self.slots), np.int64)


def slow_episode(world, env, agent, user, seed, episode):
    """Play one episode in the single environment and count everything by hand."""
    seen, _ = env.reset(seed=seed, options={"stream": int(user), "user": int(user), "episode": episode})
    shown, clicks, ratings, total, steps, invalid, diversity = [], 0, [], 0.0, 0, 0, []
    over = False
    while not over:
        batch = {name: np.asarray(value)[None] for name, value in seen.items()}
        seen, reward, terminated, truncated, info = env.step(agent.act(batch)[0])
        over = terminated or truncated
        total, steps = total + float(reward), steps + 1
        items = [int(i) for i in np.ravel(info["item"]) if i < world.num_items]
        shown += items
        clicks += int(np.sum(info["click"]))
        given = np.ravel(info["has_rating"])
        ratings += [float(r) for r, has in zip(np.ravel(info["rating"]), given, strict=True) if has]
        invalid += int(np.sum(info["invalid"]))
        cosines = [
            world.item_vector[a] @ world.item_vector[b] for k, a in enumerate(items) for b in items[:k]
        ]
        diversity += [1 - np.mean(cosines)] if cosines else []
    return {
        "return": total,
        "click_rate": clicks / len(shown),
        "mean_rating": np.mean(ratings) if ratings else np.nan,
        "session_length": steps,
        "diversity": np.mean(diversity) if diversity else np.nan,
        "taste_shift": float(np.ravel(info["taste_shift"])[0]),
        "invalid": invalid,
    }, set(shown)


@pytest.mark.parametrize(
    ("agent_class", "reward"), [(GreedyAgent, "click"), (GreedyAgent, "rating"), (Clumsy, "rating")]
)
def test_metrics_equal_a_slow_loop_over_the_single_environment(world, options, agent_class, reward):
    chosen = options | {"reward": reward}
    env, single = episode_env(world, chosen), RecEnv(world=world, users="test", **chosen)
    users = world.users("test")[:8]
    found = evaluate_policy(agent_class(env), env, users=users, seeds=(3, 4), episodes_per_user=2)
    agent = agent_class(single.vector)
    slow = {name: np.zeros(len(users)) for name in PER_EPISODE}
    shown = []
    for n, user in enumerate(users):
        plays = [slow_episode(world, single, agent, user, s, e) for s in (3, 4) for e in (0, 1)]
        for name in PER_EPISODE:
            known = [one[name] for one, _ in plays if np.isfinite(one[name])]
            slow[name][n] = np.mean(known) if known else np.nan
        shown.append(set.union(*(items for _, items in plays)))
    for name in PER_EPISODE:
        np.testing.assert_allclose(found.values[name][0], slow[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert found.summary[name].mean == pytest.approx(_known_mean(slow[name]), rel=1e-5, nan_ok=True)
    assert found.summary["coverage"].mean == pytest.approx(len(set.union(*shown)) / world.num_items)
    assert slow["session_length"].std() > 0  # users leave at different times, and all are counted alike


def _known_mean(values):
    known = values[np.isfinite(values)]
    return known.mean() if len(known) else np.nan


def test_a_users_episodes_depend_on_nobody_else(world, options, monkeypatch):
    env = episode_env(world, options)
    users = world.users("test")
    whole = play(GreedyAgent(env), env, users, seed=1)
    assert env.num_envs == len(users) > 7
    few = episode_env(world, options, num_users=5)
    in_turns = play(GreedyAgent(few), few, users, seed=1)
    part = play(GreedyAgent(few), few, users[[6, 2]], seed=1)
    longest = len(part.reward)
    for name in ("user", "taste_shift", "invalid"):
        np.testing.assert_array_equal(getattr(in_turns, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[[6, 2]])
    for name in ("item", "click", "rating", "has_rating", "reward", "active"):
        np.testing.assert_array_equal(getattr(in_turns, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:longest, [6, 2]])
    monkeypatch.setattr(episodes_module, "MAX_ENVS", 4)
    assert episode_env(world, options).num_envs == 4


def test_everybody_plays_whole_episodes(world, options):
    env = episode_env(world, options)
    run = play(RandomAgent(env), env, world.users("test"), seed=0)
    length = run.active.sum(0)
    assert length.min() >= 1
    assert length.min() < length.max() == options["horizon"] == len(run.active)
    for n, steps in enumerate(length):  # one stretch from the start, nothing after it
        assert run.active[:steps, n].all()
        assert (run.item[steps:, n] == world.num_items).all()
        assert not run.reward[steps:, n].any()


def test_the_same_policy_twice_differs_by_exactly_nothing(world, options):
    result = evaluate_policies({"greedy": GreedyAgent, "again": GreedyAgent}, world, options, seeds=(0, 1))
    for name, interval in result.difference("again", "greedy").items():
        assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0), name


def test_a_policy_better_by_construction_is_found_better(world, options):
    policies = {"greedy": GreedyAgent, "random": RandomAgent, "oracle": ShortTermOracle, "mmr": MMRAgent}
    still = options | {"dynamics": "static"}
    result = evaluate_policies(policies, world, still, users="all", episodes_per_user=2)
    assert result.policies["oracle"].is_upper_line
    assert not result.policies["mmr"].is_upper_line
    assert result.difference("oracle", "greedy")["return"].sign == 1
    assert result.difference("random", "greedy")["return"].sign == -1
    assert result.difference("random", "greedy")["diversity"].sign == 1
    flat = result.policies["oracle"].summary["session_length"]
    assert (flat.mean, flat.half) == (options["horizon"], 0.0)  # nobody leaves in this world


def test_common_random_numbers_make_differences_sharper(world, options):
    result = evaluate_policies(
        {"greedy": GreedyAgent, "near": partial(MMRAgent, history_penalty=0.1)}, world, options, users="all"
    )
    alone = [result.policies[name].summary["return"].half for name in ("greedy", "near")]
    assert result.difference("near", "greedy")["return"].half < 0.8 * np.hypot(*alone)


def test_a_policy_of_several_runs_is_one_row(world, options):
    runs = [partial(MMRAgent, history_penalty=p) for p in (0.0, 2.0, 6.0)]
    result = evaluate_policies({"greedy": GreedyAgent, "mmr": runs}, world, options)
    row = result.policies["mmr"]
    assert row.values["return"].shape == (3, len(world.users("test")))
    single = [evaluate_policies({"one": run}, world, options).policies["one"] for run in runs]
    assert row.summary["return"].mean == pytest.approx(np.mean([s.summary["return"].mean for s in single]))
    assert row.summary["coverage"].mean == pytest.approx(
        np.mean([s.summary["coverage"].mean for s in single])
    )
    assert result.as_json()["policies"]["mmr"]["runs"] == 3


def test_an_agent_in_hand_and_one_user_and_one_item_do(world, options):
    one = options | {"slate_size": 1}
    env = episode_env(world, one)
    result = evaluate_policies({"greedy": GreedyAgent(env)}, world, one)
    assert np.isnan(result.policies["greedy"].summary["diversity"].mean)  # a slate of one has no pairs
    alone = evaluate_policy(GreedyAgent(env), env, users=world.users("test")[:1])
    assert np.isfinite(alone.summary["return"].mean)
    assert np.isnan(alone.summary["return"].low)


def test_worlds_of_a_comparison_share_no_member(world):
    worlds = split_members(world, [0])
    assert {label: w.truth.num_members for label, w in worlds.items()} == {
        "training world": 1,
        "evaluation world": 2,
    }
    np.testing.assert_array_equal(worlds["evaluation world"].truth.taste, world.truth.taste[1:])
    assert list(split_members(world, [0, 1, 2])) == ["training world"]
    with pytest.raises(InputError, match=r"must be unknown to training\. \[1\] are in both"):
        split_members(world, [0, 1], [1, 2])


def test_options_that_an_evaluation_sets_itself_are_passed_over(world, options):
    given = options | {"users": "train", "members": [0], "num_envs": 3, "autoreset_mode": "SameStep"}
    env = episode_env(world, given | {"dynamics": DynamicsSettings(boredom=0.5).model_dump()})
    assert (env.users, env.num_envs, env.members) == ("test", len(world.users("test")), None)
    assert env.world.dynamics.boredom == 0.5


def test_wrong_calls_are_refused_in_one_line(world, options):
    with pytest.raises(InputError, match="at least one policy"):
        evaluate_policies({}, world, options)
    with pytest.raises(InputError, match="must be an agent or a factory"):
        evaluate_policies({"x": 3}, world, options)
    with pytest.raises(InputError, match="at least one agent"):
        evaluate_policies({"x": []}, world, options)
    with pytest.raises(InputError, match="needs a seed and an episode"):
        evaluate_policies({"greedy": GreedyAgent}, world, options, seeds=())
    with pytest.raises(InputError, match="at least one world"):
        compare({"greedy": GreedyAgent}, {}, options)
    env = RecVectorEnv(2, world=world, **options)
    with pytest.raises(InputError, match="measured without autoreset"):
        play(GreedyAgent(env), env, [0, 1], seed=0)
    result = evaluate_policies({"greedy": GreedyAgent}, world, options)
    with pytest.raises(InputError, match="Did you mean 'greedy'"):
        result.policy("gredy")


def test_every_metric_has_a_place():
    assert set(PER_EPISODE) | {"coverage"} == set(METRICS)


def test_diversity_of_known_slates():
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [1, 0], [0, 0]], np.float32)
    item = np.array([[[0, 1, 4], [0, 2, 3]], [[0, 3, 4], [4, 4, 1]]], np.int32)
    zeros = np.zeros_like(item)
    run = episodes_module.Episodes(
        user=np.arange(2), reward=np.zeros((2, 2)), active=np.ones((2, 2), bool), item=item, click=zeros.astype(np.int8),
        rating=zeros.astype(np.float32), has_rating=zeros.astype(np.int8), taste_shift=np.zeros(2), invalid=np.zeros(2),
    )  # fmt: skip
    # user 0: slates (1 - 0) and (1 - 1); user 1: pairs -1, 1, -1 in the first, a single item in the second
    np.testing.assert_allclose(episode_metrics(run, vectors)["diversity"], [0.5, 1 + 1 / 3])
