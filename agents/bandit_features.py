"""What a contextual bandit knows of a candidate, in few numbers: the update costs their square.

Nothing here is learnt from rewards. Columns, in order (W of them):

* 1; the agent-side score (over 4), its sigmoid, and the score standardised within the row's mask; the step;
* text similarities to what was consumed and liked (`Facts.similar`);
* the item's text in `item_width` principal components; their products with the components of what the user liked before;
* the products of the first components of the user's text with the first ones of the item's;
* the place in the slate, 0 when candidates are valued: so that the model does not blame an item for a place that few notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from recworld.agents.base import Observation
from recworld.agents.baselines_common import FloatArray, ItemNumbers
from recworld.agents.facts import FactReader, to_tensors
from recworld.packing import Arrays
from recworld.seeding import generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

Floats = npt.NDArray[np.float32]

PCA_ROWS = 4096
"""Texts that the principal components are computed from; of a larger catalogue as many are drawn."""
SCORE, CHANCE = 1, 2
"""Columns of the score over `SCORE_SCALE` and of its sigmoid."""
SCORE_SCALE = 4.0
PLACE_SCALE = 4.0


def principal_components(vectors: Floats, width: int, seed: int) -> tuple[Floats, Floats]:
    """Return the mean (D,) and the projection (D, P) on the first principal components of text vectors.

    The projection is scaled so that the first component has variance 1; every component's largest entry is positive.

    Args:
        vectors: (n, D); where n is above `PCA_ROWS`, that many rows are drawn.
        width: P; the last columns are zero where there are fewer components.
        seed: of the draw.
    """
    if len(vectors) > PCA_ROWS:
        vectors = vectors[generator(seed, "principal components").permutation(len(vectors))[:PCA_ROWS]]
    mean = vectors.mean(0, dtype=np.float64)
    _, size, rows = np.linalg.svd(vectors - mean, full_matrices=False)
    kept = min(width, len(rows))
    out = np.zeros((vectors.shape[1], width))
    rows = rows[:kept]
    sign = np.sign(rows[np.arange(kept), np.abs(rows).argmax(1)])
    deviation = size[0] / np.sqrt(len(vectors))
    out[:, :kept] = (rows * sign[:, None]).T / max(deviation, 1e-6)
    return mean.astype(np.float32), out.astype(np.float32)


class BanditFeatures:
    """Reads (N, C, W) features off an observation of either form; the two forms give the same bits.

    Args:
        env: gives the tables and the horizon.
        item_width: P, principal components of the items' texts.
        user_width: principal components of the users' texts.
        decays: rates per step of the similarities to what was consumed in the episode.
        seed: of the draw of texts for the components.
    """

    def __init__(
        self, env: RecVectorEnv, item_width: int, user_width: int, decays: tuple[float, ...], seed: int
    ) -> None:
        self.reader = FactReader(env, decays)
        self._numbers = ItemNumbers(env.tables.item_vector)
        self._item_vector = np.asarray(env.tables.item_vector, np.float32)
        self._user_vector = np.asarray(env.tables.user_vector, np.float32)
        self._shared = min(user_width, item_width)
        item_mean, item_components = principal_components(self._item_vector[:-1], item_width, seed)
        user_mean, user_components = principal_components(self._user_vector, self._shared, seed)
        self._set(
            {
                "item_mean": item_mean,
                "item_components": item_components,
                "user_mean": user_mean,
                "user_components": user_components,
            }
        )
        self.width = 5 + self.reader.num_similar + 2 * item_width + self._shared**2 + 1

    def _set(self, arrays: Arrays) -> None:
        self._projection = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
        table = (self._item_vector - self._projection["item_mean"]) @ self._projection["item_components"]
        table[-1] = 0.0  # padding
        self._table = np.asarray(table, np.float32)  # (I + 1, P)

    def arrays(self) -> Arrays:
        """Return the projections: a stored agent keeps those that it was trained with."""
        return dict(self._projection)

    def load(self, arrays: Arrays) -> None:
        """Take the projections of `arrays`.

        Raises:
            ValueError: they are of other sizes.
        """
        for name, own in self._projection.items():
            if arrays[name].shape != own.shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}, {own.shape} expected")
        self._set({name: arrays[name] for name in self._projection})

    def __call__(self, observation: Observation) -> Floats:
        """Return (N, C, W) float32; rows of masked candidates hold numbers without a meaning."""
        candidates, history = (self._numbers(observation[name]) for name in ("candidates", "history"))
        user = observation["user"]
        text = self._user_vector[user[:, 0]] if user.dtype.kind in "iu" else np.asarray(user, np.float32)
        # The user is looked at here: what the reader is told about them, it only hands on.
        ids = {**observation, "user": np.zeros((len(user), 1), np.int64)}
        ids |= {"candidates": candidates, "history": history}
        with torch.no_grad():
            similar = self.reader(to_tensors(ids, "cpu")).similar.numpy()
        mask = observation["action_mask"] != 0
        score = observation["candidate_score"].astype(np.float32) * mask
        count = np.maximum(mask.sum(1, keepdims=True), 1)
        centred = (score - score.sum(1, keepdims=True) / count) * mask
        spread = np.sqrt((centred**2).sum(1, keepdims=True) / count) + np.float32(1e-3)
        own = self._table[candidates]  # (N, C, P)
        feedback = np.asarray(observation["history_feedback"], np.float32)
        liked = np.einsum("nh,nhp->np", feedback, self._table[history])
        liked /= np.maximum(np.abs(feedback).sum(1, keepdims=True), 1.0)
        person = (text - self._projection["user_mean"]) @ self._projection["user_components"]  # (N, S)
        pairs = own[:, :, : self._shared, None] * person[:, None, None, :]  # (N, C, S, S)
        out = np.empty((*candidates.shape, self.width), np.float32)
        out[..., 0] = 1.0
        out[..., SCORE] = np.clip(score, -50, 50) / SCORE_SCALE
        out[..., CHANCE] = 1 / (1 + np.exp(-score))
        out[..., 3] = centred / spread / 2
        out[..., 4] = observation["step"].reshape(-1, 1)
        at = 5
        for block in (similar, own, own * liked[:, None], pairs.reshape(*candidates.shape, -1)):
            out[..., at : at + block.shape[-1]] = block
            at += block.shape[-1]
        out[..., -1] = 0.0
        return out

    def shown(self, features: Floats, slates: npt.NDArray[np.int64]) -> FloatArray:
        """Return the rows of the slots with their places, (N, K, W) float64.

        Args:
            features: (N, C, W) of the observation.
            slates: (N, K) positions.
        """
        rows = np.take_along_axis(features, slates[..., None], axis=1).astype(np.float64)
        rows[..., -1] = np.arange(slates.shape[1]) / PLACE_SCALE
        return rows
