"""Held-out figures of the rating model beside baselines fitted to the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import FloatArray, InteractionLog, RatingScale
from recworld.logs.splits import split_random
from recworld.simulators.observation import accuracy_figures
from recworld.simulators.rating import RatingFit, RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BiasModel:
    """mu + b_u + b_i, shrunken.

    Attributes:
        mean: mu.
        user: (U,) b_u.
        item: (I,) b_i.
        scale: predictions are clipped to it.
    """

    mean: float
    user: Floats
    item: Floats
    scale: RatingScale

    def predict(self, rows: RatingRows) -> Floats:
        """Return the (n,) predicted ratings."""
        return np.clip(
            self.mean + self.user[rows.user] + self.item[rows.item], self.scale.low, self.scale.high
        )


def fit_biases(
    rows: RatingRows, num_users: int, num_items: int, scale: RatingScale, strength: float = 5.0
) -> BiasModel:
    """Fit the bias model by alternating shrunken means (20 rounds).

    Args:
        rows: training rows.
        num_users: U.
        num_items: I.
        scale: the rating scale.
        strength: rows that the common mean is worth against one's own.
    """
    rating = rows.rating.astype(np.float64)
    mean = float(rating.mean())
    user, item = np.zeros(num_users), np.zeros(num_items)
    user_count = np.bincount(rows.user, minlength=num_users) + strength
    item_count = np.bincount(rows.item, minlength=num_items) + strength
    for _ in range(20):
        item = np.bincount(rows.item, rating - mean - user[rows.user], num_items) / item_count
        user = np.bincount(rows.user, rating - mean - item[rows.item], num_users) / user_count
    return BiasModel(mean, user, item, scale)


def holdout_report(
    log: InteractionLog, vectors: tuple[FloatArray, FloatArray], settings: RatingSettings, seed: int,
    members: int = 4,
) -> dict[str, Any]:  # fmt: skip
    """Fit on a random 80 % of the rows and report on the other 20 %.

    Args:
        log: a log with ratings.
        vectors: text vectors of users (U, D) and items (I, D).
        settings: settings of the model.
        seed: seed of the cut and of the fit.
        members: M.

    Returns:
        By "ensemble", "single_member" (mean over members) and "bias": RMSE, MAE, and for the first two also AUC,
        log-loss and calibration error of "liked"; "train_rows", "test_rows", "fit".

    Raises:
        InputError: a click log, or a log too small to cut.
    """
    if log.scale.kind == "click":
        raise InputError(f"{log.name} has clicks only; the rating model needs ratings.")
    train, test = split_random(log, 0.2, seed)
    rows = RatingRows(log.user, log.item, log.rating)
    fit = fit_rating(rows.take(train), *vectors, log.scale, settings, members, seed)
    biases = fit_biases(rows.take(train), log.num_users, log.num_items, log.scale)
    return compare(fit, biases, rows.take(test)) | {"train_rows": len(train), "fit": fit.report}


def compare(fit: RatingFit, biases: BiasModel, test: RatingRows) -> dict[str, Any]:
    """Return the figures of a fit, of its members one by one (averaged), and of the bias model on test rows."""
    singles = [fit.accuracy(test, [m]) for m in range(len(fit.members))]
    predicted = biases.predict(test)
    plain = accuracy_figures(predicted, predicted, test.rating, biases.scale)
    return {
        "ensemble": fit.accuracy(test),
        "single_member": {k: round(float(np.mean([s[k] for s in singles])), 5) for k in singles[0]},
        "worst_member_rmse": max(s["rmse"] for s in singles),
        "bias": {k: plain[k] for k in ("rmse", "mae", "liked_auc")},
        "test_rows": len(test),
    }
