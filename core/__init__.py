"""recworld: simulated users learnt from logs, and ranking policies trained in them.

Importing this package costs numpy and Gymnasium's registry, nothing more: every public name below is imported
from the module that holds it when it is first used. The import also registers the environment
``recworld/Slate-v0``.

    >>> import gymnasium, recworld
    >>> "recworld/Slate-v0" in gymnasium.registry
    True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymnasium.envs.registration import register, registry

from recworld.lazy import lazy_names

if TYPE_CHECKING:
    from recworld.agents import check_agent, make_agent
    from recworld.encoders import encode_log
    from recworld.envs import RecEnv, RecVectorEnv
    from recworld.evaluation import evaluate_policies
    from recworld.logs import InteractionLog, load_log
    from recworld.runs import RunFolder
    from recworld.simulators.dynamics import DynamicsSettings
    from recworld.simulators.world import World

__version__ = "0.1.0"

ENV_ID = "recworld/Slate-v0"

_HOMES = {
    "DynamicsSettings": "simulators.dynamics",
    "InteractionLog": "logs",
    "RecEnv": "envs",
    "RecVectorEnv": "envs",
    "RunFolder": "runs",
    "World": "simulators.world",
    "check_agent": "agents",
    "encode_log": "encoders",
    "evaluate_policies": "evaluation",
    "load_log": "logs",
    "make_agent": "agents",
}

__all__ = [
    "ENV_ID",
    "DynamicsSettings",
    "InteractionLog",
    "RecEnv",
    "RecVectorEnv",
    "RunFolder",
    "World",
    "__version__",
    "check_agent",
    "encode_log",
    "evaluate_policies",
    "load_log",
    "make_agent",
]


__getattr__, __dir__ = lazy_names("recworld", _HOMES, ("ENV_ID", "__version__"))

# No max_episode_steps: the environment truncates itself, so that leaving and the time limit are told apart.
if ENV_ID not in registry:
    register(id=ENV_ID, entry_point="recworld.envs:RecEnv", vector_entry_point="recworld.envs:RecVectorEnv")
