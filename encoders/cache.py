"""Encoded texts on disk: whole shards only, checked when read, shared by processes.

A shard is a safetensors file named by the SHA-256 of its bytes, with `key` (n, 16) uint8 (start of each
text's SHA-256) and `vector` (n, W) float32. Writers never touch each other's shards; a text that two
processes encode at once stands in two shards, which does no harm.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import Encoder, clean_texts, scatter
from recworld.errors import UnavailableError
from recworld.logs.log import FloatArray
from recworld.progress import bar, say
from recworld.storage import atomic_path

KEY_BYTES = 16
GROUP = 256
"""Texts encoded and stored as one: an interruption loses at most this many, or FLUSH_SECONDS of work."""
FLUSH_SECONDS = 2.0
STALE_SECONDS = 3600.0


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()[:KEY_BYTES]


class VectorCache:
    """The vectors of one encoder.

    Args:
        folder: where the shards stand; made on the first write.
        width: W.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width

    def read(self, texts: Sequence[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return (n, W) vectors, zero where unknown, and (n,) whether each distinct text is known."""
        row = {_key(text): n for n, text in enumerate(texts)}
        vectors = np.zeros((len(texts), self.width), np.float32)
        known = np.zeros(len(texts), np.bool_)
        for keys, values in self._shards():
            for place in range(len(keys)):
                n = row.get(keys[place].tobytes())
                if n is not None and not known[n]:
                    vectors[n], known[n] = values[place], True
            if known.all():
                break
        return vectors, known

    def write(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Store the vectors of `texts` as one shard that is whole or absent.

        Raises:
            UnavailableError: the cache folder cannot be written.
        """
        from safetensors.numpy import save

        keys = np.frombuffer(b"".join(map(_key, texts)), np.uint8).reshape(-1, KEY_BYTES)
        data = save({"key": keys, "vector": np.ascontiguousarray(vectors, np.float32)})
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise UnavailableError(
                f"Cannot write the cache of encoded texts {path}: {error.strerror}."
            ) from error

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""
        for part in self.folder.glob(".*.part"):
            try:
                if time.time() - part.stat().st_mtime > STALE_SECONDS:
                    part.unlink()
            except OSError:  # another process was faster
                continue

    def _shards(self) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                data = path.read_bytes()
            except OSError:
                continue
            shard = _parse(data, path.stem, self.width)
            if shard is None:
                say(f"Cache entry dropped, its texts are encoded anew: {path} is not what was written.")
                path.unlink(missing_ok=True)
            else:
                yield shard


def _parse(data: bytes, expected: str, width: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Return keys and vectors of a shard, or None when its bytes are not those that it is named after."""
    if hashlib.sha256(data).hexdigest() != expected:
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        keys, vectors = arrays["key"], arrays["vector"]
    except (SafetensorError, KeyError, ValueError):
        return None
    right = keys.shape == (len(keys), KEY_BYTES) and vectors.shape == (len(keys), width)
    return (keys, vectors) if right and vectors.dtype == np.float32 else None


class CachedEncoder:
    """An `Encoder` that remembers: only texts that its cache does not hold reach the encoder inside.

    Texts are encoded and stored in groups whose composition depends on what is asked for alone; so a run that
    was killed and started again gives the same bits as an unbroken one.

    Args:
        inner: the encoder that does the work; it should put off loading its model until `encode`.
        root: folder under which each encoder has a folder of its own.
    """

    def __init__(self, inner: Encoder, root: Path) -> None:
        self.inner = inner
        self.width = inner.width
        self.fingerprint = inner.fingerprint
        self.cache = VectorCache(root / self.fingerprint, self.width)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts, (n, W) float32 unit rows; empty texts give zero rows."""
        cleaned = clean_texts(texts)
        distinct = sorted({text for text in cleaned if text}, key=lambda text: (len(text), text))
        vectors, known = self.cache.read(distinct)
        if not known.all():
            self._fill(distinct, vectors, known)
        return scatter(cleaned, distinct, vectors)

    def _fill(self, distinct: list[str], vectors: FloatArray, known: npt.NDArray[np.bool_]) -> None:
        """Encode the unknown rows of `vectors` in place, storing them as they come."""
        self.cache.sweep()
        pending: list[int] = []
        stored_at = time.monotonic()
        try:
            with bar(int((~known).sum()), "Encoding texts", "texts") as shown:
                for start in range(0, len(distinct), GROUP):
                    rows = [n for n in range(start, min(start + GROUP, len(distinct))) if not known[n]]
                    if not rows:
                        continue
                    vectors[rows] = self.inner.encode([distinct[n] for n in rows])
                    pending += rows
                    shown.update(len(rows))
                    if time.monotonic() - stored_at > FLUSH_SECONDS:
                        self._store(distinct, vectors, pending)
                        pending, stored_at = [], time.monotonic()
        finally:
            if pending:
                self._store(distinct, vectors, pending)

    def _store(self, distinct: list[str], vectors: FloatArray, rows: list[int]) -> None:
        self.cache.write([distinct[n] for n in rows], vectors[rows])
