"""The whole way from a log to its answers."""

from __future__ import annotations

import math
from typing import Any

from recworld.logs.log import FloatArray, InteractionLog
from recworld.simulators.calibration import Calibration, Estimate
from recworld.simulators.calibration_sessions import read_order, session_facts
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.dynamics import DynamicsSettings

SHOWN_EFFECTS = ("examination_decay", "base_click_rate")
"""What needs to know what was shown, but no order."""
ORDER_EFFECTS = (
    "boredom", "boredom_memory", "boredom_scale", "taste_rate", "satisfaction_rate", "leave_base",
    "leave_dissatisfaction", "leave_boredom", "leave_step", "frailty",
)  # fmt: skip
"""What needs to know what was shown, in an order that means something."""
NOT_ASKED = {
    "boredom_rating": "too few ratings per session tell it from selection",
    "taste_return": "it is not told apart from the rate of drift within sessions",
    "satisfaction_start": "it is not told apart from the base of leaving",
}


def run(
    log: InteractionLog, item_vector: FloatArray, settings: CalibrationSettings, seed: int
) -> Calibration:
    """Return the answers of a log; see `calibrate`."""
    order = read_order(log, settings)
    facts = session_facts(log, order)
    estimates: list[Estimate] = []
    missing = "the log does not say what was shown" if log.exposures is None else ""
    for name in (*SHOWN_EFFECTS, *ORDER_EFFECTS):
        estimates.append(unknown(name, missing or order.why or "not estimated"))
    estimates += [unknown(name, why) for name, why in NOT_ASKED.items()]
    return Calibration(tuple(estimates), facts)


def unknown(name: str, why: str, **checks: Any) -> Estimate:
    """Return the answer "not identified" with its reason."""
    default = getattr(DynamicsSettings(), name, None)
    value = math.nan if default is None else float(default)
    source = "preset strong (a named assumption)" if name in DynamicsSettings.model_fields else "none"
    words = f"not identified: default used, source: {source}; {why}"
    return Estimate(name, value, math.nan, math.nan, False, words, **checks)
