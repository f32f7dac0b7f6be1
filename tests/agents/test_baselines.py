"""Baselines: legal slates in both observation forms, known answers, and MMR against a slow reading of its definition."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recworld.agents import check_agent
from recworld.agents.baselines import (
    EpsilonGreedyAgent,
    GreedyAgent,
    MMRAgent,
    PopularityAgent,
    RandomAgent,
    StaticAgent,
)
from recworld.agents.baselines_common import ItemNumbers, top_k, uniform_of
from recworld.agents.baselines_static import RewardCounts, mean_expected_click, slot_reward
from recworld.agents.upper import ShortTermOracle
from recworld.envs import RecVectorEnv
from recworld.errors import CorruptError, InputError
from recworld.simulators.bundled import bundled_world
from recworld.storage import write_arrays

ITEMS, WIDTH, HORIZON = 60, 8, 10
CLASSES = [RandomAgent, PopularityAgent, StaticAgent, GreedyAgent, EpsilonGreedyAgent, MMRAgent]


def unit(rng, *shape):
    vectors = rng.normal(size=shape) + 0.7  # not centred, as BERT vectors are not
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def small_env(seed=0, slate_size=4, items=ITEMS):
    rng = np.random.default_rng(seed)
    vectors = np.concatenate([unit(rng, items, WIDTH), np.zeros((1, WIDTH), np.float32)])
    popularity = np.append(rng.permutation(items).astype(np.float32), np.float32(0))
    tables = SimpleNamespace(item_vector=vectors, popularity=popularity)
    return SimpleNamespace(tables=tables, slate_size=slate_size, horizon=HORIZON)


def observation(env, seed=0, users=6, candidates=15, history=5, masked=0.2):
    rng = np.random.default_rng(seed)
    padding = len(env.tables.item_vector) - 1
    items = np.stack([rng.permutation(padding)[:candidates] for _ in range(users)]).astype(np.int32)
    mask = (rng.random(items.shape) >= masked).astype(np.int8)
    age = rng.integers(1, HORIZON + 4, (users, history)) / HORIZON
    return {
        "candidates": np.where(mask == 1, items, padding).astype(np.int32),
        "candidate_score": (rng.normal(size=items.shape) * mask).astype(np.float32),
        "action_mask": mask,
        "history": rng.integers(0, padding + 1, (users, history)).astype(np.int32),
        "history_age": np.minimum(age, 1).astype(np.float32),
        "history_feedback": np.zeros((users, history), np.float32),
        "step": np.full((users, 1), 0.3, np.float32),
        "user": np.zeros((users, 1), np.int32),
    }


def as_features(env, ids):
    vectors = env.tables.item_vector
    return {**ids, "candidates": vectors[ids["candidates"]], "history": vectors[ids["history"]]}


@pytest.fixture(scope="module")
def bundled():
    return bundled_world()


@pytest.mark.parametrize("agent", [*CLASSES, partial(MMRAgent, slate_similarity="mean")])
@pytest.mark.parametrize("form", ["ids", "features"])
def test_a_baseline_keeps_the_agent_contract(agent, form, bundled):
    env = RecVectorEnv(3, world=bundled, num_candidates=12, slate_size=3, horizon=6, observation=form, seed=0)
    built = agent(env, seed=3)
    assert check_agent(built, env) == []


@pytest.mark.parametrize("agent", CLASSES)
def test_both_observation_forms_get_the_same_slates(agent, bundled):
    envs = [RecVectorEnv(7, world=bundled, observation=form) for form in ("ids", "features")]
    agents = [agent(env, seed=1) for env in envs]
    seen = [env.reset(seed=5)[0] for env in envs]
    for _ in range(4):
        slates = [a.act(o) for a, o in zip(agents, seen, strict=True)]
        np.testing.assert_array_equal(*slates)
        seen = [env.step(slate)[0] for env, slate in zip(envs, slates, strict=True)]


@pytest.mark.parametrize("agent", CLASSES[:2] + CLASSES[3:])
def test_masked_candidates_are_taken_only_when_nothing_else_is_left(agent):
    env = small_env()
    seen = observation(env, masked=0.85, candidates=9)
    slates = agent(env).act(seen)
    for row, mask in zip(slates, seen["action_mask"], strict=True):
        assert len(set(row)) == len(row)
        assert mask[row].sum() == min(mask.sum(), len(row))
        assert list(mask[row]) == sorted(mask[row], reverse=True)


def test_top_k_is_the_best_first_and_ties_go_to_the_lower_position():
    scores = np.array([[1.0, 3.0, 3.0, 2.0], [5.0, 9.0, 1.0, 1.0]])
    mask = np.array([[1, 1, 1, 1], [1, 0, 1, 1]])
    np.testing.assert_array_equal(top_k(scores, mask, 3), [[1, 2, 3], [0, 2, 3]])


def test_random_slates_are_even_and_a_function_of_each_row_alone():
    env = small_env(slate_size=3)
    seen = observation(env, users=4000, candidates=6, masked=0.0)
    agent = RandomAgent(env, seed=1)
    slates = agent.act(seen)
    counts = np.bincount(slates.ravel(), minlength=6)
    assert np.abs(counts / 2000 - 1).max() < 0.08  # 3 of 6 positions: 2000 times each
    assert np.bincount(slates[:, 0], minlength=6).min() > 560
    part = {name: array[100:107] for name, array in seen.items()}
    np.testing.assert_array_equal(agent.act(part), slates[100:107])
    assert not np.array_equal(RandomAgent(env, seed=2).act(seen), slates)
    assert not np.array_equal(agent.act(seen, deterministic=False), agent.act(seen, deterministic=False))


def test_uniform_numbers_are_uniform_and_independent_of_each_other():
    env = small_env()
    numbers = uniform_of(observation(env, users=3000, candidates=10), 0)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.abs(np.histogram(numbers, 10, (0, 1))[0] / 3000 - 1).max() < 0.1
    assert np.abs(np.corrcoef(numbers.T) - np.eye(10)).max() < 0.08


def test_popularity_ranks_by_early_interactions():
    env = small_env()
    seen = observation(env, masked=0.0)
    slates = PopularityAgent(env).act(seen)
    for row, items in zip(slates, seen["candidates"], strict=True):
        np.testing.assert_array_equal(row, np.argsort(-env.tables.popularity[items])[: len(row)])


def test_epsilon_greedy_explores_that_share_of_slots():
    env = small_env(slate_size=3)
    seen = observation(env, users=3000, candidates=15, masked=0.0)
    greedy = GreedyAgent(env).act(seen)
    np.testing.assert_array_equal(EpsilonGreedyAgent(env, epsilon=0.0).act(seen), greedy)
    slates = EpsilonGreedyAgent(env, epsilon=0.3).act(seen)
    assert all(len(set(row)) == 3 for row in slates)
    assert 0.2 < (slates != greedy).mean() < 0.3  # a drawn position is now and then the greedy one
    full = EpsilonGreedyAgent(env, epsilon=1.0).act(seen)
    assert np.bincount(full.ravel(), minlength=15).min() > 480
    with pytest.raises(InputError, match=r"epsilon must be a number from 0 to 1\. Got 1\.5"):
        EpsilonGreedyAgent(env, epsilon=1.5)


def slow_mmr(env, seen, slate_penalty, history_penalty, decay, kind):
    """Read the definition of MMRAgent aloud, one user and one place at a time."""
    raw = env.tables.item_vector[:-1].astype(np.float64)
    v = raw - raw.mean(0)
    v = np.concatenate([v / np.linalg.norm(v, axis=1, keepdims=True), np.zeros((1, WIDTH))])
    out = []
    for n in range(len(seen["candidates"])):
        items, mask, score = (
            seen["candidates"][n],
            seen["action_mask"][n],
            seen["candidate_score"][n].astype(float),
        )
        sd = score[mask == 1].std()
        slate: list[int] = []
        for _ in range(env.slate_size):
            best, best_value = None, -np.inf
            for c in range(len(items)):
                if c in slate or not mask[c]:
                    continue
                near = [v[items[c]] @ v[items[s]] for s in slate] or [0.0]
                held = max(near) if kind == "max" else float(np.mean(near))
                past = sum(
                    decay ** (age * HORIZON) * (v[items[c]] @ v[j])
                    for j, age in zip(seen["history"][n], seen["history_age"][n], strict=True)
                    if age < 1
                )
                value = score[c] - sd * (slate_penalty * held + history_penalty * max(past, 0.0))
                if value > best_value + 1e-9:
                    best, best_value = c, value
            slate.append(best)
        out.append(slate)
    return np.array(out)


@given(
    st.integers(0, 10_000),
    st.floats(0, 3),
    st.floats(0, 3),
    st.floats(0, 1),
    st.sampled_from(["max", "mean"]),
    st.sampled_from([True, False]),
)
def test_mmr_is_its_definition(seed, slate_penalty, history_penalty, decay, kind, large):
    env = small_env(seed)
    agent = MMRAgent(env, 0, slate_penalty, history_penalty, decay, kind)
    if large:
        agent._gram = None  # the way of a catalogue whose similarities do not fit into memory
    seen = observation(env, seed)
    np.testing.assert_array_equal(
        agent.act(seen), slow_mmr(env, seen, slate_penalty, history_penalty, decay, kind)
    )


def test_mmr_without_penalties_is_greedy_also_among_near_ties():
    env = small_env()
    seen = observation(env, users=200, candidates=40)
    seen["candidate_score"] = np.float32(10) + seen["candidate_score"] * np.float32(1e-5)
    seen["candidate_score"][seen["action_mask"] == 0] = 0
    np.testing.assert_array_equal(MMRAgent(env, 0, 0.0, 0.0).act(seen), GreedyAgent(env).act(seen))


def test_mmr_turns_away_from_what_was_just_consumed():
    env = small_env()
    seen = observation(env, users=1, candidates=20, history=3, masked=0.0)
    seen["candidate_score"][:] = np.linspace(1, 0, 20)
    agent = MMRAgent(env, 0, 0.0, 5.0, 1.0)
    seen["history"][0] = [60, 60, seen["candidates"][0, 0]]
    seen["history_age"][0] = [1, 1, 0.1]
    assert 0 not in agent.act(seen)[0]  # what it would have put first is just what was consumed
    seen["history_age"][0] = 1  # of the log, not of the episode: no penalty
    assert agent.act(seen)[0, 0] == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [({"slate_penalty": -1}, "slate_penalty"), ({"decay": 1.1}, "decay"), ({"history_penalty": np.nan}, "history_penalty"),
     ({"slate_similarity": "min"}, "slate_similarity")],
)  # fmt: skip
def test_mmr_refuses_options_out_of_range(options, name):
    with pytest.raises(InputError, match=f"{name} must be"):
        MMRAgent(small_env(), **options)


def test_item_numbers_find_every_vector_and_refuse_strangers():
    env = small_env()
    vectors = env.tables.item_vector.copy()
    vectors[17] = vectors[4]  # two items with one text
    numbers = ItemNumbers(vectors)
    asked = np.arange(61).reshape(1, 61)
    expected = np.where(asked == 17, 4, asked)
    np.testing.assert_array_equal(numbers(vectors[asked]), expected)
    assert numbers(asked.astype(np.int32)).dtype == np.int32
    with pytest.raises(InputError, match=r"must be rows of env\.tables\.item_vector"):
        numbers(vectors[asked] + np.float32(0.1))


def test_oracle_takes_the_truly_best_and_only_in_its_own_environment(bundled):
    env = RecVectorEnv(5, world=bundled, num_candidates=30, slate_size=3)
    seen, _ = env.reset(seed=0)
    oracle = ShortTermOracle(env)
    assert oracle.is_upper_line
    truth = env.true_scores()
    taken = np.take_along_axis(truth, oracle.act(seen), 1)
    np.testing.assert_allclose(taken, -np.sort(-np.where(seen["action_mask"] == 1, truth, -9), axis=1)[:, :3])
    with pytest.raises(InputError, match="must act in the environment it was built with"):
        oracle.act({name: array[:2] for name, array in seen.items()})


def test_static_ranking_starts_from_what_the_recommender_expects(bundled):
    env = RecVectorEnv(4, world=bundled, num_candidates=bundled.num_items, candidates="all")
    agent = StaticAgent(env)
    np.testing.assert_array_equal(agent.values, mean_expected_click(bundled))
    env_of_training = RecVectorEnv(len(bundled.users("train")), world=bundled, candidates="all", repeats=True)
    seen, _ = env_of_training.reset(seed=0, options={"user": bundled.users("train")})
    own = (1 / (1 + np.exp(-seen["candidate_score"]))).mean(0)
    order = seen["candidates"][0]
    np.testing.assert_allclose(agent.values[order], own, rtol=1e-3)


def test_static_ranking_is_one_for_everybody_learns_and_is_stored(bundled, tmp_path):
    env = RecVectorEnv(64, world=bundled, num_candidates=30, slate_size=3)
    agent = StaticAgent(env, seed=4)
    calls = []
    agent.learn(env, 6400, lambda steps, figures: calls.append((steps, figures)) or len(calls) < 50)
    assert [steps for steps, _ in calls] == list(range(64, 3201, 64))
    agent.learn(env, 6400)
    again = StaticAgent(env, seed=4)
    again.learn(env, 3200)
    assert not np.array_equal(agent.values, mean_expected_click(bundled))
    seen, _ = env.reset(seed=1)
    slates = agent.act(seen)
    for row, items, mask in zip(slates, seen["candidates"], seen["action_mask"], strict=True):
        ranked = sorted(np.flatnonzero(mask), key=lambda c: -agent.values[items[c]])
        assert list(row) == ranked[:3]
    agent.save(tmp_path)
    again.load(tmp_path, env)
    np.testing.assert_array_equal(again.values, agent.values)
    with pytest.raises(CorruptError, match="No such file"):
        again.load(tmp_path / "no", env)
    write_arrays(tmp_path / "static.safetensors", {"values": np.zeros(7)})
    with pytest.raises(CorruptError, match="does not hold a ranking of this catalogue"):
        again.load(tmp_path, env)
    with pytest.raises(InputError, match=r"must be 400 finite numbers.*Got shape \(3,\)"):
        StaticAgent(env, values=[1, 2, 3])


def test_measured_rewards_are_freed_of_position_and_shrink_to_the_prior():
    rng = np.random.default_rng(0)
    items, places = 40, 4
    rate = rng.uniform(0.1, 0.6, items)
    prior = rate + rng.normal(0, 0.3, items)  # a poor prior
    counts = RewardCounts(prior, places)
    for _ in range(400):
        slate = np.stack([rng.permutation(items)[:places] for _ in range(20)])
        click = (rng.random(slate.shape) < rate[slate] * 0.7 ** np.arange(places)).astype(np.int8)
        counts.add(slate, click, click.astype(float), at_random=True)
    value, deviation = counts.posterior()
    assert np.abs(value - rate).mean() < 0.03
    assert np.corrcoef(value, rate)[0, 1] > 0.97
    assert (np.abs(value - rate) < 3 * deviation + 0.02).mean() > 0.95
    few = RewardCounts(prior, places)
    few.add(slate[:3], click[:3], click[:3].astype(float), at_random=True)
    unseen = np.setdiff1d(np.arange(items), slate[:3])
    assert np.abs(np.corrcoef(few.posterior()[0][unseen], prior[unseen])[0, 1]) > 0.999


@pytest.mark.parametrize("reward", ["click", "rating", {"click": 0.5, "rating": 2.0}])
def test_what_the_slots_earn_adds_up_to_the_reward(reward, bundled):
    from recworld.agents.baselines_static import reward_weights

    env = RecVectorEnv(50, world=bundled, reward=reward, autoreset_mode="Disabled")
    seen, _ = env.reset(seed=0)
    _, earned, _, _, info = env.step(GreedyAgent(env).act(seen))
    np.testing.assert_allclose(slot_reward(env, reward_weights(env), earned, info).sum(1), earned, atol=1e-5)
    assert np.abs(earned).sum() > 0
    np.testing.assert_allclose(slot_reward(env, None, earned, info).sum(1), earned, atol=1e-9)
