"""Agents by name, by class, and from a run folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.agents import AGENTS, load_agent, make_agent, save_agent
from recworld.agents.base import Agent, Learner, Persistent, Resumable
from recworld.envs import RecVectorEnv
from recworld.errors import CorruptError, InputError

ONLINE = ["linucb", "thompson", "ucb", "epsilon_greedy_bandit", "clone", "reinforce"]


class First:
    """Takes the environment only."""

    def __init__(self, env: Any) -> None:
        self.size = env.slate_size

    def act(self, observation: Any, deterministic: bool = True) -> Any:
        order = np.argsort(-observation["action_mask"], axis=1, kind="stable")
        return order[:, : self.size].astype(np.int64)


class Seeded(First):
    """Takes a seed as well."""

    def __init__(self, env: Any, seed: int) -> None:
        super().__init__(env)
        self.seed = seed


class Optional(Seeded):
    """Takes any option."""

    def __init__(self, env: Any, seed: int = 0, **options: Any) -> None:
        super().__init__(env, seed)
        self.options = options


class Needy(First):
    """Needs an option."""

    def __init__(self, env: Any, must: int) -> None:
        super().__init__(env)
        self.must = must


@pytest.mark.parametrize(
    "name",
    ["ppo", "a2c", "dqn", "random", "popularity", "greedy", "mmr", "epsilon_greedy", *ONLINE],
)
def test_every_name_builds_an_agent_that_acts(name: str, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    agent = make_agent(name, env, 1)
    assert isinstance(agent, Agent)
    observation, _ = env.reset(seed=0)
    assert agent.act(observation).shape == (4, 3)


def test_learners_have_all_abilities(small_env: Callable[..., RecVectorEnv]) -> None:
    for name in ("ppo", "a2c", "dqn", *ONLINE):
        agent = make_agent(name, small_env())
        assert isinstance(agent, Learner)
        assert isinstance(agent, Persistent)
        assert isinstance(agent, Resumable)


def test_constructors_are_adapted_to(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    assert isinstance(make_agent(First, env, 3), First)
    assert make_agent(Seeded, env, 3).seed == 3  # type: ignore[attr-defined]
    loose: Any = make_agent(Optional, env, 3, {"colour": 1})
    assert (loose.seed, loose.options) == (3, {"colour": 1})
    assert make_agent(Needy, env, 3, {"must": 4}).must == 4  # type: ignore[attr-defined]


def test_wrong_names_and_options_are_told(small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    with pytest.raises(InputError, match=r"Unknown algorithm 'pppo'. Did you mean 'ppo'\?"):
        make_agent("pppo", env)
    with pytest.raises(
        InputError, match=r"'ppo' has no option 'learning_rte'. Did you mean 'learning_rate'\?"
    ):
        make_agent("ppo", env, 0, {"learning_rte": 1})
    with pytest.raises(InputError, match=r"has no option 'x'\. It takes none"):
        make_agent(First, env, 0, {"x": 1})
    with pytest.raises(InputError, match="needs the option 'must'"):
        make_agent(Needy, env)
    with pytest.raises(InputError, match="must take the environment"):
        make_agent(type("Bare", (), {}), env)
    with pytest.raises(InputError, match="no method act"):
        make_agent(type("Mute", (), {"__init__": lambda self, env: None}), env)
    with pytest.raises(InputError, match="importing 'no_such_module' failed"):
        make_agent("no_such_module:Agent", env)
    with pytest.raises(InputError, match="learning_rate"):
        make_agent("ppo", env, 0, {"learning_rate": -1})


@pytest.mark.parametrize("name", ["ppo", "dqn", "greedy", *ONLINE])
def test_a_stored_agent_comes_back(name: str, tmp_path: Path, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env()
    agent = make_agent(name, env, 4)
    if isinstance(agent, Learner):
        agent.learn(small_env(), 8)
    (tmp_path / "agent").mkdir()
    save_agent(agent, tmp_path / "agent", name, 4)
    assert not [f for f in tmp_path.rglob("*") if f.suffix not in {".json", ".safetensors", ""}]
    loaded = load_agent(tmp_path, env)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(loaded.act(observation), agent.act(observation))
    wide = small_env(num_envs=2, num_candidates=30, slate_size=5)
    observation, _ = wide.reset(seed=0)
    if name != "dqn":  # its choice model knows the places of its slate size
        assert load_agent(tmp_path, wide).act(observation).shape == (2, 5)


def test_broken_run_folders_are_told(tmp_path: Path, small_env: Callable[..., RecVectorEnv]) -> None:
    with pytest.raises(InputError, match=r"no agent/agent\.json"):
        load_agent(tmp_path, small_env())
    (tmp_path / "agent.json").write_text("{")
    with pytest.raises(CorruptError, match="cannot be read as JSON"):
        load_agent(tmp_path, small_env())
    (tmp_path / "agent.json").write_text("[]")
    with pytest.raises(CorruptError, match="not of format"):
        load_agent(tmp_path, small_env())


def test_names_cost_nothing() -> None:
    """Importing the agents' names loads neither torch nor the compiler."""
    heavy = "('torch', 'numba', 'stable_baselines3', 'transformers')"
    code = (
        f"import sys, recworld.agents as a; a.AGENTS.names(); print([m for m in {heavy} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert {"ppo", "dqn", "a2c", "oracle", "static"} <= set(AGENTS.names())
