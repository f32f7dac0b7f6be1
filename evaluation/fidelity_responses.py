"""Predictions read off response tables, and the simple models they are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr

from recworld.logs.log import InteractionLog, RatingScale
from recworld.simulators.observation import ObservationModel
from recworld.simulators.ordinal import OrdinalLink
from recworld.simulators.prepare import assumptions, solve_intercept
from recworld.simulators.rating import RatingRows
from recworld.simulators.rating_report import fit_biases
from recworld.simulators.selection_treatment import REPORT_KEY, tables_as_rated
from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Users = npt.NDArray[np.int32]


class Responses:
    """What M members predict, from the tables alone.

    Args:
        world: its truth, its scale, and its assumptions of base rate and popularity.
    """

    def __init__(self, world: World) -> None:
        self.tables, self.scale = world.truth, world.scale
        # What is held out was chosen to be rated, as what was fitted was.
        self._rated = tables_as_rated(world.truth, world.report.get(REPORT_KEY, {}))
        share, rate = assumptions(world)
        self._share, self._decay = share, world.dynamics.examination_decay
        members = self.tables.num_members
        self._shift = np.zeros(members) if rate is None else solve_intercept(self.tables, share, rate)
        self._observe = [self._observation(m) for m in range(members)]

    def _observation(self, member: int) -> ObservationModel:
        t = self._rated
        link = OrdinalLink(
            t.thresholds[member].astype(np.float64),
            t.user_shift[member].astype(np.float64),
            t.user_scale[member].astype(np.float64),
        )
        return ObservationModel(self.scale, link, t.user_sigma[member].astype(np.float64))

    def _eta(self, user: Users, item: Users, member: int) -> Floats:
        t, width = self._rated, self._rated.rating_width
        own = np.einsum(
            "nf,nf->n", t.taste[member, user, :width], t.item[member, item, :width], dtype=np.float64
        )
        return np.asarray(
            own + t.user_rating_bias[member, user] + t.item_rating_bias[member, item], np.float64
        )

    def rating(self, user: Users, item: Users, members: Sequence[int]) -> Floats:
        """Return the expected rating, (n,), averaged over members."""
        return np.asarray(
            np.mean([self._observe[m].mean(self._eta(user, item, m), user) for m in members], axis=0)
        )

    def liked(self, user: Users, item: Users, members: Sequence[int]) -> Floats:
        """Return the probability of a rating from `scale.liked_from` up, (n,), averaged over members."""
        return np.asarray(
            np.mean([self._observe[m].liked(self._eta(user, item, m), user) for m in members], axis=0)
        )

    def take_up(self, user: Users, item: Users, members: Sequence[int], shown: bool = True) -> Floats:
        """Return the probability that a shown and noticed item is taken up, before boredom, (n,), averaged over members.

        Args:
            user: (n,) user numbers.
            item: (n,) item numbers.
            members: which members.
            shown: whether the pairs were shown. Else what is asked is what is consumed at all, and an item's popularity
                counts in full: it is attraction and exposure together.
        """
        share = self._share if shown else 1.0
        t, width = self.tables, self.tables.rating_width
        parts = []
        for m in members:
            own = np.einsum("nf,nf->n", t.taste[m, user, width:], t.item[m, item, width:], dtype=np.float64)
            logit = own + t.user_attraction_bias[m, user] + share * t.item_attraction_bias[m, item]
            parts.append(expit(logit + self._shift[m]))
        return np.asarray(np.mean(parts, axis=0), np.float64)

    def noticed(self, position: npt.NDArray[np.int32]) -> Floats:
        """Return the probability that a position is noticed, (n,), before any click of the slate."""
        return np.asarray(self._decay ** position.astype(np.float64))


class SimpleModels:
    """Models that know nothing of tastes: user and item means; popularity.

    Args:
        train: what they are fitted to.
    """

    def __init__(self, train: InteractionLog) -> None:
        self.scale = train.scale
        if train.scale.kind != "click":
            rows = RatingRows(train.user, train.item, train.rating)
            self._biases = fit_biases(rows, train.num_users, train.num_items, train.scale)
            left = train.rating - self._biases.predict(rows)
            self._spread = max(float(np.std(left)), 1e-3 * max(train.scale.high - train.scale.low, 1e-6))
        self.popularity = np.bincount(train.item, minlength=train.num_items).astype(np.float64)
        self.item_rate = self.popularity
        shown = train.exposures
        if shown is not None and len(shown):
            count = np.bincount(shown.item, minlength=train.num_items)
            clicks = np.bincount(shown.item, shown.clicked, train.num_items)
            self.item_rate = (clicks + 10 * shown.clicked.mean()) / (count + 10.0)

    def rating(self, user: Users, item: Users) -> Floats:
        """Return mean + user's + item's deviation, (n,)."""
        nothing = np.zeros(len(user), np.float32)
        return np.asarray(self._biases.predict(RatingRows(user, item, nothing)))

    def liked(self, user: Users, item: Users) -> Floats:
        """Return P(rating >= liked_from) under a normal error around `rating`, (n,)."""
        border = self.scale.liked_from - _half_step(self.scale)
        return np.asarray(ndtr((self.rating(user, item) - border) / self._spread))


def _half_step(scale: RatingScale) -> float:
    """Return half of the way down to the level below "liked": a normal error knows no levels."""
    levels = np.asarray(scale.levels)
    below, above = levels[levels < scale.liked_from - 1e-6], levels[levels >= scale.liked_from - 1e-6]
    if scale.kind != "discrete" or len(below) == 0 or len(above) == 0:
        return 0.0
    return float(scale.liked_from - (below[-1] + above[0]) / 2)
