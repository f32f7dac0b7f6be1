"""The policies that `benchmarks/ranking.py` ranks, and the rules of that measurement: written down before the first run.

Twenty policies, near-equal ones among them (greedy beside greedy with a tenth of the slots at random, three blends with
popularity, five settings of MMR). All read the observation and the agent side of a world only, so each is the same policy
in a simulated world and in the truth.

Rules, fixed beforehand:

* value of a policy: mean number of clicks of a session; also shown: mean sum of normalised ratings of the clicked items;
* K = 5, C = 100 random candidates that the user has not consumed, T = 20 slates, H = 20, every user, reward `click`;
* truth: all users come after the last row of the log, rested (no satiation), at a time of their own within one day; the
  session ends when the truth's session number rises, or is truncated at T;
* a pair of policies is separable where the 95 % interval (t, paired, over users) of their difference in the truth leaves
  out 0;
* truths: seeds 0..9 are reported; whatever is chosen is chosen on seeds 100 and up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from recworld.agents import baselines as known
from recworld.agents.base import Agent, Observation
from recworld.agents.baselines import centred_vectors
from recworld.agents.baselines_common import Baseline, FloatArray, IntArray, top_k

LAYOUT: dict[str, Any] = {
    "slate_size": 5,
    "num_candidates": 100,
    "candidates": "random",
    "horizon": 20,
    "history_length": 20,
    "reward": "click",
    "observation": "ids",
}
REPORTED_SEEDS = tuple(range(10))
LEVEL = 0.95


def standardised(values: Any, mask: Any) -> FloatArray:
    """Return each row with mean 0 and standard deviation 1 over its unmasked entries, (N, C)."""
    there = mask != 0
    count = np.maximum(there.sum(1, keepdims=True), 1)
    centred = np.where(there, values - (values * there).sum(1, keepdims=True) / count, 0.0)
    spread = np.sqrt((centred**2).sum(1, keepdims=True) / count)
    return np.asarray(centred / np.where(spread > 1e-9, spread, 1.0), np.float64)


class RandomTop(Baseline):
    """K at random among the `top` candidates of the agent-side score."""

    def __init__(self, env: Any, seed: int = 0, top: int = 20) -> None:
        super().__init__(env, seed)
        self.top = top

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions."""
        best = top_k(observation["candidate_score"], observation["action_mask"], self.top)
        allowed = np.zeros_like(observation["action_mask"])
        np.put_along_axis(allowed, best, 1, axis=1)
        allowed &= observation["action_mask"]
        return top_k(self.uniform(observation, deterministic, "slate"), allowed, self.slate_size)


class Softmax(Baseline):
    """A Plackett-Luce slate with the agent-side click logits as its weights."""

    def scores(self, observation: Observation) -> Any:
        """Return logits with Gumbel noise, (N, C)."""
        drawn = np.clip(self.uniform(observation, True, "slate"), 1e-12, 1 - 1e-12)
        return observation["candidate_score"] - np.log(-np.log(drawn))


class Blend(Baseline):
    """`share` of standardised log-popularity, the rest standardised agent-side score."""

    def __init__(self, env: Any, seed: int = 0, share: float = 0.5) -> None:
        super().__init__(env, seed)
        self.share, self._popularity = share, np.log1p(np.asarray(env.tables.popularity, np.float64))

    def scores(self, observation: Observation) -> Any:
        """Return the blend, (N, C)."""
        mask = observation["action_mask"]
        popular = standardised(self._popularity[observation["candidates"]], mask)
        return self.share * popular + (1 - self.share) * standardised(observation["candidate_score"], mask)


class LeastRecentGroup(Baseline):
    """Genres in turn: among the better third by score, first what comes from the group consumed least in the episode.

    Groups are 12 k-means clusters of the centred text vectors; items placed earlier in the slate count as consumed.
    """

    GROUPS = 12

    def __init__(self, env: Any, seed: int = 0) -> None:
        super().__init__(env, seed)
        vectors = centred_vectors(env.tables.item_vector)
        fit = KMeans(min(self.GROUPS, len(vectors) - 1), n_init=2, random_state=0).fit(vectors[:-1])
        self._group = np.append(fit.labels_, 0)

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions."""
        mask, score = observation["action_mask"] != 0, observation["candidate_score"]
        rows = np.arange(len(score))
        group, past = self._group[observation["candidates"]], self._group[observation["history"]]
        count = np.zeros((len(score), self.GROUPS))
        np.add.at(count, (rows[:, None], past), observation["history_age"] < 1)
        third = np.sort(np.where(mask, score, -np.inf), 1)[:, -(score.shape[1] // 3)]
        better = mask & (score >= third[:, None])
        rank = standardised(score, mask) / 1e3 + better * 1e3
        chosen = np.zeros_like(mask)
        out = np.empty((len(score), self.slate_size), np.int64)
        for place in range(self.slate_size):
            value = rank - np.take_along_axis(count, group, 1)
            best = np.where(mask & ~chosen, value, -np.inf).argmax(1)
            out[:, place], chosen[rows, best] = best, True
            count[rows, group[rows, best]] += 1
        return out


class Content(Baseline):
    """Similarity of the text to the mean text of the history, weighted by feedback (liked 1, disliked 0)."""

    def __init__(self, env: Any, seed: int = 0) -> None:
        super().__init__(env, seed)
        self._vectors = centred_vectors(env.tables.item_vector)

    def scores(self, observation: Observation) -> Any:
        """Return similarities, (N, C)."""
        weight = (observation["history_feedback"] + 1) / 2 * (observation["history"] < len(self._vectors) - 1)
        profile = np.einsum("nh,nhd->nd", weight, self._vectors[observation["history"]])
        return np.take_along_axis(profile @ self._vectors.T, observation["candidates"], 1)


class ByRating(Baseline):
    """The agent-side expected rating, times the agent-side click probability to the power `click_power`."""

    def __init__(self, env: Any, seed: int = 0, click_power: float = 0.0) -> None:
        super().__init__(env, seed)
        tables, scale, width = (
            env.world.agent.response,
            env.world.scale,
            env.world.agent.response.rating_width,
        )
        eta = tables.taste[0][:, :width] @ tables.item[0][:, :width].T
        eta = eta + tables.user_rating_bias[0][:, None] + tables.item_rating_bias[0]
        liking = np.clip((eta - scale.low) / (scale.high - scale.low), 0.0, 1.0)
        self._liking, self.click_power = np.pad(liking, ((0, 0), (0, 1))), click_power

    def scores(self, observation: Observation) -> Any:
        """Return the product, (N, C)."""
        liking = self._liking[observation["user"], observation["candidates"]].astype(np.float64)
        return liking * (1 / (1 + np.exp(-observation["candidate_score"]))) ** self.click_power


def mmr(slate: float, history: float, decay: float) -> Callable[..., Agent]:
    """Return a maker of MMR with these settings."""
    return partial(known.MMRAgent, slate_penalty=slate, history_penalty=history, decay=decay)


POLICIES: dict[str, Callable[..., Agent]] = {
    "random": known.RandomAgent,
    "popularity": known.PopularityAgent,
    "static ranking": known.StaticAgent,
    "greedy": known.GreedyAgent,
    "greedy, 10 % random": partial(known.EpsilonGreedyAgent, epsilon=0.1),
    "greedy, 30 % random": partial(known.EpsilonGreedyAgent, epsilon=0.3),
    "random of top 20": RandomTop,
    "softmax": Softmax,
    "mmr 0.2 / 0.5 / 0.85": mmr(0.2, 0.5, 0.85),
    "mmr 0.4 / 2 / 0.85": mmr(0.4, 2.0, 0.85),
    "mmr 0.4 / 2 / 1": mmr(0.4, 2.0, 1.0),
    "mmr 0.4 / 6 / 0.85": mmr(0.4, 6.0, 0.85),
    "mmr 1 / 0": mmr(1.0, 0.0, 0.85),
    "25 % popularity": partial(Blend, share=0.25),
    "50 % popularity": partial(Blend, share=0.5),
    "75 % popularity": partial(Blend, share=0.75),
    "genres in turn": LeastRecentGroup,
    "content": Content,
    "rating": ByRating,
    "click x rating": partial(ByRating, click_power=1.0),
}
"""By name; MMR: slate penalty / history penalty / decay."""
