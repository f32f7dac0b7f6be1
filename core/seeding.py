"""One seed in, named children out: no two parts of a run share a random stream; none uses global state."""

from __future__ import annotations

import hashlib

import numpy as np


def child_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and on the path of `names`, the same on every machine.

    >>> child_seed(0, "train") != child_seed(0, "test")
    True
    """
    text = "/".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Return the `numpy.random.Generator` of the named child of `seed`."""
    return np.random.default_rng(child_seed(seed, *names))
