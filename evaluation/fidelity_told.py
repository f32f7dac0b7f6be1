"""What a world's own report tells of its dynamics and of selection, read as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from recworld.evaluation.fidelity_lines import Level, Line, line_of, shown, unknown
from recworld.evaluation.resampling import Measured
from recworld.simulators.dynamics import DynamicsSettings

CALIBRATION, SELECTION = "calibration", "selection"


def estimates(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the answers of the calibration that a world's report holds; none where it holds none."""
    found = report.get(CALIBRATION)
    given = found.get("estimates") if isinstance(found, Mapping) else None
    if not isinstance(given, list):
        return []
    return [dict(one) for one in given if isinstance(one, Mapping) and isinstance(one.get("name"), str)]


def told(report: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the intervals of the settings that the log told, cut to what a setting allows."""
    out = {}
    for one in estimates(report):
        low, high = _number(one.get("low")), _number(one.get("high"))
        if (
            one.get("identified")
            and np.isfinite([low, high]).all()
            and one["name"] in DynamicsSettings.model_fields
        ):
            out[one["name"]] = (_allowed(one["name"], low), _allowed(one["name"], high))
    return out


def calibration_lines(report: Mapping[str, Any], dynamics: DynamicsSettings) -> list[Line]:
    """Return one line per answer: what was identified, and what is assumed.

    Args:
        report: of the fit.
        dynamics: what the world uses; a value that the log tells otherwise is said.
    """
    found = estimates(report)
    if not found:
        return [unknown(CALIBRATION, "all", "User dynamics", "the world was made without a calibration")]
    return [_line(one, dynamics) for one in found]


def contradicted(report: Mapping[str, Any], dynamics: DynamicsSettings) -> dict[str, float]:
    """Return the settings in use that lie outside the interval that the log tells, with the value in use."""
    used = {name: getattr(dynamics, name) for name in told(report)}
    return {
        name: float(used[name])
        for name, (low, high) in told(report).items()
        if used[name] is not None and not low <= used[name] <= high
    }


def _line(one: Mapping[str, Any], dynamics: DynamicsSettings) -> Line:
    name, identified = one["name"], bool(one.get("identified"))
    value, low, high = (_number(one.get(key)) for key in ("value", "low", "high"))
    level: Level = "good" if identified else "unknown"
    words = str(one.get("words", ""))
    otherwise = contradicted({CALIBRATION: {"estimates": [one]}}, dynamics)
    if otherwise:
        level, used = "fair", shown(otherwise[name])
        words = f"the log tells otherwise than this world, which uses {used} (see --dynamics fitted); {words}"
    if one.get("refuted") and name in DynamicsSettings.model_fields and getattr(dynamics, name) != value:
        level, used = "fair", shown(float(getattr(dynamics, name)))
        words = words.replace("left out, as", "--dynamics fitted leaves it out, as")
        words = f"the log leaves no room for what this world uses, {used}; {words}"
    beside = {}
    for part, key, title in (
        ("placebo", "value", "placebo (order shuffled)"),
        ("held_out", "gain", "held-out gain, log-loss a row"),
        ("measured", "value", "estimate before the verdict"),
    ):
        values = one.get(part)
        if isinstance(values, Mapping) and np.isfinite(_number(values.get(key))):
            beside[title] = _number(values.get(key))
    meaning = _meaning(name) + (
        " Estimated from the log." if identified else " Assumed: the value is a default."
    )
    return line_of(
        CALIBRATION,
        name,
        name,
        meaning,
        Measured(value, low, high),
        level,
        words,
        beside=beside,
    )


def _meaning(name: str) -> str:
    field = DynamicsSettings.model_fields.get(name)
    return (field.description or "").split("\n")[0] if field is not None else ""


def selection_lines(report: Mapping[str, Any]) -> list[Line]:
    """Return the lines on selection, where the report holds some; none else.

    Each entry: "name", and any of "value", "low", "high", "unit", "words", "level", "beside".
    """
    found = report.get(SELECTION)
    given = found.get("lines") if isinstance(found, Mapping) else found
    lines = []
    for one in given if isinstance(given, list) else []:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            continue
        value, low, high = (_number(one.get(key)) for key in ("value", "low", "high"))
        level: Level = one["level"] if one.get("level") in ("good", "fair", "poor") else "unknown"
        beside = one.get("beside") if isinstance(one.get("beside"), Mapping) else {}
        kept = {str(key): _number(number) for key, number in (beside or {}).items()}
        lines.append(
            line_of(
                SELECTION,
                one["name"],
                str(one.get("title", one["name"])),
                str(one.get("meaning", "")),
                Measured(value, low, high),
                level,
                str(one.get("words", "")),
                unit=str(one.get("unit", "")),
                beside=kept,
            )
        )
    return lines


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _allowed(name: str, value: float) -> float:
    """Cut a value to the bounds of its setting."""
    for bound in DynamicsSettings.model_fields[name].metadata:
        for key, hair, low in (
            ("ge", 0.0, True),
            ("gt", 1e-6, True),
            ("le", 0.0, False),
            ("lt", 1e-6, False),
        ):
            limit = getattr(bound, key, None)
            if limit is not None:
                value = max(value, limit + hair) if low else min(value, limit - hair)
    return value
