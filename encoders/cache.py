"""Encoded texts on disk: whole shards only, checked when read, shared by processes.

A shard is a safetensors file named by the SHA-256 of its bytes, with `key` (n, 16) uint8 (start of each
text's SHA-256) and `vector` (n, W) float32. Writers never touch each other's shards; a text that two
processes encode at once stands in two shards, which does no harm. Small shards are put together as they grow many.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import Encoder, clean_texts, scatter
from recworld.encoders.chunks import held_tally
from recworld.encoders.shards import KEY_BYTES, Keys, Shard, ShardIndex, open_shard
from recworld.errors import UnavailableError
from recworld.logs.log import FloatArray
from recworld.progress import bar, say
from recworld.storage import atomic_path

GROUP = 256
"""Texts encoded and stored as one: an interruption loses at most this many, or FLUSH_SECONDS of work."""
FLUSH_SECONDS = 2.0
STALE_SECONDS = 3600.0
MANY = 64
"""So many small shards are put together into larger ones."""
SHARD_BYTES = 1 << 25
"""A shard is small below half of this, and small ones are put together up to it."""


def _keys(texts: Sequence[str]) -> Keys:
    data = b"".join(hashlib.sha256(text.encode("utf-8")).digest()[:KEY_BYTES] for text in texts)
    return np.frombuffer(data, np.uint8).reshape(-1, KEY_BYTES)


class VectorCache:
    """The vectors of one encoder.

    Each shard is read and checked once; then its keys alone stay in memory (24 bytes a text), and vectors are looked up
    in the file.

    Args:
        folder: where the shards stand; made on the first write.
        width: W.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        self._index = ShardIndex()

    def read(self, texts: Sequence[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return (n, W) vectors, zero where unknown, and (n,) whether each text is known."""
        self._refresh()
        vectors = np.zeros((len(texts), self.width), np.float32)
        known = self._index.look_up(_keys(texts), vectors)
        return vectors, known

    def write(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Store the vectors of `texts` as one shard that is whole or absent.

        Raises:
            UnavailableError: the cache folder cannot be written.
        """
        self._write(_keys(texts), vectors)

    def _write(self, keys: Keys, vectors: FloatArray) -> Path:
        from safetensors.numpy import save

        data = save({"key": np.ascontiguousarray(keys), "vector": np.ascontiguousarray(vectors, np.float32)})
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise UnavailableError(
                f"Cannot write the cache of encoded texts {path}: {error.strerror}."
            ) from error
        return path

    def sweep(self) -> None:
        """Remove what killed processes left half-written, and put small shards together where there are many."""
        for part in self.folder.glob(".*.part"):
            try:
                if time.time() - part.stat().st_mtime > STALE_SECONDS:
                    part.unlink()
            except OSError:  # another process was faster
                continue
        self.compact()

    def compact(self) -> None:
        """Put small shards together where there are `MANY`; a process that is killed meanwhile loses nothing."""
        small = []
        for path in self.folder.glob("*.safetensors"):
            try:
                size = path.stat().st_size
            except OSError:
                continue
            if size < SHARD_BYTES // 2:
                small.append((path.name, size))
        if len(small) < MANY:
            return
        group: list[Path] = []
        total = 0
        for name, size in sorted(small):
            group.append(self.folder / name)
            total += size
            if total >= SHARD_BYTES:
                self._merge(group)
                group, total = [], 0
        self._merge(group)

    def _merge(self, paths: Sequence[Path]) -> None:
        """Write the shards at `paths` as one, then remove them."""
        opened = [shard for path in paths if (shard := self._open(path)) is not None]
        if len(opened) < 2:
            return
        try:
            keys = np.concatenate([shard.keys() for shard in opened])
            vectors = np.concatenate([shard.vectors() for shard in opened])
        except OSError:  # another process was faster
            return
        _, first = np.unique(keys.view(np.dtype((np.void, KEY_BYTES))).ravel(), return_index=True)
        first.sort()
        merged = self._write(keys[first], vectors[first])
        for shard in opened:
            if shard.path != merged:
                with suppress(OSError):  # where another process reads it and the system minds, it stays
                    shard.path.unlink(missing_ok=True)

    def _refresh(self) -> None:
        """Take new shards into the index, and those that are gone out of it."""
        paths = sorted(self.folder.glob("*.safetensors"))
        self._index.keep(set(paths))
        fresh = [path for path in paths if path not in self._index]
        self._index.add([shard for path in fresh if (shard := self._open(path)) is not None])

    def _open(self, path: Path) -> Shard | None:
        """Open and check a shard; one that is broken is removed."""
        try:
            shard = open_shard(path, self.width)
        except OSError:  # another process was faster
            return None
        if shard is None:
            say(f"Cache entry dropped, its texts are encoded anew: {path} is not what was written.")
            path.unlink(missing_ok=True)
        return shard


class CachedEncoder:
    """An `Encoder` that remembers: only texts that its cache does not hold reach the encoder inside.

    Texts are encoded and stored in groups whose composition depends on what is asked for alone; so a run that
    was killed and started again gives the same bits as an unbroken one.

    An encoder may have a `cache_name` other than its fingerprint, and a `cache_text` that says what stands for a text
    there: so two encoders share the entries of texts to which they give the same vectors.

    Args:
        inner: the encoder that does the work; it should put off loading its model until `encode`.
        root: folder under which each encoder has a folder of its own.

    Attributes:
        hidden: whether no progress bar is shown, for a caller who shows one.
    """

    def __init__(self, inner: Encoder, root: Path) -> None:
        self.inner = inner
        self.width = inner.width
        self.fingerprint = inner.fingerprint
        self.cache = VectorCache(root / getattr(inner, "cache_name", self.fingerprint), self.width)
        self.hidden = False
        self._stored = 0
        self._cache_text = getattr(inner, "cache_text", str)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts, (n, W) float32 unit rows; empty texts give zero rows."""
        cleaned = clean_texts(texts)
        distinct = sorted({text for text in cleaned if text}, key=lambda text: (len(text), text))
        vectors, known = self.cache.read([self._cache_text(text) for text in distinct])
        if not known.all():
            self._fill(distinct, vectors, known)
        return scatter(cleaned, distinct, vectors)

    def _fill(self, distinct: list[str], vectors: FloatArray, known: npt.NDArray[np.bool_]) -> None:
        """Encode the unknown rows of `vectors` in place, storing them as they come."""
        self.cache.sweep()
        pending: list[int] = []
        stored_at = time.monotonic()
        try:
            with held_tally(self.inner), self._bar(int((~known).sum())) as shown:
                for start in range(0, len(distinct), GROUP):
                    rows = [n for n in range(start, min(start + GROUP, len(distinct))) if not known[n]]
                    if not rows:
                        continue
                    vectors[rows] = self.inner.encode([distinct[n] for n in rows])
                    pending += rows
                    if shown is not None:
                        shown.update(len(rows))
                    if time.monotonic() - stored_at > FLUSH_SECONDS:
                        self._store(distinct, vectors, pending)
                        pending, stored_at = [], time.monotonic()
        finally:
            if pending:
                self._store(distinct, vectors, pending)

    def _bar(self, total: int) -> Any:
        return nullcontext() if self.hidden else bar(total, "Encoding texts", "texts")

    def _store(self, distinct: list[str], vectors: FloatArray, rows: list[int]) -> None:
        self.cache.write([self._cache_text(distinct[n]) for n in rows], vectors[rows])
        self._stored += 1
        if self._stored % MANY == 0:
            self.cache.compact()
