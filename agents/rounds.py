"""A training loop of our own in the place where `TorchAgent` keeps an algorithm of Stable-Baselines3: rounds and borders.

A round takes some steps and updates the weights; after each, figures are reported and a checkpoint may be written.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recworld.agents.learning import BorderMixin
from recworld.agents.requirements import check_resets_itself
from recworld.packing import Arrays

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class EnvHandle:
    """What a checkpoint asks of an environment.

    Args:
        env: the training environment.
        used: whether training steps through it; otherwise it has no state to keep.
    """

    def __init__(self, env: RecVectorEnv, used: bool) -> None:
        self.env, self.used = env, used

    def state(self) -> Arrays:
        """Return the environment's state, nothing where it is not used."""
        return self.env.state() if self.used else {}

    def restore(self, state: Arrays) -> None:
        """Take a state that `state` gave."""
        if self.used:
            self.env.restore(state)


class Rounds(BorderMixin):
    """Base: counts steps, lowers the step size linearly, clips gradients, and reports after every round.

    Args:
        env: the training environment.
        network: trained in place.
        settings: with ``learning_rate``, ``learning_rate_end`` and ``max_grad_norm``.
        uses_env: whether training steps through the environment, which then resets itself.

    Raises:
        InputError: the environment is used and does not reset itself.
    """

    def __init__(self, env: RecVectorEnv, network: nn.Module, settings: Any, uses_env: bool) -> None:
        if uses_env:
            check_resets_itself(env, "Agents")
        self.env, self.network, self.settings = EnvHandle(env, uses_env), network, settings
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, eps=1e-5)
        self.policy = SimpleNamespace(optimizer=optimizer)
        self.num_timesteps = self._n_updates = self.total = 0
        self._last_obs: Arrays = {}
        self._last_episode_starts: npt.NDArray[np.bool_] = np.ones(env.num_envs, bool)
        self.logger: Any = None

    def set_logger(self, logger: Any) -> None:
        """Keep where `gradient_step` and rounds record figures."""
        self.logger = logger

    def begin(self) -> None:
        """Start from nothing: called once before the first round, not after a resume."""

    def round(self) -> None:
        """Take some steps, counted in `num_timesteps`, and update the weights."""
        raise NotImplementedError

    def learn(self, total_timesteps: int, log_interval: Any = None, reset_num_timesteps: bool = True) -> None:
        """Take rounds until `total_timesteps` more steps are done, or the callback says stop."""
        self.total = self.num_timesteps + total_timesteps
        if reset_num_timesteps:
            self.begin()
        while self.num_timesteps < self.total and not self.stopped:
            self.round()
            self.border()

    def gradient_step(self, loss: Tensor) -> None:
        """Take one step down the gradient, at the step size of this moment."""
        s, optimizer = self.settings, self.policy.optimizer
        left = max(1.0 - self.num_timesteps / self.total, 0.0)
        for group in optimizer.param_groups:
            group["lr"] = s.learning_rate * (s.learning_rate_end + (1 - s.learning_rate_end) * left)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), s.max_grad_norm)
        optimizer.step()
        self._n_updates += 1
