"""What an agent must leave alone: the global random generators, and the arrays of an observation."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Observation

HINTS = {
    "random": "Draw from a generator of the agent's own: self.random = recworld.seeding.generator(seed, 'my agent').",
    "numpy": "Draw from a generator of the agent's own: self.random = recworld.seeding.generator(seed, 'my agent').",
    "torch": "Pass a generator of the agent's own (torch.Generator().manual_seed(seed)), and build layers inside "
    "torch.random.fork_rng(devices=[]) after torch.manual_seed(seed).",
}
DEPTH = 3
"""How deep lists, tuples and dictionaries of an agent are searched."""


class GlobalRandomness:
    """The states of the global generators of python, numpy and torch, as they stood when this was made."""

    def __init__(self) -> None:
        self._states = _states()

    def faults(self, what: str) -> list[str]:
        """Return, for each global generator that was touched since, what to do instead; begins a new count.

        Args:
            what: was done, as it reads at the start of a sentence: "act".
        """
        now = _states()
        touched = [name for name, state in self._states.items() if name in now and now[name] != state]
        self._states = now
        return [
            f"{what} drew from the global generator of {name}, or seeded it. {HINTS[name]}"
            for name in touched
        ]


def _states() -> dict[str, Any]:
    found: dict[str, Any] = {"random": random.getstate()}
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - to see whether an agent draws from it
    found["numpy"] = (kind, np.asarray(keys).tobytes(), *rest)
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state().numpy().tobytes()
    return found


def views_of(agent: Any, observation: Observation) -> Iterator[tuple[str, str]]:
    """Yield (attribute of the agent, name in the observation) wherever the agent kept an array of the observation itself."""
    for attribute, value in getattr(agent, "__dict__", {}).items():
        for array in _arrays(value, DEPTH):
            for name, given in observation.items():
                if given.size and np.shares_memory(array, given):
                    yield f"self.{attribute}", name


def _arrays(value: Any, depth: int) -> Iterator[npt.NDArray[Any]]:
    if isinstance(value, np.ndarray):
        yield value
    elif _is_tensor(value):
        yield value.detach().numpy()
    elif depth and isinstance(value, dict):
        for inner in value.values():
            yield from _arrays(inner, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for inner in value[-8:]:  # what was kept last is enough to tell
            yield from _arrays(inner, depth - 1)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.device.type == "cpu"
