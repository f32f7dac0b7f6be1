"""Noise on the stored vectors of users, so that they give away less of the texts that they were made of.

The noise of a vector is drawn from the vector and a key that stays in the cache folder of the machine: the same machine
gives the same bits again, and users who are described alike have the same vector, so that nothing is gained by averaging.
A seed would not do: who has a world has its settings, could encode "24 year old man" with the noise of that seed, and
compare.

This is no differential privacy: vectors are centred and reduced by directions that all texts of the log have a part in,
and at scales that leave a vector of use the guarantee of the Gaussian mechanism would be next to none.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

import numpy as np

from recworld.encoders.base import unit_rows
from recworld.errors import CorruptError, UnavailableError
from recworld.logs.log import FloatArray
from recworld.storage import cache_root

KEY_BYTES = 32


def noisy(vectors: FloatArray, noise: float, key: bytes) -> FloatArray:
    """Return unit vectors with Gaussian noise, scaled to unit length again.

    The cosine of a vector to itself before is about ``1 / sqrt(1 + noise ** 2)``.

    Args:
        vectors: (n, D) float32 unit rows; a zero row (nothing is known) stays zero.
        noise: expected length of the noise; its standard deviation in each component is ``noise / sqrt(D)``.
        key: secret.
    """
    if noise == 0:
        return vectors
    width = vectors.shape[1]
    moved = np.zeros_like(vectors)
    for row in np.flatnonzero(vectors.any(axis=1)):
        what = f"{noise!r} {width} ".encode() + vectors[row].tobytes()
        random = np.random.default_rng(
            int.from_bytes(hashlib.blake2b(what, key=key, digest_size=32).digest(), "little")
        )
        moved[row] = vectors[row] + random.normal(0, noise / np.sqrt(width), width)
    return unit_rows(moved)


def noise_key() -> bytes:
    """Return the key of this machine's noise, ``noise.key`` in the cache folder; drawn when it is first asked for.

    Raises:
        UnavailableError: the cache folder cannot be written.
        CorruptError: the file is not a key.
    """
    path = cache_root() / "noise.key"
    try:
        if not path.exists():
            _draw(path)
        key = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"Cannot keep the key of the noise, {path}: {error.strerror}.") from error
    if len(key) != KEY_BYTES:
        raise CorruptError(f"{path} is not a key of {KEY_BYTES} bytes; without it, noise is drawn anew.")
    return key


def _draw(path: Path) -> None:
    """Write a key that only its owner can read; where another process was faster, its key stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
