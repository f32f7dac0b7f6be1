"""From draws and checks to an answer in words: identified or not, and why."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.simulators.calibration import Estimate
from recworld.simulators.calibration_checks import summary
from recworld.simulators.calibration_draws import Draws, effective_draws
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.prepare import ASSUMED_CLICK_RATE

Floats = npt.NDArray[np.float64]
Figures = dict[str, Any]

SHUFFLED = {
    "boredom": "slates dealt anew to the sessions of their user",
    "taste_rate": "slates dealt anew to the sessions of their user",
    "examination_decay": "positions shuffled within slates",
}
"""The placebos of the chain."""
PARTS = {
    "boredom_memory": "boredom",
    "boredom_scale": "boredom",
    "satisfaction_rate": "leave_dissatisfaction",
}
"""What is the shape of another effect, and means nothing without it."""
WIDEST = {"boredom_memory": 0.475, "satisfaction_rate": 0.475}
"""Widest interval of a shape: half of what its prior alone gives."""
WIDEST_RATIO = {"boredom_scale": 7.1}
"""The same as high / low."""
FEW_DRAWS = 30.0
"""Independent draws a chain has to be worth before anything is called identified, or left out."""
SHOWN_ENOUGH = 0.9
"""Share of all pairs that has to be shown before the rate of a random pair is no extrapolation."""


def unknown(name: str, why: str, shown: bool = True, **more: Any) -> Estimate:
    """Return the answer "not identified" with its reason; `shown`: whether the log says what was shown."""
    default = getattr(DynamicsSettings(), name, None)
    value = math.nan if default is None else float(default)
    known = name in DynamicsSettings.model_fields
    source = "preset strong, a named assumption" if default is not None else "none"
    if known and default is None:
        source = (
            "the attraction as fitted to the log" if shown else f"{ASSUMED_CLICK_RATE}, a named assumption"
        )
    words = f"not identified: default used, source: {source}; {why}"
    return Estimate(name, value, math.nan, math.nan, False, words, **more)


def unknown_or_refuted(name: str, why: str, size: Floats, more: Figures) -> Estimate:
    """Return "not identified" with the default, or without the effect where the log leaves no room for the default.

    An assumption is for what a log cannot tell. Where the whole interval of what was measured lies below the assumed
    size, the log does tell that the effect is smaller; as it does not tell that there is one, it is left out.

    Args:
        name: a field of `DynamicsSettings`.
        why: it is not identified.
        size: (n,) draws of the size of the effect; of boredom, what one click on the same text takes (`_one_click`).
        more: figures to keep.
    """
    found = unknown(name, why, **more)
    if effective_draws(size) < FEW_DRAWS:
        return found
    default = float(getattr(DynamicsSettings(), name))
    if name == "boredom":
        default = float(_one_click(np.array([default]), np.array([DynamicsSettings().boredom_scale]))[0])
    low, high = np.quantile(size, [0.025, 0.975])
    if name == "examination_decay" or high >= default:
        return found
    words = f"not identified: left out, as [{low:.3g}, {high:.3g}] leaves no room for the default {default:.3g}; {why}"
    return replace(found, value=0.0, words=words, refuted=True)


def _one_click(boredom: Floats, scale: Floats) -> Floats:
    """Return the logits that boredom takes off an item right after a click on the same text."""
    return np.asarray(boredom * (1 - np.exp(-1 / scale)))


def chain_verdict(
    name: str,
    draws: Draws,
    placebo: dict[str, Draws] | None,
    gains: dict[str, Figures],
    facts: Figures,
    why: str,
) -> Estimate:
    """Return the answer about an effect of the joint chain.

    Args:
        name: one of the chain's names.
        draws: of the chain.
        placebo: of the chain over shuffled rows, "within" and "between" sessions, or None where no checks were made.
        gains: held-out figures by effect.
        facts: what was shown.
        why: the reason why the order means nothing, or "".
    """
    found = draws.column(name)
    measured = summary(found)
    if name in ("boredom", "taste_rate", *(n for n, of in PARTS.items() if of == "boredom")) and why:
        return unknown(name, why)
    if name == "examination_decay" and facts["places"] == 1:
        return unknown(name, "every slate has one place")
    more: Figures = {"measured": measured}
    if name == "base_click_rate" and facts["shown_share_of_pairs"] < SHOWN_ENOUGH:
        share = (
            f"{facts['shown_share_of_pairs']:.0%} of all pairs were shown, and the logging policy chose them"
        )
        return unknown(name, f"{share}: for the rest it is an extrapolation", **more)
    worth = _too_few(found)
    if worth and name not in SHUFFLED:
        return unknown(name, worth, **more)
    if name in ("shown_click_rate", "base_click_rate"):
        return _known(name, measured, "over the pairs that were shown, noticed and unbored", more)
    if placebo is None:
        return unknown(name, "no placebo and held-out check were made", **more)
    whole = PARTS.get(name, name)
    if whole in SHUFFLED:
        shuffled = placebo["between"].column(whole)
        more |= {"held_out": gains.get(whole, {})}
        if whole == name:
            more["placebo"] = {**summary(shuffled), "kind": SHUFFLED[name]}
            if name != "examination_decay":
                more["placebo"]["shuffled_within_sessions"] = summary(placebo["within"].column(name))
        nothing = 1.0 if whole == "examination_decay" else 0.0
        reason = worth or _reason(draws.column(whole), nothing, shuffled, gains.get(whole))
        if reason and whole == name:
            size = _one_click(found, draws.column("boredom_scale")) if name == "boredom" else found
            return unknown_or_refuted(name, reason, size, more)
        if reason:
            return unknown(name, f"{whole} is not identified", **more)
    return _shape(name, measured, more)


def leaving_verdict(
    name: str, draws: Floats, placebos: dict[str, Figures], gains: dict[str, Figures], checked: bool
) -> Estimate:
    """Return the answer about an effect on leaving; arguments as of `chain_verdict`."""
    more: Figures = {"measured": summary(draws)}
    if not checked:
        return unknown(name, "no placebo and held-out check were made", **more)
    if worth := _too_few(draws):
        return unknown(name, worth, **more)
    if name == "leave_base":
        return _known(name, more["measured"], "base of leaving, frailty integrated out", more)
    whole = PARTS.get(name, name)
    more |= {"held_out": gains.get(whole, {})}
    if whole in placebos and whole == name:
        more["placebo"] = placebos[name]
    if whole == name:
        reason = _reason(draws, 0.0, placebos.get(name), gains.get(name))
        if reason:
            return unknown_or_refuted(name, reason, draws, more)
    return _shape(name, more["measured"], more)


def settle_shapes(estimates: list[Estimate]) -> list[Estimate]:
    """Return the answers, where a shape whose effect is not identified is not either."""
    verdict = {e.name: e.identified for e in estimates}
    out = []
    for e in estimates:
        whole = PARTS.get(e.name)
        if e.identified and whole is not None and not verdict.get(whole, False):
            e = unknown(e.name, f"{whole} is not identified", held_out=e.held_out, measured=e.measured)
        out.append(e)
    return out


def _shape(name: str, measured: Figures, more: Figures) -> Estimate:
    low, high = measured["low"], measured["high"]
    wide = high - low > WIDEST.get(name, math.inf) or high > low * WIDEST_RATIO.get(name, math.inf) > 0
    if wide:
        return unknown(name, "its interval is hardly narrower than without any data", **more)
    checks = "apart from its placebo, and it predicts held-out sessions" if more.get("placebo") else ""
    return _known(name, measured, checks or "it predicts held-out sessions", more)


def _known(name: str, measured: Figures, how: str, more: Figures) -> Estimate:
    return Estimate(
        name, measured["value"], measured["low"], measured["high"], True, f"identified: {how}", **more
    )


def _too_few(draws: Floats) -> str:
    """Return that the chain did not move enough to tell, or ""."""
    worth = effective_draws(draws)
    return "" if worth >= FEW_DRAWS else f"its chain is worth {worth:.0f} independent draws only"


def _reason(draws: Floats, nothing: float, placebo: Floats | Figures | None, gain: Figures | None) -> str:
    """Return why an effect is not identified, or ""."""
    low, high = np.quantile(draws, [0.025, 0.975])
    if nothing == 0.0 and (draws.min() < 0.0 <= high and low <= 0.0):
        return f"its interval [{low:.3g}, {high:.3g}] holds no effect"
    if isinstance(placebo, np.ndarray):
        middle, error = float(placebo.mean()), float(placebo.std())
    elif placebo:
        middle, error = placebo["value"], (placebo["high"] - placebo["low"]) / 3.92
    else:
        middle, error = math.nan, math.nan
    near = abs(float(np.mean(draws)) - middle) <= 1.96 * math.hypot(float(np.std(draws)), error)
    if near and not (nothing == 1.0 and low > 0.97):
        return f"its placebo gives {middle:.3g}, which is not clearly apart"
    if gain is None or gain["gain"] <= 0 or gain["gain_interval"][0] <= 0:
        figure = "no figure" if gain is None else f"gain {gain['gain']:.2g} per row"
        return f"it does not predict held-out sessions ({figure})"
    return ""
