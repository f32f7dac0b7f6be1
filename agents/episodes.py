"""Whole episodes of chosen users, on common random numbers: what tuning and evaluation are measured on.

Every user plays a fixed number of whole episodes on streams of their own, never the first that finish: that would favour
policies (and users) with short sessions. Users who are done stay idle until the last one is. Two policies that are
measured with the same seed, users and streams meet the same draws wherever they show the same.

Legend: n users, T' steps of the longest episode, K slate size, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from recworld.agents.base import Agent
from recworld.errors import InputError
from recworld.settings import validate

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv
    from recworld.simulators.world import World

MAX_ENVS = 1024
"""Most users side by side; more are measured in turns."""

IGNORED_OPTIONS = ("world", "num_envs", "users", "members", "seed", "autoreset_mode", "render_mode")
"""Arguments of `RecVectorEnv` that an evaluation sets itself."""


@dataclass(frozen=True)
class Episodes:
    """One whole episode of each of n users; rows of idle users hold zeros and empty slots.

    Attributes:
        user: (n,) user numbers.
        reward: (T', n) float64.
        active: (T', n) bool, whether the user was still there in that step.
        item: (T', n, K) int32, I where the slot was empty.
        click: (T', n, K) int8.
        rating: (T', n, K) float32, 0 where there is none.
        has_rating: (T', n, K) int8.
        taste_shift: (n,) |z - z_0| / |z_0| at the end of the episode.
        invalid: (n,) masked, repeated or out-of-range positions chosen in the episode.
    """

    user: npt.NDArray[np.int64]
    reward: npt.NDArray[np.float64]
    active: npt.NDArray[np.bool_]
    item: npt.NDArray[np.int32]
    click: npt.NDArray[np.int8]
    rating: npt.NDArray[np.float32]
    has_rating: npt.NDArray[np.int8]
    taste_shift: npt.NDArray[np.float64]
    invalid: npt.NDArray[np.float64]

    def returns(self) -> npt.NDArray[np.float64]:
        """Return each episode's undiscounted sum of rewards, (n,)."""
        return np.asarray(self.reward.sum(0))


def episode_env(
    world: World,
    options: Mapping[str, Any] | None = None,
    *,
    users: str = "test",
    num_users: int | None = None,
    autoreset_mode: AutoresetMode = AutoresetMode.DISABLED,
) -> RecVectorEnv:
    """Return an environment to measure policies in: no autoreset, as many rows as users, at most `MAX_ENVS`.

    Args:
        world: the world, with the members that episodes shall draw from.
        options: arguments of `RecVectorEnv` (slate size, reward, ...); those in `IGNORED_OPTIONS` are passed over.
        users: "train", "validation", "test" or "all".
        num_users: rows wanted; the number of users of the split by default.
        autoreset_mode: SAME_STEP for learning in an environment of the same arguments.

    Raises:
        InputError: as in `RecVectorEnv`.
    """
    from recworld.envs import RecVectorEnv
    from recworld.simulators.dynamics import DynamicsSettings

    chosen = {name: value for name, value in (options or {}).items() if name not in IGNORED_OPTIONS}
    if isinstance(chosen.get("dynamics"), Mapping):
        chosen["dynamics"] = validate(DynamicsSettings, dict(chosen["dynamics"]), "dynamics")
    rows = min(num_users or len(world.users(users)), MAX_ENVS)
    return RecVectorEnv(rows, world=world, users=users, autoreset_mode=autoreset_mode, **chosen)


def play(
    agent: Agent,
    env: RecVectorEnv,
    users: npt.ArrayLike,
    *,
    seed: int,
    streams: npt.ArrayLike | None = None,
    episode: int = 0,
    deterministic: bool = True,
) -> Episodes:
    """Let an agent play one whole episode with each user.

    Args:
        agent: anything with `act`.
        env: of `episode_env`; more users than rows are taken in turns.
        users: (n,) user numbers.
        seed: of the environment.
        streams: (n,) stream numbers; the user numbers by default, so that an episode depends on its user alone.
        episode: number of the episode in its stream.
        deterministic: passed to `act`.

    Raises:
        InputError: the environment resets itself.
    """
    if env.autoreset_mode is not AutoresetMode.DISABLED:
        raise InputError("Policies are measured without autoreset: build the environment with episode_env.")
    user = np.asarray(users, np.int64)
    stream = user if streams is None else np.asarray(streams, np.int64)
    parts = []
    for start in range(0, len(user), env.num_envs):
        # The last turn is filled up with repeated users, who are cut off again.
        rows = np.resize(np.arange(start, min(start + env.num_envs, len(user))), env.num_envs)
        kept = min(env.num_envs, len(user) - start)
        options = {"stream": stream[rows], "user": user[rows], "episode": episode}
        parts.append(_turn(agent, env, seed, options, kept, deterministic))
    return parts[0] if len(parts) == 1 else _join(parts, env.world.num_items)


def _turn(
    agent: Agent, env: RecVectorEnv, seed: int, options: dict[str, Any], kept: int, deterministic: bool
) -> Episodes:
    observation, _ = env.reset(seed=seed, options=options)
    n = env.num_envs
    active, shift, invalid = np.ones(n, bool), np.zeros(n), np.zeros(n)
    steps: list[tuple[npt.NDArray[Any], ...]] = []
    while active.any():
        action = np.asarray(agent.act(observation, deterministic=deterministic))
        observation, reward, terminated, truncated, info = env.step(action)
        there = active[:, None]
        steps.append(
            (
                np.where(active, reward, 0.0),
                active,
                np.where(there, info["item"], env.world.num_items),
                info["click"] * there,
                info["rating"] * there,
                info["has_rating"] * there,
            )
        )
        shift = np.where(active, info["taste_shift"], shift)
        invalid += np.where(active, info["invalid"], 0)
        active = active & ~(terminated | truncated)
    arrays = [np.stack(column)[:, :kept] for column in zip(*steps, strict=True)]
    return Episodes(
        user=np.asarray(options["user"])[:kept],
        reward=arrays[0],
        active=arrays[1],
        item=arrays[2].astype(np.int32),
        click=arrays[3].astype(np.int8),
        rating=arrays[4].astype(np.float32),
        has_rating=arrays[5].astype(np.int8),
        taste_shift=shift[:kept].astype(np.float64),
        invalid=invalid[:kept],
    )


def _join(parts: list[Episodes], num_items: int) -> Episodes:
    longest = max(len(part.reward) for part in parts)

    def together(name: str) -> npt.NDArray[Any]:
        arrays = [getattr(part, name) for part in parts]
        if name in ("user", "taste_shift", "invalid"):
            return np.concatenate(arrays)
        fill = num_items if name == "item" else 0
        padded = [
            np.concatenate([a, np.full((longest - len(a), *a.shape[1:]), fill, a.dtype)]) for a in arrays
        ]
        return np.concatenate(padded, axis=1)

    return Episodes(**{name: together(name) for name in Episodes.__dataclass_fields__})
