"""What a few ratings of random pairs tell about the many that people chose to give: one shift of the latent rating.

People rate what they expect to like. Where the log-odds of being rated rise with the rating by g a unit, the ratings of
chosen pairs lie g sigma^2 above those of pairs like them that were not chosen (exponential tilting: Kim & Yu 2011): the
same for all of them, whatever the propensity. What was fitted to chosen pairs is right up to that one number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from recworld.errors import InputError
from recworld.simulators.rating import RatingFit
from recworld.simulators.rating_rows import RatingRows

Floats = npt.NDArray[np.float64]

PRIOR_SPREAD = 0.5
"""Prior standard deviation of the shift, in standard deviations of the rating error."""
_STEPS = 20
_Z = 1.959964


@dataclass(frozen=True)
class SelectionShift:
    """How far chosen pairs lie above random ones, in standard deviations of the rating error.

    Attributes:
        amount: posterior mode.
        low, high: 95 % interval.
        rows: ratings of random pairs behind it.
    """

    amount: float
    low: float
    high: float
    rows: int


def unbiased_shift(fit: RatingFit, rows: RatingRows) -> SelectionShift:
    """Estimate the shift of a fit from ratings of random pairs, by penalised maximum likelihood.

    Args:
        fit: fitted to ratings that people chose to give.
        rows: ratings of pairs drawn at random; a few hundred are enough.

    Raises:
        InputError: there are no rows.
    """
    if len(rows) == 0:
        raise InputError("The shift of selection needs ratings of random pairs. Got none.")
    observation, link = fit.observation, fit.observation.link
    eta = np.mean([fit.predictor(rows.user, rows.item, m) for m in range(len(fit.members))], axis=0)
    discrete = observation.scale.kind == "discrete"
    place = link.user_scale[rows.user] * eta - link.user_shift[rows.user]
    level = np.zeros(len(rows), np.int64)
    if discrete:
        level = np.abs(np.asarray(observation.scale.levels) - rows.rating[:, None]).argmin(1)
    amount, information = 0.0, 1.0
    for _ in range(_STEPS):
        if discrete:
            slope, information = _slopes(link.thresholds, place - amount, level)
        else:
            gap = (rows.rating.astype(np.float64) - eta) / observation.user_sigma[rows.user]
            slope, information = float((gap + amount).sum()), float(len(rows))
        information += PRIOR_SPREAD**-2
        amount -= (slope + amount * PRIOR_SPREAD**-2) / information
    error = information**-0.5
    return SelectionShift(amount, amount - _Z * error, amount + _Z * error, len(rows))


def _slopes(thresholds: Floats, place: Floats, level: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the slope of the log-likelihood in a common addition to the places, and the expected information."""
    edge = np.concatenate([[-40.0], thresholds, [40.0]])[None, :] - place[:, None]
    fall = -np.diff(np.exp(-0.5 * edge**2) / np.sqrt(2 * np.pi), axis=1)
    chance = np.maximum(np.diff(ndtr(edge), axis=1), 1e-12)
    row = np.arange(len(place))
    return float((fall[row, level] / chance[row, level]).sum()), float((fall**2 / chance).sum())


def shifted(fit: RatingFit, amount: float) -> RatingFit:
    """Return a fit whose ratings are lower by `amount` standard deviations of the rating error.

    Args:
        fit: fitted to ratings that people chose to give.
        amount: as in `SelectionShift`.
    """
    observation = fit.observation
    unit = observation.user_sigma if observation.scale.kind != "discrete" else 1 / observation.link.user_scale
    members = tuple(replace(m, user_bias=m.user_bias - amount * unit) for m in fit.members)
    return replace(fit, members=members)
