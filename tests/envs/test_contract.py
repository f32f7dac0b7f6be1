"""The contract of the environment, over every observation form, reward kind, action form and source of candidates."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from recworld.envs import RecEnv, RecVectorEnv, WishedItemWrapper
from recworld.errors import InputError
from recworld.logs import RatingScale
from recworld.simulators import bundled_world

WORLD = bundled_world(60, 150, width=12, factors=4)
CLICK_WORLD = bundled_world(40, 90, width=12, factors=4, scale=RatingScale("click"))
FORMS = ("ids", "features")


def satisfaction_gain(info):
    """A reward function of a user's own."""
    return info["satisfaction"]


REWARDS = ("click", "rating", {"click": 1.0, "rating": 0.5}, satisfaction_gain)
SOURCES = ("random", "popular", "all", "retrieved")
INDEXED = pytest.param(
    "indexed",
    marks=pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed"),
)


def slates(env, rng):
    n, c, k = env.num_envs, env.num_candidates, env.slate_size
    return np.argsort(rng.random((n, c)), axis=1)[:, :k]


def named(source):
    """Return the arguments for a source of candidates."""
    return (
        {"candidates": "retrieved", "retrieval": "index"} if source == "indexed" else {"candidates": source}
    )


def make(n=3, **arguments):
    return RecVectorEnv(
        n, **{"world": WORLD, "observation": "ids", "num_candidates": 40, "horizon": 6, **arguments}
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reward", REWARDS, ids=["click", "rating", "mixed", "function"])
@pytest.mark.parametrize("slate", [1, 4])
def test_gymnasium_accepts_it(form, reward, slate):
    env = RecEnv(
        world=WORLD, observation=form, reward=reward, slate_size=slate, num_candidates=40, render_mode="ansi"
    )
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reward", REWARDS, ids=["click", "rating", "mixed", "function"])
@pytest.mark.parametrize("slate", [1, 4])
def test_stable_baselines3_accepts_it(form, reward, slate):
    env = RecEnv(world=WORLD, observation=form, reward=reward, slate_size=slate, num_candidates=40)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sb3_check_env(env)
    # A matrix of vectors is no image and no single vector: SB3 says so, and nothing else.
    texts = [str(warning.message) for warning in seen]
    assert all("unconventional shape" in text for text in texts)
    assert form == "features" or not texts


@pytest.mark.parametrize("form", FORMS)
def test_checkers_accept_the_wished_for_vector(form):
    env = WishedItemWrapper(RecEnv(world=WORLD, observation=form, num_candidates=40))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*(unconventional shape|different from the unwrapped version).*"
        )
        check_env(env, skip_render_check=True)
        sb3_check_env(env)


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("source", [*SOURCES, INDEXED])
@pytest.mark.parametrize("form", FORMS)
def test_observations_stay_inside_their_space(form, source, repeats):
    reward = "click" if source == "indexed" else "rating"
    env = make(observation=form, repeats=repeats, reward=reward, **named(source))
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=1)
    assert env.observation_space.contains(observation)
    for _ in range(20):
        observation, reward, terminated, truncated, info = env.step(slates(env, rng))
        assert env.observation_space.contains(observation)
        assert not (terminated & truncated).any()
        assert np.isfinite(reward).all()
        for array in [*info.values(), *info.get("final_info", {}).values()]:
            if isinstance(array, np.ndarray):
                assert np.isfinite(array).all()
        if "final_obs" in info:
            assert env.observation_space.contains(info["final_obs"])


@pytest.mark.parametrize("world", [WORLD, CLICK_WORLD], ids=["ratings", "clicks"])
@pytest.mark.parametrize("source", [*SOURCES, INDEXED])
def test_vector_row_equals_single_env_across_episode_ends(world, source):
    arguments = {
        "world": world,
        "observation": "ids",
        "num_candidates": 30,
        "horizon": 5,
        **named(source),
    }
    vector = RecVectorEnv(4, **arguments)
    singles = [RecEnv(**arguments) for _ in range(4)]
    rng = np.random.default_rng(3)
    batch, _ = vector.reset(seed=11)
    rows = [env.reset(seed=11, options={"stream": n})[0] for n, env in enumerate(singles)]
    ends = 0
    for _ in range(17):
        for name, array in batch.items():
            for n in range(4):
                assert array[n].tobytes() == rows[n][name].tobytes(), name
        action = slates(vector, rng)
        batch, reward, terminated, truncated, info = vector.step(action)
        for n, env in enumerate(singles):
            rows[n], r, te, tr, one = env.step(action[n])
            assert (r, te, tr) == (reward[n], terminated[n], truncated[n])
            now = info["final_info"] if te or tr else info
            for name, value in one.items():
                assert np.asarray(value).tobytes() == np.asarray(now[name][n]).tobytes(), name
            if te or tr:
                for name, value in rows[n].items():
                    assert value.tobytes() == info["final_obs"][name][n].tobytes()
                rows[n], _ = env.reset()
                ends += 1
    assert ends > 4


@pytest.mark.parametrize("source", ["random", INDEXED])
@pytest.mark.parametrize("n", [1, 7, 1024])
def test_a_user_does_not_depend_on_how_many_run_beside_it(n, source):
    env, small = make(n, **named(source)), make(1, **named(source))
    batch, _ = env.reset(seed=5)
    row, _ = small.reset(seed=5)
    rng = np.random.default_rng(0)
    for _ in range(15):
        action = slates(small, rng)
        for name in row:
            assert batch[name][0].tobytes() == row[name][0].tobytes()
        batch, reward, *_ = env.step(np.repeat(action, n, axis=0))
        row, r, *_ = small.step(action)
        assert reward[0] == r[0]


def test_reset_with_a_seed_repeats_and_another_seed_does_not():
    env, rng = make(5), np.random.default_rng(0)
    actions = [slates(env, rng) for _ in range(12)]

    def play(seed):
        first, _ = env.reset(seed=seed)
        return [first["candidates"].tobytes(), *[env.step(action)[1].tobytes() for action in actions]]

    assert play(1) == play(1)
    assert play(1) != play(2)


@pytest.mark.parametrize("source", ["random", INDEXED])
def test_state_and_restore_go_on_bit_for_bit(source):
    env, other, rng = make(5, **named(source)), make(5, **named(source)), np.random.default_rng(0)
    env.reset(seed=9)
    actions = [slates(env, rng) for _ in range(16)]
    for action in actions[:7]:
        before = env.step(action)[0]
    saved = env.state()
    rest = [env.step(action) for action in actions[7:]]
    other.reset(seed=1234)
    again = other.restore(saved)
    for name in before:
        assert before[name].tobytes() == again[name].tobytes()
    for expected, action in zip(rest, actions[7:], strict=True):
        got = other.step(action)
        assert expected[1].tobytes() == got[1].tobytes()
        assert expected[0]["candidates"].tobytes() == got[0]["candidates"].tobytes()
    with pytest.raises(InputError, match="'ints' must be int32"):
        env.restore({name: array for name, array in saved.items() if name != "ints"})
    with pytest.raises(InputError, match=r"user must lie in 0\.\.59"):
        env.restore({**saved, "ints": saved["ints"] + 10**6})
    with pytest.raises(InputError, match="finite"):
        env.restore({**saved, "floats": saved["floats"] * np.nan})
    with pytest.raises(InputError, match="another world or other arguments"):
        make(5, reward="rating").restore(saved)


def test_arrays_handed_out_are_never_written_again():
    env, rng = make(4), np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    kept = []
    for _ in range(15):
        kept.append((observation, {name: array.copy() for name, array in observation.items()}))
        observation, _, _, _, info = env.step(slates(env, rng))
        plain = {name: array for name, array in info.items() if isinstance(array, np.ndarray)}
        kept.append((plain, {name: array.copy() for name, array in plain.items()}))
    for given, copy in kept:
        for name in given:
            np.testing.assert_array_equal(given[name], copy[name])


@pytest.mark.parametrize("source", ["random", INDEXED])
def test_no_consumed_item_is_offered_again_unless_repeats(source):
    env = make(8, num_candidates=60, horizon=15, dynamics="static", **named(source))
    rng = np.random.default_rng(0)
    observation, info = env.reset(seed=2)
    agent = WORLD.agent
    taken = [
        set(agent.history_item[agent.history_start[u] : agent.history_start[u + 1]].tolist())
        for u in info["user"]
    ]
    for _ in range(14):
        for n in range(8):
            offered = observation["candidates"][n][observation["action_mask"][n] == 1].tolist()
            assert len(set(offered)) == len(offered)
            assert not taken[n] & set(offered)
        observation, _, _, _, info = env.step(slates(env, rng))
        for n in range(8):
            taken[n] |= set(info["item"][n][info["click"][n] == 1].tolist())


def test_bad_slots_are_empty_counted_and_never_clicked():
    env = make(4, slate_size=4, candidates="all", dynamics={"leaving": False})
    observation, _ = env.reset(seed=0)
    masked = [int(np.flatnonzero(row == 0)[0]) for row in observation["action_mask"]]
    fine = [np.flatnonzero(row)[:2] for row in observation["action_mask"]]
    action = np.asarray(
        [[-1, 10**6, masked[n], fine[n][0]] for n in range(2)] + [[fine[n][0]] * 4 for n in (2, 3)]
    )
    _, _, _, _, info = env.step(action)
    info = info.get("final_info", info)
    np.testing.assert_array_equal(info["invalid"], [3, 3, 3, 3])
    empty = info["item"] == WORLD.num_items
    np.testing.assert_array_equal(empty.sum(1), [3, 3, 3, 3])
    assert not info["click"][empty].any()


@pytest.mark.parametrize("source", ["random", INDEXED])
def test_disabled_autoreset_never_resets_by_itself(source):
    env, rng = make(6, autoreset_mode=AutoresetMode.DISABLED, **named(source)), np.random.default_rng(0)
    env.reset(seed=4)
    over = np.zeros(6, bool)
    while not over.all():
        observation, reward, terminated, truncated, info = env.step(slates(env, rng))
        assert not (over & (terminated | truncated)).any()
        assert not reward[over].any()
        assert not info["click"][over].any()
        over |= terminated | truncated
    with pytest.raises(InputError, match="call reset"):
        env.step(slates(env, rng))
    mask = np.arange(6) == 2
    fresh, _ = env.reset(options={"reset_mask": mask})
    assert fresh["step"][2] == 0
    np.testing.assert_array_equal(fresh["candidates"][~mask], observation["candidates"][~mask])


def test_horizon_truncates_and_leaving_terminates():
    env, rng = make(50, dynamics="static", horizon=3), np.random.default_rng(0)
    env.reset(seed=0)
    for step in range(3):
        _, _, terminated, truncated, info = env.step(slates(env, rng))
        assert not terminated.any()
        assert truncated.all() == (step == 2)
    assert (info["final_obs"]["step"] == 1).all()
    env = make(200, dynamics="strong", horizon=10**3, num_candidates=10)
    env.reset(seed=0)
    for _ in range(10):
        _, _, terminated, truncated, _ = env.step(slates(env, rng))
        assert not truncated.any()
    assert terminated.any()


def test_pinned_users_and_streams():
    env, rng = make(5), np.random.default_rng(0)
    _, info = env.reset(seed=0, options={"user": np.asarray([4, 3, 2, 1, 0]), "stream": np.arange(10, 15)})
    np.testing.assert_array_equal(info["user"], [4, 3, 2, 1, 0])
    for _ in range(15):
        _, _, _, _, info = env.step(slates(env, rng))
        np.testing.assert_array_equal(info["user"], [4, 3, 2, 1, 0])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_only_users_of_the_split_appear(split):
    env, rng, seen = make(40, users=split, num_candidates=10), np.random.default_rng(0), set()
    _, info = env.reset(seed=0)
    for _ in range(30):
        seen |= set(info["user"].tolist())
        _, _, _, _, info = env.step(slates(env, rng))
    assert seen <= set(WORLD.splits[split].tolist())
    assert len(seen) > 1


@pytest.mark.parametrize("form", FORMS)
def test_features_are_the_vectors_of_the_ids(form):
    ids, features = make(), make(observation="features")
    a, _ = ids.reset(seed=3)
    b, _ = features.reset(seed=3)
    np.testing.assert_array_equal(ids.tables.item_vector[a["candidates"]], b["candidates"])
    np.testing.assert_array_equal(ids.tables.item_vector[a["history"]], b["history"])
    np.testing.assert_array_equal(ids.tables.user_vector[a["user"][:, 0]], b["user"])


def test_retrieved_candidates_are_the_best_by_the_own_estimate():
    env, whole = make(4, candidates="retrieved"), make(4, candidates="all")
    a, _ = env.reset(seed=3)
    b, _ = whole.reset(seed=3)
    for n in range(4):
        open_ = np.flatnonzero(b["action_mask"][n])
        best = open_[np.argsort(-b["candidate_score"][n][open_], kind="stable")][:40]
        assert set(a["candidates"][n].tolist()) == set(best.tolist())
        assert (np.diff(a["candidate_score"][n]) <= 1e-6).all()


def test_popular_candidates_are_the_most_popular_not_consumed():
    env = make(2, candidates="popular")
    observation, _ = env.reset(seed=3)
    for row in observation["candidates"]:
        popularity = env.tables.popularity[row]
        assert (np.diff(popularity) <= 0).all()
        left_out = np.setdiff1d(np.arange(WORLD.num_items), row)
        user_log = set(WORLD.agent.history_item.tolist())
        assert all(env.tables.popularity[i] <= popularity[-1] or i in user_log for i in left_out)


def test_rewards_count_what_happened():
    rng = np.random.default_rng(0)
    for reward in ("click", "rating", {"click": 2.0, "rating": 0.5}):
        env = make(30, reward=reward)
        env.reset(seed=0)
        for _ in range(8):
            _, got, _, _, info = env.step(slates(env, rng))
            info = {name: array.copy() for name, array in info.items() if isinstance(array, np.ndarray)} | {
                name: np.where(info["_final_info"].reshape(-1, *[1] * (array.ndim - 1)), array, info[name])
                for name, array in info.get("final_info", {}).items()
            }
            clicks = info["click"].sum(1)
            rated = ((info["rating"] - 3) / 2 * info["has_rating"]).sum(1)
            weights = {"click": (1, 0), "rating": (0, 1)}.get(
                reward if isinstance(reward, str) else "", (2.0, 0.5)
            )
            np.testing.assert_allclose(got, weights[0] * clicks + weights[1] * rated, atol=1e-5)


def test_gym_make_works_offline_in_a_process_that_imported_nothing(tmp_path):
    code = (
        "import gymnasium, numpy as np\n"
        "env = gymnasium.make('recworld:recworld/Slate-v0')\n"
        "env.reset(seed=0); env.step(env.action_space.sample())\n"
        "v = gymnasium.make_vec('recworld:recworld/Slate-v0', num_envs=3, vectorization_mode='vector_entry_point')\n"
        "print(type(v.unwrapped).__name__, v.reset(seed=0)[0]['candidates'].shape)\n"
        "import sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    cache = tmp_path / "compiled"
    kept = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == "RecVectorEnv"
        kept.append(sorted(path.name for path in cache.rglob("*.nbc")))
    # The second process found all that the first one compiled, and compiled nothing itself.
    assert kept[0] == kept[1] != []


def test_rollout_is_deterministic_through_gym_make():
    def play():
        env = gym.make("recworld/Slate-v0", num_candidates=20)
        env.action_space.seed(0)
        out = [env.reset(seed=7)[0]["candidates"].tolist()]
        for _ in range(10):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            out.append((observation["candidate_score"].tolist(), reward))
            if terminated or truncated:
                break
        return out

    assert play() == play()
