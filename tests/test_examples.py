"""Every example runs as its own text says, and what it defines keeps the contract of agents."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recworld.agents import check_agent, load_agent, make_agent, save_agent
from recworld.envs import RecVectorEnv

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNS = {
    "bandit.py": (["--steps", "1280"], r"clicked most: item \d+"),
    "cleanrl_ppo.py": (["--steps", "2048"], r"after 2048 steps: 0\.\d+ clicks per step"),
    "compare_agents.py": (["--steps", "640", "--seeds", "1"], r"(?s)clean ppo .*evaluation world"),
    "plain_gymnasium.py": (["--episodes", "100"], r"after 100 episodes: return \d"),
    "sb3_policy.py": (["--steps", "1024"], r"(?s)greedy +return \d.*sb3 ppo +return \d"),
}
AGENTS = ("bandit:BetaBandit", "cleanrl_ppo:CleanPPO", "custom_agent:MyAgent")
ALL = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        env=os.environ | {"RECWORLD_QUIET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES.parent)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("name", ALL)
def test_it_says_how_it_is_run(name: str) -> None:
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""
    assert re.search(rf"python examples/{name}|--algo examples\.{name.removesuffix('.py')}:", text)
    assert name in RUNS or name == "custom_agent.py", "a new example is run here too"


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name: str) -> None:
    words, shown = RUNS[name]
    assert re.search(shown, run(name, *words))


@pytest.mark.parametrize("spec", AGENTS)
def test_its_agent_keeps_the_contract(spec: str) -> None:
    assert check_agent(f"examples.{spec}") == []


def test_plain_gymnasium_needs_gymnasium_and_numpy_alone() -> None:
    tree = ast.parse((EXAMPLES / "plain_gymnasium.py").read_text())
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert found == {"argparse", "gymnasium", "numpy"}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


def test_what_was_learnt_is_stored_under_its_name(tmp_path: Path) -> None:
    env = RecVectorEnv(16, num_candidates=20, slate_size=3, horizon=6, observation="ids", seed=0)
    spec = "examples.cleanrl_ppo:CleanPPO"
    agent: Any = make_agent(spec, env, 3, {"n_steps": 8})
    agent.learn(env, 256)
    save_agent(agent, tmp_path, spec, 3, {"n_steps": 8})
    observation, _ = env.reset(seed=5)
    assert (load_agent(tmp_path, env).act(observation) == agent.act(observation)).all()


@pytest.mark.parametrize(("spec", "steps"), [("cleanrl_ppo:CleanPPO", 12_000), ("bandit:BetaBandit", 12_000)])
def test_it_learns(spec: str, steps: int, reward_per_step: Callable[..., float]) -> None:
    env = RecVectorEnv(32, num_candidates=30, slate_size=3, observation="ids", seed=0)
    before: Any = make_agent(f"examples.{spec}", env, 0)
    after: Any = make_agent(f"examples.{spec}", env, 0)
    after.learn(env, steps)
    assert reward_per_step(after, env, 20) > reward_per_step(before, env, 20)


@pytest.fixture
def reward_per_step() -> Callable[..., float]:
    """Return a function that gives an agent's mean reward per user step."""

    def measure(agent: Any, env: RecVectorEnv, steps: int) -> float:
        observation, _ = env.reset(seed=99)
        total = 0.0
        for _ in range(steps):
            observation, reward, *_ = env.step(agent.act(observation))
            total += float(reward.mean())
        return total

    return measure
