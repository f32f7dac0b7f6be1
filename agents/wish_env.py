"""The environment as algorithms for continuous actions see it: a state vector in, a wish out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from recworld.agents.wishes import STATE
from recworld.envs import RecVectorEnv
from recworld.envs.sb3 import Sb3VecEnv

Array = npt.NDArray[Any]


class StateVecEnv(Sb3VecEnv):
    """`Sb3VecEnv` whose observations, final ones included, hold the state vector under `STATE` beside their own.

    Args:
        env: a `RecVectorEnv`.
        state: observation -> (N, S).
        width: S.
    """

    def __init__(self, env: RecVectorEnv, state: Callable[[dict[str, Array]], Array], width: int) -> None:
        super().__init__(env)
        self._state = state
        box = spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.observation_space = spaces.Dict({**env.single_observation_space.spaces, STATE: box})

    def _look(self, observation: dict[str, Array]) -> dict[str, Array]:
        return {**observation, STATE: self._state(observation)}

    def reset(self) -> dict[str, Array]:
        """Start an episode for every user."""
        return self._look(super().reset())

    def step_wait(self) -> tuple[dict[str, Array], Array, Array, list[dict[str, Any]]]:
        """Show the slates."""
        observation, reward, done, infos = super().step_wait()
        seen = self._look(observation)
        ended = np.flatnonzero(done)
        if len(ended):
            final = self.last_info["final_obs"]
            states = seen[STATE].copy()
            states[ended] = self._state({name: np.asarray(array)[ended] for name, array in final.items()})
            self.last_info["final_obs"] = {**final, STATE: states}
            for n in ended:
                infos[n]["terminal_observation"] = {**infos[n]["terminal_observation"], STATE: states[n]}
        return seen, reward, done, infos

    def restore(self, state: dict[str, Array]) -> dict[str, Array]:
        """Take a state that `state` gave; returns the observation it stands at."""
        return self._look(super().restore(state))


class WishVecEnv(StateVecEnv):
    """The state is the whole observation, and a wish is the action.

    Args:
        env: a `RecVectorEnv`.
        state: observation -> (N, S).
        width: S.
        action_space: of wishes, of one user.
        slates: observation and wishes (N, W) -> (N, K) positions.
    """

    def __init__(
        self,
        env: RecVectorEnv,
        state: Callable[[dict[str, Array]], Array],
        width: int,
        action_space: spaces.Box,
        slates: Callable[[dict[str, Array], Array], Array],
    ) -> None:
        super().__init__(env, state, width)
        self.observation_space = spaces.Dict({STATE: self.observation_space[STATE]})  # type: ignore[index]
        self.action_space = action_space
        self._slates = slates
        self._seen: dict[str, Array] = {}

    def _look(self, observation: dict[str, Array]) -> dict[str, Array]:
        self._seen = observation
        return {STATE: self._state(observation)}

    def step_async(self, actions: Array) -> None:
        """Keep the slates nearest to the wishes for `step_wait`."""
        slates = self._slates(self._seen, np.asarray(actions, np.float32))
        super().step_async(slates.reshape(self.num_envs, *(self.env.single_action_space.shape or ())))
