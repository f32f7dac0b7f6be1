"""What single consumed items do to the recommender's estimate of a user: taste folded in again without each of them.

Given the items' factors q, a user's taste p answers to the text's word T(x) and to what was consumed:

    ratings:      minimise  sum_j (y_j - <p, q_j>)^2 + lambda |p - T|^2            y: rating less both biases
    attraction:   minimise  sum_j log(1 + e^-a_j) + v sum_i log(1 + e^a_i) + lambda / 2 |p - T|^2

j runs over the user's early items, i over those that were not consumed, v = 4 n / I: the sampled items that the attraction
model is fitted against. The penalty is the one at which folded-in tastes give the personal scores of the fitted ones best;
how well (R^2 over users and items) is part of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.evaluation.text_route import TextRoute
from recworld.seeding import generator
from recworld.simulators.attraction_settings import AttractionSettings

if TYPE_CHECKING:
    from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PENALTIES = 10.0 ** np.arange(-2, 3.01, 0.5)
"""Values of lambda tried."""
USERS = 40
"""Users on whom the penalty is chosen."""
MOST_ITEMS = 4000
"""Items that stand for all that were not consumed, in a larger catalogue."""
MOST_CONSUMED = 400
"""Consumed items left out one by one: the latest."""
NEWTON = 4
"""Steps of Newton's method; the last one moves nothing that could be read."""


@dataclass(frozen=True)
class Consumed:
    """What was known of a user early.

    Attributes:
        item: (n,) items, in time order.
        rating: (n,) ratings, in units of the scale.
    """

    item: Ints
    rating: Floats


class FoldIn:
    """Folds users into the recommender's estimate.

    Args:
        world: the world.
        route: its texts' way to scores.
        seed: of the users on whom penalties are chosen.

    Attributes:
        fit: R^2 of the personal scores, of ratings and of attraction; NaN for a part that the world does not have.
    """

    def __init__(self, world: World, route: TextRoute, seed: int = 0) -> None:
        self.world, self.route = world, route
        self._fr = route.estimate.rating_width
        agent = world.agent
        self._negatives = AttractionSettings().negatives
        sampled = np.log(
            self._negatives * max(len(agent.history_item), 1) / (world.num_users * world.num_items)
        )
        response = agent.response
        # The logit as it was fitted: popularity in full, and without what corrects for sampling.
        self._level = response.user_attraction_bias[0].astype(np.float64) - sampled
        self._popular = response.item_attraction_bias[0].astype(np.float64)
        known = np.diff(agent.history_start)
        rich = np.flatnonzero(known >= min(5, known.max(initial=0)))
        users = generator(seed, "fold in").permutation(rich)[:USERS]
        self.fit = [np.nan, np.nan]
        self._penalty = [1.0, 1.0]
        for part in range(2):
            if self._columns(part).stop > self._columns(part).start and len(users):
                self._choose(part, users)

    def _columns(self, part: int) -> slice:
        return slice(0, self._fr) if part == 0 else slice(self._fr, self.route.user.own.shape[1] - 2)

    def consumed(self, user: int) -> Consumed:
        """Return what was known of a user early, the latest `MOST_CONSUMED`."""
        agent, scale = self.world.agent, self.world.scale
        begin, end = agent.history_start[user : user + 2]
        rows = slice(max(begin, end - MOST_CONSUMED), end)
        half = (scale.high - scale.low) / 2 or 1.0
        rating = scale.low + half * (1 + agent.history_feedback[rows].astype(np.float64))
        return Consumed(agent.history_item[rows].astype(np.int64), rating)

    def _choose(self, part: int, users: Ints) -> None:
        columns = self._columns(part)
        item = self.route.item.own[:, columns]
        fitted = self.route.user.own[users][:, columns] @ item.T  # (users, I)
        fitted = fitted - fitted.mean(1, keepdims=True)
        total, best = float((fitted**2).sum()), np.inf
        for penalty in PENALTIES[::-1]:
            folded = np.stack([self._taste(part, int(u), float(penalty))[0] for u in users]) @ item.T
            gap = float(((folded - folded.mean(1, keepdims=True) - fitted) ** 2).sum())
            if gap < best:
                best, self._penalty[part] = gap, float(penalty)
        self.fit[part] = 1 - best / total if total > 0 else np.nan

    def _taste(self, part: int, user: int, penalty: float, leave_out: bool = False) -> Floats:
        """Return folded-in tastes: of all that was consumed, (1, F'), or without each item in turn, (n, F')."""
        past, told = self.consumed(user), self.route.user.told[user, self._columns(part)]
        if part == 0:
            return self._by_ratings(past, user, told, penalty, leave_out)
        return self._by_clicks(past, user, told, penalty, leave_out)

    def _by_ratings(self, past: Consumed, user: int, told: Floats, penalty: float, leave_out: bool) -> Floats:
        rows = self.route.item.own[past.item]
        item = rows[:, : self._fr]
        rest = past.rating - self.route.user.own[user, -2] - rows[:, -2] - item @ told
        gram, pull = item.T @ item + penalty * np.eye(len(told)), item.T @ rest
        if not leave_out:
            return np.asarray(told + np.linalg.solve(gram, pull))[None]
        grams = gram - item[:, :, None] * item[:, None]
        pulls = pull - item * rest[:, None]
        return np.asarray(told + np.linalg.solve(grams, pulls[..., None])[..., 0])

    def _by_clicks(self, past: Consumed, user: int, told: Floats, penalty: float, leave_out: bool) -> Floats:
        taken = np.unique(past.item)
        others = np.setdiff1d(np.arange(self.world.num_items), taken)
        chosen = others[:: max(1, len(others) // MOST_ITEMS)]
        each = self._negatives * len(taken) / self.world.num_items * len(others) / max(len(chosen), 1)
        rows = np.concatenate([taken, chosen])
        item = self.route.item.own[rows][:, self._columns(1)]  # (R, F')
        target = np.r_[np.ones(len(taken)), np.zeros(len(chosen))]
        weight = np.r_[np.ones(len(taken)), np.full(len(chosen), each)][None]
        if leave_out:
            weight = np.where(rows == past.item[:, None], 0.0, weight)  # (n, R)
        squares = (item[:, :, None] * item[:, None]).reshape(len(item), -1)
        offset = self._level[user] + self._popular[rows]
        taste = np.repeat(told[None], len(weight), 0)
        for _ in range(NEWTON + 4 * (penalty < 0.1)):
            chance = expit(offset + taste @ item.T)  # (n, R)
            slope = (weight * (target - chance)) @ item - penalty * (taste - told)
            bend = ((weight * chance * (1 - chance)) @ squares).reshape(len(taste), len(told), len(told))
            bend += penalty * np.eye(len(told))
            taste = taste + np.linalg.solve(bend, slope[..., None])[..., 0]
        return np.asarray(taste)

    def moves(self, user: int) -> Floats:
        """Return what leaving each consumed item out does to the user's row, (n, F + 2); biases stay."""
        past = self.consumed(user)
        out = np.zeros((len(past.item), self.route.user.own.shape[1]))
        for part in range(2):
            columns = self._columns(part)
            if len(past.item) and columns.stop > columns.start:
                penalty = self._penalty[part]
                whole = self._taste(part, user, penalty)
                out[:, columns] = self._taste(part, user, penalty, leave_out=True) - whole
        return out
