"""How likely a pair is to be rated at all, and inverse-propensity weights of what was rated.

People rate what they chose. Where the choice depends on user and item only through what the rating model knows of them,
the model needs no help, and weights only throw rows away; where it does not, weights w = 1 / P(rated) make the rows stand
for the whole catalogue (Schnabel et al. 2016, "Recommendations as treatments"). Clipped: a weight's bias against its
variance (Strehl et al. 2010).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import FloatArray, IntArray, RatingScale
from recworld.simulators.attraction import fit_attraction
from recworld.simulators.attraction_rows import consumption_rows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.rating_rows import RatingRows

Floats = npt.NDArray[np.float64]

LARGEST_WEIGHT = 5.0
"""Bound on a weight, in means of the unclipped weights."""
_SMALLEST = 1e-6
_PSEUDO_ROWS = 1.0  # of each level in the unbiased rows: a level that none of them has stays possible


def consumption_propensity(
    user: IntArray, item: IntArray, user_vector: FloatArray, item_vector: FloatArray,
    settings: AttractionSettings, seed: int,
) -> Floats:  # fmt: skip
    """Return the probability that each pair of a log is in it, (n,), by a logistic factorisation of the log.

    Args:
        user: (n,) user numbers of the rows.
        item: (n,) item numbers.
        user_vector: (U, D) text vectors; zeros where there is no text.
        item_vector: (I, D).
        settings: settings of the factorisation (the attraction model of consumption).
        seed: seed of the fit.
    """
    fit = fit_attraction(consumption_rows(user, item), user_vector, item_vector, settings, 1, seed)
    return np.clip(fit.probability(user, item), _SMALLEST, 1.0)


def naive_bayes_propensity(rows: RatingRows, unbiased: RatingRows, scale: RatingScale, cells: int) -> Floats:
    """Return P(rated | rating) = P(rating | rated) P(rated) / P(rating) of each row, (n,).

    Source: Schnabel et al. (2016), section 5.1; P(rating) is that of a small sample of random pairs.

    Args:
        rows: the self-selected rows.
        unbiased: ratings of random pairs.
        scale: a discrete scale.
        cells: U x I.

    Raises:
        InputError: the scale has no levels, or there are no unbiased rows.
    """
    if scale.kind != "discrete":
        raise InputError(f"Naive Bayes propensities need levels. Got {scale.describe()}.")
    if len(unbiased) == 0:
        raise InputError("Naive Bayes propensities need ratings of random pairs. Got none.")
    levels = np.asarray(scale.levels)
    level = np.abs(levels - rows.rating[:, None]).argmin(1)
    other = np.abs(levels - unbiased.rating[:, None]).argmin(1)
    rated = np.bincount(level, minlength=len(levels)) / cells
    everywhere = (np.bincount(other, minlength=len(levels)) + _PSEUDO_ROWS) / (
        len(other) + _PSEUDO_ROWS * len(levels)
    )
    return np.asarray(np.clip(rated / everywhere, _SMALLEST, 1.0)[level])


def inverse_weights(propensity: Floats, largest: float = LARGEST_WEIGHT) -> FloatArray:
    """Return clipped inverse-propensity weights of mean 1, (n,) float32.

    Args:
        propensity: (n,) in (0, 1].
        largest: bound on a weight, in means of the unclipped weights; 1 or more.

    Raises:
        InputError: a probability that is none, or a bound below 1.
    """
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise InputError("A propensity must be above 0, at most 1.")
    if largest < 1:
        raise InputError(f"The largest weight must be 1 or more. Got {largest:g}.")
    weight = 1.0 / propensity
    weight = np.minimum(weight, largest * weight.mean())
    return np.asarray(weight / weight.mean(), np.float32)


def effective_share(weight: npt.NDArray[np.floating]) -> float:
    """Return the share of the rows that weighted ones are worth: (sum w)^2 / (n sum w^2) (Kish 1965)."""
    total = weight.astype(np.float64)
    return float(total.sum() ** 2 / (len(total) * (total**2).sum()))
