"""One fixed ranking of the catalogue for everybody: on some logs it beats published reinforcement learning.

Legend: N users side by side, U users, I items, K slate size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Callback, Observation
from recworld.agents.baselines_common import Baseline, FloatArray, ItemNumbers, top_k
from recworld.errors import CorruptError, InputError
from recworld.progress import bar
from recworld.seeding import child_seed
from recworld.simulators.prepare import assumptions, solve_intercept
from recworld.storage import read_arrays, write_arrays

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv
    from recworld.simulators.world import World

FILE = "static.safetensors"
BLOCK_CELLS = 4_000_000
"""Cells of the users x items table that are computed at once."""


def mean_expected_click(world: World, split: str = "train") -> FloatArray:
    """Return each item's agent-side click probability, averaged over the users of a split, (I,) float64.

    It reads `world.agent` only: what a recommender knows at the time; intercept and popularity share are those of the
    environment's `candidate_score`.

    Raises:
        InputError: no such split.
    """
    tables, users = world.agent.response, world.users(split)
    taste, item = tables.taste[0][users, tables.rating_width :], tables.item[0][:, tables.rating_width :]
    share, rate = assumptions(world)
    item_bias = share * tables.item_attraction_bias[0]
    user_bias = tables.user_attraction_bias[0][users]
    intercept = 0.0 if rate is None else float(solve_intercept(tables, share, rate)[0])
    total = np.zeros(len(item))
    block = max(1, BLOCK_CELLS // len(item))
    for start in range(0, len(users), block):
        part = slice(start, start + block)
        logits = taste[part] @ item.T + item_bias + user_bias[part, None] + intercept
        total += (1 / (1 + np.exp(-np.clip(logits, -50, 50)))).sum(0)
    return total / len(users)


class RewardCounts:
    """Reward per shown item, freed of the position effect, and shrunk towards a prior by empirical Bayes.

    Position effect: click rate at a place over the largest of any place, measured while slates are drawn at random (then
    the places hold the same items on average). An item's exposure counts that much.

    Args:
        prior: (I,) what is known of the items beforehand, on any scale: it is fitted to the rewards by a line.
        slate_size: K.
    """

    def __init__(self, prior: FloatArray, slate_size: int) -> None:
        self.prior = prior
        self.place_shown, self.place_clicks = np.zeros(slate_size), np.zeros(slate_size)
        shape = (len(prior), slate_size)
        self.shown, self.reward, self.square = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(
        self, item: npt.NDArray[Any], click: npt.NDArray[Any], reward: FloatArray, at_random: bool
    ) -> None:
        """Count one step.

        Args:
            item: (N, K) item numbers, I where the slot is empty.
            click: (N, K) 0/1.
            reward: (N, K) reward that the slot earned.
            at_random: whether the slates were drawn at random.
        """
        if at_random:
            self.place_shown += (item < len(self.prior)).sum(0)
            self.place_clicks += click.sum(0)
        user, place = np.nonzero(item < len(self.prior))
        cell = (item[user, place], place)
        np.add.at(self.shown, cell, 1)
        np.add.at(self.reward, cell, reward[user, place])
        np.add.at(self.square, cell, reward[user, place] ** 2)

    def posterior(self) -> tuple[FloatArray, FloatArray]:
        """Return the mean reward per noticed item and its standard deviation, both (I,) float64."""
        rate = self.place_clicks / np.maximum(self.place_shown, 1)
        effect = rate / rate.max() if rate.max() > 0 else np.ones_like(rate)
        noticed, reward = self.shown @ effect, self.reward.sum(1)  # (I,)
        seen = noticed > 0
        if seen.sum() < 3:
            return self.prior.copy(), np.ones_like(self.prior)
        mean = reward[seen] / noticed[seen]
        design = np.stack([np.ones(seen.sum()), self.prior[seen]], 1)
        root = np.sqrt(noticed[seen])
        line = np.linalg.lstsq(design * root[:, None], mean * root, rcond=None)[0]
        fitted = line[0] + line[1] * self.prior
        # Var(a reward): pooled over items; Var(item around the line) = what the noise does not explain.
        noise = max(float((self.square.sum() - (mean**2 * noticed[seen]).sum()) / noticed.sum()), 1e-9)
        between = float(((mean - fitted[seen]) ** 2 * noticed[seen]).sum() - noise * seen.sum()) / float(
            noticed.sum()
        )
        strength = noise / max(between, noise * 1e-4)
        value = (reward + strength * fitted) / (noticed + strength)
        return value, np.sqrt(noise / (noticed + strength))


class StaticAgent(Baseline):
    """The candidates that stand highest in one ranking of the catalogue, the same for every user.

    Without `values` and before `learn`, the ranking is that of `mean_expected_click` over the training users. `learn`
    measures rewards in the environment (of training users): half of the steps with random slates, half by Thompson
    sampling over items, so that the top of the ranking is measured best.
    `recworld.agents.tuning.tune_baselines` chooses the strongest ranking on validation users.

    Args:
        env: the environment.
        seed: seed of the agent's own generator (used by `learn` only).
        values: (I,) the ranking as a number per item, higher is better.

    Raises:
        InputError: `values` are not I finite numbers.
    """

    def __init__(self, env: RecVectorEnv, seed: int = 0, values: npt.ArrayLike | None = None) -> None:
        super().__init__(env, seed)
        self._seed = seed
        self._numbers = ItemNumbers(env.tables.item_vector)
        self._num_items = len(env.tables.item_vector) - 1
        self.values = mean_expected_click(env.world) if values is None else self._checked(values)

    def _checked(self, values: npt.ArrayLike) -> FloatArray:
        array = np.asarray(values, np.float64)
        if array.shape != (self._num_items,) or not np.isfinite(array).all():
            raise InputError(
                f"The values of a static ranking must be {self._num_items} finite numbers, one an item. "
                f"Got shape {array.shape}."
            )
        return array

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return the ranking's value of each candidate, (N, C) float64."""
        return np.append(self.values, self.values.min())[self._numbers(observation["candidates"])]

    def learn(self, env: RecVectorEnv, total_steps: int, callback: Callback | None = None) -> None:
        """Measure the mean reward per item and rank by it.

        Args:
            env: an environment of training users that resets itself.
            total_steps: user steps, the sum over the N users.
            callback: told of the steps done and of the mean reward after every vector step; false ends the learning.
        """
        counts = RewardCounts(self.values, self.slate_size)
        observation, _ = env.reset(seed=child_seed(self._seed, "static", "learn"))
        weights, done = reward_weights(env), 0
        with bar(total_steps, "Static ranking", "steps") as shown:
            while done < total_steps:
                at_random = done < total_steps / 2
                action = self._explore(observation, counts, at_random)
                observation, reward, _, _, info = env.step(action)
                counts.add(info["item"], info["click"], slot_reward(env, weights, reward, info), at_random)
                done += len(action)
                shown.update(len(action))
                if callback and not callback(done, {"rollout/reward": float(np.mean(reward))}):
                    break
        self.values = counts.posterior()[0]

    def _explore(
        self, observation: Observation, counts: RewardCounts, at_random: bool
    ) -> npt.NDArray[np.int64]:
        mask = observation["action_mask"]
        drawn = self.random.random(mask.shape, np.float32)
        if not at_random:
            mean, deviation = counts.posterior()
            sample = self.random.normal(mean, deviation)
            drawn = np.append(sample, 0.0)[self._numbers(observation["candidates"])]
        return top_k(drawn, mask, self.slate_size)

    def save(self, folder: Path) -> None:
        """Write the ranking into an existing folder."""
        write_arrays(folder / FILE, {"values": self.values})

    def load(self, folder: Path, env: RecVectorEnv) -> None:
        """Take the ranking from a folder.

        Raises:
            CorruptError: the file is missing or of another catalogue.
        """
        try:
            self.values = self._checked(read_arrays(folder / FILE)["values"])
        except (KeyError, InputError) as error:
            raise CorruptError(
                f"{folder / FILE} does not hold a ranking of this catalogue: {error}"
            ) from error


def slot_reward(
    env: RecVectorEnv, weights: tuple[float, float] | None, reward: npt.NDArray[Any], info: dict[str, Any]
) -> FloatArray:
    """Return what each slot earned, (N, K) float64.

    Clicks and ratings are taken slot by slot; the reward of a user's own function is shared among the shown items.
    """
    if weights is None:
        filled = info["item"] < env.world.num_items
        return np.asarray(filled * (reward / np.maximum(filled.sum(1), 1))[:, None], np.float64)
    rating = env.world.scale.normalise(info["rating"]) * info["has_rating"]
    return np.asarray(weights[0] * info["click"] + weights[1] * rating, np.float64)


def reward_weights(env: RecVectorEnv) -> tuple[float, float] | None:
    """Return the weights of clicks and of normalised ratings in the reward, None for a function of the user's own."""
    kind = env.settings["reward"]
    if isinstance(kind, dict):
        return float(kind.get("click", 0.0)), float(kind.get("rating", 0.0))
    return {"click": (1.0, 0.0), "rating": (0.0, 1.0)}.get(kind)
