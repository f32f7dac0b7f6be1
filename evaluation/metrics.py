"""What is measured of an episode: return, clicks, ratings, session length, diversity, taste shift, invalid choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.agents.episodes import Episodes

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Attributes:
        name: key in JSON files and, as ``eval/<name>``, TensorBoard tag.
        title: heading in tables.
        meaning: what it is, for people.
        scale: factor for display (100 for per cent).
        digits: decimals for display.
    """

    name: str
    title: str
    meaning: str
    scale: float = 1.0
    digits: int = 2


METRICS = {
    metric.name: metric
    for metric in (
        Metric("return", "return", "sum of the rewards of an episode"),
        Metric("click_rate", "click %", "clicked of all shown items, per cent", 100.0, 1),
        Metric("mean_rating", "rating", "mean rating of the clicked items"),
        Metric("session_length", "steps", "slates until the user left or the horizon was reached", 1.0, 1),
        Metric("coverage", "cover %", "distinct items shown to anybody, per cent of the catalogue", 100.0, 1),
        Metric("diversity", "diversity", "mean of 1 - cosine between the text vectors of a slate"),
        Metric("taste_shift", "shift", "how far tastes moved by the end, |z_T - z_0| / |z_0|"),
        Metric("invalid", "invalid", "masked, repeated or out-of-range choices in an episode"),
    )
}
"""Every metric by name; "coverage" is one number of all users, the others are one number an episode."""

PER_EPISODE = tuple(name for name in METRICS if name != "coverage")


def episode_metrics(episodes: Episodes, item_vector: npt.NDArray[np.float32]) -> dict[str, FloatArray]:
    """Return the metrics of n episodes, each (n,) float64, NaN where one is not defined.

    Not defined: the click rate where nothing was shown, the mean rating where nothing was rated, the diversity where no
    slate held two items.

    Args:
        episodes: n episodes.
        item_vector: (I + 1, D) unit text vectors, the last row zeros.
    """
    shown = (episodes.item < len(item_vector) - 1).sum((0, 2)).astype(np.float64)
    rated = episodes.has_rating.sum((0, 2)).astype(np.float64)
    return {
        "return": episodes.returns(),
        "click_rate": _ratio(episodes.click.sum((0, 2)), shown),
        "mean_rating": _ratio((episodes.rating * episodes.has_rating).sum((0, 2), dtype=np.float64), rated),
        "session_length": episodes.active.sum(0).astype(np.float64),
        "diversity": _diversity(episodes.item, item_vector),
        "taste_shift": episodes.taste_shift.astype(np.float64),
        "invalid": episodes.invalid.astype(np.float64),
    }


def first_slates(item: npt.NDArray[Any], num_items: int) -> tuple[FloatArray, float]:
    """Return how much of a user's first slate others got too, (n,), and the share of users with the most common one.

    The first is |A and B| / K averaged over the other users: 1 where everybody gets the same items, NaN for one user. Its
    mean is the mean pairwise overlap. Slates are compared as sets.

    Args:
        item: (n, K) item numbers, I where empty.
        num_items: I.
    """
    users, size = item.shape
    filled = item < num_items
    others = np.bincount(item[filled], minlength=num_items + 1)[item] - 1
    overlap = np.where(filled, others, 0).sum(1) / (max(users - 1, 1) * size)
    _, count = np.unique(np.sort(item, axis=1), axis=0, return_counts=True)
    return overlap if users > 1 else np.full(1, np.nan), float(count.max() / users)


def _ratio(above: npt.NDArray[Any], below: FloatArray) -> FloatArray:
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


def _diversity(item: npt.NDArray[np.int32], item_vector: npt.NDArray[np.float32]) -> FloatArray:
    """Return 1 - mean cosine over the pairs of a slate, averaged over the episode's slates of two items or more, (n,)."""
    steps, users, _ = item.shape
    total, slates = np.zeros(users), np.zeros(users)
    for step in range(steps):  # (n, K, D) at a time, not (T', n, K, D)
        filled = (item[step] < len(item_vector) - 1).sum(1)
        vectors = item_vector[item[step]].astype(np.float64)
        # For unit vectors: |sum v|^2 = sum |v|^2 + 2 * (sum over pairs of the cosine).
        pairs = (vectors.sum(1) ** 2).sum(1) - (vectors**2).sum((1, 2))
        several = filled > 1
        total += np.where(several, 1 - pairs / np.maximum(filled * (filled - 1), 1), 0.0)
        slates += several
    return _ratio(total, slates)
