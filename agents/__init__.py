"""Agents: the contract, PPO, A2C, DQN, baselines, upper lines, loading by name. Nothing heavy is imported before use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recworld.lazy import lazy_names

if TYPE_CHECKING:
    from recworld.agents.base import Agent as Agent
    from recworld.agents.base import Callback as Callback
    from recworld.agents.base import Learner as Learner
    from recworld.agents.base import Observation as Observation
    from recworld.agents.base import Persistent as Persistent
    from recworld.agents.base import Resumable as Resumable
    from recworld.agents.checking import check_agent as check_agent
    from recworld.agents.registry import AGENTS as AGENTS
    from recworld.agents.registry import load_agent as load_agent
    from recworld.agents.registry import make_agent as make_agent
    from recworld.agents.registry import save_agent as save_agent

_HOME = {
    "AGENTS": "registry",
    "Agent": "base",
    "Callback": "base",
    "Learner": "base",
    "Observation": "base",
    "Persistent": "base",
    "Resumable": "base",
    "check_agent": "checking",
    "load_agent": "registry",
    "make_agent": "registry",
    "save_agent": "registry",
}
__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
