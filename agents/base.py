"""The agent contract: one method to act, and tiny optional abilities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

Observation = dict[str, npt.NDArray[Any]]
Callback = Callable[[int, dict[str, float]], bool]
"""``callback(steps_done, figures) -> go_on``; figures are scalars by TensorBoard tag."""


@runtime_checkable
class Agent(Protocol):
    """Chooses slates. Built as ``Class(env, seed=..., **options)`` where ``env`` is a `RecVectorEnv`."""

    def act(self, observation: Observation, deterministic: bool = True) -> npt.NDArray[np.int64]:
        """Return (N, K) positions in the candidate list, int64, distinct and unmasked within a row.

        Args:
            observation: the batched observation of `RecVectorEnv`, any N.
            deterministic: the best slate when true, else one drawn from the policy.
        """
        ...


@runtime_checkable
class Learner(Protocol):
    """An agent that learns by acting."""

    def learn(self, env: RecVectorEnv, total_steps: int, callback: Callback | None = None) -> None:
        """Train for `total_steps` user steps (the sum over the N users)."""
        ...


@runtime_checkable
class Persistent(Protocol):
    """An agent that can be stored: arrays as safetensors, everything else as JSON; loading never executes code."""

    def save(self, folder: Path) -> None:
        """Write the agent's files into an existing folder."""
        ...

    def load(self, folder: Path, env: RecVectorEnv) -> None:
        """Take the state from a folder that `save` wrote."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A learner that goes on after a kill as if it had never stopped.

    `learn` calls its callback at *borders*, where nothing is half done; `checkpoint` may be called inside it. After
    `resume`, the next `learn` (same environment, same `total_steps`) ends with the weights and figures of an unbroken one.
    """

    def checkpoint(self, folder: Path) -> None:
        """Write agent, optimiser, random states, environment state and buffers into an existing folder."""
        ...

    def resume(self, folder: Path, env: RecVectorEnv) -> int:
        """Take the state from a folder that `checkpoint` wrote; return the user steps already done."""
        ...
