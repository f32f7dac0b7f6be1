"""What a log tells about how its users change: every answer with an interval, a held-out check and a placebo.

`calibrate` asks the log; `Calibration` holds the answers. An effect is *identified* where the log logged what was shown, in
an order that means something, its interval is apart from "no effect", its placebo (the same estimate with the order
shuffled) is apart from it, and it predicts sessions that did not fit it. Everything else keeps its default, and says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from recworld.errors import InputError
from recworld.logs.log import FloatArray, InteractionLog
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.dynamics import DynamicsSettings

if TYPE_CHECKING:
    from recworld.simulators.world import World

REPORT_KEY = "calibration"
"""Where `World.report` keeps the answers."""


@dataclass(frozen=True)
class Estimate:
    """One answer.

    Attributes:
        name: a field of `DynamicsSettings`, or another quantity ("session_gap", ...).
        value: the estimate, or the default where not identified (NaN where there is neither).
        low: lower end of the 95 % interval, NaN where not identified.
        high: upper end.
        identified: whether the log tells it.
        words: "identified: ..." or "not identified: default used, source: ...".
        held_out: log-loss per row of sessions that did not fit it, "log_loss" with and "without" it, "gain" (without - with)
            and its "gain_interval"; empty where there is no such check.
        placebo: the same estimate with the order shuffled: "value", "low", "high", "kind"; empty where there is none.
        measured: what was estimated before the verdict: "value", "low", "high"; empty where nothing could be.
    """

    name: str
    value: float
    low: float
    high: float
    identified: bool
    words: str
    held_out: dict[str, Any] = field(default_factory=dict)
    placebo: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    refuted: bool = False
    """Not identified, and what was measured leaves no room for the default: the effect is left out, value 0."""


@dataclass(frozen=True)
class Calibration:
    """All answers of a log.

    Attributes:
        estimates: one per quantity that was asked for.
        facts: how sessions were cut, share of tied gaps, how log events map to slates, ...; JSON-ready.
    """

    estimates: tuple[Estimate, ...]
    facts: dict[str, Any]

    def __getitem__(self, name: str) -> Estimate:
        """Return the answer of that name.

        Raises:
            InputError: there is none.
        """
        from recworld.errors import did_you_mean

        for estimate in self.estimates:
            if estimate.name == name:
                return estimate
        raise InputError(f"Unknown estimate {name!r}. {did_you_mean(name, [e.name for e in self.estimates])}")

    def dynamics(self, base: DynamicsSettings) -> DynamicsSettings:
        """Return `base` with what was identified, or refuted, in its place, cut to the range that a setting allows."""
        found = {
            e.name: _allowed(e.name, e.value)
            for e in self.estimates
            if (e.identified or e.refuted) and e.name in DynamicsSettings.model_fields
        }
        return DynamicsSettings.model_validate({**base.model_dump(), **found})

    def to_json(self) -> dict[str, Any]:
        """Return the answers as plain values; NaN becomes null."""
        return {"estimates": [_plain(asdict(e)) for e in self.estimates], "facts": _plain(self.facts)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Calibration:
        """Return what `to_json` gave.

        Raises:
            InputError: it is not that.
        """
        try:
            estimates = []
            for one in values["estimates"]:
                numbers = {k: math.nan if one[k] is None else float(one[k]) for k in ("value", "low", "high")}
                estimates.append(Estimate(**{**one, **numbers}))
            return cls(tuple(estimates), dict(values["facts"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"This is no calibration: {type(error).__name__} {error}.") from error

    def summary(self) -> str:
        """Return in one line which settings of the dynamics the log told, and which stay assumed."""
        asked = [e for e in self.estimates if e.name in DynamicsSettings.model_fields]
        told = [f"{e.name} {e.value:.3g} [{e.low:.3g}, {e.high:.3g}]" for e in asked if e.identified]
        out = [e.name for e in asked if e.refuted]
        rest = [e.name for e in asked if not e.identified and not e.refuted]
        parts = [f"the log tells {', '.join(told) or 'nothing'}"]
        if out:
            parts.append(f"leaves no room for {', '.join(out)}")
        if rest:
            parts.append(f"not identified, as assumed: {', '.join(rest)}")
        return "; ".join(parts)

    def lines(self) -> list[str]:
        """Return the answers for people, one line each."""
        return [f"{e.name}: {_number(e)}{e.words}" for e in self.estimates]


def calibrate(
    log: InteractionLog, item_vector: FloatArray, settings: CalibrationSettings | None = None, seed: int = 0
) -> Calibration:
    """Ask a log how its users change.

    Args:
        log: the log.
        item_vector: (I, D) unit text vectors, float32: boredom is a matter of what texts have in common.
        settings: what is asked.
        seed: the same seed gives the same answers.

    Raises:
        InputError: the vectors do not fit the log.
    """
    from recworld.simulators.calibration_run import run

    if item_vector.ndim != 2 or len(item_vector) != log.num_items:
        raise InputError(f"The item vectors must have shape ({log.num_items}, D). Got {item_vector.shape}.")
    return run(log, item_vector, settings or CalibrationSettings(), seed)


def world_calibration(world: World) -> Calibration:
    """Return the calibration that a world was fitted with.

    Raises:
        InputError: it has none.
    """
    found = world.report.get(REPORT_KEY)
    if not isinstance(found, Mapping):
        raise InputError(
            f"World {world.name!r} has no calibration: fitted dynamics need a world that `recworld fit` made from a log."
        )
    return Calibration.from_json(found)


def fitted_dynamics(world: World, base: DynamicsSettings | None = None) -> DynamicsSettings:
    """Return the preset ``strong`` (or `base`) with what the world's log told in its place: the preset ``fitted``.

    Raises:
        InputError: the world has no calibration.
    """
    return world_calibration(world).dynamics(base or DynamicsSettings())


def _allowed(name: str, value: float) -> float:
    """Cut a value to the bounds of its setting; open bounds are kept by a hair."""
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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _number(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return ""
    if not estimate.identified:
        return f"{estimate.value:.4g}; "
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]; "
