"""Many texts: streamed by blocks, resumed after a kill with the same bits; a cache of many shards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.encoders import (
    CachedEncoder,
    EncoderSettings,
    IdEncoder,
    VectorCache,
    encode_log,
    encode_stream,
)
from recworld.encoders import cache as cache_module
from recworld.encoders import stream as stream_module
from recworld.encoders import vectors as vectors_module
from recworld.encoders.shards import open_shard
from recworld.errors import InputError, InputTypeError, UnavailableError

TEXTS = [f"text {n % 90}" for n in range(200)] + ["", "  text 1 "]


class Counting(IdEncoder):
    """An encoder that notes what reaches it, and can be interrupted."""

    def __init__(self, width: int = 6, stop_after: int = 1_000_000) -> None:
        super().__init__(width)
        self.seen: list[str] = []
        self.stop_after = stop_after

    def encode(self, texts: Sequence[str]) -> Any:
        if len(self.seen) + len(texts) > self.stop_after:
            raise KeyboardInterrupt
        self.seen += texts
        return super().encode(texts)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_file_holds_what_encode_gives(dtype: Any, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "vectors.npy"
    assert encode_stream(iter(TEXTS), out, IdEncoder(6), dtype, block=16) == len(TEXTS)
    vectors = np.load(out, mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(vectors, IdEncoder(6).encode(TEXTS).astype(dtype))
    assert vectors.dtype == dtype
    assert [file.name for file in out.parent.iterdir()] == ["vectors.npy"]


def test_no_texts_and_one_block(tmp_path: Path) -> None:
    assert encode_stream([], tmp_path / "none.npy", IdEncoder(6)) == 0
    assert np.load(tmp_path / "none.npy").shape == (0, 6)
    assert encode_stream(TEXTS, tmp_path / "one.npy", IdEncoder(6)) == len(TEXTS)


@pytest.mark.parametrize("done", [0, 16, 100, 192])
def test_interrupted_it_goes_on_where_it_was(done: int, tmp_path: Path) -> None:
    encode_stream(TEXTS, tmp_path / "whole.npy", IdEncoder(6), block=16)
    out = tmp_path / "broken.npy"
    with pytest.raises(KeyboardInterrupt):
        encode_stream(TEXTS, out, Counting(stop_after=done), block=16)
    assert not out.exists()
    rest = Counting()
    encode_stream(TEXTS, out, rest, block=16)
    assert len(rest.seen) == len(TEXTS) - done // 16 * 16
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_texts_that_come_again_are_encoded_once_with_a_cache(tmp_path: Path) -> None:
    inner = Counting()
    encode_stream(TEXTS, tmp_path / "a.npy", CachedEncoder(inner, tmp_path / "cache"), block=16)
    assert sorted(inner.seen) == sorted({text.strip() for text in TEXTS} - {""})


def test_what_was_begun_with_something_else_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    with pytest.raises(KeyboardInterrupt):
        encode_stream(TEXTS, out, Counting(stop_after=64), block=16)
    for texts, encoder, what in (
        (["other", *TEXTS[1:]], IdEncoder(6), "texts"),
        (TEXTS[:30], IdEncoder(6), "texts"),
        (TEXTS, IdEncoder(6, seed=1), "settings"),
    ):
        with pytest.raises(InputError, match=f"was begun with other {what}") as error:
            encode_stream(texts, out, encoder, block=16)
        assert "\n" not in str(error.value)
    encode_stream(TEXTS, out, IdEncoder(6), block=16)


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputTypeError, match="Got one string"):
        encode_stream("text", tmp_path / "v.npy", IdEncoder(6))
    with pytest.raises(InputTypeError, match=r"position 1 must be a string\. Got int 3"):
        encode_stream(["a", 3], tmp_path / "v.npy", IdEncoder(6))  # type: ignore[list-item]
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="Cannot write"):
        encode_stream(["a"], tmp_path / "file" / "v.npy", IdEncoder(6))


KILLED = """
import sys, time
from pathlib import Path
from recworld.encoders import CachedEncoder, IdEncoder, encode_stream
class Slow(IdEncoder):
    def encode(self, texts):
        time.sleep(0.02)
        return super().encode(texts)
def texts():
    for n in range(4000):
        yield f"text {n % 3500}"
print("ready", flush=True)
encode_stream(texts(), Path(sys.argv[1]), CachedEncoder(Slow(6), Path(sys.argv[2])), block=100)
print("done", flush=True)
"""


def test_killed_at_any_moment_the_bits_are_those_of_an_unbroken_run(tmp_path: Path) -> None:
    texts = [f"text {n % 3500}" for n in range(4000)]
    encode_stream(texts, tmp_path / "whole.npy", IdEncoder(6), block=100)
    for moment in (0.05, 0.3, 60.0):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "out.npy"), str(tmp_path / "cache")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            end = time.monotonic() + moment
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


class TestManyShards:
    """The cache finds texts in any number of shards, and keeps their number small."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache_module, "MANY", 8)
        monkeypatch.setattr(cache_module, "SHARD_BYTES", 4096)
        monkeypatch.setattr(cache_module, "FLUSH_SECONDS", 0.0)
        monkeypatch.setattr(cache_module, "GROUP", 4)

    def test_small_shards_are_put_together(self, tmp_path: Path) -> None:
        texts = [f"t{n}" for n in range(600)]
        inner = Counting()
        cached = CachedEncoder(inner, tmp_path)
        first = cached.encode(texts)
        shards = list(cached.cache.folder.iterdir())
        assert len(shards) < 600 / 4 / 3
        assert all(open_shard(path, 6) for path in shards)
        np.testing.assert_array_equal(cached.encode(texts), first)
        np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(texts[::-1]), first[::-1])
        assert len(inner.seen) == 600

    def test_what_another_process_put_together_is_found(self, tmp_path: Path) -> None:
        texts = [f"t{n}" for n in range(100)]
        vectors = IdEncoder(6).encode(texts)
        reader, writer = VectorCache(tmp_path, 6), VectorCache(tmp_path, 6)
        for n in range(0, 100, 10):
            writer.write(texts[n : n + 10], vectors[n : n + 10])
            assert reader.read(texts)[1].sum() == n + 10
        writer.compact()
        assert len(list(tmp_path.iterdir())) == 2
        found, known = reader.read(texts)
        assert known.all()
        np.testing.assert_array_equal(found, vectors)

    def test_a_shard_that_vanishes_between_looking_and_reading(
        self, tmp_path: Path, monkeypatch: Any
    ) -> None:
        cache = VectorCache(tmp_path, 6)
        cache.write(["a"], np.ones((1, 6), np.float32))
        assert cache.read(["a"])[1].all()
        next(tmp_path.iterdir()).unlink()
        monkeypatch.setattr(cache, "_refresh", lambda: None)
        assert not cache.read(["a"])[1].any()

    def test_a_text_in_two_shards_stands_in_one_afterwards(self, tmp_path: Path) -> None:
        cache = VectorCache(tmp_path, 6)
        for n in range(8):
            cache.write(["same", f"other {n}"], np.full((2, 6), n, np.float32))
        before = VectorCache(tmp_path, 6).read(["same"])[0]
        cache.compact()
        (merged,) = tmp_path.iterdir()
        shard = open_shard(merged, 6)
        assert shard is not None
        assert shard.rows == 9
        np.testing.assert_array_equal(VectorCache(tmp_path, 6).read(["same"])[0], before)

    def test_keys_that_share_their_start_are_told_apart(self, tmp_path: Path, monkeypatch: Any) -> None:
        def keys(texts: Sequence[str]) -> Any:
            return np.frombuffer(
                b"".join(b"sameseed" + text.ljust(8).encode() for text in texts), np.uint8
            ).reshape(-1, 16)

        monkeypatch.setattr(cache_module, "_keys", keys)
        cache = VectorCache(tmp_path, 2)
        cache.write(["a", "b"], np.array([[1, 1], [2, 2]], np.float32))
        vectors, known = cache.read(["b", "a", "c"])
        assert not known[2]
        for n, value in ((0, 2), (1, 1)):
            assert not known[n] or vectors[n, 0] == value


def _endless() -> Iterator[str]:
    n = 0
    while True:
        n += 1
        yield f"text {n}"


def test_only_a_block_is_read_ahead(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        encode_stream(_endless(), tmp_path / "v.npy", Counting(stop_after=500), block=100)


def test_a_log_of_very_many_texts_goes_through_a_file(
    make_log: Any, own_cache: Path, monkeypatch: Any
) -> None:
    log = make_log(
        tuple(f"user {n % 7} likes {n % 11}" for n in range(90)), tuple(f"film {n}" for n in range(60))
    )
    settings = EncoderSettings(kind="tfidf", width=5)
    whole = encode_log(log, settings)
    monkeypatch.setattr(stream_module, "IN_MEMORY", 1000)
    monkeypatch.setattr(stream_module, "BLOCK", 16)
    by_file = encode_log(log, settings)
    np.testing.assert_allclose(by_file.user, whole.user, atol=1e-5)
    np.testing.assert_allclose(by_file.item, whole.item, atol=1e-5)
    assert list(own_cache.glob("encoding-*")) == []
    monkeypatch.setattr(vectors_module, "FIT_ROWS", 40)
    few = encode_log(log, settings)
    np.testing.assert_allclose(np.linalg.norm(few.item, axis=1), 1, atol=1e-5)
