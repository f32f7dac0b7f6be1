"""The `Encoder` contract and what all encoders share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from recworld.errors import InputTypeError
from recworld.logs.log import FloatArray


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors of the encoder's own width W.

    Requirements:
        1. Row n of the result depends on text n alone: not on the order, the batch or what was encoded before
           (up to 1e-5 in each component, the rounding of float32 sums).
        2. Rows have unit length; the row of an empty text (nothing but white space) is zero.
        3. Each distinct text is worked on once per call.
        4. Any string is taken: very long, any script, control characters, lone surrogates.

    Relations:
        `recworld.encoders.CachedEncoder` wraps an encoder and is one.
        `recworld.encoders.Reduction` takes the vectors from width W to width D.
        `recworld.encoders.encode_log` puts the parts together for a log.
    """

    @property
    def fingerprint(self) -> str:
        """Name of the function from text to vector: equal fingerprints mean equal vectors."""
        ...

    @property
    def width(self) -> int:
        """W, the width of the vectors."""
        ...

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts, (n, W) float32.

        Raises:
            InputTypeError: `texts` is a single string, or holds something else than strings.
        """
        ...


def clean_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as every encoder reads them: no white space at the ends, lone surrogates replaced.

    Raises:
        InputTypeError: `texts` is a single string, or holds something else than strings.
    """
    if isinstance(texts, str):
        raise InputTypeError(f"The texts must be a sequence of strings. Got one string {texts[:40]!r}.")
    out = []
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(
                f"The text at position {n} must be a string. Got {type(text).__name__} {text!r}."
            )
        out.append(text.strip().encode("utf-8", "replace").decode("utf-8"))
    return out


def unit_rows(vectors: FloatArray, floor: float = 1e-12) -> FloatArray:
    """Return (n, W) float32 rows of unit length; rows shorter than `floor` become zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.where(norm > floor, vectors / np.maximum(norm, floor), 0.0), np.float32)


def scatter(texts: list[str], distinct: list[str], vectors: FloatArray) -> FloatArray:
    """Return (n, W): for each text its row of `vectors`, which go with `distinct`; else zero."""
    row = {text: n for n, text in enumerate(distinct)}
    table = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])
    return table[[row.get(text, len(distinct)) for text in texts]]
