"""The Gymnasium environment: the vector form is the native one, the single form is its N = 1 view."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "EnvSettings": "settings",
    "EnvTables": "tables",
    "REWARDS": "rewards",
    "RecEnv": "single",
    "RecVectorEnv": "vector",
    "Sb3VecEnv": "sb3",
    "WishedItemVectorWrapper": "wrappers",
    "WishedItemWrapper": "wrappers",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
