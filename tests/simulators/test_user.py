"""Known answers of the simulated user: each effect does what its name says, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp
from scipy import stats

from recworld.envs import RecVectorEnv
from recworld.simulators import DynamicsSettings, bundled_world, dynamics_preset
from recworld.simulators import random as rnd
from recworld.simulators.prepare import solve_intercept
from recworld.simulators.state import FLOAT_HEAD

WORLD = bundled_world(200, 300, width=16, factors=6)
STATIC = dynamics_preset("static")


def still(**changes):
    return STATIC.model_copy(update=changes)


def play(env, choose, steps, seed=0):
    observation, info = env.reset(seed=seed)
    out = []
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(choose(env, observation))
        out.append((reward, terminated, truncated, info))
    return out


def first_slots(env, observation):
    return np.tile(np.arange(env.slate_size), (env.num_envs, 1))


def greedy(env, observation):
    return np.argsort(-env.true_scores(), axis=1)[:, : env.slate_size]


def test_draws_are_uniform_and_independent_over_every_coordinate():
    keys = np.asarray(
        [
            rnd.child_key(np.uint64(rnd.stream_key(np.uint64(7), np.uint64(n))), e)
            for n in range(200)
            for e in range(5)
        ]
    )
    for purpose in (rnd.CLICK, rnd.RATING):
        values = np.asarray(
            [[rnd.uniform(np.uint64(key), purpose, slot) for slot in range(100)] for key in keys]
        )
        assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.02
        assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.02


@settings(max_examples=200, deadline=None)
@given(hyp.floats(1e-7, 1 - 1e-7))
def test_normal_quantile(p):
    assert rnd.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), abs=1e-7)
    assert rnd.normal_cdf(rnd.normal_quantile(p)) == pytest.approx(p, abs=1e-9)


def test_base_click_rate_is_what_it_says():
    for rate in (0.05, 0.4):
        dynamics = still(base_click_rate=rate, examination_decay=1.0)
        env = RecVectorEnv(
            500, world=WORLD, dynamics=dynamics, observation="ids", users="all", repeats=True, members=[0]
        )
        clicks = np.mean([info["click"].mean() for *_, info in play(env, first_slots, 15)])
        assert clicks == pytest.approx(rate, abs=0.02)
        assert solve_intercept(WORLD.truth, 0.5, rate).shape == (2,)


def test_positions_are_examined_as_set():
    dynamics = still(examination_decay=0.5, base_click_rate=0.5)
    env = RecVectorEnv(1000, world=WORLD, dynamics=dynamics, observation="ids", users="all", repeats=True)
    rates = np.mean([info["click"].mean(0) for *_, info in play(env, first_slots, 18)], axis=0)
    np.testing.assert_allclose(rates / rates[0], 0.5 ** np.arange(5), rtol=0.1)


def test_cascade_and_choice_take_one_item_at_most():
    for kind in ("cascade", "choice"):
        env = RecVectorEnv(
            200, world=WORLD, dynamics=still(examination=kind, base_click_rate=0.4), observation="ids"
        )
        counts = np.concatenate([info["click"].sum(1) for *_, info in play(env, first_slots, 10)])
        assert counts.max() == 1
        assert 0.2 < counts.mean() < 0.98


def test_ratings_follow_the_ordinal_distribution_through_one_link():
    dynamics = still(base_click_rate=0.9)
    env = RecVectorEnv(1500, world=WORLD, dynamics=dynamics, observation="ids", members=[0], users="all")
    truth, got, expected, variance = env.world.truth, np.zeros(5), np.zeros(5), np.zeros(5)
    for *_, info in play(env, first_slots, 12):
        rows, slots = np.nonzero(info["click"])
        users, items = info["user"][rows], info["item"][rows, slots]
        fr = truth.rating_width
        eta = truth.user_rating_bias[0, users] + truth.item_rating_bias[0, items]
        eta = eta + np.einsum("nf,nf->n", truth.taste[0, users, :fr], truth.item[0, items, :fr])
        below = stats.norm.cdf(truth.thresholds[0] - (truth.user_scale[0, users] * eta)[:, None])
        chance = np.diff(below, prepend=0, append=1, axis=1)
        expected += chance.sum(0)
        variance += (chance * (1 - chance)).sum(0)
        got += np.bincount(info["rating"][rows, slots].astype(int) - 1, minlength=5)
    assert got.sum() > 50_000
    assert (np.abs(got - expected) < 4 * np.sqrt(variance)).all()


def test_a_click_moves_the_taste_towards_that_item_and_not_towards_everything():
    dynamics = still(taste_rate=0.3, base_click_rate=0.9)
    env = RecVectorEnv(300, world=WORLD, dynamics=dynamics, observation="ids", slate_size=1, members=[0])
    env.reset(seed=0)
    before = env.simulator.taste
    _, _, _, _, info = env.step(np.zeros(300, int))
    after, fr = env.simulator.taste, env.world.truth.rating_width
    items = env.world.truth.item[0]
    clicked = info["click"][:, 0] == 1
    mean = env.world.truth.user_rating_bias[0, info["user"]]
    liked, disliked = clicked & (info["rating"][:, 0] > mean), clicked & (info["rating"][:, 0] < mean - 0.5)
    np.testing.assert_array_equal(before[~clicked], after[~clicked])

    def cosine(taste, item, block):
        a, b = taste[:, block], items[item][:, block]
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    own, other = info["item"][:, 0], np.roll(np.arange(300), 17) % WORLD.num_items
    for block in (slice(0, fr), slice(fr, None)):
        gain = cosine(after, own, block) - cosine(before, own, block)
        assert (gain[liked] > 0).all()
        assert (gain[disliked] < 0).all()
        elsewhere = cosine(after, other, block) - cosine(before, other, block)
        assert abs(elsewhere[liked].mean()) < 0.3 * gain[liked].mean()
    assert (info["taste_shift"][liked] > 0).all()


def test_taste_returns_and_stays_bounded():
    env = RecVectorEnv(
        100, world=WORLD, dynamics=still(taste_rate=0.9, base_click_rate=0.9), observation="ids", members=[0]
    )
    env.reset(seed=0)
    norms = np.linalg.norm(WORLD.truth.taste[0, env.simulator.user], axis=1)
    for _ in range(15):
        env.step(first_slots(env, None))
        assert (np.linalg.norm(env.simulator.taste, axis=1) <= norms * (1 + 1e-4)).all()
    away = still(taste_return=0.5, base_click_rate=0.001)
    env = RecVectorEnv(5, world=WORLD, dynamics=away, observation="ids", members=[0])
    env.reset(seed=0)
    env.simulator.float_rows[:, FLOAT_HEAD : FLOAT_HEAD + 12] *= 2
    shifts = [env.step(first_slots(env, None))[4]["taste_shift"] for _ in range(4)]
    np.testing.assert_allclose(shifts[2] / shifts[0], 0.25, atol=0.05)


def test_boredom_comes_with_similar_items_and_fades():
    dynamics = still(boredom=3.0, base_click_rate=0.95, boredom_memory=0.5, examination_decay=1.0)
    env = RecVectorEnv(
        50, world=WORLD, dynamics=dynamics, observation="ids", candidates="all", users="all", members=[0]
    )
    observation, _ = env.reset(seed=0)
    env.step(first_slots(env, observation))
    memory = env.simulator.memory
    near = np.argsort(-(WORLD.boredom_vector @ memory.T).T, axis=1)
    scores = env.true_scores()
    env.simulator.float_rows[:, env.simulator.layout.memory_at : env.simulator.layout.agent_at] = 0
    fresh = env.true_scores()
    rows = np.arange(50)
    assert (scores[rows, near[:, 1]] <= fresh[rows, near[:, 1]]).all()
    assert (scores[rows, near[:, 1]] < fresh[rows, near[:, 1]]).any()
    away = near[:, -1]
    np.testing.assert_allclose(scores[rows, away], fresh[rows, away], rtol=1e-5)
    env.step(np.full((50, 5), -1))
    np.testing.assert_allclose(env.simulator.memory, 0.0, atol=1e-6)


def test_session_length_reacts_to_what_is_recommended():
    def length(choose):
        env = RecVectorEnv(500, world=WORLD, observation="ids", autoreset_mode="Disabled", seed=0)
        observation, _ = env.reset(seed=0)
        steps, over = np.zeros(500), np.zeros(500, bool)
        while not over.all():
            steps += ~over
            observation, _, terminated, truncated, _ = env.step(choose(env, observation))
            over |= terminated | truncated
        return steps.mean()

    assert length(greedy) > length(first_slots) + 1.0


def test_static_users_do_not_change_and_never_leave():
    env = RecVectorEnv(100, world=WORLD, dynamics="static", observation="ids")
    for _, terminated, _, info in play(env, greedy, 19):
        assert not terminated.any()
        assert not info["taste_shift"].any()


def test_preset_strong_is_no_caricature():
    """Greedy on the truth beats random, and so does greedy on the recommender's own estimate."""

    def score(env, observation):
        return np.argsort(
            -np.where(observation["action_mask"] == 1, observation["candidate_score"], -99), axis=1
        )[:, :5]

    totals = {}
    for name, choose in (("random", first_slots), ("greedy", score), ("oracle", greedy)):
        env = RecVectorEnv(400, world=WORLD, observation="ids")
        totals[name] = np.mean([reward.mean() for reward, *_ in play(env, choose, 40)])
    assert totals["oracle"] > totals["greedy"] > totals["random"]


def test_click_and_rating_errors_are_correlated_as_set():
    world = replace(WORLD, dynamics=still(click_rating_correlation=0.9, base_click_rate=0.3))
    means = {}
    for rho in (0.0, 0.9):
        env = RecVectorEnv(
            400,
            world=world,
            dynamics=still(click_rating_correlation=rho, base_click_rate=0.3),
            observation="ids",
        )
        rows = [info["rating"][info["has_rating"] == 1] for *_, info in play(env, first_slots, 15)]
        means[rho] = np.concatenate(rows).mean()
    assert means[0.9] > means[0.0] + 0.2


def test_every_field_of_the_settings_changes_the_world():
    """No setting is dead: each one, moved from its default, changes what happens."""
    moved = {
        "examination": "cascade", "examination_decay": 0.5, "base_click_rate": 0.5, "no_click_weight": 0.1, "boredom": 0.5,
        "boredom_rating": 3.0, "boredom_memory": 0.2, "boredom_scale": 0.2, "taste_rate": 0.5, "taste_return": 0.5,
        "satisfaction_rate": 0.9, "satisfaction_start": 0.1, "leave_base": -1.0,
        "leave_dissatisfaction": 0.0, "leave_boredom": 9.0, "leave_step": 1.0, "frailty": 3.0, "leaving": False,
        "click_rating_correlation": 0.8, "popularity_share": 0.0,
    }  # fmt: skip
    assert set(moved) == set(DynamicsSettings.model_fields)

    def trace(**changes):
        base = {
            "taste_rate": 0.4,
            "base_click_rate": 0.4,
            **({"examination": "choice"} if "no_click_weight" in changes else {}),
        }
        dynamics = DynamicsSettings.model_validate({**base, **changes})
        env = RecVectorEnv(40, world=WORLD, dynamics=dynamics, observation="ids")
        return b"".join(
            info["click"].tobytes()
            + info["rating"].tobytes()
            + info["satisfaction"].tobytes()
            + terminated.tobytes()
            for _, terminated, _, info in play(env, greedy, 25)
        )

    for name, value in moved.items():
        rest = {"examination": "choice"} if name == "no_click_weight" else {}
        assert trace(**{name: value}) != trace(**rest, **({"no_click_weight": 4.0} if rest else {})), name


def test_with_many_items_and_few_left_the_catalogue_is_exhausted_cleanly():
    world = bundled_world(20, 14, width=8, factors=3)
    env = RecVectorEnv(
        6,
        world=world,
        dynamics=still(base_click_rate=0.9),
        observation="ids",
        num_candidates=14,
        slate_size=3,
    )
    observation, _ = env.reset(seed=0)
    for _ in range(30):
        offered = [
            row[mask == 1]
            for row, mask in zip(observation["candidates"], observation["action_mask"], strict=True)
        ]
        assert all(len(set(row.tolist())) == len(row) for row in offered)
        observation, *_ = env.step(first_slots(env, observation))
