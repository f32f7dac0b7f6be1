"""Rating model, attraction model, user dynamics and the compiled step: a log in, simulated users out."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "AgentTables": "tables",
    "DynamicsSettings": "dynamics",
    "ResponseTables": "tables",
    "UserSimulator": "user",
    "World": "world",
    "WorldSettings": "build",
    "build_world": "build",
    "bundled_world": "bundled",
    "cached_world": "build",
    "dynamics_preset": "dynamics",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
