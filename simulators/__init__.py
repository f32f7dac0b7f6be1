"""Rating model, attraction model, user dynamics and the compiled step: a log in, simulated users out."""

from __future__ import annotations

from recworld.lazy import lazy_names

_WHERE = {
    "AgentTables": "tables",
    "Calibration": "calibration",
    "CalibrationSettings": "calibration_settings",
    "DynamicsSettings": "dynamics",
    "ResponseTables": "tables",
    "UserSimulator": "user",
    "World": "world",
    "WorldSettings": "build",
    "build_world": "build",
    "bundled_world": "bundled",
    "cached_world": "build",
    "calibrate": "calibration",
    "dynamics_preset": "dynamics",
}

__all__ = sorted(_WHERE)

__getattr__, __dir__ = lazy_names(__name__, _WHERE)
