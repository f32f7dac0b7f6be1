"""Ratings from two texts in closed form: one term for each side's vector, by ridge regression.

r ~ mean + <w, f> + <v, g>      f, g: centred vectors of the user's and of the item's text
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.encoders.tuning_data import Pairs

Floats = npt.NDArray[np.float64]
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of each side's squared weights on centred unit vectors, beside the sum of squared errors."""
ROUNDS = 6


@dataclass(frozen=True)
class Additive:
    """mu + <user, f> + <item, g>: weights on (W,) vectors as they are, and the penalties that they were fitted with."""

    mean: float
    user: Floats
    item: Floats
    penalties: tuple[float, float]

    def predict(self, user: Floats, item: Floats, pairs: Pairs) -> Floats:
        """Return (n,) predictions of pairs, from (., W) vectors of the distinct texts."""
        own = self.mean + (user @ self.user)[pairs.user] + (item @ self.item)[pairs.item]
        return np.asarray(own, np.float64)


def fit_additive(
    user: Floats, item: Floats, pairs: Pairs, target: Floats, penalties: tuple[float, float],
    weight: Floats | None = None,
) -> Additive:  # fmt: skip
    """Fit by ridge regression, one side after the other until both settle.

    Args:
        user: (., W) centred vectors of the distinct user texts.
        item: (., W) of the item texts.
        pairs: n pairs.
        target: (n,) what is to be predicted.
        penalties: of the squared weights, by side.
        weight: (n,) of the pairs; none: all count alike.
    """
    mean = float(np.average(target, weights=weight))
    each = np.ones(len(target)) if weight is None else weight
    weights = [np.zeros(user.shape[1]), np.zeros(item.shape[1])]
    sides = ((user, pairs.user), (item, pairs.item))
    solvers = []
    for (vectors, own), penalty in zip(sides, penalties, strict=True):
        count = np.bincount(own, weights=each, minlength=len(vectors))
        system = vectors.T @ (count[:, None] * vectors) + penalty * np.eye(vectors.shape[1])
        solvers.append(np.linalg.solve(system, vectors.T))
    for _ in range(ROUNDS):
        for n in (1, 0):
            other, index = sides[1 - n]
            rest = target - mean - (other @ weights[1 - n])[index]
            vectors, own = sides[n]
            weights[n] = solvers[n] @ np.bincount(own, weights=each * rest, minlength=len(vectors))
    return Additive(mean, weights[0], weights[1], penalties)


def choose_additive(
    vectors: tuple[Floats, Floats], train: Pairs, target: Floats, held: Pairs, held_target: Floats,
    least: float = 0.0,
) -> Additive:  # fmt: skip
    """Return the best regression over penalties of both sides on held rows.

    One penalty after the other goes down the list while the other stands; twice is enough.

    Args:
        vectors: (., W) centred vectors of the distinct texts of users and of items.
        train: pairs to fit to.
        target: what is to be predicted of them.
        held: pairs to choose by.
        held_target: what is to be predicted of those.
        least: penalties below this are not tried.
    """
    tried: dict[tuple[float, float], tuple[float, Additive]] = {}
    penalties = (max(1.0, least), max(30.0, least))
    for n in (0, 1, 0, 1):
        for penalty in PENALTIES:
            key = (penalty, penalties[1]) if n == 0 else (penalties[0], penalty)
            if penalty >= least and key not in tried:
                fit = fit_additive(*vectors, train, target, key)
                tried[key] = (float(np.mean((fit.predict(*vectors, held) - held_target) ** 2)), fit)
        penalties = min(tried, key=lambda key: tried[key][0])
    return tried[penalties][1]
