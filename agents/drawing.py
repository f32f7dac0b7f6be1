"""Code of libraries that draws from torch's global generator, made to draw from a generator of the agent's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def _global_state(device: torch.device) -> tuple[Any, Any]:
    """Return how the state of the global generator of a device is read and set."""
    if device.type == "cuda":
        return lambda: torch.cuda.get_rng_state(device), lambda state: torch.cuda.set_rng_state(state, device)
    if device.type == "mps":
        return torch.mps.get_rng_state, torch.mps.set_rng_state
    return torch.get_rng_state, torch.set_rng_state


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Let the draws inside come from `generator`, which moves on by them; the global generator stays as it was.

    Not for several threads that draw at once: within the block the global generator of the device holds this one's state.

    Args:
        generator: its device is the one whose global generator is stood in for.

    >>> first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    >>> with drawing_from(first):
    ...     drawn = torch.rand(2)
    >>> torch.equal(drawn, torch.rand(2, generator=second))
    True
    """
    read, write = _global_state(generator.device)
    outside = read()
    write(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(read())
        write(outside)
