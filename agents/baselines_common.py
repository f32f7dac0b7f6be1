"""What the baselines share: item numbers from either observation form, and slates of the K best positions.

Legend: N users side by side, C candidates, K slate size, H history length, I items, D width of a text vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Observation
from recworld.errors import InputError
from recworld.seeding import child_seed, generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

FORBIDDEN = -1e30
"""Score of a masked candidate: below every real score, above a place that the slate already holds (-inf)."""


def top_k(scores: npt.NDArray[Any], mask: npt.NDArray[Any], k: int) -> IntArray:
    """Return the k best unmasked positions, best first; ties go to the lower position.

    Where fewer than k candidates are unmasked, the rest of the slate are masked positions (empty slots, never repeats).

    Args:
        scores: (N, C) finite scores.
        mask: (N, C), 1 where a candidate may be chosen.
        k: K <= C.

    Returns:
        (N, K) int64.
    """
    values = np.where(mask != 0, scores, scores.dtype.type(FORBIDDEN))
    rows = np.arange(len(values))
    out = np.empty((len(values), k), np.int64)
    for place in range(k):  # K passes of argmax beat a sort: K is small beside C
        best = values.argmax(1)
        out[:, place] = best
        values[rows, best] = -np.inf
    return out


def uniform_of(observation: Observation, seed: int) -> npt.NDArray[np.float64]:
    """Return numbers in [0, 1) that look random and are a function of the seed and of each row alone, (N, C).

    So a policy that draws gives one answer to one observation, and user n meets the same slates for any N: each row's
    scores and step are hashed into a 64-bit key, and key and position are mixed by the finaliser of SplitMix64
    (Steele, Lea & Flood 2014).
    """
    score, step = observation["candidate_score"], observation["step"]
    bits = np.concatenate([score, step], 1).astype(np.float32).view(np.uint32).astype(np.uint64)
    words = generator(seed, "uniform of an observation").integers(0, 2**63, bits.shape[1], np.uint64)
    odd = words * np.uint64(2) + np.uint64(1)
    key: npt.NDArray[np.uint64] = (bits ^ (bits << np.uint64(32))) @ odd  # (N,), wraps modulo 2^64
    position = np.arange(1, score.shape[1] + 1, dtype=np.uint64)
    spread = position * np.uint64(0x9E3779B97F4A7C15)
    x = _mix(np.add(_mix(key)[:, None], spread, dtype=np.uint64))
    return np.asarray((x >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class ItemNumbers:
    """Item numbers of an observation, whichever form it has.

    The ids form holds them. In the features form every text vector is looked up among `env.tables.item_vector` by a
    64-bit hash of its bits; items that share a text share a vector, and the lowest number stands for all of them.

    Args:
        item_vector: (I + 1, D) float32, the last row zeros (padding).
    """

    def __init__(self, item_vector: npt.NDArray[np.float32]) -> None:
        width = item_vector.shape[1]
        odd = generator(0, "item numbers").integers(0, 2**62, size=width, dtype=np.uint64) * np.uint64(2)
        self._weights = odd + np.uint64(1)
        self._padding = len(item_vector) - 1
        hashes = self._hash(np.ascontiguousarray(item_vector, np.float32))
        self._hashes, self._numbers = np.unique(hashes, return_index=True)

    def _hash(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
        bits = vectors.view(np.uint32).astype(np.uint64)
        return np.asarray((bits @ self._weights), np.uint64)  # wraps modulo 2^64, as hashes do

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Return int32 item numbers, I for padding, of `history` or `candidates` in either form.

        Args:
            values: (N, X) numbers or (N, X, D) vectors.

        Raises:
            InputError: a vector is not one of `env.tables.item_vector`.
        """
        if values.ndim == 2:
            return np.asarray(values, np.int32)
        hashes = self._hash(np.ascontiguousarray(values, np.float32))
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        if not np.array_equal(self._hashes[place], hashes):
            raise InputError(
                "The observation's item vectors must be rows of env.tables.item_vector. Got other vectors; "
                "use observation='ids', or build the agent with the environment it acts in."
            )
        return np.asarray(self._numbers[place], np.int32)


class Baseline:
    """Base of the baselines: a score per candidate, and the K best of them as the slate.

    Args:
        env: gives the slate size, the catalogue's vectors and its early popularity.
        seed: seed of the agent's own generator, where it draws.
    """

    is_upper_line = False
    """Whether the agent reads what no recommender can know; upper lines are shown apart and never compete."""

    def __init__(self, env: RecVectorEnv, seed: int = 0) -> None:
        self.slate_size = int(env.slate_size)
        self.seed = int(seed)
        self.random = generator(seed, "agent", type(self).__name__)

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return a finite score per candidate, (N, C)."""
        raise NotImplementedError

    def uniform(self, observation: Observation, deterministic: bool, purpose: str) -> FloatArray:
        """Return uniform numbers (N, C): functions of the observation if `deterministic`, else drawn."""
        if deterministic:
            return uniform_of(observation, child_seed(self.seed, type(self).__name__, purpose))
        return self.random.random(observation["candidate_score"].shape)

    def act(self, observation: Observation, deterministic: bool = True) -> IntArray:
        """Return the K best-scored positions, (N, K) int64; `deterministic` changes nothing."""
        return top_k(self.scores(observation), observation["action_mask"], self.slate_size)
