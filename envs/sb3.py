"""`Sb3VecEnv`: a `RecVectorEnv` as Stable-Baselines3 wants its vector environments, without a process or a copy per user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from recworld.envs.vector import RecVectorEnv
from recworld.errors import InputError

Array = npt.NDArray[Any]


class Sb3VecEnv(VecEnv):
    """Adapter to `stable_baselines3.common.vec_env.VecEnv`.

    Stable-Baselines3 wants one info dict per user. They are empty but at the end of an episode, where they hold
    ``terminal_observation``, ``TimeLimit.truncated`` (so that the value of the last state is bootstrapped) and
    ``episode`` (return "r" and length "l", as its `Monitor` gives them). The batched info of the step is `last_info`.

    Args:
        env: a `RecVectorEnv` with SAME_STEP autoreset.

    Raises:
        InputError: another autoreset mode.
    """

    def __init__(self, env: RecVectorEnv) -> None:
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise InputError("Sb3VecEnv needs an environment with autoreset_mode SAME_STEP.")
        self.env = env
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.last_info: dict[str, Any] = {}
        self.returns = np.zeros(env.num_envs)
        self.lengths = np.zeros(env.num_envs, np.int64)
        self._actions: Array = np.zeros(0)

    def reset(self) -> dict[str, Array]:
        """Start an episode for every user; uses what `seed` and `set_options` left."""
        options = self._options[0] if self._options else None
        observation, self.last_info = self.env.reset(seed=self._seeds[0], options=options or None)
        self._reset_seeds()
        self._reset_options()
        self.returns[:] = 0.0
        self.lengths[:] = 0
        return observation

    def step_async(self, actions: Array) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[dict[str, Array], Array, Array, list[dict[str, Any]]]:
        """Show the slates; returns observation, reward (float32), done, and the infos."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        self.last_info = info
        done = terminated | truncated
        self.returns += reward
        self.lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for n in np.flatnonzero(done):
            infos[n] = {
                "terminal_observation": {name: array[n] for name, array in info["final_obs"].items()},
                "TimeLimit.truncated": bool(truncated[n]),
                "episode": {"r": float(self.returns[n]), "l": int(self.lengths[n])},
            }
        self.returns[done] = 0.0
        self.lengths[done] = 0
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def state(self) -> dict[str, Array]:
        """Return all that changes: the environment's state, and the returns and lengths of running episodes."""
        return {**self.env.state(), "returns": self.returns.copy(), "lengths": self.lengths.copy()}

    def restore(self, state: dict[str, Array]) -> dict[str, Array]:
        """Take a state that `state` gave; returns the observation it stands at."""
        self.returns[:], self.lengths[:] = state["returns"], state["lengths"]
        return self.env.restore(state)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environment, once per user."""
        value = getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment that all users share."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the environment once; its result is returned once per user."""
        value = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [value for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return, per user, that no wrapper is in place."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Any]:
        """Return no images: the environment renders text only."""
        return [None for _ in range(self.num_envs)]
