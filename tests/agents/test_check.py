"""`check_agent` passes what keeps the contract and names each way to break it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.agents import check_agent
from recworld.errors import InputError


class Good:
    """Keeps the contract."""

    def __init__(self, env: Any, seed: int = 0) -> None:
        self.size = env.slate_size
        self.shift = seed

    def act(self, observation: Any, deterministic: bool = True) -> Any:
        order = np.argsort(-observation["action_mask"], axis=1, kind="stable")
        return order[:, : self.size].astype(np.int64)


class Mute:
    def __init__(self, env: Any) -> None:
        pass


class WrongShape(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return super().act(observation)[:, 0]


class Scores(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return super().act(observation).astype(float)


class Short(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return super().act(observation).astype(np.int32)


class ItemNumbers(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return super().act(observation) + 1000


class Masked(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return np.argsort(observation["action_mask"], axis=1, kind="stable")[:, : self.size].astype(np.int64)


class Repeats(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return np.repeat(super().act(observation)[:, :1], self.size, axis=1)


class Moody(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        self.shift += 1
        return np.roll(super().act(observation), self.shift, axis=1)


class Careless(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        observation["candidate_score"] += 1
        return super().act(observation)


class OneSize(Good):
    def act(self, observation: Any, deterministic: bool = True) -> Any:
        if len(observation["step"]) != 3:
            raise ValueError("built for three users")
        return super().act(observation)


class OtherNames(Good):
    def act(self, obs: Any, greedy: bool = True) -> Any:
        return super().act(obs)


class BadLearner(Good):
    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        callback("now", None)


class OnlySaves(Good):
    def save(self, folder: Path) -> None:
        pass


class Forgets(Good):
    """Draws its taste at birth and stores nothing."""

    def act(self, observation: Any, deterministic: bool = True) -> Any:
        return np.roll(super().act(observation), self.shift, axis=1)

    def save(self, folder: Path) -> None:
        pass

    def load(self, folder: Path, env: Any) -> None:
        pass


class Pickles(Forgets):
    def save(self, folder: Path) -> None:
        (folder / "weights.pkl").write_bytes(b"")


class Hungry(Good):
    def __init__(self, env: Any, must: int) -> None:
        super().__init__(env)


CASES = [
    (Mute, "no method act"),
    (WrongShape, r"shape \(N, K\) = \(3, 3\)"),
    (Scores, "int64 positions"),
    (Short, "Add .astype"),
    (ItemNumbers, "from 0 to C - 1"),
    (Masked, "masked candidate"),
    (Repeats, "twice in one slate"),
    (Moody, "two answers"),
    (Careless, "changed observation"),
    (OneSize, "With N = 1 instead of 3"),
    (OtherNames, r"act\(self, observation, deterministic\)"),
    (BadLearner, "int and a dict of numbers"),
    (OnlySaves, "save and load belong together"),
    (Forgets, "After save and load"),
    (Pickles, "can execute code"),
    (Hungry, "needs the option 'must'"),
]


@pytest.mark.parametrize(("cls", "text"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_fault_is_told(cls: type, text: str) -> None:
    with pytest.raises(InputError, match=text):
        check_agent(cls)


def test_findings_can_be_returned() -> None:
    assert check_agent(Good) == []
    findings = check_agent(Careless, raise_errors=False)
    assert any("Copy what you change" in finding for finding in findings)


@pytest.mark.parametrize(
    "name",
    [
        "ppo",
        "a2c",
        "trpo",
        "recurrent_ppo",
        "qrdqn",
        "sac",
        "td3",
        "wolpertinger",
        "dqn",
        "random",
        "greedy",
        "mmr",
        "popularity",
        "epsilon_greedy",
        "linucb",
        "thompson",
        "ucb",
        "clone",
        "reinforce",
    ],
)
def test_our_own_agents_pass(name: str) -> None:
    assert check_agent(name) == []


def test_an_agent_that_was_built_already_is_checked() -> None:
    from recworld.envs import RecVectorEnv

    env = RecVectorEnv(2, num_candidates=10, slate_size=2, horizon=4, seed=0)
    agent = Good(env)
    before = copy.deepcopy(vars(agent))
    assert check_agent(agent, env) == []
    assert vars(agent) == before
