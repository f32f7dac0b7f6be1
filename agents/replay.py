"""A replay buffer of plain arrays for slates: what was seen, shown and clicked, and what was seen next."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from recworld.errors import InputError
from recworld.packing import Arrays

PER_CANDIDATE = ("action_mask", "candidate_score", "candidates")
"""Parts of an observation with a row per candidate."""
LIMIT = 8 << 30
"""Bytes that a buffer may take: beyond it, the settings are a mistake."""


class SlateReplay:
    """A ring of transitions, one row per user step; Stable-Baselines3 builds it.

    Observations keep their form: with ``observation="ids"`` and C = 100 a row takes about 2 KB, with ``"features"`` D
    times as much.

    Args:
        buffer_size: rows, rounded down to a multiple of N (at least N).
        observation_space: Dict of Boxes, of one user.
        action_space: of one user; its shape gives K.
        device: for the tensors of `sample`.
        n_envs: N.
        optimize_memory_usage: not used; Stable-Baselines3 passes it.
        random: batches are drawn from it.
        width: most candidates of an observation that are kept; all by default.

    Raises:
        InputError: the buffer would take more than 8 GiB.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Space[Any],
        device: torch.device | str = "cpu",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        random: np.random.Generator,
        width: int | None = None,
    ) -> None:
        self.rows = max(buffer_size // n_envs, 1) * n_envs
        self.device = device
        self.random = random
        self.position, self.filled = 0, 0
        size = int(np.prod(action_space.shape)) if action_space.shape else 1
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "slate": ((size,), np.int32),
            "click": ((size,), np.int8),
            "shown": ((size,), np.int8),
            "reward": ((), np.float32),
            "terminated": ((), np.bool_),
        }
        for name, space in observation_space.spaces.items():
            shape = tuple(space.shape or ())
            if width is not None and name in PER_CANDIDATE:
                shape = (min(shape[0], width), *shape[1:])
            shapes[f"now/{name}"] = shapes[f"next/{name}"] = (shape, space.dtype)
        need = self.rows * sum(
            int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in shapes.values()
        )
        if need > LIMIT:
            raise InputError(
                f"The replay buffer would take {need / 2**30:.1f} GiB. Use observation='ids', or a smaller buffer_size."
            )
        self.arrays = {name: np.zeros((self.rows, *shape), kind) for name, (shape, kind) in shapes.items()}

    def add(self, now: Arrays, following: Arrays, **fields: npt.NDArray[Any]) -> None:
        """Store N transitions over the oldest ones.

        Args:
            now: the observation acted on.
            following: what was seen next; the final observation where an episode ended.
            fields: slate (N, K), click (N, K), shown (N, K), reward (N,), terminated (N,).
        """
        fields |= {f"now/{k}": v for k, v in now.items()} | {f"next/{k}": v for k, v in following.items()}
        place = slice(self.position, self.position + len(fields["reward"]))
        for name, array in self.arrays.items():
            array[place] = fields[name]
        self.position = place.stop % self.rows
        self.filled = max(self.filled, place.stop)

    def sample(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Return `batch_size` rows drawn with replacement, as tensors by name."""
        rows = self.random.integers(0, self.filled, batch_size)
        return {name: torch.as_tensor(array[rows], device=self.device) for name, array in self.arrays.items()}

    def state(self) -> Arrays:
        """Return the filled rows and the place of the next."""
        place = {"place": np.array([self.position, self.filled])}
        return {name: array[: self.filled] for name, array in self.arrays.items()} | place

    def load(self, arrays: Arrays) -> None:
        """Take the rows of `state`."""
        self.position, self.filled = (int(number) for number in arrays["place"])
        for name, array in self.arrays.items():
            array[: self.filled] = arrays[name]


def part(batch: dict[str, torch.Tensor], start: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose name starts with ``start/``, without it."""
    return {name[len(start) + 1 :]: value for name, value in batch.items() if name.startswith(f"{start}/")}
