"""Baselines that most often embarrass a learnt policy: random, popularity, static, greedy, epsilon-greedy, MMR.

Each is ``Class(env, seed=0, **options)`` with ``act(observation, deterministic)``, takes both observation forms, any
number of users and any number of candidates. Settings worth tuning are chosen by `recworld.agents.tuning`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Observation
from recworld.agents.baselines_common import FORBIDDEN, Baseline, IntArray, ItemNumbers, top_k
from recworld.agents.baselines_static import StaticAgent
from recworld.errors import InputError

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

__all__ = ["EpsilonGreedyAgent", "GreedyAgent", "MMRAgent", "PopularityAgent", "RandomAgent", "StaticAgent"]

GRAM_ITEMS = 4096
"""Largest catalogue whose item-by-item similarities are kept in memory (64 MiB); a larger one is computed per step."""


class RandomAgent(Baseline):
    """A slate drawn without replacement, all unmasked candidates alike.

    Deterministic, the draw is a function of seed and observation, so that one observation has one answer.
    """

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions."""
        drawn = self.uniform(observation, deterministic, "slate")
        return top_k(drawn, observation["action_mask"], self.slate_size)


class PopularityAgent(Baseline):
    """The candidates with the most interactions in the early parts of the log."""

    def __init__(self, env: RecVectorEnv, seed: int = 0) -> None:
        super().__init__(env, seed)
        self._popularity = np.asarray(env.tables.popularity, np.float64)
        self._numbers = ItemNumbers(env.tables.item_vector)

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return the number of early interactions, (N, C) float64."""
        return np.asarray(self._popularity[self._numbers(observation["candidates"])])


class GreedyAgent(Baseline):
    """The candidates with the highest agent-side score: supervised recommendation, no thought of the next step."""

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return `candidate_score`, (N, C) float32."""
        return observation["candidate_score"]


class EpsilonGreedyAgent(GreedyAgent):
    """Greedy, but each slot is given to a random candidate with probability epsilon.

    Args:
        env: the environment.
        seed: seed of the agent's own generator.
        epsilon: share of explored slots, in [0, 1].

    Raises:
        InputError: epsilon is outside [0, 1].
    """

    def __init__(self, env: RecVectorEnv, seed: int = 0, epsilon: float = 0.1) -> None:
        super().__init__(env, seed)
        if not 0 <= epsilon <= 1:
            raise InputError(f"epsilon must be a number from 0 to 1. Got {epsilon!r}.")
        self.epsilon = epsilon

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions; explores also when `deterministic`, as a function of seed and observation."""
        mask, k = observation["action_mask"], self.slate_size
        best = super().act(observation)
        drawn = top_k(self.uniform(observation, deterministic, "slate"), mask, k)
        explore = self.uniform(observation, deterministic, "explore")[:, :k] < self.epsilon
        # A drawn position that the greedy part keeps too would be a repeat: such a slot stays greedy.
        clash = ((drawn[:, :, None] == best[:, None, :]) & ~explore[:, None, :]).any(2)
        while (explore & clash).any():
            explore &= ~clash
            clash = ((drawn[:, :, None] == best[:, None, :]) & ~explore[:, None, :]).any(2)
        return np.where(explore, drawn, best)


class MMRAgent(Baseline):
    """Maximal marginal relevance over the slate *and* over what was consumed in the episode.

    The slate is filled place by place with the candidate that maximises

        score_i - sd * (slate_penalty * S_i + history_penalty * H_i)

    sd: standard deviation of the row's unmasked scores (so penalties need no unit); S_i: largest (or mean) similarity to
    the items the slate already holds; H_i = sum over items j consumed in the episode of decay^(steps since) * <v_i, v_j>,
    its positive part. v: centred unit text vectors (centred, since raw BERT vectors are all alike). Carbonell & Goldstein
    (1998), "The use of MMR", for the slate part; the history part is its counterpart over time.

    Args:
        env: the environment.
        seed: unused; the agent draws nothing.
        slate_penalty: lambda, at least 0.
        history_penalty: mu, at least 0.
        decay: weight of one step of age, in [0, 1].
        slate_similarity: "max" or "mean" over the items already in the slate.

    Raises:
        InputError: an option is out of its range.
    """

    def __init__(
        self,
        env: RecVectorEnv,
        seed: int = 0,
        slate_penalty: float = 0.4,
        history_penalty: float = 2.0,
        decay: float = 0.85,
        slate_similarity: Literal["max", "mean"] = "max",
    ) -> None:
        super().__init__(env, seed)
        for name, value, high in (
            ("slate_penalty", slate_penalty, np.inf),
            ("history_penalty", history_penalty, np.inf),
            ("decay", decay, 1.0),
        ):
            if not 0 <= value <= high:
                raise InputError(f"{name} must be a number from 0 to {high:g}. Got {value!r}.")
        if slate_similarity not in ("max", "mean"):
            raise InputError(f"slate_similarity must be 'max' or 'mean'. Got {slate_similarity!r}.")
        self.slate_penalty, self.history_penalty = float(slate_penalty), float(history_penalty)
        self.decay, self.slate_similarity = float(decay), slate_similarity
        self._horizon = int(env.horizon)
        self._numbers = ItemNumbers(env.tables.item_vector)
        self._vectors = centred_vectors(env.tables.item_vector)  # (I+1, D), the last row zeros
        self._gram = self._vectors @ self._vectors.T if len(self._vectors) <= GRAM_ITEMS else None

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions; `deterministic` changes nothing."""
        mask = observation["action_mask"] != 0
        items = self._numbers(observation["candidates"])  # (N, C)
        score = observation["candidate_score"].astype(np.float64)
        count = np.maximum(mask.sum(1, keepdims=True), 1)
        mean = (score * mask).sum(1, keepdims=True) / count
        spread = np.sqrt((((score - mean) * mask) ** 2).sum(1, keepdims=True) / count)  # (N, 1)
        if self.history_penalty > 0:
            score -= spread * self.history_penalty * self.history_similarity(observation, items)
        if self.slate_penalty == 0:
            return top_k(score, mask, self.slate_size)
        return self._fill(np.where(mask, score, FORBIDDEN), items, spread * self.slate_penalty)

    def _fill(self, base: npt.NDArray[Any], items: npt.NDArray[Any], weight: npt.NDArray[Any]) -> IntArray:
        rows = np.arange(len(base))
        out = np.empty((len(base), self.slate_size), np.int64)
        held = np.zeros(base.shape)
        for place in range(self.slate_size):
            value = base - weight * (held / max(place, 1) if self.slate_similarity == "mean" else held)
            best = value.argmax(1)
            out[:, place] = best
            base[rows, best] = -np.inf
            if place + 1 < self.slate_size:
                near = self._similarity(items[rows, best], items)
                first_or_mean = place == 0 or self.slate_similarity == "mean"
                held = held + near if first_or_mean else np.maximum(held, near)
        return out

    def _similarity(self, chosen: npt.NDArray[Any], items: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return <v_chosen, v_i>, (N, C), of one item a row (N,) to the row's candidates (N, C)."""
        if self._gram is not None:
            return np.asarray(self._gram[chosen[:, None], items])
        return self._to_candidates(self._vectors[chosen], items)

    def history_similarity(self, observation: Observation, items: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return H_i of the class, (N, C): how much each candidate is like what was just consumed.

        Args:
            observation: any form.
            items: (N, C) item numbers of the candidates.
        """
        age = observation["history_age"]
        weight = np.where(age < 1, np.float32(self.decay) ** (age * self._horizon), 0).astype(
            np.float32
        )  # (N, H)
        used = np.flatnonzero(weight.any(0))  # newest last: early in the episode most columns are empty
        if len(used) == 0:
            return np.zeros(items.shape, np.float32)
        recent = self._vectors[self._numbers(observation["history"])[:, used[0] :]]
        memory = np.matmul(weight[:, None, used[0] :], recent)[:, 0]  # (N, D)
        return np.asarray(np.maximum(self._to_candidates(memory, items), 0))

    def _to_candidates(self, vectors: npt.NDArray[Any], items: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return <vectors_n, v_i>, (N, C)."""
        if self._gram is not None:  # one product with a small catalogue is cheaper than gathering (N, C, D)
            return np.asarray(np.take_along_axis(vectors @ self._vectors.T, items, axis=1))
        return np.asarray(np.matmul(self._vectors[items], vectors[:, :, None])[:, :, 0])


def centred_vectors(item_vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (I+1, D) float32 unit vectors of the centred texts; padding, and a text equal to the mean, are zero rows.

    Args:
        item_vector: (I + 1, D), the last row zeros (padding).
    """
    out = np.zeros(item_vector.shape, np.float32)
    centred = item_vector[:-1] - item_vector[:-1].mean(0, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    out[:-1] = np.where(norm > 1e-6, centred / np.maximum(norm, 1e-6), 0)
    return out
