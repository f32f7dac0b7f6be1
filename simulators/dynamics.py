"""What makes a simulated user change: every effect one setting, with a unit and a default that can be switched off."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recworld.errors import InputError, did_you_mean
from recworld.settings import Settings


class DynamicsSettings(Settings):
    """Behaviour of simulated users; the defaults are the preset ``strong``."""

    examination: Literal["position", "cascade", "choice"] = "position"
    """How positions are noticed: position-based, cascade (stop after a click), or one multinomial choice with no-click."""
    examination_decay: float = Field(0.85, gt=0, le=1)
    """Probability of going on from one position to the next; e_k = decay^k. 1 switches position bias off."""
    base_click_rate: float | None = Field(None, gt=0, lt=1)
    """Mean click probability of a random item that is shown and noticed, before boredom. None: as fitted where the log has
    exposures, else 0.15 (a named assumption: a log of consumption alone cannot tell)."""
    no_click_weight: float = Field(4.0, ge=0)
    """Weight of the no-click option in `choice`, in units of a mean item's weight."""
    boredom: float = Field(4.0, ge=0)
    """beta: logits taken off the attraction at full boredom. 0 switches boredom off."""
    boredom_rating: float = Field(0.3, ge=0)
    """beta_r: rating-predictor units (eta) taken off at full boredom."""
    boredom_memory: float = Field(0.85, ge=0, lt=1)
    """gamma: share of the boredom memory kept from one step to the next."""
    boredom_scale: float = Field(1.5, gt=0)
    """s0: memory similarity at which boredom reaches 1 - 1/e."""
    taste_rate: float = Field(0.04, ge=0, le=1)
    """alpha: pull of the taste towards an item rated above the user's mean (away when below). 0 switches drift off."""
    taste_return: float = Field(0.02, ge=0, le=1)
    """kappa: share of the way back to the user's own taste, each step."""
    satisfaction_rate: float = Field(0.3, ge=0, le=1)
    """Weight of the newest slate in the moving average of satisfaction."""
    satisfaction_start: float = Field(0.6, ge=0, le=1)
    """Satisfaction at the start of an episode."""
    leave_base: float = Field(-5.0)
    """Logit of the leave hazard of a satisfied, unbored user in the first step. `leaving` switches it off."""
    leave_dissatisfaction: float = Field(4.0, ge=0)
    """Logits added to the leave hazard at satisfaction 0."""
    leave_boredom: float = Field(1.5, ge=0)
    """Logits added to the leave hazard when all that was shown bores fully."""
    leave_step: float = Field(0.02, ge=0)
    """Logits added to the leave hazard per step."""
    frailty: float = Field(0.5, ge=0)
    """Standard deviation of the per-episode normal effect on the logit of leaving."""
    leaving: bool = True
    """Whether users leave before the horizon at all."""
    click_rating_correlation: float | None = Field(None, gt=-1, lt=1)
    """rho: correlation of the latent errors of click and rating. None: as the log's exposures tell, else 0."""
    popularity_share: float | None = Field(None, ge=0, le=1)
    """Share of an item's log-popularity that is attraction and not exposure. None: 1 where the log has exposures, else 0.5
    (a named assumption)."""


PRESETS: dict[str, dict[str, object]] = {
    "strong": {},
    "static": {
        "boredom": 0.0,
        "boredom_rating": 0.0,
        "taste_rate": 0.0,
        "taste_return": 0.0,
        "leaving": False,
    },
}


FITTED = "fitted"
"""The preset that only a world knows: ``strong`` with what its log told in its place (`calibration.fitted_dynamics`)."""


def dynamics_preset(name: str) -> DynamicsSettings:
    """Return the settings of a preset: ``static`` (no effect) or ``strong`` (named assumptions).

    Raises:
        InputError: no such preset, or ``fitted``, which needs a world.
    """
    if name == FITTED:
        raise InputError(
            "Dynamics 'fitted' are a world's own: give them with a world that was fitted to a log, or use 'strong'."
        )
    if name not in PRESETS:
        raise InputError(f"Unknown dynamics preset {name!r}. {did_you_mean(name, [*PRESETS, FITTED])}")
    return DynamicsSettings.model_validate(PRESETS[name])
