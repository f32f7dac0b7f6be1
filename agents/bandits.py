"""Contextual bandits that learn online: LinUCB, Thompson sampling, epsilon-greedy; one model for all items.

They weigh the next click (or reward) alone: no thought of the step after it. Beside a reinforcement learner they tell what
exploration and online learning bring by themselves. Untrained, each holds the agent-side score for right, so it is greedy on
it. The model is one of `recworld.agents.posteriors` over the features of `recworld.agents.bandit_features`; every shown slot
is one observation, an empty one none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from recworld import packing
from recworld.agents.bandit_features import CHANCE, SCORE, SCORE_SCALE, BanditFeatures
from recworld.agents.base import Observation
from recworld.agents.baselines_common import FORBIDDEN, FloatArray, IntArray, top_k
from recworld.agents.baselines_static import reward_weights
from recworld.agents.online import OnlineAgent, OnlineSettings
from recworld.agents.posteriors import LinearPosterior, LogisticPosterior, Posterior
from recworld.errors import InputError
from recworld.packing import Arrays

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

Model = Literal["auto", "linear", "logistic"]


class ContextSettings(OnlineSettings):
    """What the contextual bandits share."""

    item_width: int = Field(8, ge=1, le=16)
    """Principal components of the items' texts among the features."""
    user_width: int = Field(4, ge=1, le=4)
    """Principal components of the users' texts, whose products with as many of the items' are features."""
    decays: tuple[float, ...] = Field((0.5, 0.8, 0.95), min_length=1, max_length=8)
    """Decay rates per step of the similarity to what was consumed in the episode."""
    ridge: float = Field(1.0, gt=0)
    """Precision of every weight before anything is seen: how firmly the agent-side score is believed."""


class LinUCBSettings(ContextSettings):
    """Settings of LinUCB."""

    alpha: float = Field(0.3, ge=0)
    """Width of the upper bound, in posterior standard deviations of a model with noise of variance 1."""


class ThompsonSettings(ContextSettings):
    """Settings of Thompson sampling."""

    model: Model = "auto"
    """linear; logistic (clicks only); auto: logistic where clicks are the reward, else linear."""
    scale: float = Field(0.3, ge=0)
    """Standard deviations of the draw, as a share of the posterior's."""


class EpsilonGreedyBanditSettings(ContextSettings):
    """Settings of the epsilon-greedy bandit."""

    model: Model = "auto"
    """linear; logistic (clicks only); auto: logistic where clicks are the reward, else linear."""
    epsilon: float = Field(0.1, ge=0, le=1)
    """Share of slots that are given to a random candidate while learning."""


class ContextBandit(OnlineAgent):
    """Base of the contextual bandits: features, model, update."""

    settings_type: ClassVar[type[OnlineSettings]] = ContextSettings
    model: Posterior

    def build(self, env: RecVectorEnv) -> None:
        """Set up features and the untrained model.

        Raises:
            InputError: a logistic model for a reward other than clicks.
        """
        s = self.settings
        by_click = env.reward_kind == "click"
        kind = getattr(s, "model", "linear")
        if kind == "logistic" and not by_click:
            raise InputError(
                f"The logistic model needs the reward 'click'. Got {env.reward_kind!r}: use model='linear'."
            )
        logistic = kind == "logistic" or (kind == "auto" and by_click)
        self.features = BanditFeatures(env, s.item_width, s.user_width, tuple(s.decays), self.seed)
        prior, weights = np.zeros(self.features.width), reward_weights(env)
        if logistic or (weights is not None and weights[1] != 0):
            prior[SCORE] = SCORE_SCALE  # the score is a click logit, or the expected reward, itself
        else:
            prior[CHANCE] = (
                1.0 if weights is None else weights[0]
            )  # a click logit, and its chance is foretold
        self.model = (LogisticPosterior if logistic else LinearPosterior)(prior, s.ridge)

    def context(self, observation: Observation) -> npt.NDArray[Any]:
        """Return the features, (N, C, W) float32."""
        return self.features(observation)

    def values(self, context: npt.NDArray[Any], random: np.random.Generator | None) -> npt.NDArray[Any]:
        """Return the posterior mean of each candidate, (N, C): what `act` is greedy on."""
        return self.model.predict(context)

    def take(
        self, context: npt.NDArray[Any], slates: IntArray, reward: FloatArray, click: FloatArray, shown: Any
    ) -> float:
        """Update the model by the shown slots; see `OnlineAgent.take`."""
        rows = self.features.shown(context, slates)[shown]  # (n, W)
        target = (click if self.model.logistic else reward)[shown]
        if not len(rows):
            return 0.0
        told = rows @ self.model.mean
        if self.model.logistic:
            told = 1 / (1 + np.exp(-np.clip(told, -40, 40)))
        self.model.update(rows, target)
        return float(((told - target) ** 2).mean())

    def arrays(self) -> Arrays:
        """Return the posterior and the projections, and which model it is of."""
        kind = {"logistic": np.array([self.model.logistic], np.int8)}
        return packing.prefixed("model", self.model.arrays() | kind) | packing.prefixed(
            "features", self.features.arrays()
        )

    def load_arrays(self, arrays: Arrays) -> None:
        """Take what `arrays` gave; the model is what it was trained as, whatever the reward is now."""
        model = packing.below("model", arrays)
        if bool(model["logistic"][0]) != self.model.logistic:
            kind = LogisticPosterior if model["logistic"][0] else LinearPosterior
            self.model = kind(np.zeros(self.features.width), self.settings.ridge)
        self.features.load(packing.below("features", arrays))
        self.model.load(model)


class LinUCBAgent(ContextBandit):
    """The K largest upper bounds  <theta, x> + alpha sqrt(x^T A^-1 x)  (Li et al. 2010, one linear model for all items).

    Args:
        env, seed, settings, options: see `OnlineAgent`.
    """

    settings_type: ClassVar[type[OnlineSettings]] = LinUCBSettings
    kind: ClassVar[str] = "linucb"

    def values(self, context: npt.NDArray[Any], random: np.random.Generator | None) -> npt.NDArray[Any]:
        """Return the posterior mean, or the upper bound when exploring, (N, C)."""
        mean = self.model.predict(context)
        return mean if random is None else mean + np.float32(self.settings.alpha) * self.model.width(context)


class ThompsonAgent(ContextBandit):
    """The K best candidates of a model drawn from the posterior, one draw for each user and step.

    Agrawal & Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", and Chapelle & Li (2011) for the
    logistic model.

    Args:
        env, seed, settings, options: see `OnlineAgent`.
    """

    settings_type: ClassVar[type[OnlineSettings]] = ThompsonSettings
    kind: ClassVar[str] = "thompson"

    def values(self, context: npt.NDArray[Any], random: np.random.Generator | None) -> npt.NDArray[Any]:
        """Return the posterior mean, or the value under a drawn model when exploring, (N, C)."""
        if random is None:
            return self.model.predict(context)
        drawn = self.model.sample(len(context), self.settings.scale, random)  # (N, W)
        return np.asarray(np.matmul(context, drawn[:, :, None])[:, :, 0])


class EpsilonGreedyBanditAgent(ContextBandit):
    """The K best by the posterior mean, but each slot is given to a random candidate with probability epsilon.

    Args:
        env, seed, settings, options: see `OnlineAgent`.
    """

    settings_type: ClassVar[type[OnlineSettings]] = EpsilonGreedyBanditSettings
    kind: ClassVar[str] = "epsilon_greedy_bandit"

    def explore(
        self, context: npt.NDArray[Any], mask: npt.NDArray[Any], random: np.random.Generator
    ) -> IntArray:
        """Return the slates (N, K), best first, with random candidates among them."""
        values, k = self.values(context, None), self.slate_size
        at_random = top_k(random.random(mask.shape, np.float32), mask, k)  # (N, K)
        coin = random.random((len(mask), k)) < self.settings.epsilon
        open_values = np.where(mask != 0, values, FORBIDDEN)
        rows, slots = np.nonzero(coin)
        open_values[rows, at_random[rows, slots]] = 10 * FORBIDDEN  # taken: after everything else
        best = top_k(open_values, np.ones_like(mask), k)
        left = np.argsort(coin, axis=1, kind="stable")  # slots without exploration first, in order
        out = np.empty_like(best)
        np.put_along_axis(out, left, best, axis=1)
        return np.where(coin, at_random, out)
