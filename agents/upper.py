"""Upper lines: policies that read what no recommender can know. They show what is left to gain and never compete.

* `ShortTermOracle` knows every user's true taste and boredom, and looks no further than the next slate.
* `Planner` knows the same and looks further: the worth of an item is what it is expected to bring now, less what showing
  it costs later. How the costs weigh is found by `search_planner`, on a stated budget of simulated episodes.
* `InformedGreedy` knows how the world is made (the items, and how users of a given estimate differ from it on average), but
  of the person in front of it only what the recommender knows. What lies between it and the oracle is knowledge of
  single persons that no amount of learning from other users can bring.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.agents.base import Observation
from recworld.agents.baselines_common import FORBIDDEN, Baseline, FloatArray, IntArray, top_k
from recworld.agents.baselines_static import reward_weights
from recworld.agents.episodes import episode_env, play
from recworld.errors import InputError
from recworld.progress import track
from recworld.seeding import child_seed, generator
from recworld.simulators import state as st
from recworld.simulators.prepare import prepare_tables
from recworld.storage import cache_root, cached_folder, content_hash, read_json, write_json

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv
    from recworld.simulators.world import World

COSTS = ("boredom_cost", "crowd_cost", "slate_cost", "last_steps")
"""What `search_planner` searches."""
START = {
    "boredom_cost": (0.5, 0.4),
    "crowd_cost": (0.5, 0.4),
    "slate_cost": (0.3, 0.3),
    "last_steps": (3.0, 2.0),
}
"""Mean and standard deviation of the first round of the search."""
BUDGET = 160
"""Settings tried by `search_planner`, each on two whole episodes of every validation user."""
ROUND = 16
"""Settings tried between two updates of the search."""
RIDGE = 3.0
"""Prior precision of what `InformedGreedy` regresses; the unit is one user."""


class ShortTermOracle(Baseline):
    """The K candidates with the highest *true* expected immediate reward; sees taste and boredom, not the future.

    Args:
        env: the environment it acts in; the oracle reads its state at every step, so it must be this very object.
        seed: unused; the oracle draws nothing.
    """

    is_upper_line = True

    def __init__(self, env: RecVectorEnv, seed: int = 0) -> None:
        super().__init__(env, seed)
        self._env = env

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return `env.true_scores()`, (N, C).

        Raises:
            InputError: the observation is not of the environment that the oracle was built with.
        """
        scores = np.asarray(self._env.true_scores(), np.float64)
        if scores.shape != observation["action_mask"].shape:
            raise InputError(
                f"{type(self).__name__} must act in the environment it was built with. Got an observation of shape "
                f"{observation['action_mask'].shape} for an environment of shape {scores.shape}."
            )
        return scores


class Planner(ShortTermOracle):
    """Fills the slate, place by place, with the candidate of the largest index

        r_i - |r_i| * left * (boredom_cost * b_i + crowd_cost * g_i + slate_cost * h_i)

    r_i: true expected immediate reward; b_i: boredom, which a click deepens; g_i: likeness to all that the user would take
    up, which a click makes duller; h_i: largest likeness to what the slate already holds; left: 1, falling to 0 over the
    `last_steps` steps of the horizon, where nothing comes later. Likenesses are cosines of the letters that bore.

    Args:
        env: the environment it acts in, whose state it reads.
        seed: unused.
        boredom_cost, crowd_cost, slate_cost: share of the reward that is lost later, per unit.
        last_steps: steps before the horizon over which costs fade.
    """

    def __init__(
        self,
        env: RecVectorEnv,
        seed: int = 0,
        boredom_cost: float = 0.5,
        crowd_cost: float = 0.5,
        slate_cost: float = 0.3,
        last_steps: float = 3.0,
    ) -> None:
        super().__init__(env, seed)
        self.weigh(boredom_cost, crowd_cost, slate_cost, last_steps)
        self._horizon, self._scale = int(env.horizon), float(env.world.dynamics.boredom_scale)
        text = np.asarray(env.world.boredom_vector, np.float32)
        self._text = np.concatenate(
            [text, np.zeros((1, text.shape[1]), np.float32)]
        )  # (I+1, D), padding last

    def weigh(self, boredom_cost: float, crowd_cost: float, slate_cost: float, last_steps: float) -> None:
        """Set the costs of the index."""
        self.boredom_cost, self.crowd_cost, self.slate_cost = boredom_cost, crowd_cost, slate_cost
        self.last_steps = max(float(last_steps), 1e-6)

    def boredom(self, items: npt.NDArray[Any]) -> FloatArray:
        """Return how boring each item is to the user of its row now, b_i in [0, 1), (N, C)."""
        near = np.einsum("ncd,nd->nc", self._text[items], self._env.simulator.memory)
        return np.asarray(-np.expm1(-np.maximum(near, 0.0) / self._scale), np.float64)

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions; `deterministic` changes nothing."""
        mask, items = observation["action_mask"] != 0, self._env.candidate_items()
        reward = np.where(mask, self.scores(observation), 0.0)
        text = self._text[items]  # (N, C, D)
        wanted = np.einsum("nc,ncd->nd", reward**2, text) / np.maximum(
            (reward**2).sum(1, keepdims=True), 1e-9
        )
        crowd = np.einsum("ncd,nd->nc", text, wanted)
        left = np.minimum((1.0 - observation["step"]) * self._horizon / self.last_steps, 1.0)  # (N, 1)
        cost = self.boredom_cost * self.boredom(items) + self.crowd_cost * crowd
        index = np.where(mask, reward - np.abs(reward) * left * cost, FORBIDDEN)
        weight = np.abs(reward) * left * self.slate_cost
        rows, held = np.arange(len(items)), np.zeros(reward.shape)
        out = np.empty((len(items), self.slate_size), np.int64)
        for place in range(self.slate_size):
            best = (index - weight * held).argmax(1)
            out[:, place] = best
            index[rows, best] = -np.inf
            held = np.maximum(held, np.einsum("ncd,nd->nc", text, text[rows, best]))
        return out


class InformedGreedy(Planner):
    """Greedy on the expected immediate reward given the recommender's estimate of the person, in the true world.

    Attraction and rating factors of a user are predicted from the recommender's own factors of them and their text, by a
    ridge regression over the training users of each member; items, boredom and the member are known exactly. The costs of
    `Planner` are left out but for the slate's order.

    Args:
        env: the environment it acts in, whose state it reads.
        seed: unused.
    """

    def __init__(self, env: RecVectorEnv, seed: int = 0) -> None:
        super().__init__(env, seed)
        world = env.world
        self._tables = tables = prepare_tables(world, np.arange(world.num_users, dtype=np.int32))
        self._width = world.truth.rating_width
        known = self._known(tables.agent_taste, np.arange(world.num_users))
        train = world.users("train")
        rows = known[train]
        gram = rows.T @ rows + RIDGE * np.eye(rows.shape[1])
        true = np.concatenate(
            [tables.taste, tables.user_rating[..., None], tables.user_attraction[..., None]], -1
        ).astype(np.float64)  # (M, U, F + 2)
        self._map = np.linalg.solve(gram, rows.T @ true[:, train])  # (M, X, F + 2)
        self._beta, self._beta_rating = world.dynamics.boredom, world.dynamics.boredom_rating
        self._weights, scale = reward_weights(env) or (1.0, 0.0), world.scale
        self._middle, self._half = (scale.low + scale.high) / 2, (scale.high - scale.low) / 2 or 1.0
        self._by_click = scale.kind == "click"

    def _known(self, estimate: npt.NDArray[Any], user: npt.NDArray[Any]) -> FloatArray:
        t, ones = self._tables, np.ones((len(user), 1))
        own = (t.agent_user_attraction[user, None], t.agent_user_rating[user, None])
        return np.concatenate([estimate, *own, self._env.world.user_vector[user], ones], 1).astype(np.float64)

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return the expected immediate reward in the first place, (N, C)."""
        items = self._env.candidate_items()
        person, dull = self._person(observation["user_estimate"]), self.boredom(items)
        item, base = self._attraction(items)
        logit = np.einsum("ncf,nf->nc", item, person[:, self._width : -2]) + person[:, -1:]
        logit += base - self._beta * dull
        return np.asarray(expit(logit) * self._pay(person, items, dull))

    def _person(self, estimate: npt.NDArray[Any]) -> FloatArray:
        """Return what is expected of the persons: taste, then intercepts of rating and of attraction, (N, F + 2)."""
        simulator = self._env.simulator
        known = self._known(estimate, simulator.user)
        return np.asarray(np.einsum("nx,nxf->nf", known, self._map[simulator.int_rows[:, st.MEMBER]]))

    def _at(self, items: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return where items stand in tables by member; in the place of padding stands the last item."""
        return self._env.simulator.int_rows[:, st.MEMBER, None], np.minimum(
            items, self._env.world.num_items - 1
        )

    def _attraction(self, items: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Return attraction factors, (N, C, Fa), and intercepts, (N, C), of items."""
        t, at = self._tables, self._at(items)
        return t.item[at][..., self._width :].astype(np.float64), t.item_attraction[at].astype(np.float64)

    def _pay(self, person: FloatArray, items: npt.NDArray[Any], dull: FloatArray) -> Any:
        """Return the reward that a click on each item is expected to bring: (N, C), or one number for all."""
        worth: Any = 1.0
        if not self._by_click:
            t, at, fr = self._tables, self._at(items), self._width
            rating = np.einsum("ncf,nf->nc", t.item[at][..., :fr].astype(np.float64), person[:, :fr])
            rating += person[:, -2:-1] + (t.item_rating[at] - self._beta_rating * dull)
            worth = np.clip((rating - self._middle) / self._half, -1, 1)
        return self._weights[0] + self._weights[1] * worth

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return the K best-scored positions, (N, K); `deterministic` changes nothing."""
        return top_k(self.scores(observation), observation["action_mask"], self.slate_size)


def search_planner(
    world: World, env_options: Mapping[str, Any] | None = None, *, seed: int = 0, budget: int = BUDGET
) -> dict[str, Any]:
    """Return the costs of `Planner` with the highest mean return: a cross-entropy search (Rubinstein 1999).

    Each round draws settings from a normal distribution, plays two whole episodes of every validation user with each, all on
    the same luck, and moves the distribution towards the best third.

    Args:
        world: with the members that the planner shall know.
        env_options: arguments of `RecVectorEnv`.
        seed: of the search.
        budget: settings tried.
    """
    env = episode_env(world, env_options, users="validation")
    users, random = world.users("validation"), generator(seed, "planner")
    mean = np.array([START[name][0] for name in COSTS])
    spread = np.array([START[name][1] for name in COSTS])
    for number in track(range(max(1, budget // ROUND)), "Searching the planner's costs", unit="rounds"):
        tried = np.maximum(mean + spread * random.normal(size=(ROUND, len(COSTS))), 0.0)
        values = []
        for row in tried:
            planner = Planner(env, **dict(zip(COSTS, row.tolist(), strict=True)))
            luck = child_seed(seed, "planner", number)
            values.append(
                np.mean([play(planner, env, users, seed=luck, episode=e).returns().mean() for e in (0, 1)])
            )
        best = tried[np.argsort(values)[::-1][: ROUND // 3]]
        mean, spread = 0.3 * mean + 0.7 * best.mean(0), 0.3 * spread + 0.7 * best.std(0) + 1e-3
    return dict(zip(COSTS, [round(float(value), 4) for value in mean], strict=True))


def cached_planner(
    world: World, env_options: Mapping[str, Any] | None = None, *, seed: int = 0, budget: int = BUDGET
) -> dict[str, Any]:
    """Return `search_planner` of the same arguments, from the cache where it was searched before."""
    if callable((env_options or {}).get("reward")):  # cannot be hashed
        return search_planner(world, env_options, seed=seed, budget=budget)
    env = episode_env(world, env_options, users="validation", num_users=1)
    settings = json.dumps({**env.settings, "members": None}, sort_keys=True)
    key = content_hash("planner 1", world.fingerprint, settings, str(seed), str(budget))

    def fill(folder: Any) -> None:
        write_json(folder / "planner.json", search_planner(world, env_options, seed=seed, budget=budget))

    return dict(read_json(cached_folder(cache_root() / "planners" / key, fill) / "planner.json"))
