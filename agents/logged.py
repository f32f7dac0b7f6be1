"""What people in the log took, as choices: the observation that an environment would have shown, and the item taken.

Only the early log is read, which the agent side has at the time, and only of the users that an environment draws. For the
t-th interaction of a user, the ones before it are the history. Of these the last e, e drawn evenly from 0 to T - 1, count as
consumed in the running episode, one a step, as observations in an environment tell recent consumption apart from the log's.

Other candidates are drawn as the environment draws its own (at random, the most popular, all, retrieved by the agent side's
click estimate), without what was consumed before; the taken item stands first, whether it would have been offered or not.
The recommender's estimate was fitted to these very interactions and would give the taken item away. Its place in
``candidate_score`` is taken by log(1 + popularity), without the interaction in question; ``user_estimate`` is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.packing import Arrays

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

IntArray = npt.NDArray[np.int64]


class LoggedChoices:
    """Draws batches of choices from the early log.

    Args:
        env: gives the world's agent side, its users, and how candidates are drawn.
        most_candidates: upper bound of the candidates beside the taken item, for `all` and large C.

    Raises:
        InputError: the early log has no user with two interactions.
    """

    def __init__(self, env: RecVectorEnv, most_candidates: int) -> None:
        agent, world = env.world.agent, env.world
        self.items, self.horizon, self.history_length = world.num_items, env.horizon, env.history_length
        self.kind, self.repeats = env.env_settings.candidates, env.env_settings.repeats
        self.width = min(env.num_candidates, most_candidates + 1)
        self.start, self.item = np.asarray(agent.history_start, np.int64), agent.history_item
        self.feedback, self.popularity = agent.history_feedback, np.asarray(agent.popularity, np.float64)
        self.popular = np.argsort(-self.popularity, kind="stable")
        self.response = agent.response
        users = world.users(env.users)
        counts = np.diff(self.start)[users]
        owner = np.repeat(users.astype(np.int64), counts)
        inside = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        later = inside > 0  # the first choice has no history to learn from
        self.user, self.time = owner[later], inside[later]
        if not len(self.user):
            raise InputError(
                f"World {world.name!r} has no early log to learn from: no {env.users} user has two interactions."
            )
        self.longest = int(counts.max())
        # First time that a user took an item, to be found by user and item.
        everyone = np.repeat(np.arange(world.num_users), np.diff(self.start))
        pair = everyone * self.items + self.item
        order = np.argsort(pair, kind="stable")
        self._pair, first = np.unique(pair[order], return_index=True)
        self._first = (np.arange(len(pair)) - self.start[everyone])[order][first]
        shape = env.single_observation_space["user_estimate"].shape if _has_estimate(env) else None
        self._estimate_width = None if shape is None else int(shape[0])

    def batch(self, size: int, random: np.random.Generator) -> Arrays:
        """Return the observations, ids form, of `size` choices drawn evenly; the taken item is candidate 0.

        Args:
            size: N.
            random: the draws come from it.
        """
        row = random.integers(0, len(self.user), size)
        user, time = self.user[row], self.time[row]
        out = self._history(user, time, random)
        taken = self.item[self.start[user] + time].astype(np.int64)
        others = self._others(user, time, random)
        gone = (others == taken[:, None]) | (others >= self.items)
        candidates = np.concatenate([taken[:, None], np.where(gone, self.items, others)], 1)
        mask = candidates < self.items
        count = self.popularity[np.minimum(candidates, self.items - 1)]
        count[:, 0] = np.maximum(count[:, 0] - 1, 0)
        out |= {
            "candidates": candidates.astype(np.int32),
            "action_mask": mask.astype(np.int8),
            "candidate_score": (np.log1p(count) * mask).astype(np.float32),
            "user": user[:, None].astype(np.int32),
        }
        if self._estimate_width is not None:
            out["user_estimate"] = np.zeros((size, self._estimate_width), np.float32)
        return out

    def _history(self, user: IntArray, time: IntArray, random: np.random.Generator) -> Arrays:
        """Return history, feedback, age and step before the choices at `time`."""
        recent = np.minimum(random.integers(0, self.horizon, len(user)), time)  # e
        back = np.arange(self.history_length, 0, -1)  # newest last
        there = back <= time[:, None]
        at = np.where(there, (self.start[user] + time)[:, None] - back, 0)
        age = np.where(back <= recent[:, None], back / self.horizon, 1.0)
        return {
            "history": np.where(there, self.item[at], self.items).astype(np.int32),
            "history_feedback": np.where(there, self.feedback[at], 0).astype(np.float32),
            "history_age": np.where(there, age, 1.0).astype(np.float32),
            "step": (recent / self.horizon)[:, None].astype(np.float32),
        }

    def _consumed(self, user: IntArray, items: IntArray, time: IntArray) -> npt.NDArray[np.bool_]:
        """Return whether each user took the items (N, X) before `time`."""
        pair = user[:, None] * self.items + items
        place = np.minimum(np.searchsorted(self._pair, pair), len(self._pair) - 1)
        return np.asarray((self._pair[place] == pair) & (self._first[place] < time[:, None]))

    def _others(self, user: IntArray, time: IntArray, random: np.random.Generator) -> IntArray:
        """Return candidates beside the taken one, (N, C - 1), I where there is none."""
        want, size = self.width - 1, len(user)
        if self.kind == "popular":
            reach = self.popular[: want + (0 if self.repeats else self.longest)]
            pool = np.broadcast_to(reach, (size, len(reach)))
        elif self.kind == "retrieved":
            return self._retrieved(user, time, want)
        elif self.kind == "all" and want >= self.items - 1:
            pool = np.broadcast_to(np.arange(self.items), (size, self.items))
            want = self.items
        else:
            pool = random.integers(0, self.items, (size, want))
            ordered = np.sort(pool, axis=1)  # an item drawn twice counts once
            twice = np.zeros(pool.shape, bool)
            twice[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
            pool = np.where(twice, self.items, ordered)
        if self.repeats:
            return np.asarray(pool[:, :want], np.int64)
        open_ = (pool < self.items) & ~self._consumed(user, pool, time)
        kept = np.where(open_ & (np.cumsum(open_, 1) <= want), pool, self.items)
        return np.sort(kept, axis=1)[:, :want]

    def _retrieved(self, user: IntArray, time: IntArray, want: int) -> IntArray:
        """Return the items with the largest agent-side click logits."""
        tables, start = self.response, self.response.rating_width
        logits = tables.taste[0][user, start:] @ tables.item[0][:, start:].T + tables.item_attraction_bias[0]
        if not self.repeats:
            everything = np.broadcast_to(np.arange(self.items), logits.shape)
            logits = np.where(self._consumed(user, everything, time), -np.inf, logits)
        best = np.argsort(-logits, axis=1, kind="stable")[:, :want]
        return np.where(np.isfinite(np.take_along_axis(logits, best, 1)), best, self.items)


def _has_estimate(env: RecVectorEnv) -> bool:
    return "user_estimate" in env.single_observation_space.spaces
