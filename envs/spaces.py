"""Spaces of the environment, and the check of what `reset` is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

from recworld.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from recworld.envs.vector import RecVectorEnv

OPTIONS = ("stream", "user", "episode", "reset_mask")


def observation_space(env: RecVectorEnv) -> Dict:
    """Return the observation space of one user (see `RecVectorEnv` for the table)."""
    c, h, world = env.num_candidates, env.history_length, env.world
    items, users, width = world.num_items, world.num_users, world.vector_width
    factors = world.agent.response.taste.shape[2]

    def vectors(*shape: int) -> Box:
        # Unit vectors in float32 may stand a rounding error outside [-1, 1].
        return Box(-1.001, 1.001, (*shape, width), np.float32)

    ids = env.observation_form == "ids"
    return Dict(
        {
            "action_mask": Box(0, 1, (c,), np.int8),
            "candidate_score": Box(-50.0, 50.0, (c,), np.float32),
            "candidates": Box(0, items, (c,), np.int32) if ids else vectors(c),
            "history": Box(0, items, (h,), np.int32) if ids else vectors(h),
            "history_age": Box(0.0, 1.0, (h,), np.float32),
            "history_feedback": Box(-1.0, 1.0, (h,), np.float32),
            "step": Box(0.0, 1.0, (1,), np.float32),
            "user": Box(0, users - 1, (1,), np.int32) if ids else vectors(),
            "user_estimate": Box(-1e3, 1e3, (factors,), np.float32),
        }
    )


def action_space(env: RecVectorEnv) -> gym.Space[Any]:
    """Return the action space of one user: `Discrete(C)` for K = 1, else `MultiDiscrete([C] * K)`."""
    if env.slate_size == 1:
        return Discrete(env.num_candidates)
    return MultiDiscrete([env.num_candidates] * env.slate_size)


def check_options(options: dict[str, Any], n: int, users: int) -> None:
    """Check the options of `reset`, and turn what they hold into arrays.

    Raises:
        InputError: an unknown option or a wrong value.
    """
    for name in options:
        if name not in OPTIONS:
            raise InputError(f"reset has no option {name!r}. {did_you_mean(str(name), OPTIONS)}")
    if options.get("user") is not None:
        pinned = (
            np.broadcast_to(np.asarray(options["user"]), (n,))
            if np.ndim(options["user"]) == 0
            else np.asarray(options["user"])
        )
        if pinned.dtype.kind not in "iu" or pinned.shape != (n,) or pinned.min() < 0 or pinned.max() >= users:
            raise InputError(
                f"The option 'user' must be {n} user numbers from 0 to {users - 1}. Got {options['user']!r} instead."
            )
        options["user"] = pinned.astype(np.int32)
    if "stream" in options:
        stream = np.asarray(options["stream"])
        if stream.dtype.kind not in "iu" or stream.shape not in ((), (n,)) or (stream < 0).any():
            raise InputError(
                f"The option 'stream' must be {n} numbers of at least 0. Got {options['stream']!r} instead."
            )
    if "episode" in options:
        episode = options["episode"]
        if isinstance(episode, bool) or not isinstance(episode, int | np.integer) or episode < 0:
            raise InputError(f"The option 'episode' must be a number of at least 0. Got {episode!r} instead.")
    if options.get("reset_mask") is not None:
        mask = np.asarray(options["reset_mask"])
        if mask.dtype != np.bool_ or mask.shape != (n,) or not mask.any():
            raise InputError(
                f"The option 'reset_mask' must be {n} truth values, some true. Got {options['reset_mask']!r}."
            )
        options["reset_mask"] = mask
