"""`encode_stream`: any number of texts to one .npy file by blocks, in bounded memory, resumable after a kill."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from recworld.encoders.base import Encoder, clean_texts
from recworld.encoders.cache import CachedEncoder
from recworld.encoders.chunks import held_tally
from recworld.errors import CorruptError, InputError, InputTypeError, UnavailableError
from recworld.logs.log import FloatArray
from recworld.progress import bar, say
from recworld.storage import cache_root, content_hash, read_json, write_json

FORMAT = "stream/1"
BLOCK = 8192
"""Texts encoded and written as one: a kill loses at most this many."""
IN_MEMORY = 1 << 28
"""Bytes of vectors of a whole log from which on they stand in a file while they are worked on."""
STALE_SECONDS = 86400.0
BLOCK_CHARS = 1 << 25
"""A block of long texts is closed earlier, at so many characters."""


def encode_stream(
    texts: Iterable[str],
    out: Path,
    encoder: Encoder,
    dtype: Literal["float32", "float16"] = "float32",
    block: int = BLOCK,
) -> int:
    """Write the vectors of texts that come one by one to a file ``(n, W)`` that `numpy.load` reads; return n.

    In memory is one block at a time: `block` texts and their vectors. After each block it is noted beside the file
    (``NAME.part``, ``NAME.part.json``) how far things are; called again with the same texts after a kill, the work goes
    on there, and the file has the bits of an unbroken run. A text that comes again within a block is encoded once; with
    a `CachedEncoder`, whose cache costs 24 bytes of memory a text, it is throughout.

    Args:
        texts: the texts, in the order of the rows; on going on they are read from the first again, not encoded.
        out: the file; one that is there is replaced when all is done.
        encoder: the encoder.
        dtype: of the file.
        block: texts in a block.

    Raises:
        InputError: half a file is there, of other texts or another encoder.
        InputTypeError: `texts` is a single string, or gives something else than strings.
        UnavailableError: the file cannot be written.
    """
    if isinstance(texts, str):
        raise InputTypeError(f"The texts must be an iterable of strings. Got one string {texts[:40]!r}.")
    if block < 1 or dtype not in ("float32", "float16"):
        raise InputError(f"block must be positive and dtype float32 or float16. Got {block} and {dtype!r}.")
    out = Path(out)
    part, state = (out.with_name(out.name + end) for end in (".part", ".part.json"))
    what = content_hash(FORMAT, encoder.fingerprint, str(encoder.width), dtype, str(block))
    done, mark = _begun(part, state, what)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        if not done:
            state.unlink(missing_ok=True)  # so that it never stands beside a file that it does not describe
        with part.open("r+b" if done else "w+b") as stream:
            rows = _write_blocks(stream, texts, encoder, dtype, block, (done, mark), (state, what))
        os.replace(part, out)
        state.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"Cannot write {out}: {error.strerror or error}.") from error
    return rows


def _write_blocks(
    stream: IO[bytes], texts: Iterable[str], encoder: Encoder, dtype: str, block: int,
    begun: tuple[int, str], note: tuple[Path, str],
) -> int:  # fmt: skip
    """Encode what follows the rows that are done; return the number of all rows."""
    done, expected = begun
    state, what = note
    head = _header(stream, (0, encoder.width), dtype)
    rows, mark = 0, ""
    with _one_bar(encoder) as shown:
        for some in _blocks(texts, block):
            before, rows = rows, rows + len(some)
            mark = _mark(mark, some)
            shown.update(len(some))
            if before < done < rows or (rows == done and mark != expected):
                raise _other(state, "texts")
            if rows <= done:
                continue
            vectors = np.ascontiguousarray(encoder.encode(some), np.dtype(dtype).newbyteorder("<"))
            stream.seek(head + before * encoder.width * vectors.itemsize)
            stream.write(vectors.tobytes())
            _flush(stream)
            write_json(state, {"what": what, "rows": rows, "mark": mark})
    if rows < done:
        raise _other(state, "texts")
    stream.truncate(head + rows * encoder.width * np.dtype(dtype).itemsize)
    _header(stream, (rows, encoder.width), dtype)
    _flush(stream)
    return rows


@contextlib.contextmanager
def encoded(texts: Sequence[str], encoder: Encoder) -> Iterator[FloatArray]:
    """Give the (n, W) float32 vectors of n texts; very many, as a view of a file that is removed afterwards."""
    if len(texts) * encoder.width * 4 <= IN_MEMORY:
        yield encoder.encode(texts)
        return
    try:
        cache_root().mkdir(parents=True, exist_ok=True)
        for left in cache_root().glob("encoding-*"):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(dir=cache_root(), prefix="encoding-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UnavailableError(f"Cannot write {cache_root()}: {error.strerror or error}.") from error
    with folder as name:
        path = Path(name) / "vectors.npy"
        encode_stream(texts, path, encoder)
        yield np.load(path, mmap_mode="r", allow_pickle=False)


def by_blocks(vectors: FloatArray, function: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return `function` of (n, W) vectors, row by row the same; very many go through it in blocks."""
    if vectors.nbytes <= IN_MEMORY:
        return function(vectors)
    out: FloatArray | None = None
    for n in range(0, len(vectors), BLOCK):
        part = function(np.array(vectors[n : n + BLOCK]))
        if out is None:
            out = np.empty((len(vectors), part.shape[1]), np.float32)
        out[n : n + len(part)] = part
    return function(vectors) if out is None else out


@contextlib.contextmanager
def _one_bar(encoder: Encoder) -> Iterator[Any]:
    """Show one bar for all blocks, and what is to be said of long texts once."""
    inner = encoder.inner if isinstance(encoder, CachedEncoder) else encoder
    hidden = contextlib.nullcontext() if inner is encoder else _hidden(encoder)
    with hidden, held_tally(inner), bar(None, "Encoding texts", "texts") as shown:
        yield shown


@contextlib.contextmanager
def _hidden(encoder: Any) -> Iterator[None]:
    before, encoder.hidden = encoder.hidden, True
    try:
        yield
    finally:
        encoder.hidden = before


def _begun(part: Path, state: Path, what: str) -> tuple[int, str]:
    """Return the rows that an earlier run finished, and the mark of their texts."""
    if not (part.is_file() and state.is_file()):
        return 0, ""
    try:
        note: Any = read_json(state)
        same, done, mark = note["what"] == what, int(note["rows"]), str(note["mark"])
    except (CorruptError, KeyError, TypeError, ValueError):
        return 0, ""
    if not same:
        raise _other(state, "settings")
    say(f"Going on after {done} texts that are encoded.")
    return done, mark


def _other(state: Path, what: str) -> InputError:
    part = state.with_suffix("")
    return InputError(f"{part} was begun with other {what}. Give the same ones, or remove it to begin anew.")


def _blocks(texts: Iterable[str], block: int) -> Iterator[list[str]]:
    """Yield the texts in blocks whose borders depend on the texts alone."""
    some: list[str] = []
    chars = 0
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(
                f"The text at position {n} must be a string. Got {type(text).__name__} {text!r}."
            )
        some += clean_texts([text])
        chars += len(some[-1])
        if len(some) == block or chars >= BLOCK_CHARS:
            yield some
            some, chars = [], 0
    if some:
        yield some


def _mark(before: str, texts: list[str]) -> str:
    """Return a hash of all texts so far."""
    digest = hashlib.sha256(before.encode())
    for text in texts:
        data = text.encode("utf-8")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _header(stream: IO[bytes], shape: tuple[int, int], dtype: str) -> int:
    """Write the header of a .npy file, whose length does not depend on the number of rows; return that length."""
    stream.seek(0)
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype).newbyteorder("<"))
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.tell()


def _flush(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
