"""Upper line: the planner that knows how the world is made, but has to learn the person from what they click and skip.

Between `InformedGreedy`, which never learns more of a person than the recommender does, and `ShortTermOracle` and `Planner`,
which know the person, it shows how far knowledge of the person can come at all from what a recommender gets to see.

Legend: N users side by side, C candidates, K slate size, Q nodes, F width of the attraction factors, X = F + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.agents.base import Observation
from recworld.agents.baselines_common import FloatArray, IntArray
from recworld.agents.upper import RIDGE, InformedGreedy, Planner
from recworld.simulators import state as st
from recworld.simulators.prepare import prepare_parameters

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

NODE, WEIGHT = np.polynomial.hermite_e.hermegauss(24)
"""Gauss-Hermite quadrature over one logit."""
NEVER = -9
"""Step of a row that shows nothing yet."""


@dataclass
class Belief:
    """What is believed of N persons: their own taste p and intercept are normal; the taste of now follows from them.

    Tastes drift with what is clicked, z = held * p + |p| * pulled, by numbers that the clicks tell.

    Attributes:
        mean: (N, X) of p and of the intercept.
        covariance: (N, X, X).
        held: (N,) share of p that is left in z.
        pulled: (N, F) where z was pulled to.
    """

    mean: FloatArray
    covariance: FloatArray
    held: FloatArray
    pulled: FloatArray

    def logits(self, item: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return of <z, d> + intercept the mean, the variance and the covariance with p: (N, C), (N, C), (N, C, X).

        Args:
            item: (N, C, F) attraction factors d.
        """
        ones = np.ones((*item.shape[:2], 1))
        known = np.concatenate([self.held[:, None, None] * item, ones], -1)  # (N, C, X)
        mean = np.einsum("ncx,nx->nc", known, self.mean)
        mean += np.einsum("ncf,nf->nc", item, self.pulled) * self.norm()[:, None]
        shared = known @ self.covariance
        return mean, np.maximum((shared * known).sum(-1), 1e-12), shared

    def norm(self) -> FloatArray:
        """Return the root of the expected square of |p|, (N,)."""
        spread = np.einsum("nff->n", self.covariance[:, :-1, :-1])
        return np.asarray(np.sqrt((self.mean[:, :-1] ** 2).sum(-1) + spread))

    def put(self, rows: npt.NDArray[Any], other: Belief) -> None:
        """Take over rows (N,) bool of another belief."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(other, name)[rows]


def moments(
    mean: FloatArray, variance: FloatArray, click: npt.NDArray[Any], noticed: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of a normal logit a after a click, or a skip, of probability noticed * sigmoid(a).

    The two moments of the exact posterior, by Gauss-Hermite quadrature: assumed-density filtering (Opper 1998, Minka 2001).

    Args:
        mean: (N,) before.
        variance: (N,) before.
        click: (N,) whether it was clicked.
        noticed: (N,) in (0, 1].
    """
    chance = noticed[:, None] * expit(mean[:, None] + np.sqrt(variance)[:, None] * NODE)  # (N, Q)
    mass = WEIGHT * np.where(np.asarray(click, bool)[:, None], chance, 1.0 - chance)
    mass /= np.maximum(mass.sum(1, keepdims=True), 1e-300)
    first = mass @ NODE
    second = mass @ NODE**2 - first**2
    return mean + np.sqrt(variance) * first, variance * second


class Filtering(InformedGreedy):
    """`Planner` on the expected reward given all that the user clicked and skipped, in the true world.

    Who a person is before the first slate is what `InformedGreedy` predicts, with the spread of what that prediction misses
    on training users of the member. Every shown slot then moves a normal belief of taste and intercept.

    Args:
        env: the environment it acts in, whose state it reads; it follows the rows that it chooses every slate of.
        seed: unused.
        boredom_cost, crowd_cost, slate_cost, last_steps: as in `Planner`.

    Attributes:
        belief: of the person in each row, as of the last call of `act` or `scores`.
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
        self._dynamics = env.world.dynamics
        self._no_click = float(prepare_parameters(env.world, (1.0, 0.0), 0.0)[st.P_NO_CLICK])
        self._mean, self._usual, self._missed, self._unsure = self._expected()
        n, k = env.num_envs, self.slate_size
        self._key = np.full((n, 3), NEVER)  # user, member, episode
        self._step, self._shown = np.full(n, NEVER), np.full(n, NEVER)  # of the belief, and of the last slate
        self._slate, self._dull = np.zeros((n, k), np.int64), np.zeros((n, k))
        self.belief = self._prior()

    def _expected(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return what the recommender's estimate at the start says of all users.

        The expected p and intercept, (M, U, X), and rating intercept, (M, U); the covariance of what the regression missed
        on training users, (M, X, X), and the factor by which it grows for a user on whom nothing was regressed, (U,).
        """
        t, world = self._tables, self._env.world
        known = self._known(t.agent_taste, np.arange(world.num_users))
        rows, train = known[world.users("train")], world.users("train")
        doubt = np.linalg.inv(rows.T @ rows + RIDGE * np.eye(rows.shape[1]))
        unsure = ((known @ doubt) * known).sum(1)
        told = known @ self._map  # (M, U, F + 2)
        mean = np.concatenate([told[..., self._width : -2], told[..., -1:]], -1)
        true = np.concatenate([t.taste[..., self._width :], t.user_attraction[..., None]], -1)
        missed = (true - mean)[:, train]
        covariance = np.einsum("mux,muy->mxy", missed, missed) / max(len(train) - unsure[train].sum(), 1.0)
        return mean, told[..., -2], covariance, 1.0 + unsure

    def _prior(self) -> Belief:
        """Return what is believed of the persons of all rows before their first slate."""
        simulator = self._env.simulator
        user, member = simulator.user, simulator.int_rows[:, st.MEMBER]
        mean = self._mean[member, user]
        covariance = self._missed[member] * self._unsure[user, None, None]
        return Belief(mean, covariance, np.ones(len(user)), np.zeros((len(user), mean.shape[1] - 1)))

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return the expected immediate reward in the first place, (N, C).

        The mean of a sigmoid of a normal logit is taken as sigmoid(mean / sqrt(1 + pi / 8 variance)) (MacKay 1992).
        """
        self._follow()
        items = self._env.candidate_items()
        dull, (item, base) = self.boredom(items), self._attraction(items)
        mean, variance, _ = self.belief.logits(item)
        chance = expit((mean + base - self._beta * dull) / np.sqrt(1.0 + np.pi / 8.0 * variance))
        return np.asarray(chance * self._pay(self._person(observation["user_estimate"]), items, dull))

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return (N, K) positions; `deterministic` changes nothing."""
        chosen = Planner.act(self, observation, deterministic)
        self._slate = np.take_along_axis(self._env.candidate_items(), chosen, 1)
        self._dull, self._shown = self.boredom(self._slate), self._step.copy()
        return chosen

    def _follow(self) -> None:
        """Bring the belief to where the environment stands; rows that it did not see come here start afresh."""
        rows = self._env.simulator.int_rows
        key, step = rows[:, [st.USER, st.MEMBER, st.EPISODE]], rows[:, st.STEP]
        same = (key == self._key).all(1) & (step > 0)
        seen = same & (self._shown == step - 1) & (self._step == step - 1)
        if seen.any():
            self._learn(seen)
        fresh = ~(seen | (same & (self._step == step)))
        if fresh.any():
            self.belief.put(fresh, self._prior())
        self._key, self._step = key.copy(), step.copy()

    def _learn(self, rows: npt.NDArray[np.bool_]) -> None:
        """Move the belief of rows (N,) by what became of the last slate."""
        belief, (item, base) = self.belief, self._attraction(self._slate)
        click, told = self._answers()
        base = base - self._beta * self._dull
        noticed, shift = self._examined(belief.logits(item)[0] + base)
        for k in range(self.slate_size):
            mean, variance, shared = (part[:, 0] for part in belief.logits(item[:, k : k + 1]))
            there = base[:, k] + shift[:, k]
            after, left = moments(mean + there, variance, click[:, k], noticed[:, k])
            gain = np.where(rows & told[:, k], 1.0 / variance, 0.0)[:, None] * shared  # (N, X)
            belief.mean += gain * (after - there - mean)[:, None]
            belief.covariance -= (variance - left)[:, None, None] * gain[:, :, None] * gain[:, None, :]
        self._drift(rows)

    def _recent(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return the history's items and feedback, and whether they were taken in the last step, (N, H)."""
        seen, length = self._env.simulator.observe(), self._env.history_length
        feedback, age = seen.floats[:, 1 : 1 + length], seen.floats[:, 1 + length : 1 + 2 * length]
        return seen.ints[:, 1 : 1 + length], feedback, np.asarray(age < 1.5 / self._horizon)

    def _answers(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return which slots of the last slate were clicked, and of which slots anything is told by that, (N, K)."""
        history, _, now = self._recent()
        click = ((history[:, :, None] == self._slate[:, None, :]) & now[:, :, None]).any(1)
        told = np.asarray(self._slate < self._env.world.num_items)
        after = np.arange(self.slate_size) >= click.argmax(1)[:, None]
        told &= after | ~now.all(1, keepdims=True)  # a history that is too short forgets the first clicks
        if self._dynamics.examination == "cascade":
            told &= np.cumsum(click, 1) - click == 0  # nobody looks behind a click
        return click, told

    def _examined(self, logit: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how likely slots are noticed, and what is added to their logits, (N, K).

        In a choice of at most one item, an item is weighed against all others, as they are expected to be, and none.
        """
        noticed = np.repeat([self._dynamics.examination_decay ** np.arange(self.slate_size)], len(logit), 0)
        if self._dynamics.examination != "choice":
            return noticed, np.zeros(logit.shape)
        weight = np.where(self._slate < self._env.world.num_items, logit + np.log(noticed), -np.inf)
        others = np.where(np.eye(self.slate_size, dtype=bool), -np.inf, weight[:, None, :])  # (N, K, K)
        rest = np.logaddexp(np.logaddexp.reduce(others, axis=2), self._no_click)
        return np.ones(logit.shape), np.log(noticed) - rest

    def _drift(self, rows: npt.NDArray[np.bool_]) -> None:
        """Let tastes of rows (N,) move as the world lets them move by what was taken, and back towards their own."""
        belief, simulator, d = self.belief, self._env.simulator, self._dynamics
        history, feedback, now = self._recent()
        speed = np.full(history.shape, d.taste_rate)
        if not self._by_click:
            usual = self._usual[simulator.int_rows[:, st.MEMBER], simulator.user]
            speed *= np.clip(feedback - (usual[:, None] - self._middle) / self._half, -1, 1)
        goal, _ = self._attraction(history)
        goal /= np.maximum(np.linalg.norm(goal, axis=2, keepdims=True), 1e-6)
        for h in np.flatnonzero((now & rows[:, None]).any(0)):
            pull = np.where(now[:, h] & rows, speed[:, h], 0.0)
            belief.held *= 1.0 - np.abs(pull)
            belief.pulled *= 1.0 - np.abs(pull)[:, None]
            belief.pulled += pull[:, None] * goal[:, h]
        back = np.where(rows, d.taste_return, 0.0)
        belief.held += back * (1.0 - belief.held)
        belief.pulled *= 1.0 - back[:, None]
