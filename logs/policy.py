"""The biased policy that logged the synthetic data, and the book it wrote into."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import Exposures, FloatArray, IntArray, InteractionLog
from recworld.logs.settings import SyntheticSettings
from recworld.logs.synthetic import SyntheticTruth

Float64 = npt.NDArray[np.float64]


def policy_score(
    personal: Float64, popularity: Float64, settings: SyntheticSettings, rng: np.random.Generator
) -> Float64:
    """Return the logging policy's logits: popularity and a noisy personal score, each standardised.

    Args:
        personal: (N, I) what the user would like, in any unit; noise of the same spread is added to it.
        popularity: (N, I) or (I,) log-popularity.
        settings: `popularity_bias` and `policy_noise` (temperature).
        rng: draws the noise; the caller keeps the answer, so that the policy is wrong in the same way
            throughout.

    Returns:
        (N, I) logits of a Plackett-Luce slate.
    """
    noisy = _standard(personal) + rng.standard_normal(personal.shape)
    return (settings.popularity_bias * _standard(popularity) + _standard(noisy)) / settings.policy_noise


def _standard(values: Float64) -> Float64:
    spread = values.std(-1, keepdims=True)
    return np.asarray((values - values.mean(-1, keepdims=True)) / np.where(spread > 1e-9, spread, 1.0))


def draw_slates(
    score: Float64, allowed: npt.NDArray[np.bool_], size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], Float64]:
    """Draw Plackett-Luce slates without replacement, by the Gumbel top-K (Kool et al. 2019).

    Args:
        score: (N, I) logits.
        allowed: (N, I) which items may be shown; at least `size` in each row.
        size: K.
        rng: the generator.

    Returns:
        (N, K) item numbers and (N, K) propensities: the exact probability of each item at its position,
        given the items before it.
    """
    logits = np.where(allowed, score, -np.inf)
    keys = logits + rng.gumbel(size=logits.shape)
    top = np.argpartition(-keys, size - 1, axis=1)[:, :size] if size < keys.shape[1] else np.argsort(-keys, 1)
    slate = np.take_along_axis(top, np.argsort(-np.take_along_axis(keys, top, 1), axis=1), 1)
    weight = np.exp(logits - logits.max(1, keepdims=True))
    chosen = np.take_along_axis(weight, slate, 1)
    weight[np.arange(len(slate))[:, None], slate] = 0.0
    # Sum what is left from the end, not by subtraction: no cancellation.
    left = weight.sum(1, keepdims=True) + np.cumsum(chosen[:, ::-1], axis=1)[:, ::-1]
    return slate, np.asarray(chosen / left)


class LogBook:
    """Collects slates and what became of them, and turns them into an `InteractionLog` with exposures."""

    def __init__(self) -> None:
        self._rows: list[dict[str, npt.NDArray[Any]]] = []
        self._slates = 0

    def write(
        self,
        user: npt.NDArray[Any],
        session: npt.NDArray[Any],
        time: Float64,
        slate: npt.NDArray[Any],
        propensity: Float64,
        clicked: npt.NDArray[np.bool_],
        rating: Float64,
    ) -> None:
        """Write down one slate each of N users.

        Args:
            user: (N,) user numbers.
            session: (N,) session numbers, rising within a user.
            time: (N,) seconds at which the slate was shown; the item at position k is met 10 (k + 1) seconds
                later.
            slate: (N, K) item numbers.
            propensity: (N, K).
            clicked: (N, K).
            rating: (N, K) ratings; read where clicked.
        """
        n, size = slate.shape
        wide = np.ones((1, size))
        position = np.arange(size)[None, :]
        self._rows.append(
            {
                "user": (user[:, None] * wide).ravel().astype(np.int64),
                "session": (session[:, None] * wide).ravel().astype(np.int64),
                "slate": np.repeat(np.arange(self._slates, self._slates + n), size),
                "position": np.tile(np.arange(size), n),
                "time": (time[:, None] + 10.0 * (position + 1)).ravel(),
                "item": slate.ravel().astype(np.int64),
                "propensity": propensity.ravel(),
                "clicked": clicked.ravel(),
                "rating": rating.ravel(),
            }
        )
        self._slates += n

    def to_log(self, name: str, truth: SyntheticTruth) -> InteractionLog:
        """Return the log: interactions in order of time, exposures by user, session, slate, position."""
        columns = {key: np.concatenate([rows[key] for rows in self._rows]) for key in self._rows[0]}
        by_time = np.lexsort((columns["user"], columns["time"]))
        taken = by_time[columns["clicked"][by_time]]
        order = np.lexsort((columns["position"], columns["time"], columns["session"], columns["user"]))
        shown = {key: values[order] for key, values in columns.items()}
        clicked = np.asarray(shown["clicked"], np.bool_)
        exposures = Exposures(
            session=_renumber(shown["user"] * (int(shown["session"].max()) + 1) + shown["session"]),
            slate=_renumber(shown["slate"]),
            position=np.asarray(shown["position"], np.int32),
            user=np.asarray(shown["user"], np.int32),
            item=np.asarray(shown["item"], np.int32),
            clicked=clicked,
            rating=np.asarray(np.where(clicked, shown["rating"], np.nan), np.float32),
            propensity=np.asarray(shown["propensity"], np.float32),
        )
        return InteractionLog(
            name=name,
            user=np.asarray(columns["user"][taken], np.int32),
            item=np.asarray(columns["item"][taken], np.int32),
            rating=_float32(columns["rating"][taken]),
            time=np.asarray(columns["time"][taken], np.float64),
            user_keys=truth.user_keys,
            item_keys=truth.item_keys,
            user_text=truth.user_text,
            item_text=truth.item_text,
            scale=truth.scale,
            exposures=exposures,
            notes=(
                truth.scale.describe(),
                f"{len(clicked):,} exposures with known propensities, {int(clicked.sum()):,} of them clicked",
            ),
        )


def _renumber(values: npt.NDArray[Any]) -> IntArray:
    """Number values 0, 1, 2, ... by first appearance."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    return rank[inverse]


def _float32(values: npt.NDArray[Any]) -> FloatArray:
    return np.asarray(values, np.float32)
