"""From eta to ratings, for every kind of scale: the one place where a link is applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, ndtr

from recworld.logs.log import FloatArray, IntArray, RatingScale
from recworld.simulators.accuracy import auc, calibration_error, log_loss, mae, rmse
from recworld.simulators.ordinal import OrdinalLink, fit_ordinal, level_probabilities

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ObservationModel:
    """How a predictor becomes a rating.

    Attributes:
        scale: the rating scale, discrete or continuous.
        link: thresholds and per-user shift and scale; used on a discrete scale.
        user_sigma: (U,) standard deviations; used on a continuous scale.
    """

    scale: RatingScale
    link: OrdinalLink
    user_sigma: Floats

    def levels(self, eta: Floats, user: IntArray) -> Floats:
        """Return P(r = levels[c]), (n, R), on a discrete scale."""
        link = self.link
        return level_probabilities(eta, link.thresholds, link.user_shift[user], link.user_scale[user])

    def mean(self, eta: Floats, user: IntArray) -> Floats:
        """Return the expected rating, (n,)."""
        if self.scale.kind == "discrete":
            return np.asarray(self.levels(eta, user) @ np.asarray(self.scale.levels, np.float64))
        return np.clip(eta, self.scale.low, self.scale.high)

    def liked(self, eta: Floats, user: IntArray) -> Floats:
        """Return the probability of a rating from `scale.liked_from` up, (n,)."""
        if self.scale.kind == "discrete":
            high = np.asarray(self.scale.levels) >= self.scale.liked_from - 1e-9
            return np.asarray(self.levels(eta, user)[:, high].sum(1))
        return np.asarray(ndtr((eta - self.scale.liked_from) / self.user_sigma[user]))


def fit_observation(
    eta: Floats, rating: FloatArray, user: IntArray, num_users: int, scale: RatingScale
) -> ObservationModel:
    """Fit the observation model on out-of-sample predictors.

    Args:
        eta: (n,) out-of-sample predictors in units of the rating.
        rating: (n,) ratings.
        user: (n,) user numbers.
        num_users: U.
        scale: the rating scale.
    """
    smallest = max(1e-3 * (scale.high - scale.low), 1e-6)
    squares = np.asarray(np.bincount(user, (rating.astype(np.float64) - eta) ** 2, num_users), np.float64)
    sigma = user_spread(squares, np.bincount(user, minlength=num_users), smallest)
    if scale.kind == "discrete":
        values = np.asarray(scale.levels, np.float64)
        level = np.abs(values[None, :] - rating[:, None]).argmin(1)
        link = fit_ordinal(eta, level, user, num_users, len(values))
    else:
        link = OrdinalLink(np.zeros(0), np.zeros(num_users), np.ones(num_users))
    return ObservationModel(scale, link, sigma)


def user_spread(squares: Floats, count: npt.NDArray[np.int64], smallest: float) -> Floats:
    """Return each user's standard deviation, shrunken as much as the users are alike.

    A user's variance has the prior Inverse-Gamma(a / 2, a c / 2); a and c maximise the marginal likelihood of the sums of
    squares on a grid.

    Args:
        squares: (U,) sums of squared errors.
        count: (U,) rows behind them.
        smallest: lower bound of the answer.
    """
    overall = max(float(squares.sum() / max(count.sum(), 1)), smallest**2)
    freedom = np.geomspace(2, 200, 12)[:, None, None]
    common = overall * np.geomspace(0.2, 1.5, 15)[:, None]
    total = np.maximum(squares, count * smallest**2)
    evidence = (
        gammaln((freedom + count) / 2)
        - gammaln(freedom / 2)
        + freedom / 2 * np.log(freedom * common)
        - (freedom + count) / 2 * np.log(freedom * common + total)
    ).sum(-1)
    best = np.unravel_index(int(evidence.argmax()), evidence.shape)
    a, c = float(freedom[best[0], 0, 0]), float(common[best[1], 0])
    return np.asarray(np.maximum(np.sqrt((a * c + total) / (a + count)), smallest))


def accuracy_figures(mean: Floats, liked: Floats, rating: FloatArray, scale: RatingScale) -> dict[str, float]:
    """Return RMSE, MAE, AUC, log-loss and calibration error (15 equal-mass bins) of "liked", rounded to 5 digits."""
    actual = rating.astype(np.float64)
    is_liked = actual >= scale.liked_from - 1e-6
    figures = {
        "rmse": rmse(mean, actual),
        "mae": mae(mean, actual),
        "liked_auc": auc(liked, is_liked),
        "liked_log_loss": log_loss(liked, is_liked),
        "liked_calibration_error": calibration_error(liked, is_liked),
    }
    return {name: round(value, 5) for name, value in figures.items()}
