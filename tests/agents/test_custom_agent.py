"""The worked example of an own agent keeps the contract and learns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recworld.agents import check_agent, make_agent
from recworld.envs import RecVectorEnv

ROOT = Path(__file__).parents[2]
SPEC = "examples.custom_agent:MyAgent"


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_it_keeps_the_contract() -> None:
    assert check_agent(SPEC) == []


def test_it_is_as_short_as_promised() -> None:
    assert len((ROOT / "examples" / "custom_agent.py").read_text().splitlines()) < 80


@pytest.mark.parametrize("form", ["ids", "features"])
def test_it_learns_to_leave_what_bores(form: str, small_env: Callable[..., RecVectorEnv]) -> None:
    env = small_env(num_envs=64, observation=form)
    agent: Any = make_agent(SPEC, env, 0)
    calls: list[tuple[int, dict[str, float]]] = []
    agent.learn(env, 64 * 60, lambda steps, figures: calls.append((steps, figures)) or True)
    assert [steps for steps, _ in calls][:2] == [640, 1280]
    assert agent.weights[1] < 0  # likeness to what was just consumed: boredom
