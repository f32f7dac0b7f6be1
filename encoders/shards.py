"""Shards of encoded texts: opened and checked, and an index over the keys of many."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray

KEY_BYTES = 16
BLOCK = 1 << 20
HEADER_BYTES = 8

Keys = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shard:
    """A shard whose bytes were those that it is named after.

    Attributes:
        path: the file.
        rows: n.
        width: W.
        start: where the vectors begin in the file.
        key_start: where the keys do.
    """

    path: Path
    rows: int
    width: int
    start: int
    key_start: int

    def keys(self) -> Keys:
        """Return the (n, 16) starts of the SHA-256 of each text.

        Raises:
            OSError: the file is no longer there.
        """
        with self.path.open("rb") as stream:
            stream.seek(self.key_start)
            return np.frombuffer(stream.read(self.rows * KEY_BYTES), np.uint8).reshape(-1, KEY_BYTES)

    def vectors(self) -> FloatArray:
        """Return the (n, W) vectors as a view of the file.

        Raises:
            OSError: the file is no longer there.
        """
        shape = (self.rows, self.width)
        return np.memmap(self.path, "<f4", "r", self.start, shape) if self.rows else np.zeros(shape, "<f4")


def open_shard(path: Path, width: int) -> Shard | None:
    """Return a shard, or None when its bytes are not those that it is named after, or not vectors of `width`.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
        if digest.hexdigest() != path.stem:
            return None
        try:
            stream.seek(0)
            size = int.from_bytes(stream.read(HEADER_BYTES), "little")
            header = json.loads(stream.read(size))
            key, vector = header["key"], header["vector"]
            rows = int(key["shape"][0])
            right = key["shape"] == [rows, KEY_BYTES] and vector["shape"] == [rows, width]
            if not right or (key["dtype"], vector["dtype"]) != ("U8", "F32"):
                return None
            start = HEADER_BYTES + size
            starts = [start + int(part["data_offsets"][0]) for part in (vector, key)]
        except (ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError):
            return None
    return Shard(path, rows, width, *starts)


class ShardIndex:
    """Which shard and row holds the vector of a key: 24 bytes a key, sorted by its first half."""

    def __init__(self) -> None:
        self._shards: list[Shard | None] = []
        self._number: dict[Path, int] = {}
        self._first = np.zeros(0, np.uint64)
        self._second = np.zeros(0, np.uint64)
        self._place = np.zeros((0, 2), np.int32)  # shard, row

    def __contains__(self, path: Path) -> bool:
        return path in self._number

    def keep(self, paths: set[Path]) -> None:
        """Forget all shards but those at `paths`."""
        numbers = [self._number.pop(path) for path in list(self._number) if path not in paths]
        if not numbers:
            return
        for number in numbers:
            self._shards[number] = None
        left = ~np.isin(self._place[:, 0], numbers)
        self._first, self._second, self._place = self._first[left], self._second[left], self._place[left]

    def add(self, shards: Sequence[Shard]) -> None:
        """Take shards in; where a key stands in several, the one taken in first answers."""
        first, second, place = [self._first], [self._second], [self._place]
        for shard in shards:
            try:
                halves = _halves(shard.keys())
            except OSError:  # another process put it together with others
                continue
            self._number[shard.path] = number = len(self._shards)
            self._shards.append(shard)
            first.append(halves[:, 0])
            second.append(halves[:, 1])
            rows = np.arange(shard.rows, dtype=np.int32)
            place.append(np.stack([np.full_like(rows, number), rows], axis=1))
        if len(first) > 1:
            everything = np.concatenate(first)
            order = np.argsort(
                everything, kind="stable"
            )  # which makes use of runs in order: what stood here before
            self._first, self._second = everything[order], np.concatenate(second)[order]
            self._place = np.concatenate(place)[order]

    def look_up(self, keys: Keys, out: FloatArray) -> npt.NDArray[np.bool_]:
        """Write the vectors of n keys into `out` (n, W) where they are known; return (n,) whether they are.

        Of two different keys that share their first 8 bytes, the second counts as unknown: it is encoded anew.
        """
        known = np.zeros(len(keys), np.bool_)
        if not len(self._first):
            return known
        wanted = _halves(keys)
        place = np.minimum(np.searchsorted(self._first, wanted[:, 0]), len(self._first) - 1)
        right = (self._first[place] == wanted[:, 0]) & (self._second[place] == wanted[:, 1])
        hits = np.flatnonzero(right)
        where = self._place[place[hits]]
        by_shard = np.lexsort((where[:, 1], where[:, 0]))
        hits, where = hits[by_shard], where[by_shard]
        borders = np.flatnonzero(np.diff(where[:, 0], prepend=-1, append=-1))
        for begin, end in itertools.pairwise(borders):
            shard = self._shards[where[begin, 0]]
            try:
                vectors = shard.vectors() if shard is not None else None
            except OSError:
                continue
            if vectors is not None:
                out[hits[begin:end]] = vectors[where[begin:end, 1]]
                known[hits[begin:end]] = True
        return known


def _halves(keys: Keys) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(keys).view("<u8").reshape(-1, 2).astype(np.uint64, copy=False)
