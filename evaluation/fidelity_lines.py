"""A line of the fidelity report: a figure, its interval, its noise floor, and what they come to in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from recworld.errors import InputError, did_you_mean
from recworld.evaluation.resampling import Measured

Level = Literal["good", "fair", "poor", "unknown"]
LEVELS: tuple[Level, ...] = ("poor", "fair", "good")
"""From worst to best; "unknown" stands beside them."""


@dataclass(frozen=True)
class Line:
    """One thing that was measured.

    Attributes:
        group: what it belongs to, a key of `GROUPS`.
        name: key, distinct within the group.
        title: name for people.
        meaning: what the figure is, in a sentence.
        figure: the figure; None where it could not be measured.
        unit: of the figure.
        low: lower end of the 95 % interval, None where there is none.
        high: upper end.
        floor: the same figure between two halves of the real log; None where there is none.
        verdict: what it comes to, in plain words.
        level: "good", "fair", "poor" or "unknown".
        required: whether `--min-fidelity` looks at it.
        beside: what the figure stands beside, by name (baselines; the simulated and the logged value).
    """

    group: str
    name: str
    title: str
    meaning: str
    figure: float | None
    unit: str
    low: float | None
    high: float | None
    floor: float | None
    verdict: str
    level: Level
    required: bool = False
    beside: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Line:
        """Return what `to_json` gave.

        Raises:
            InputError: it is not that.
        """
        try:
            line = cls(**values)
        except TypeError as error:
            raise InputError(f"This is no line of a fidelity report: {error}.") from error
        if line.level not in (*LEVELS, "unknown"):
            raise InputError(f"Unknown level {line.level!r}. {did_you_mean(str(line.level), LEVELS)}")
        return line


GROUPS = {
    "accuracy": "Held-out accuracy: can it tell what people think of what they have not met yet?",
    "marginals": "The log's own consumptions replayed: do simulated people rate as the real ones did?",
    "exposures": "The logged slates replayed: do simulated people click and stay as the real ones did?",
    "sessions": "Sessions: do simulated sessions look like real ones?",
    "classifier": "Two-sample test: can a classifier tell simulated from real?",
    "sensitivity": "Sensitivity: does the best policy depend on what is assumed?",
    "calibration": "What the log tells of how people change, and what is assumed",
    "selection": "Selection: what correcting for who chose what buys",
}
"""Every group by key, in the order of the report."""


@dataclass(frozen=True)
class Tolerance:
    """How far off is near enough, where a large log tells even what does not matter.

    Attributes:
        good: a figure up to this is good even above the noise floor.
        fair: a figure up to this is fair.
        words: what the figure is measured in, for the verdict ("of the scale").
    """

    good: float
    fair: float
    words: str = ""


def judge(found: Measured, tolerance: Tolerance, near: str = "two halves of the log") -> tuple[Level, str]:
    """Return level and verdict of a distance or gap: good as near as two halves of the log, or near enough to not matter.

    good: below what 95 % of the halvings of the real log differ by, or within `tolerance.good`; fair: within twice the floor
    or within `tolerance.fair`; else poor. Where the halves themselves are further apart than `tolerance.fair`, the log is
    too small to call anything good.

    Args:
        found: the figure and its floor.
        tolerance: what does not matter.
        near: what the floor is, in words.
    """
    if not math.isfinite(found.value):
        return "unknown", "not measurable: there are too few rows"
    times = f"{found.value / found.floor:.1f}x what {near} give" if found.floor > 0 else ""
    limit = f"{shown(tolerance.fair)}{tolerance.words}"
    if math.isfinite(found.floor_high) and found.value <= found.floor_high:
        if found.floor_high > tolerance.fair:
            return "fair", f"as close as {near}, but these lie far apart: the log is too small to tell more"
        return "good", f"as close as {near}"
    if found.value <= tolerance.good:
        size = f"small, within {shown(tolerance.good)}{tolerance.words}"
        return "good", f"{size} ({times})" if times else size
    if found.floor > 0 and found.value <= 2 * found.floor:
        return "fair", "within 2x of the noise floor"
    if found.value <= tolerance.fair:
        return "fair", f"moderately off, within {limit}" + (f" ({times})" if times else "")
    return "poor", f"far off, beyond {limit}" + (f" ({times})" if times else "")


def judge_margin(margin: Measured, than: str) -> tuple[Level, str]:
    """Return level and verdict of a lead over a baseline (positive is better), by its paired interval."""
    if not math.isfinite(margin.value):
        return "unknown", "not measurable: there are too few rows"
    size = shown(abs(margin.value))
    if not math.isfinite(margin.low):
        return (
            "unknown",
            f"{'ahead of' if margin.value > 0 else 'behind'} {than} by {size}; too few users for an interval",
        )
    if margin.low > 0:
        return "good", f"better than {than} by {size} [{shown(margin.low)}, {shown(margin.high)}]"
    if margin.high < 0:
        return "poor", f"worse than {than} by {size} [{shown(-margin.high)}, {shown(-margin.low)}]"
    return (
        "fair",
        f"not told apart from {than} (difference {shown(margin.value)} [{shown(margin.low)}, {shown(margin.high)}])",
    )


def shown(value: float | None) -> str:
    """Return a number for people: three significant digits, five decimals at most; "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) < 5e-6:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(places, 5)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def line_of(
    group: str, name: str, title: str, meaning: str, found: Measured, level: Level, verdict: str, *,
    unit: str = "", required: bool = False, beside: Mapping[str, float] | None = None,
) -> Line:  # fmt: skip
    """Return a line of a measured figure; figures are kept to six digits, what is not finite becomes None."""
    kept = {key: float(f"{value:.6g}") for key, value in (beside or {}).items() if math.isfinite(value)}
    return Line(
        group, name, title, meaning, plain(found.value), unit, plain(found.low), plain(found.high), plain(found.floor),
        verdict, level, required, kept,
    )  # fmt: skip


def unknown(group: str, name: str, title: str, why: str, required: bool = False) -> Line:
    """Return the line of something that cannot be measured, and why not."""
    return Line(
        group, name, title, "", None, "", None, None, None, f"not measurable: {why}", "unknown", required
    )


def plain(value: float | None) -> float | None:
    """Return a number to six digits; None where it is not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
