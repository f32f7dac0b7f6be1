"""From a predictor eta to a distribution over ratings: one probit link, and each user's own use of the scale.

    P(r <= levels[c]) = Phi(theta_c + shift_u - scale_u * eta)

The fit maximises the posterior on *out-of-sample* eta, so that the spread is that of a prediction and not of
a fit. Users are shrunken towards the common scale with variances that are estimated too (empirical Bayes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]

_SMALLEST = 1e-12
_ROUNDS = 25
_PSEUDO_ROWS = 0.5  # of each level, so that a level nobody gave keeps a finite threshold


@dataclass(frozen=True)
class OrdinalLink:
    """The fitted link.

    Attributes:
        thresholds: (R-1,) rising.
        user_shift: (U,).
        user_scale: (U,), positive.
    """

    thresholds: Floats
    user_shift: Floats
    user_scale: Floats


def level_probabilities(eta: Floats, thresholds: Floats, shift: Floats, scale: Floats) -> Floats:
    """Return P(r = levels[c]), (n, R): the link is applied here, exactly once.

    Args:
        eta: (n,) predictors.
        thresholds: (R-1,) rising.
        shift: (n,) shift of each row's user.
        scale: (n,) scale of each row's user.
    """
    below = ndtr(thresholds[None, :] + (shift - scale * eta)[:, None])  # (n, R-1)
    edge = np.zeros((len(eta), 1))
    return np.asarray(np.maximum(np.diff(np.concatenate([edge, below, edge + 1.0], axis=1), axis=1), 0.0))


def _density(value: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * value**2) / np.sqrt(2 * np.pi))


class _Rows:
    """Probabilities and their slopes at the current place v = d_u + s_u (eta - centre); shapes (n, R)."""

    def __init__(self, theta: Floats, place: Floats, level: npt.NDArray[np.int64]) -> None:
        gap = theta[None, :] - place[:, None]
        edge = np.zeros((len(place), 1))
        self.slope = np.concatenate([edge, _density(gap), edge], axis=1)  # (n, R+1)
        cumulative = np.concatenate([edge, ndtr(gap), edge + 1.0], axis=1)
        self.chance = np.maximum(np.diff(cumulative, axis=1), _SMALLEST)
        fall = -np.diff(self.slope, axis=1)  # d chance / d place
        rows = np.arange(len(place))
        self.score = fall[rows, level] / self.chance[rows, level]
        self.fall = fall
        self.information = (fall**2 / self.chance).sum(1)
        self.log_chance = np.log(self.chance[rows, level])


def fit_ordinal(
    eta: Floats, level: npt.NDArray[np.int64], user: npt.NDArray[np.int32], num_users: int, num_levels: int
) -> OrdinalLink:
    """Fit the link by Fisher scoring, users and common part in turn.

    Args:
        eta: (n,) out-of-sample predictors in units of the rating.
        level: (n,) number of the level given.
        user: (n,) user numbers.
        num_users: U.
        num_levels: R.
    """
    if num_levels < 2:
        return OrdinalLink(np.zeros(0), np.zeros(num_users), np.ones(num_users))
    centre = float(eta.mean())
    spread = max(float((eta - centre).std()), 1e-3)
    x = (eta - centre) / spread  # unit variance: one prior on the scale serves every log
    # Pseudo rows, one of each level at the centre, for a user beyond the last.
    weight = np.concatenate([np.ones(len(x)), np.full(num_levels, _PSEUDO_ROWS)])
    x = np.concatenate([x, np.zeros(num_levels)])
    level = np.concatenate([level, np.arange(num_levels)])
    users = np.concatenate([user, np.full(num_levels, num_users)]).astype(np.int64)
    share = np.bincount(level, weight, num_levels).cumsum()[:-1] / weight.sum()
    fit = _OrdinalFit(x, level, users, weight, num_users, share)
    for _ in range(_ROUNDS):
        fit.step_common()
        fit.step_users()
    scale = np.exp(fit.log_scale + fit.user_log_scale[:num_users]) / spread
    return OrdinalLink(fit.theta, -fit.user_place[:num_users] + scale * centre, scale)


class _OrdinalFit:
    def __init__(
        self, x: Floats, level: npt.NDArray[np.int64], user: npt.NDArray[np.int64], weight: Floats,
        num_users: int, share: Floats,
    ) -> None:  # fmt: skip
        from scipy.special import ndtri

        self.x, self.level, self.user, self.weight = x, level, user, weight
        self.theta: Floats = ndtri(np.clip(share, 1e-6, 1 - 1e-6))
        self.log_scale = -1.0
        self.user_place = np.zeros(num_users + 1)
        self.user_log_scale = np.zeros(num_users + 1)
        self.place_variance, self.scale_variance = 0.05, 0.02
        real = np.bincount(user, minlength=num_users + 1) > 0
        real[num_users] = False
        self.real = real

    def _lever(self) -> Floats:
        return np.asarray(np.exp(self.log_scale + self.user_log_scale[self.user]) * self.x)

    def _rows(self) -> _Rows:
        return _Rows(self.theta, self.user_place[self.user] + self._lever(), self.level)

    def _objective(self) -> float:
        return float((self.weight * self._rows().log_chance).sum() - 0.5 * self.log_scale**2)

    def step_common(self) -> None:
        """One damped Fisher step on (theta, log scale)."""
        rows, lever, count = self._rows(), self._lever(), len(self.theta)
        inner = rows.slope[:, 1:-1]  # (n, R-1)
        inverse = self.weight[:, None] / rows.chance
        own = (self.level[:, None] == np.arange(count)) / rows.chance[:, :-1]
        next_one = (self.level[:, None] == np.arange(count) + 1) / rows.chance[:, 1:]
        gradient = np.append(
            (self.weight[:, None] * inner * (own - next_one)).sum(0),
            (self.weight * rows.score * lever).sum() - self.log_scale,
        )
        fisher = np.zeros((count + 1, count + 1))
        diagonal = (inner**2 * (inverse[:, :-1] + inverse[:, 1:])).sum(0)
        beside = -(inner[:, :-1] * inner[:, 1:] * inverse[:, 1:-1]).sum(0)
        fisher[:-1, :-1] = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        rise = rows.fall * inverse
        fisher[-1, :-1] = fisher[:-1, -1] = (inner * lever[:, None] * (rise[:, :-1] - rise[:, 1:])).sum(0)
        fisher[-1, -1] = (self.weight * rows.information * lever**2).sum() + 1.0
        step = np.linalg.solve(fisher + 1e-9 * np.eye(count + 1), gradient)
        before, theta, log_scale = self._objective(), self.theta, self.log_scale
        for damping in (1.0, 0.5, 0.25, 0.1, 0.02):
            self.theta, self.log_scale = theta + damping * step[:-1], log_scale + float(damping * step[-1])
            if (np.diff(self.theta) > 0).all() and self._objective() >= before:
                return
        self.theta, self.log_scale = theta, log_scale

    def step_users(self) -> None:
        """One Fisher step on every user's place and log scale, then the variances of both."""
        rows, lever, size = self._rows(), self._lever(), len(self.user_place)

        def total(value: Floats) -> Floats:
            return np.asarray(np.bincount(self.user, value, size))

        slope_place = total(rows.score) - self.user_place / self.place_variance
        slope_scale = total(rows.score * lever) - self.user_log_scale / self.scale_variance
        a = total(rows.information) + 1 / self.place_variance
        b = total(rows.information * lever)
        c = total(rows.information * lever**2) + 1 / self.scale_variance
        determinant = a * c - b * b
        self.user_place += self.real * np.clip((c * slope_place - b * slope_scale) / determinant, -0.5, 0.5)
        self.user_log_scale += self.real * np.clip(
            (a * slope_scale - b * slope_place) / determinant, -0.3, 0.3
        )
        # EM for the variances: squared estimate plus posterior variance, with a weak pull to the start.
        users = self.real.sum()
        place = (self.user_place**2 + c / determinant)[self.real].sum()
        scale = (self.user_log_scale**2 + a / determinant)[self.real].sum()
        self.place_variance = float(np.clip((place + 5 * 0.05) / (users + 5), 1e-4, 1.0))
        self.scale_variance = float(np.clip((scale + 5 * 0.02) / (users + 5), 1e-4, 0.5))
