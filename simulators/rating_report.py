"""Held-out figures of the rating model beside baselines fitted to the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import FloatArray, IntArray, InteractionLog, RatingScale
from recworld.logs.splits import split_random
from recworld.seeding import generator
from recworld.simulators.accuracy import calibration_error
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


def distribution_figures(
    fit: RatingFit, rows: RatingRows, members: Sequence[int] | None = None, seed: int = 0
) -> dict[str, float]:
    """Return how well the whole predictive distribution fits rows, on a discrete scale.

    Args:
        fit: the fit.
        rows: rows that it did not see; their times are used where the fit has moments.
        members: numbers of members; all by default.
        seed: seed of the simulated ratings.

    Returns:
        "log_loss" of the level given; "calibration_error" of P(r = level) over 15 equal-mass bins, rows and levels pooled;
        "within_user_variance", simulated over real, both averaged over users with two rows or more, weighted by rows; and
        "user_spread_correlation", over users with ten rows or more, of the expected and the real standard deviation.
    """
    levels = np.asarray(fit.observation.scale.levels, np.float64)
    chance = fit.distribution(rows.user, rows.item, members, rows.time)
    level = np.abs(levels - rows.rating[:, None]).argmin(1)
    given = level[:, None] == np.arange(len(levels))
    drawn = (generator(seed, "simulated").random((len(level), 1)) > chance.cumsum(1)[:, :-1]).sum(1)
    simulated, real = _spread(levels[drawn], rows.user), _spread(levels[level], rows.user)
    count = np.bincount(rows.user)
    known, many = count >= 2, count >= 10
    expected = np.sqrt(
        _spread(chance @ levels, rows.user) + _mean(chance @ levels**2 - (chance @ levels) ** 2, rows.user)
    )
    correlation = np.corrcoef(expected[many], np.sqrt(real[many]))[0, 1] if many.sum() > 2 else np.nan
    return {
        "log_loss": round(float(-np.log(np.maximum(chance[given], 1e-12)).mean()), 5),
        "calibration_error": round(calibration_error(chance.ravel(), given.ravel()), 5),
        "within_user_variance": round(
            float((count * simulated)[known].sum() / max((count * real)[known].sum(), 1e-12)), 4
        ),
        "user_spread_correlation": round(float(correlation), 3),
    }


def _mean(values: Floats, user: IntArray) -> Floats:
    return np.asarray(np.bincount(user, values) / np.maximum(np.bincount(user), 1))


def _spread(values: Floats, user: IntArray) -> Floats:
    """Return the variance of values within each user; 0 for users without rows."""
    return _mean((values - _mean(values, user)[user]) ** 2, user)
