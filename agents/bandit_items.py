"""UCB1 over the items of the catalogue: counts and nothing else, the same for every user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from recworld.agents.base import Observation
from recworld.agents.baselines_common import FloatArray, IntArray, ItemNumbers
from recworld.agents.online import OnlineAgent, OnlineSettings
from recworld.packing import Arrays

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

UNSEEN = 1e6
"""Index of an item that was never noticed: above every other."""
ROUNDS = 3
"""Rounds in which place effects and item rates are fitted to each other, from the last ones on."""


class UCBSettings(OnlineSettings):
    """Settings of UCB1."""

    exploration: float = Field(0.2, ge=0)
    """Factor of sqrt(2 ln t / n). 1 is UCB1 for rewards spread over [0, 1]; clicks are rare, and vary less."""
    prior_weight: float = Field(10.0, gt=0)
    """Noticed shows at the mean reward that every item's posterior mean starts with."""


class UCBAgent(OnlineAgent):
    """The K items with the largest  mean_i + exploration sqrt(2 ln t / n_i)  (UCB1: Auer, Cesa-Bianchi & Fischer 2002).

    A place that few notice must not count against the items shown there: n_i is the sum of e_k over the item's shows in
    places k, and the place effects e (e of the first place is 1) are fitted along with the items' click rates mu,
    clicks_ik ~ Poisson(shown_ik mu_i e_k), by alternating maximum likelihood.

    Args:
        env, seed, settings, options: see `OnlineAgent`.
    """

    settings_type: ClassVar[type[OnlineSettings]] = UCBSettings
    kind: ClassVar[str] = "ucb"

    def build(self, env: RecVectorEnv) -> None:
        """Set up empty counts."""
        items = len(env.tables.item_vector) - 1
        self._numbers = ItemNumbers(env.tables.item_vector)
        popularity = np.asarray(env.tables.popularity[:-1], np.float64)
        # Ties (at first: all) go to what was popular early; far below any difference of means.
        self._tie = 1e-9 * np.argsort(np.argsort(popularity, kind="stable"), kind="stable") / max(items, 1)
        self.shown = np.zeros((items, self.slate_size))
        self.clicks = np.zeros((items, self.slate_size))
        self.reward = np.zeros(items)
        self.place_effect = np.ones(self.slate_size)
        self.noticed: FloatArray = np.zeros(items)

    def context(self, observation: Observation) -> npt.NDArray[Any]:
        """Return the item numbers, (N, C) int32."""
        return self._numbers(observation["candidates"])

    def _fit_places(self) -> None:
        """Bring the place effects up to the counts, and n_i with them."""
        effect, clicked = self.place_effect, self.clicks.sum(1)
        for _ in range(ROUNDS):
            rate = clicked / np.maximum(self.shown @ effect, 1e-9)
            # One click more, and one expected, keeps a place that was hardly used near the first.
            effect = (self.clicks.sum(0) + 1) / (rate @ self.shown + 1)
            effect = effect / effect[0]
        self.place_effect, self.noticed = effect, self.shown @ effect

    def posterior_mean(self) -> FloatArray:
        """Return the mean reward of each item when noticed, shrunk to that of all, (I,)."""
        noticed, weight = self.noticed, self.settings.prior_weight
        overall = self.reward.sum() / max(noticed.sum(), 1e-9)
        return np.asarray((self.reward + weight * overall) / (noticed + weight))

    def index(self) -> FloatArray:
        """Return the upper bounds, (I,)."""
        there = np.maximum(self.noticed, 1e-9)
        width = np.sqrt(2 * np.log(np.maximum(self.noticed.sum(), 1.0)) / there)
        return np.where(self.noticed > 0, self.reward / there + self.settings.exploration * width, UNSEEN)

    def values(self, context: npt.NDArray[Any], random: np.random.Generator | None) -> npt.NDArray[Any]:
        """Return the posterior mean, or the upper bound when exploring, (N, C)."""
        table = self.posterior_mean() + self._tie if random is None else self.index()
        values = np.append(table, table.min())[context]
        return np.asarray(values if random is None else values + 1e-6 * random.random(values.shape))

    def take(
        self, context: npt.NDArray[Any], slates: IntArray, reward: FloatArray, click: FloatArray, shown: Any
    ) -> float:
        """Count the shown slots; see `OnlineAgent.take`."""
        item = np.take_along_axis(context, slates, axis=1)
        place = np.broadcast_to(np.arange(item.shape[1]), item.shape)
        told = self.posterior_mean()[item[shown]] * self.place_effect[place[shown]]
        error = float(((told - reward[shown]) ** 2).mean()) if shown.any() else 0.0
        np.add.at(self.shown, (item[shown], place[shown]), 1.0)
        np.add.at(self.clicks, (item[shown], place[shown]), click[shown])
        np.add.at(self.reward, item[shown], reward[shown])
        self._fit_places()
        return error

    def arrays(self) -> Arrays:
        """Return the counts and the place effects."""
        names = ("shown", "clicks", "reward", "place_effect")
        return {name: np.array(getattr(self, name)) for name in names}

    def load_arrays(self, arrays: Arrays) -> None:
        """Take what `arrays` gave; slates of another size keep the counts of the places they had.

        Raises:
            ValueError: of another catalogue.
        """
        if arrays["reward"].shape != self.reward.shape or len(arrays["shown"]) != len(self.reward):
            raise ValueError(f"{len(arrays['reward'])} items, {len(self.reward)} expected")
        more = max(0, self.slate_size - arrays["shown"].shape[1])
        self.shown, self.clicks = (
            np.pad(np.asarray(arrays[name], np.float64), ((0, 0), (0, more))) for name in ("shown", "clicks")
        )
        self.place_effect = np.append(np.asarray(arrays["place_effect"], np.float64), np.ones(more))
        self.reward = np.array(arrays["reward"], np.float64)
        self.noticed = self.shown @ self.place_effect
