"""The environment with users from elsewhere shows a recommender exactly what the environment of the world would."""

from __future__ import annotations

import numpy as np
import pytest

from recworld.agents.baselines import GreedyAgent, MMRAgent
from recworld.agents.episodes import play
from recworld.envs import RecVectorEnv
from recworld.errors import InputError
from recworld.evaluation.outside import ForeignPeople, OutsideEnv
from recworld.logs.foreign import START, foreign_truth
from recworld.logs.settings import SyntheticSettings
from recworld.simulators.bundled import bundled_world


class Echo:
    """Users who repeat what the users of an environment did."""

    def __init__(self):
        self.asked = []

    def start(self, user, seed):
        self.user, self.seed = user, seed

    def tell(self, info, gone):
        self.next = info["click"] == 1, info["rating"], gone

    def answer(self, item):
        self.asked.append(item)
        return self.next


class Script:
    """Users who click on the first place, rate 4 and leave when told."""

    def __init__(self, leave_at):
        self.leave_at, self.step, self.asked = leave_at, 0, []

    def start(self, user, seed):
        self.step = 0

    def answer(self, item):
        self.step += 1
        self.asked.append(item)
        click = np.zeros(item.shape, bool)
        click[:, 0] = True
        return click, np.full(item.shape, 4.0), np.asarray(self.leave_at) == self.step


@pytest.mark.parametrize("arguments", [
    {"reward": "click"},
    {"reward": {"click": 1.0, "rating": 0.5}, "candidates": "retrieved"},
    {"observation": "features", "candidates": "all"},
    {"repeats": True, "candidates": "popular"},
])  # fmt: skip
def test_same_answers_give_the_same_observations(world, arguments):
    n, layout = 12, {"num_candidates": 15, "slate_size": 3, "horizon": 7, "history_length": 4} | arguments
    own = RecVectorEnv(n, world=world, users="all", autoreset_mode="Disabled", **layout)
    people = Echo()
    other = OutsideEnv(n, world=world, users="all", people=people, **layout)
    agent = MMRAgent(own, slate_penalty=0.4, history_penalty=1.0)
    for episode in range(2):
        options = {"stream": np.arange(n), "user": np.arange(n) * 3, "episode": episode}
        expected, _ = own.reset(seed=5, options=dict(options))
        got, _ = other.reset(seed=5, options=dict(options))
        over = np.zeros(n, bool)
        while not over.all():
            for name, array in expected.items():
                np.testing.assert_array_equal(got[name], array, err_msg=name)
                assert got[name].dtype == array.dtype
            assert other.observation_space.contains(got)
            action = agent.act(expected)
            action[0, 1] = action[0, 0]  # a repeated position is an empty slot
            action[1, 2] = 10_000
            expected, reward, terminated, truncated, info = own.step(action)
            people.tell(info, terminated)
            got, other_reward, other_terminated, other_truncated, other_info = other.step(action)
            np.testing.assert_array_equal(people.asked[-1][~over], info["item"][~over])
            np.testing.assert_allclose(other_reward, reward, rtol=1e-6)
            np.testing.assert_array_equal(other_terminated, terminated)
            np.testing.assert_array_equal(other_truncated, truncated)
            for name in ("item", "click", "rating", "has_rating", "user", "invalid"):
                np.testing.assert_array_equal(other_info[name], info[name], err_msg=name)
            over |= terminated | truncated
    assert own.observation_space == other.observation_space


def test_leaving_terminates_and_the_horizon_truncates(world):
    env = OutsideEnv(
        3, world=world, users="all", people=Script([2, 4, 99]), num_candidates=10, slate_size=2, horizon=4
    )
    observation, _ = env.reset(seed=0)
    ends = []
    for _ in range(4):
        first = np.take_along_axis(observation["candidates"], np.ones((3, 1), int), 1)
        observation, reward, terminated, truncated, info = env.step(np.tile([1, 1], (3, 1)))
        ends.append((terminated.copy(), truncated.copy()))
        assert not (terminated & truncated).any()
        assert (info["click"][:, 1] == 0).all()
        alive = info["item"][:, 0] < world.num_items
        assert (reward == alive).all()
        offered = (observation["candidates"] == first) & (observation["action_mask"] == 1)
        assert not offered[alive].any(), "a consumed item is not offered again"
    assert [list(t) for t, _ in ends] == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert [list(t) for _, t in ends][-1] == [0, 0, 1]


def test_wrong_uses_are_refused(world):
    with pytest.raises(InputError, match="no autoreset"):
        OutsideEnv(2, world=world, people=Echo(), autoreset_mode="SameStep")
    env = OutsideEnv(2, world=world, people=Echo(), num_candidates=20)
    with pytest.raises(InputError, match="Call reset"):
        env.step(np.zeros((2, 5), np.int64))
    env.reset(seed=0)
    with pytest.raises(InputError, match="reset_mask"):
        env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(InputError, match="start a session"):
        ForeignPeople(foreign_truth(SyntheticSettings(num_users=5, num_items=30), 0), START).answer(
            np.zeros((1, 2), int)
        )


def test_foreign_users_play_whole_sessions_and_meet_the_same_luck():
    settings = SyntheticSettings(num_users=60, num_items=80)
    world, truth = bundled_world(users=60, items=80, width=8, members=1), foreign_truth(settings, 3)
    env = OutsideEnv(
        60,
        world=world,
        users="all",
        people=ForeignPeople(truth, START),
        num_candidates=20,
        slate_size=4,
        horizon=6,
    )
    first, again = (play(GreedyAgent(env), env, np.arange(60), seed=1, episode=e) for e in (0, 0))
    other = play(GreedyAgent(env), env, np.arange(60), seed=1, episode=1)
    np.testing.assert_array_equal(first.reward, again.reward)
    assert not np.array_equal(first.reward, other.reward)
    assert first.invalid.sum() == 0
    length = first.active.sum(0)
    assert length.min() >= 1
    assert length.max() <= 6
    assert 0 < first.reward.mean() < 4


def test_an_empty_slot_is_never_clicked_and_sates_nobody():
    from recworld.logs.foreign import ForeignUsers

    truth = foreign_truth(SyntheticSettings(num_users=50, num_items=60), 0)
    users = ForeignUsers(truth, np.arange(50), np.random.default_rng(0))
    clicked, _ = users.step(np.arange(50), np.full((50, 4), 60))
    assert not clicked.any()
    assert (users.satiation == 0).all()
