"""The Gymnasium environment: the vector form is the native one, the single form is its N = 1 view."""

from __future__ import annotations

from recworld.lazy import lazy_names

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

__all__ = sorted(_WHERE)

__getattr__, __dir__ = lazy_names(__name__, _WHERE)
