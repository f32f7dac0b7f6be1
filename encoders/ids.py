"""Id vectors: what is left when the text is taken away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recworld.encoders.base import clean_texts, scatter, unit_rows
from recworld.logs.log import FloatArray
from recworld.seeding import generator
from recworld.storage import content_hash

DEFAULT_WIDTH = 64


class IdEncoder:
    """Gives every key a fixed random unit vector, which tells keys apart and carries no text information.

    One-hot vectors are too wide for an observation; random directions in D dimensions are nearly orthogonal
    (products have mean 0 and variance 1/D). `encode` reads its input as keys ("user/196"), not as text.

    Args:
        width: W.
        seed: seed of the vectors.
    """

    def __init__(self, width: int | None = None, seed: int = 0) -> None:
        self.width = width or DEFAULT_WIDTH
        self.seed = seed
        self.fingerprint = content_hash("id/1", str(self.width), str(seed))

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n keys, (n, W) float32 unit rows; an empty key gives zero."""
        keys = clean_texts(texts)
        distinct = [key for key in dict.fromkeys(keys) if key]
        vectors = np.zeros((len(distinct), self.width), np.float32)
        for n, key in enumerate(distinct):
            vectors[n] = generator(self.seed, "id", key).standard_normal(self.width)
        return scatter(keys, distinct, unit_rows(vectors))
