"""The environment as algorithms for continuous actions see it: a state vector in, a wish out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from recworld.agents.wish_training import STATE
from recworld.envs import RecVectorEnv
from recworld.envs.sb3 import Sb3VecEnv

Array = npt.NDArray[Any]


class WishVecEnv(Sb3VecEnv):
    """`Sb3VecEnv` whose observation is the state and whose action is a wish; ``terminal_observation`` is a state too.

    Args:
        env: a `RecVectorEnv`.
        observation_space, action_space: of one user, as the network gives them.
        state: observation -> (N, S).
        slates: observation and wishes (N, W) -> (N, K) positions.
    """

    def __init__(
        self,
        env: RecVectorEnv,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        state: Callable[[dict[str, Array]], Array],
        slates: Callable[[dict[str, Array], Array], Array],
    ) -> None:
        super().__init__(env)
        self.observation_space, self.action_space = observation_space, action_space
        self._state, self._slates = state, slates
        self._seen: dict[str, Array] = {}

    def _look(self, observation: dict[str, Array]) -> dict[str, Array]:
        self._seen = observation
        return {STATE: self._state(observation)}

    def reset(self) -> dict[str, Array]:
        """Start an episode for every user."""
        return self._look(super().reset())

    def step_async(self, actions: Array) -> None:
        """Keep the slates nearest to the wishes for `step_wait`."""
        slates = self._slates(self._seen, np.asarray(actions, np.float32))
        super().step_async(slates.reshape(self.num_envs, *(self.env.single_action_space.shape or ())))

    def step_wait(self) -> tuple[dict[str, Array], Array, Array, list[dict[str, Any]]]:
        """Show the slates."""
        observation, reward, done, infos = super().step_wait()
        ended = np.flatnonzero(done)
        if len(ended):
            final = self._state({name: array[ended] for name, array in self.last_info["final_obs"].items()})
            for n, row in zip(ended, final, strict=True):
                infos[n]["terminal_observation"] = {STATE: row}
        return self._look(observation), reward, done, infos

    def restore(self, state: dict[str, Array]) -> dict[str, Array]:
        """Take a state that `state` gave; returns the observation it stands at."""
        return self._look(super().restore(state))
