"""Training on wishes: a replay buffer of plain arrays, and what an off-policy algorithm needs for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, RolloutReturn
from torch import Tensor

from recworld import packing
from recworld.agents.drawing import drawing_from
from recworld.agents.learning import BorderMixin
from recworld.agents.wishes import STATE
from recworld.packing import Arrays


class WishReplay:
    """A ring of transitions (state, wish, reward, next state), one row per user step; Stable-Baselines3 builds it.

    Args:
        buffer_size: rows, rounded down to a multiple of N (at least N).
        observation_space: Dict with `STATE`.
        action_space: of wishes.
        device: for the tensors of `sample`.
        n_envs: N.
        optimize_memory_usage: not used; Stable-Baselines3 passes it.
        random: batches are drawn from it.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        device: torch.device | str = "cpu",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        random: np.random.Generator,
    ) -> None:
        self.rows = max(buffer_size // n_envs, 1) * n_envs
        self.device, self.random = device, random
        self.position, self.filled = 0, 0
        state, wish = (int(np.prod(space.shape)) for space in (observation_space[STATE], action_space))  # type: ignore[arg-type]
        widths = {"now": state, "next": state, "wish": wish, "reward": 1, "terminated": 1}
        self.arrays = {name: np.zeros((self.rows, width), np.float32) for name, width in widths.items()}

    def add(self, **fields: npt.NDArray[Any]) -> None:
        """Store N transitions over the oldest ones: now (N, S), next (N, S), wish (N, W), reward (N,), terminated (N,)."""
        count = len(fields["reward"])
        place = slice(self.position, self.position + count)
        for name, array in self.arrays.items():
            array[place] = fields[name].reshape(count, -1)
        self.position = place.stop % self.rows
        self.filled = max(self.filled, place.stop)

    def sample(self, batch_size: int, env: Any = None) -> DictReplayBufferSamples:
        """Return `batch_size` rows drawn with replacement, in the form of Stable-Baselines3."""
        rows = self.random.integers(0, self.filled, batch_size)
        drawn = {
            name: torch.as_tensor(array[rows], device=self.device) for name, array in self.arrays.items()
        }
        return DictReplayBufferSamples(
            observations={STATE: drawn["now"]},
            actions=drawn["wish"],
            next_observations={STATE: drawn["next"]},
            dones=drawn["terminated"],
            rewards=drawn["reward"],
        )

    def state(self) -> Arrays:
        """Return the filled rows and the place of the next."""
        place = {"place": np.array([self.position, self.filled])}
        return {name: array[: self.filled] for name, array in self.arrays.items()} | place

    def load(self, arrays: Arrays) -> None:
        """Take the rows of `state`."""
        self.position, self.filled = (int(number) for number in arrays["place"])
        for name, array in self.arrays.items():
            array[: self.filled] = arrays[name]


class WishMixin(BorderMixin):
    """Before SAC or TD3 in the bases: draws of the agent's own, leaving and time limits kept apart, reports at borders.

    Attributes:
        random: of exploration, and of the noise within updates.
        wish: states (N, S) and a generator -> wishes (N, W) as explored with.
        reward_scale: factor on rewards.
        report_every: user steps between two reports.
    """

    random: torch.Generator
    wish: Callable[[Tensor, torch.Generator], Tensor]
    reward_scale: float = 1.0
    report_every: int = 1
    reported: int = 0

    def generators(self: Any) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators of wishes and of replay."""
        return self.random, self.replay_buffer.random

    def extra_arrays(self: Any) -> Arrays:
        """Return the critics' optimiser, the replay rows and how far training has come."""
        return (
            packing.prefixed("critic_optimiser", packing.optimiser_arrays(self.policy.critic.optimizer))
            | packing.prefixed("replay", self.replay_buffer.state())
            | {"progress": np.array([self._current_progress_remaining, self.reported], np.float64)}
        )

    def load_extra(self: Any, arrays: Arrays) -> None:
        """Take the arrays of `extra_arrays` back."""
        kept = packing.below("critic_optimiser", arrays)
        packing.load_optimiser(self.policy.critic.optimizer, kept, "checkpoint, critics")
        self.replay_buffer.load(packing.below("replay", arrays))
        self._current_progress_remaining = float(arrays["progress"][0])
        self.reported = int(arrays["progress"][1])

    def _sample_action(
        self: Any, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the wishes: uniform ones until training starts, then the policy's with its exploration."""
        if self.num_timesteps < learning_starts:
            shape = (n_envs, *self.action_space.shape)
            wishes = 2 * torch.rand(shape, generator=self.random, device=self.random.device) - 1
        else:
            state = torch.as_tensor(self._last_obs[STATE], device=self.device)
            wishes = self.wish(state, self.random)
        array = wishes.cpu().numpy()
        return array, array

    def _store_transition(
        self: Any,
        replay_buffer: Any,
        buffer_action: Any,
        new_obs: Any,
        reward: Any,
        dones: Any,
        infos: Any,
    ) -> None:
        """Store what was seen and wished; where an episode ended, its final state comes next."""
        self.figures.add(reward, dones, self.env.last_info)
        following = new_obs[STATE].copy()
        for n in np.flatnonzero(dones):
            following[n] = infos[n]["terminal_observation"][STATE]
        limit = np.array([entry.get("TimeLimit.truncated", False) for entry in infos], bool)
        replay_buffer.add(
            now=self._last_obs[STATE],
            next=following,
            wish=buffer_action,
            reward=reward * self.reward_scale,
            terminated=dones & ~limit,
        )
        self._last_obs = new_obs

    def collect_rollouts(self: Any, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Take `train_every` steps of every user, unless the callback asked to stop."""
        if self.stopped:
            return RolloutReturn(0, 0, False)
        rollout: RolloutReturn = super().collect_rollouts(*args, **kwargs)  # type: ignore[misc]
        return rollout

    def train(self: Any, gradient_steps: int, batch_size: int = 256) -> None:
        """Take gradient steps on replayed transitions; report when it is time."""
        with drawing_from(self.random):
            super().train(gradient_steps, batch_size)  # type: ignore[misc]
        due = self.num_timesteps - self.reported >= self.report_every
        if due or self.num_timesteps >= self._total_timesteps:
            self.reported = self.num_timesteps
            figures = self.logger.name_to_value
            for ours, theirs in (("policy", "actor_loss"), ("value", "critic_loss"), ("alpha", "ent_coef")):
                if f"train/{theirs}" in figures:
                    self.logger.record(f"loss/{ours}", figures[f"train/{theirs}"])
            self.border()
