"""What an agent may look up by number: text vectors and popularity; the truth is not among it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recworld.logs.log import FloatArray
from recworld.simulators.world import World


@dataclass(frozen=True)
class EnvTables:
    """Arrays behind the numbers of the `ids` form; the last item row is padding.

    Attributes:
        user_vector: (U, D) unit text vectors, float32.
        item_vector: (I + 1, D) unit text vectors, last row zeros, float32.
        popularity: (I + 1,) early interactions of each item, last 0, float32.
    """

    user_vector: FloatArray
    item_vector: FloatArray
    popularity: FloatArray

    @classmethod
    def of(cls, world: World) -> EnvTables:
        """Return the tables of a world."""
        width = world.vector_width
        return cls(
            world.user_vector,
            np.concatenate([world.item_vector, np.zeros((1, width), np.float32)]),
            np.concatenate([world.agent.popularity, np.zeros(1, np.float32)]),
        )
