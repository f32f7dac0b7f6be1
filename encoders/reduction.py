"""From the encoder's width W to D: one projection for users and items, fitted on the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import unit_rows
from recworld.logs.log import FloatArray
from recworld.storage import Arrays, content_hash

Role = Literal["user", "item"]


@dataclass(frozen=True)
class Reduction:
    """Centres each role on its own mean, projects both on the same D directions, scales rows to length 1.

    Attributes:
        user_centre: (W,) float32.
        item_centre: (W,) float32.
        components: (D, W) float32 orthogonal rows of length 1, or, whitened, one over the spread along them (zero rows where
            the catalogue spans fewer than D directions), or None: no projection, D = W.
    """

    user_centre: FloatArray
    item_centre: FloatArray
    components: FloatArray | None

    @property
    def width(self) -> int:
        """D."""
        return len(self.user_centre) if self.components is None else len(self.components)

    @classmethod
    def fit(cls, user: FloatArray, item: FloatArray, width: int | None, whiten: bool = False) -> Reduction:
        """Fit on the vectors of the distinct non-empty user texts (n, W) and item texts (m, W).

        Descriptions of people and of things stand far apart in a language model's space. With a common mean
        that offset would be the first direction and, after scaling to unit length, most of every vector
        (ML-100K, MiniLM: 8 % of the squared user-item products depend on the pair); so each role is centred on
        its own mean (99.9 %).

        The directions are the leading eigenvectors of the sum of both scatter matrices, each divided by its
        trace, so that the role with more texts, or more varied ones, does not crowd out the other. On ML-100K
        D = 64 keeps 96 % of the variance of user texts and 62 % of item texts, and similarities within a role
        correlate with the unreduced ones at 1.00 and .965; directions of items alone keep 39 % and 68 %.

        Args:
            user: (n, W) vectors.
            item: (m, W) vectors.
            width: D; None: W.
            whiten: whether each direction is divided by the square root of its eigenvalue, so that both scatter matrices
                together are the identity after it: far directions no longer outweigh near ones.
        """
        user_centre, user_cov = _moments(user)
        item_centre, item_cov = _moments(item)
        full = len(user_centre)
        components = None
        width = full if width is None else min(width, full)
        if whiten or width < full:
            components = _directions(_unit_trace(user_cov) + _unit_trace(item_cov), width, whiten)
        return cls(user_centre.astype(np.float32), item_centre.astype(np.float32), components)

    def apply(self, vectors: FloatArray, role: Role) -> FloatArray:
        """Return (n, D) float32 unit rows of (n, W) vectors; zero rows (empty texts) stay zero."""
        centred = vectors - (self.user_centre if role == "user" else self.item_centre)
        reduced = centred if self.components is None else centred @ self.components.T
        reduced[~vectors.any(axis=1)] = 0.0
        return unit_rows(np.asarray(reduced, np.float32), floor=1e-6)

    def kept(self, vectors: FloatArray, role: Role) -> float:
        """Return the share of the variance around the role's centre that the projection keeps."""
        centred = vectors - (self.user_centre if role == "user" else self.item_centre)
        total = float(np.square(centred, dtype=np.float64).sum())
        if self.components is None or total == 0.0:
            return 1.0
        directions = unit_rows(self.components)
        return float(np.square(centred @ directions.T, dtype=np.float64).sum()) / total

    def arrays(self) -> Arrays:
        """Return the arrays by name."""
        out: Arrays = {"user_centre": self.user_centre, "item_centre": self.item_centre}
        return out if self.components is None else out | {"components": self.components}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Reduction:
        """Rebuild a reduction from `arrays`."""
        return cls(arrays["user_centre"], arrays["item_centre"], arrays.get("components"))

    @cached_property
    def fingerprint(self) -> str:
        """Content hash."""
        arrays = self.arrays()
        return content_hash(*[part for name in sorted(arrays) for part in (name, arrays[name])])


def _moments(vectors: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return centre (W,) and scatter (W, W) around it; a text that stands alone is centred on the origin."""
    centre = np.zeros(vectors.shape[1])
    if len(vectors) > 1:  # else the one text would become zero
        centre = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(centre), len(centre)))
    for start in range(0, len(vectors), 8192):
        block = vectors[start : start + 8192] - centre
        scatter += block.T @ block
    return centre, scatter


def _unit_trace(scatter: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    trace = float(np.trace(scatter))
    return scatter / trace if trace > 0 else scatter


def _directions(scatter: npt.NDArray[np.float64], width: int, whiten: bool) -> FloatArray:
    """Return the `width` leading eigenvectors as rows, the largest component of each positive; whitened: over their root."""
    values, vectors = np.linalg.eigh(scatter)  # rising
    rows = vectors.T[::-1][:width]
    rows = rows * np.sign(rows[np.arange(width), np.abs(rows).argmax(axis=1)])[:, None]
    leading = values[::-1][:width]
    # Directions that the catalogue does not span are arbitrary; a new text must not be spread over them.
    spanned = leading > 1e-9 * max(values[-1], 1e-30)
    if whiten:
        rows = rows / np.sqrt(np.where(spanned, leading, 1.0))[:, None]
    return np.asarray(np.where(spanned[:, None], rows, 0.0), np.float32)
