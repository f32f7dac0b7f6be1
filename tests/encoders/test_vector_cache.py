"""Encoded texts survive interruption, are checked when read, and are shared by processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.encoders import CachedEncoder, IdEncoder, VectorCache
from recworld.encoders.cache import GROUP
from recworld.errors import UnavailableError

TEXTS = [f"text number {n}" for n in range(5 * GROUP)]


class Counting(IdEncoder):
    """An encoder that notes what reaches it."""

    def __init__(self) -> None:
        super().__init__(8)
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.seen += texts
        return super().encode(texts)


SLOW = """
import sys, time
from pathlib import Path
from recworld.encoders import CachedEncoder, IdEncoder, cache
cache.FLUSH_SECONDS = 0.0
class Slow(IdEncoder):
    def encode(self, texts):
        time.sleep(0.12)
        print(len(texts), flush=True)
        return super().encode(texts)
print("ready", flush=True)
CachedEncoder(Slow(8), Path(sys.argv[1])).encode([f"text number {n}" for n in range(5 * cache.GROUP)])
"""


def _start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SLOW, str(root)], stdout=subprocess.PIPE, text=True)


def test_only_new_texts_reach_the_encoder(tmp_path: Path) -> None:
    inner = Counting()
    first = CachedEncoder(inner, tmp_path).encode(["a", "b", "a", ""])
    assert sorted(inner.seen) == ["a", "b"]
    second = CachedEncoder(inner, tmp_path).encode(["c", "b", "a"])
    assert inner.seen[2:] == ["c"]
    np.testing.assert_array_equal(second[[2, 1]], first[:2])


def test_killed_at_random_moments_goes_on(tmp_path: Path) -> None:
    whole = IdEncoder(8).encode(TEXTS)
    moments = random.Random(5)
    for groups in (0, 2, 0, 1):
        with _start(tmp_path) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            for _ in range(groups):  # when the second group is under way, the first is stored
                process.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.15))
            process.send_signal(signal.SIGKILL)
    stored = len(list(tmp_path.glob("*/*.safetensors")))
    with _start(tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    done = [int(line) for line in output.split()[1:]]
    assert process.returncode == 0
    assert stored >= 1
    assert sum(done) == len(TEXTS) - stored * GROUP  # nothing that was stored is encoded again
    inner = Counting()
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(TEXTS), whole)
    assert inner.seen == []


def test_interrupted_from_the_keyboard_keeps_finished_groups(tmp_path: Path) -> None:
    class Interrupted(Counting):
        def encode(self, texts: Sequence[str]) -> Any:
            if self.seen:
                raise KeyboardInterrupt
            return super().encode(texts)

    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(Interrupted(), tmp_path).encode(TEXTS)
    inner = Counting()
    CachedEncoder(inner, tmp_path).encode(TEXTS)
    assert len(inner.seen) == len(TEXTS) - GROUP


def test_groups_do_not_depend_on_what_is_stored(tmp_path: Path) -> None:
    """So batches have the same composition, and vectors the same bits, as in a run that was not interrupted."""

    class Groups(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.groups: list[tuple[str, ...]] = []

        def encode(self, texts: Sequence[str]) -> Any:
            if len(self.groups) == 3 and self.stop:
                raise KeyboardInterrupt
            self.groups.append(tuple(texts))
            return super().encode(texts)

        stop = False

    unbroken, broken = Groups(), Groups()
    CachedEncoder(unbroken, tmp_path / "a").encode(TEXTS)
    broken.stop = True
    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(broken, tmp_path / "b").encode(TEXTS)
    broken.stop = False
    CachedEncoder(broken, tmp_path / "b").encode(random.Random(0).sample(TEXTS, len(TEXTS)))
    assert broken.groups == unbroken.groups


def test_two_processes_at_once(tmp_path: Path) -> None:
    processes = [_start(tmp_path) for _ in range(2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    inner = Counting()
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(TEXTS), IdEncoder(8).encode(TEXTS))
    assert inner.seen == []


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other", "text"])
def test_corrupt_entries_are_dropped_and_said(
    damage: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    inner = Counting()
    good = CachedEncoder(inner, tmp_path).encode(TEXTS[:3])
    (shard,) = tmp_path.glob("*/*.safetensors")
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    elif damage == "other":  # whole in itself, but of another encoder
        VectorCache(tmp_path / "x", 3).write(["t"], np.ones((1, 3), np.float32))
        (other,) = (tmp_path / "x").glob("*.safetensors")
        shard.unlink()
        shard, data = shard.with_name(other.name), bytearray(other.read_bytes())
    shard.write_bytes({"cut": data[:50], "empty": b"", "text": b"hello"}.get(damage, bytes(data)))
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode(TEXTS[:3]), good)
    assert len(inner.seen) == 6
    said = capsys.readouterr().err
    assert "Cache entry dropped" in said
    assert shard.name in said
    inner.seen.clear()
    CachedEncoder(inner, tmp_path).encode(TEXTS[:3])
    assert inner.seen == []


def test_left_overs_of_killed_writers_are_swept(tmp_path: Path) -> None:
    cached = CachedEncoder(Counting(), tmp_path)
    cached.encode(["a"])
    old, new = (cached.cache.folder / f".{name}.safetensors.x.part" for name in ("old", "new"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (1, 1))
    cached.encode(["b"])
    assert not old.exists()
    assert new.exists()  # another process may be writing it


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(UnavailableError, match="Cannot write"):
        CachedEncoder(Counting(), blocked).encode(["a"])


def test_encoders_do_not_share_entries(tmp_path: Path) -> None:
    one, two = (CachedEncoder(IdEncoder(8, seed), tmp_path).encode(["a"]) for seed in (0, 1))
    assert not np.allclose(one, two)
