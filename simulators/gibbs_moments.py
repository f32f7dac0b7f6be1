"""What one user's ratings of one moment, and of moments beside it, have in common: the user's level changes in time.

    y(u,i,t) = ... + a_{u,t} + g_{u,t},      g_{u,t} ~ Normal(0, variance by the number of rows at (u, t))
    a_{u,k} = rho a_{u,k-1} + e,             k numbers the user's moments in time; variance tau^2 at every k

A *moment* is a user with a time stamp. On a page of films that are rated and sent together, one second holds several
ratings; they are nearer to each other than tastes explain. Both terms are drawn exactly (forward filter, backward
sampling), so the cost is linear in the rows.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SIZES = 6  # rows at one moment: 1, 2, ... , 6 and more have variances of their own
_START, _FREEDOM = 0.05, 2.0  # prior of a variance, in units of the noise
_WALK = 0.15  # step of the proposal for rho, on the logit scale


@numba.njit(cache=True, nogil=True)
def draw_chain(
    start: Ints, total: Floats, precision: Floats, rho: float, variance: float, noise: Floats, out: Floats
) -> None:
    """Draw stationary autoregressive chains, one per user, given noisy observations.

    Args:
        start: (U + 1,) offsets of each user's moments.
        total: (P,) sums of precision x observation.
        precision: (P,) sums of precisions; 0 where nothing was observed.
        rho: correlation of neighbours.
        variance: stationary variance.
        noise: (P,) standard normals.
        out: (P,), overwritten.
    """
    size = len(total)
    mean, spread = np.empty(size), np.empty(size)
    step = variance * (1 - rho * rho)
    for user in range(len(start) - 1):
        first, last = start[user], start[user + 1]
        before, wide = 0.0, variance
        for k in range(first, last):
            spread[k] = 1.0 / (1.0 / wide + precision[k])
            mean[k] = spread[k] * (before / wide + total[k])
            before, wide = rho * mean[k], rho * rho * spread[k] + step
        for k in range(last - 1, first - 1, -1):
            if k == last - 1:
                out[k] = mean[k] + math.sqrt(spread[k]) * noise[k]
            else:
                exact = 1.0 / spread[k] + rho * rho / step
                out[k] = (mean[k] / spread[k] + rho * out[k + 1] / step) / exact + noise[k] / math.sqrt(exact)


class Moments:
    """The moments of training rows.

    Args:
        user: (n,) user numbers.
        time: (n,) time stamps.
        num_users: U.

    Attributes:
        of_row: (n,) number of each row's moment.
        start: (U + 1,) offsets of each user's moments.
        time: (P,) time stamp of each moment, rising within a user.
    """

    def __init__(self, user: npt.NDArray[np.int32], time: Ints, num_users: int) -> None:
        order = np.lexsort((time, user))
        u, t = user[order], time[order]
        new = np.ones(len(u), np.bool_)
        new[1:] = (np.diff(u) != 0) | (np.diff(t) != 0)
        self.of_row = np.empty(len(u), np.int64)
        self.of_row[order] = np.cumsum(new) - 1
        self.time = t[new]
        self.start = np.concatenate([[0], np.cumsum(np.bincount(u[new], minlength=num_users))]).astype(
            np.int64
        )

    def __len__(self) -> int:
        return len(self.time)

    def locate(self, user: npt.NDArray[np.int32], time: Ints) -> tuple[Ints, Ints]:
        """Return the numbers of the last moment of the user up to each time, and of the first from it on; -1: none."""
        # One sorted key for all users: users in order, times within them.
        rank = np.unique(np.concatenate([self.time, time]), return_inverse=True)[1].astype(np.int64)
        own, asked = rank[: len(self)], rank[len(self) :]
        span = int(rank.max(initial=0)) + 1
        owner = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        key, wanted = owner * span + own, user.astype(np.int64) * span + asked
        left = np.searchsorted(key, wanted, "right") - 1
        right = np.searchsorted(key, wanted, "left")
        first, last = self.start[user], self.start[user.astype(np.int64) + 1]
        return np.where(left >= first, left, -1), np.where(right < last, right, -1)


class MomentEffects:
    """The effects of moments in a chain of the sampler.

    Args:
        moments: the moments of the training rows.
    """

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        count = len(moments)
        size = np.bincount(moments.of_row, minlength=count)
        self._kind = np.minimum(size, _SIZES) - 1
        self.level, self.page = np.zeros(count), np.zeros(count)
        self.rho, self.level_variance = 0.7, _START
        self.page_variance = np.full(_SIZES, _START)
        self._first = np.zeros(count, np.bool_)
        self._first[moments.start[:-1][np.diff(moments.start) > 0]] = True

    def rows(self) -> Floats:
        """Return the effect on each training row, (n,)."""
        return np.asarray((self.level + self.page)[self.moments.of_row])

    def step(self, gap: Floats, precision: Floats, random: np.random.Generator) -> None:
        """Draw everything once.

        Args:
            gap: (n,) target less the predictor without moments.
            precision: (n,) of the noise.
            random: source of the draws.
        """
        of_row, count = self.moments.of_row, len(self.moments)
        known = np.bincount(of_row, precision, count)
        total = np.bincount(of_row, precision * gap, count)
        draw_chain(
            self.moments.start, total - known * self.page, known, self.rho, self.level_variance,
            random.standard_normal(count), self.level,
        )  # fmt: skip
        exact = 1 / self.page_variance[self._kind] + known
        self.page = (total - known * self.level) / exact + random.standard_normal(count) / np.sqrt(exact)
        self._draw_priors(random)

    def _draw_priors(self, random: np.random.Generator) -> None:
        squares = np.bincount(self._kind, self.page**2, _SIZES)
        number = np.bincount(self._kind, minlength=_SIZES)
        draw = random.gamma(0.5 * (_FREEDOM + number))
        self.page_variance = 0.5 * (_FREEDOM * _START + squares) / draw
        # One row alone cannot tell its moment from noise: it is taken as one of a pair.
        self.page_variance[0] = self.page_variance[1]
        before = np.concatenate([[0.0], self.level[:-1]])
        before[self._first] = 0.0
        square = self._innovation(self.rho, before).sum()
        shape = 0.5 * (_FREEDOM + len(self.level))
        self.level_variance = 0.5 * (_FREEDOM * _START + square) / random.gamma(shape)
        logit = math.log(self.rho / (1 - self.rho)) + _WALK * random.standard_normal()
        moved = min(max(1 / (1 + math.exp(-logit)), 0.01), 0.99)
        gain = self._log_density(moved, before) - self._log_density(self.rho, before)
        if math.log(random.random()) < gain:
            self.rho = moved

    def _innovation(self, rho: float, before: Floats) -> Floats:
        """Return squared innovations in units of their variance over the stationary one."""
        return np.asarray((self.level - rho * before) ** 2 / np.where(self._first, 1.0, 1 - rho * rho))

    def _log_density(self, rho: float, before: Floats) -> float:
        moves = int((~self._first).sum())
        square = float(self._innovation(rho, before).sum())
        # The last term is the prior, uniform in rho, and the change to the logit.
        density = -0.5 * square / self.level_variance - 0.5 * moves * math.log(1 - rho * rho)
        return density + math.log(rho * (1 - rho))

    def predict(self, left: Ints, right: Ints) -> Floats:
        """Return the expected effect at places found by `Moments.locate`, (n,)."""
        return moment_effect(self.level, self.page, self.rho, left, right)


def moment_effect(level: Floats, page: Floats, rho: float, left: Ints, right: Ints) -> Floats:
    """Return the expected effect at moments between `left` and `right` (-1: none), which are equal at a known moment.

    A new moment stands half a step from either neighbour.
    """
    out = np.zeros(len(left))
    known = (left == right) & (left >= 0)
    out[known] = (level + page)[left[known]]
    half = math.sqrt(rho)
    has_left, has_right = (left >= 0) & ~known, (right >= 0) & ~known
    both = has_left & has_right
    out[both] = half / (1 + rho) * (level[left[both]] + level[right[both]])
    only = has_left & ~has_right
    out[only] = half * level[left[only]]
    only = has_right & ~has_left
    out[only] = half * level[right[only]]
    return out
