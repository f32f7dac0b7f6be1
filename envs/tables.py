"""What an agent may look up by number: text vectors, popularity and the recommender's factors; the truth is not among it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recworld.logs.log import FloatArray
from recworld.simulators.world import World


@dataclass(frozen=True)
class EnvTables:
    """Arrays behind the numbers of the `ids` form; the last item row is padding.

    Attributes:
        user_vector: (U, D) unit text vectors, float32, or float16 where the world has them so.
        item_vector: (I + 1, D) unit text vectors, last row zeros, float32.
        popularity: (I + 1,) early interactions of each item, last 0, float32.
        item_estimate: (I + 1, G) the recommender's factors of the items, last row zeros, float32; in its estimate of a click
            or a rating they meet the observation's ``user_estimate``.
    """

    user_vector: FloatArray
    item_vector: FloatArray
    popularity: FloatArray
    item_estimate: FloatArray

    @classmethod
    def of(cls, world: World) -> EnvTables:
        """Return the tables of a world."""
        return cls(
            world.user_vector,
            _padded(world.item_vector),
            np.concatenate([world.agent.popularity, np.zeros(1, np.float32)]),
            _padded(world.agent.response.item[0]),
        )


def _padded(rows: FloatArray) -> FloatArray:
    return np.concatenate([rows, np.zeros((1, rows.shape[1]), np.float32)]).astype(np.float32, copy=False)
