"""Files are whole or absent, folders are checked when read, and a corrupt cache entry is made anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recworld.errors import CorruptError, UnavailableError
from recworld.storage import (
    cached_folder,
    check_folder,
    content_hash,
    read_arrays,
    read_json,
    write_arrays,
    write_folder,
    write_json,
    write_text,
)


def fill_one(folder: Path) -> None:
    write_json(folder / "a.json", {"a": 1})
    (folder / "deep").mkdir()
    write_arrays(folder / "deep" / "b.safetensors", {"b": np.arange(6).reshape(2, 3)})


def test_round_trip_of_arrays(tmp_path: Path) -> None:
    arrays = {
        "x": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
        "y": np.zeros((0, 4), np.int64),
        "z": np.array(True),
    }
    write_arrays(tmp_path / "a.safetensors", arrays)
    back = read_arrays(tmp_path / "a.safetensors")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", float("nan"))
    assert read_json(tmp_path / "a.json") == 1
    with pytest.raises(RuntimeError, match="half way"):
        write_folder(tmp_path / "folder", lambda folder: _half_way(folder))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def _half_way(folder: Path) -> None:
    write_text(folder / "a", "a")
    raise RuntimeError("half way")


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "no manifest"])
def test_damage_is_found_and_the_entry_made_anew(tmp_path: Path, damage: str) -> None:
    path = cached_folder(tmp_path / "entry", fill_one)
    check_folder(path)
    file = path / "deep" / "b.safetensors"
    if damage == "flip":
        raw = bytearray(file.read_bytes())
        raw[-1] ^= 1
        file.write_bytes(raw)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "remove":
        file.unlink()
    elif damage == "manifest":
        (path / "manifest.json").write_text("{")
    else:
        (path / "manifest.json").unlink()
    with pytest.raises(CorruptError):
        check_folder(path)
    calls = []
    cached_folder(path, lambda folder: (calls.append(1), fill_one(folder))[1])
    assert calls == [1]
    check_folder(path)
    cached_folder(path, lambda folder: (calls.append(1), fill_one(folder))[1])
    assert calls == [1], "a whole entry is not made again"


def test_broken_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a"
    with pytest.raises(CorruptError, match="a cannot be read as JSON"):
        read_json(file)
    file.write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(CorruptError, match="a cannot be read as safetensors"):
        read_arrays(file)
    with pytest.raises(CorruptError, match="a cannot be read as JSON"):
        read_json(file)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (lambda p: write_json(p, 1), lambda p: write_folder(p, fill_one)):
        with pytest.raises(UnavailableError, match=r"Cannot write .*file/a"):
            write(tmp_path / "file" / "a")


WRITER = """
import sys, time
from pathlib import Path
from recworld.storage import write_folder, write_text

def fill(folder):
    for n in range(3):
        write_text(folder / str(n), sys.argv[2] * 20000)

while True:
    write_folder(Path(sys.argv[1]), fill)
"""


def test_killed_at_random_moments_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    for n, delay in enumerate([0.0, 0.003, 0.011, 0.02, 0.05]):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)])
        while not list(tmp_path.iterdir()):
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        if path.exists():
            check_folder(path)
    cached_folder(path, fill_one)
    write_folder(path, fill_one)
    assert [p.name for p in tmp_path.iterdir()] == ["entry"], "what the killed ones left is swept"


def test_writers_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)], stderr=subprocess.PIPE)
        for n in range(2)
    ]
    time.sleep(1.5)
    alive = [writer.poll() is None for writer in writers]
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert alive == [True, True]


PARTS = st.lists(st.one_of(st.text(max_size=4), st.binary(max_size=4)), max_size=4)


@given(PARTS, PARTS)
def test_content_hash_tells_borders_apart(one: list[str | bytes], two: list[str | bytes]) -> None:
    def plain(parts: list[str | bytes]) -> list[bytes]:
        return [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]

    assert (content_hash(*one) == content_hash(*two)) == (plain(one) == plain(two))


def test_content_hash_sees_values_shape_and_type() -> None:
    base = np.arange(6, dtype=np.int32)
    others = [base + 1, base.reshape(2, 3), base.astype(np.int64), base.astype(np.float32)]
    assert len({content_hash(array) for array in [base, *others]}) == 5
    assert content_hash(base[::2]) == content_hash(base[::2].copy())
