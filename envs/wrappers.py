"""A continuous action: the agent wishes for an item by its text vector, the nearest candidates are shown."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import batch_space

from recworld.envs.single import RecEnv
from recworld.envs.vector import RecVectorEnv
from recworld.errors import InputError

Array = npt.NDArray[Any]


def nearest(env: RecVectorEnv, wish: Array) -> Array:
    """Return the K candidates with the largest scalar product with the wished-for vector, nearest first.

    Args:
        env: the environment, as it stands.
        wish: (N, D).

    Returns:
        (N, K) int64 positions; masked candidates come last.

    Raises:
        InputError: a wish of a wrong shape, or one that is not finite.
    """
    expected = (env.num_envs, env.world.vector_width)
    if wish.shape != expected or not np.isfinite(wish).all():
        raise InputError(
            f"Wishes must be finite numbers of shape (num_envs, D) = {expected}. Got shape {wish.shape} instead."
        )
    items = env.candidate_items()
    score = np.einsum("ncd,nd->nc", env.tables.item_vector[items], wish.astype(np.float32))
    score = np.where(items < env.world.num_items, score, -np.inf)
    return np.argsort(-score, axis=1, kind="stable")[:, : env.slate_size].astype(np.int64)


class WishedItemVectorWrapper(VectorWrapper):
    """Actions are wished-for item vectors, (N, D) in [-1, 1]; the K nearest candidates by scalar product are shown.

    Args:
        env: the vector environment.
    """

    def __init__(self, env: RecVectorEnv) -> None:
        super().__init__(env)
        self.single_action_space = Box(-1.0, 1.0, (env.world.vector_width,), np.float32)
        self.action_space = batch_space(self.single_action_space, env.num_envs)

    def step(self, actions: Array) -> Any:
        """Show the candidates nearest to the wishes."""
        base: Any = self.env
        return base.step(nearest(base, np.asarray(actions)))


class WishedItemWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """The same for the single environment: an action is one vector, (D,) in [-1, 1].

    Args:
        env: a `RecEnv`, possibly wrapped (as `gymnasium.make` returns it).
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, RecEnv):
            raise InputError(f"WishedItemWrapper needs a RecEnv. Got {type(base).__name__} instead.")
        self._vector = base.vector
        self.action_space = Box(-1.0, 1.0, (base.vector.world.vector_width,), np.float32)

    def step(self, action: Any) -> Any:
        """Show the candidates nearest to the wish."""
        slate = nearest(self._vector, np.asarray(action)[None])[0]
        return self.env.step(slate[0] if self._vector.slate_size == 1 else slate)
