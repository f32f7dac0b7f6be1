"""When do users leave? A discrete-time hazard with a frailty of each session, and how satisfaction moves.

    P(leave after slate t) = sigmoid(base + w (1 - satisfaction_t) + w_b boredom_t + w_t t + f),   f ~ Normal(0, frailty)

The frailty is integrated out by Gauss-Hermite quadrature; the posterior under weak priors is drawn by Metropolis steps,
which a grid over the size of the frailty proposes. A session that the end of the log or the horizon cut tells that the user
stayed through its earlier slates, and nothing about the last one: cut is never left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from recworld.seeding import generator
from recworld.simulators.calibration_kernels import satisfaction_slates, stay_sessions
from recworld.simulators.calibration_table import SlateTable
from recworld.simulators.dynamics import DynamicsSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAVING = (
    "leave_base",
    "leave_dissatisfaction",
    "leave_boredom",
    "leave_step",
    "frailty",
    "satisfaction_rate",
)
"""What is estimated, in the order of the coordinates; the last in logits, the frailty up to its sign."""
PRIOR_MIDDLE = np.array([-3.0, 0.0, 0.0, 0.0, 0.0, 0.0])
PRIOR_SPREAD = np.array([5.0, 8.0, 5.0, 0.3, 1.0, np.inf])
"""Normal priors of the coordinates (frailty: half-normal); satisfaction_rate ~ Uniform(0, 1)."""
NODES = 11
GRID = tuple(0.25 * step for step in range(15))
"""Frailties at which the posterior of the other coordinates is laid out; the prior leaves 0.05 % beyond the last."""
FREEDOM = 5.0
"""Degrees of freedom of the proposals."""


@dataclass(frozen=True)
class Stays:
    """Sessions as the hazard sees them.

    Attributes:
        session_start: (E + 1,) offsets in the slates.
        ending: (E,) 1: left; 0: cut.
        liked: (S,) sums of liking.
        bored: (S,) mean boredom of what was shown.
        step: (S,) number of the slate in its session.
    """

    session_start: Ints
    ending: Ints
    liked: Floats
    bored: Floats
    step: Floats

    @property
    def leaves(self) -> int:
        """Number of sessions that were left."""
        return int(self.ending.sum())

    def sessions(self, keep: npt.NDArray[np.bool_]) -> Stays:
        """Return the chosen sessions, (E,) bool."""
        sizes = np.diff(self.session_start)
        slates = np.repeat(keep, sizes)
        start = np.concatenate([[0], np.cumsum(sizes[keep])]).astype(np.int64)
        return Stays(start, self.ending[keep], self.liked[slates], self.bored[slates], self.step[slates])

    def without(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which coordinates stay free when an effect is held at nothing."""
        free = np.ones(len(LEAVING), np.bool_)
        free[LEAVING.index(name)] = False
        if name == "leave_dissatisfaction":
            free[LEAVING.index("satisfaction_rate")] = False
        return free


def stays_of(table: SlateTable, bored: Floats, horizon: int | None) -> Stays:
    """Return the sessions of a table; `bored` (n,) boredom of its rows.

    A user's last session is cut by the end of the log, a session of `horizon` slates by the horizon.
    """
    sizes = np.diff(table.slate_start)
    slate = np.repeat(np.arange(table.num_slates), sizes)
    lengths = np.diff(table.session_start)
    last = np.concatenate([np.diff(table.session_user) != 0, [True]])
    ending = ~last
    if horizon is not None:
        ending &= lengths < horizon
    step = np.arange(table.num_slates) - np.repeat(table.session_start[:-1], lengths)
    return Stays(
        table.session_start, ending.astype(np.int64),
        np.asarray(np.bincount(slate, table.liking, table.num_slates), np.float64),
        np.bincount(slate, bored, table.num_slates) / sizes, step.astype(np.float64),
    )  # fmt: skip


def find_horizon(table: SlateTable) -> int | None:
    """Return the greatest length of a session where sessions pile up there, which leaving does not do; else None."""
    count = np.bincount(np.diff(table.session_start))
    longest = len(count) - 1
    if longest < 3:
        return longest if count[longest] > 0.5 * count.sum() else None
    usual = count[max(longest - 5, 1) : longest].mean()
    return longest if count[longest] > 3 and count[longest] > 3 * usual + 3 else None


def stretched(frailty: float) -> float:
    """Return how much steeper a logit is within a session than over sessions of that frailty (Zeger, Liang & Albert 1988).

    Effects divided by it are nearly independent of the frailty, which the draws of the posterior need.
    """
    return float(np.sqrt(1 + 0.346 * frailty**2))


class Hazard:
    """The log-likelihood of sessions, and its maximum and posterior.

    Args:
        stays: the sessions.
        free: (6,) which coordinates are free; the others are 0 (satisfaction_rate: the default).
    """

    def __init__(self, stays: Stays, free: npt.NDArray[np.bool_] | None = None) -> None:
        self.stays = stays
        default = DynamicsSettings()
        self.free = np.ones(len(LEAVING), np.bool_) if free is None else free
        rate = default.satisfaction_rate
        self.held = np.array([0.0, 0.0, 0.0, 0.0, 0.0, np.log(rate / (1 - rate))])
        self._start = default.satisfaction_start
        node, weight = np.polynomial.hermite_e.hermegauss(NODES)
        self._node, self._weight = node, weight / weight.sum()
        self._content = np.empty(len(stays.liked))

    def sessions(self, whole: Floats) -> Floats:
        """Return the log-likelihood of each session at all six coordinates, (E,)."""
        s, out = self.stays, np.empty(len(self.stays.ending))
        satisfaction_slates(s.session_start, s.liked, float(expit(whole[5])), self._start, self._content)
        logit = whole[0] + whole[1] * (1 - self._content) + whole[2] * s.bored + whole[3] * s.step
        stay_sessions(
            s.session_start, s.ending, np.clip(logit, -50, 50), np.clip(abs(whole[4]) * self._node, -50, 50),
            self._weight, out,
        )  # fmt: skip
        return out

    def whole(self, theta: Floats) -> Floats:
        """Return all six parameters from the free coordinates."""
        out = self.held.copy()
        out[self.free] = theta
        out[:4] *= stretched(out[4])
        return out

    def target(self, theta: Floats) -> float:
        """Return the log posterior density of the free coordinates, up to a constant."""
        whole = self.whole(theta)
        prior = -0.5 * (((whole - PRIOR_MIDDLE) / PRIOR_SPREAD) ** 2).sum()
        rate = expit(whole[5])
        volume = self.free[:4].sum() * np.log(stretched(whole[4])) + np.log(max(rate * (1 - rate), 1e-300))
        return float(self.sessions(whole).sum() + prior + volume)

    def mode(self) -> Floats:
        """Return the free coordinates of the highest posterior density."""
        ridge = self.ridge()
        best = int(np.argmax(ridge.height))
        start = self._joined(ridge.frailty[best], ridge.middle[best])
        found = _highest(self.target, start)
        return found if self.target(found) > self.target(start) else start

    def ridge(self) -> Ridge:
        """Return the posterior as a grid over the frailty, with a normal density of the other coordinates at each point.

        Frailty and the size of the effects lie on a bent ridge, at times with two tops, one of them at no frailty; given
        the frailty, the rest is close to normal (Rue, Martino & Chopin 2009 integrate a few coordinates so).
        """
        leaves, slates = self.stays.leaves, len(self.stays.liked)
        base = np.log((leaves + 0.5) / (slates - leaves + 0.5))
        start = self.held.copy()
        start[:4] = [base, 1.0, 0.1, 0.0]
        others = self.free & (np.arange(len(LEAVING)) != LEAVING.index("frailty"))
        at = start[others]
        places, middle, root, height = [], [], [], []
        for frailty in GRID if self.free[4] else (0.0,):

            def given(rest: Floats, frailty: float = frailty) -> float:
                return self.target(self._joined(frailty, rest))

            at = _highest(given, at)
            spread = np.asarray(np.linalg.inv(_positive(_curvature(given, at))), np.float64)
            places.append(frailty)
            middle.append(at)
            root.append(np.linalg.cholesky(_positive(spread)))
            height.append(given(at))
            if height[-1] < max(height) - 25:
                break
        return Ridge(np.array(places), np.array(middle), np.array(root), np.array(height))

    def draws(self, seed: int, count: int = 2000) -> Floats:
        """Return draws of all six parameters, (count, 6): independence Metropolis steps, proposed from the ridge."""
        random, ridge = generator(seed, "leaving"), self.ridge()
        best = int(np.argmax(ridge.height))
        at, here, kept = self._joined(ridge.frailty[best], ridge.middle[best]), -np.inf, []
        for step in range(count + count // 8):
            frailty, rest, density = ridge.propose(random)
            new = self._joined(frailty, rest)
            there = self.target(new) - density
            if np.log(random.random()) < there - here:
                at, here = new, there
            if step >= count // 8:
                kept.append(self.whole(at))
        chosen = np.array(kept)
        chosen[:, 5] = expit(chosen[:, 5])
        return chosen

    def _joined(self, frailty: float, rest: Floats) -> Floats:
        """Return the free coordinates from the frailty and the others."""
        return np.insert(rest, int(self.free[:4].sum()), frailty) if self.free[4] else rest


class Ridge:
    """A density over the frailty, >= 0, and the other coordinates.

    Args:
        frailty: (J,) points of a grid, rising.
        middle: (J, p) likeliest other coordinates at each.
        root: (J, p, p) Cholesky factors of their covariances.
        height: (J,) log posterior density there.
    """

    def __init__(self, frailty: Floats, middle: Floats, root: Floats, height: Floats) -> None:
        self.frailty, self.middle, self.root, self.height = frailty, middle, root, height
        volume = np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
        self._edge = np.linspace(frailty[0], frailty[-1], 40 * (len(frailty) - 1) + 1)
        centre = (self._edge[1:] + self._edge[:-1]) / 2
        self._centre, self._share = centre, np.ones(len(centre))
        if len(centre):
            log = np.interp(centre, frailty, height + volume)
            share = np.exp(log - log.max())
            self._share = 0.95 * share / share.sum() + 0.05 / len(share)

    def propose(self, random: np.random.Generator) -> tuple[float, Floats, float]:
        """Return a frailty, the other coordinates, and the log density of both up to a constant."""
        place, density, at = 0, 0.0, float(self.frailty[0])
        if len(self._centre):
            cell = int(random.choice(len(self._share), p=self._share))
            at = float(random.uniform(self._edge[cell], self._edge[cell + 1]))
            density = float(np.log(self._share[cell]))
            place = min(int(np.searchsorted(self.frailty, at, side="right")) - 1, len(self.frailty) - 2)
        middle, root = self.middle[place], self.root[place]
        if len(self._centre):
            part = (at - self.frailty[place]) / (self.frailty[place + 1] - self.frailty[place])
            middle = (1 - part) * middle + part * self.middle[place + 1]
            root = (1 - part) * root + part * self.root[place + 1]
        away = np.sqrt(FREEDOM / random.chisquare(FREEDOM)) * (root @ random.standard_normal(len(middle)))
        return at, middle + away, density + _log_student(away, root)


def shuffled_stays(stays: Stays, random: np.random.Generator) -> Stays:
    """Return the sessions with liking and boredom of their slates in random order: who leaves when stays as it was."""
    session = np.repeat(np.arange(len(stays.ending)), np.diff(stays.session_start))
    order = np.lexsort((random.random(len(session)), session))
    return replace(stays, liked=stays.liked[order], bored=stays.bored[order])


def exchanged_stays(stays: Stays, random: np.random.Generator) -> Stays:
    """Return the sessions with what happened at a step exchanged between the sessions that reached it."""
    order = np.lexsort((random.random(len(stays.step)), stays.step))
    place = np.argsort(stays.step, kind="stable")
    source = np.empty(len(order), np.int64)
    source[place] = order
    return replace(stays, liked=stays.liked[source], bored=stays.bored[source])


def _highest(target: Callable[[Floats], float], start: Floats) -> Floats:
    """Return where a log density is highest, uphill of `start`."""
    search: Any = minimize  # its stubs know no function of an array of one length only
    found = search(lambda t: -target(t), start, method="BFGS", options={"maxiter": 200})
    return np.asarray(found.x)


def _curvature(target: Callable[[Floats], float], at: Floats) -> Floats:
    """Return the negative second derivatives of a function at a point, by differences."""
    size, step = len(at), 1e-3 * np.maximum(np.abs(at), 0.3)
    out, middle = np.empty((size, size)), target(at)
    units = np.diag(step)
    plus = [target(at + u) for u in units]
    minus = [target(at - u) for u in units]
    for a in range(size):
        out[a, a] = -(plus[a] - 2 * middle + minus[a]) / step[a] ** 2
        for b in range(a):
            both, neither = target(at + units[a] + units[b]), target(at - units[a] - units[b])
            mixed = both + neither - plus[a] - minus[a] - plus[b] - minus[b] + 2 * middle
            out[a, b] = out[b, a] = -mixed / (2 * step[a] * step[b])
    return out


def _log_student(away: Floats, root: Floats) -> float:
    """Return the log density, up to a constant, of a Student t of a spread with Cholesky factor `root`."""
    square = float((np.linalg.solve(root, away) ** 2).sum())
    volume = float(np.log(np.diag(root)).sum())
    return -0.5 * (FREEDOM + len(away)) * float(np.log1p(square / FREEDOM)) - volume


def _positive(matrix: Floats) -> Floats:
    """Return the matrix with the small or negative eigenvalues of its correlations raised."""
    size = np.sqrt(np.maximum(np.abs(np.diag(matrix)), 1e-6))
    values, axes = np.linalg.eigh(matrix / np.outer(size, size))
    return np.asarray(((axes * np.maximum(values, 1e-3)) @ axes.T) * np.outer(size, size))
