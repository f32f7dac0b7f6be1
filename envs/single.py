"""`RecEnv`: the single view, which is the vector environment with N = 1."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from recworld.envs.vector import RecVectorEnv
from recworld.errors import InputError
from recworld.simulators import state as st
from recworld.simulators.state import Happened

Observation = dict[str, npt.NDArray[Any]]


class RecEnv(gym.Env[Observation, Any]):
    """One simulated user at a time; spaces, rewards, episode ends and info are those of `RecVectorEnv`, without the N axis.

    ``reset(seed=s, options={"stream": n})`` gives what user n of the vector environment with seed s gets, bit for bit, and
    so do the episodes after it.

    Args:
        **arguments: as `RecVectorEnv` takes them, without num_envs and autoreset_mode.

    Raises:
        InputError: a setting is out of range or does not fit the world.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"]}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, **arguments: Any) -> None:
        for name in ("num_envs", "autoreset_mode"):
            if name in arguments:
                raise InputError(f"RecEnv takes no {name!r}: it is one environment and never resets itself.")
        self.vector = RecVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, **arguments)
        self.render_mode = self.vector.render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; see `RecVectorEnv.reset` (``stream`` and ``user`` are single numbers)."""
        super().reset(seed=seed)
        if seed is None and not options and (begun := self.vector.next_episode()) is not None:
            seen, nothing = begun
            views = self.vector.views
            return views.first_observation(seen), views.info(Happened(nothing.ints[0], nothing.floats[0]))
        observation, info = self.vector.reset(seed=seed, options=options)
        return _first(observation), _first(info)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show a slate: K positions in the candidate list, or one position for K = 1.

        Raises:
            InputError: before `reset`, after the end of an episode, or an action of a wrong shape or dtype.
        """
        given, vector = np.asarray(action), self.vector
        batch = given[None] if given.ndim else given.reshape(1, 1)
        if vector.render_mode is not None or not vector.is_compiled_reward:
            observation, reward, terminated, truncated, info = vector.step(batch)
            return (
                _first(observation),
                float(reward[0]),
                bool(terminated[0]),
                bool(truncated[0]),
                _first(info),
            )
        seen, happened, _, _ = vector.simulator.step(vector.check_action(batch))
        ints, floats = happened.ints[0], happened.floats[0]
        views = vector.views
        return (
            views.first_observation(seen),
            float(floats[st.R_REWARD]),
            bool(ints[st.R_TERMINATED]),
            bool(ints[st.R_TRUNCATED]),
            views.info(Happened(ints, floats)),
        )

    def render(self) -> str | None:
        """Return the last slate in words ("ansi" only)."""
        text = self.vector.render()
        return None if text is None else text[0]

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of everything that changes."""
        return self.vector.state()

    def restore(self, state: dict[str, npt.NDArray[Any]]) -> Observation:
        """Take a state that `state` gave; returns the observation it stands at."""
        return _first(self.vector.restore(state))


def _first(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0] for name, value in batch.items()}
