"""The speed of peers: whatever their interpreter does, the table has rows; nothing is timed here."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def speed_peers() -> ModuleType:
    """Return benchmarks/speed_peers.py, which belongs to no package."""
    folder = str(Path(__file__).resolve().parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import speed_peers as module
    finally:
        sys.path.remove(folder)
    return module


def interpreter(folder: Path, body: str) -> str:
    """Return the path of a shell script that stands in for a Python interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_missing_peers_are_rows_that_say_so(speed_peers: ModuleType, tmp_path: Path) -> None:
    bare = interpreter(tmp_path, f'exec "{sys.executable}" -S -E "$@"')  # the standard library alone
    rows = speed_peers.peers(bare, 3)
    assert [row.name for row in rows] == [name for name, _ in speed_peers.PEERS.values()]
    for row in rows:
        assert "No module named" in row.skipped
        assert math.isnan(row.rate)
        assert speed_peers.line(row) == f"{row.name}: skipped: {row.skipped}"


def test_rows_are_read_among_chatter(speed_peers: ModuleType, tmp_path: Path) -> None:
    row = {"name": "?", "setting": "one user", "rate": 1234.5, "spread": 0.1, "version": "1.0", "skipped": ""}
    chatter = ["Gym is old", "3", "[]", '{"level": "note"}']
    (tmp_path / "output").write_text("\n".join([*chatter, json.dumps(row), "bye"]))
    rows = speed_peers.peer_rows(interpreter(tmp_path, f'cat "{tmp_path}/output"'), "recogym", 3)
    assert rows == [speed_peers.Row("RecoGym", "one user", 1234.5, 0.1, "1.0")]
    assert "1,234" in speed_peers.line(rows[0])


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo Killed >&2; exit 3", "exit status 3: Killed"),
        ("exit 0", "no rows"),
        (None, "no interpreter at"),
    ],
)
def test_a_broken_interpreter_is_a_row(speed_peers: ModuleType, tmp_path: Path, body: str, why: str) -> None:
    path = interpreter(tmp_path, body) if body else str(tmp_path / "absent")
    (row,) = speed_peers.peer_rows(path, "recsim", 3)
    assert row.name == "RecSim"
    assert row.skipped.startswith(why)


def test_an_error_inside_a_peer_is_a_row(
    speed_peers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(rounds: int) -> list[object]:
        raise ValueError(f"{rounds} rounds\nare too many")

    monkeypatch.setitem(speed_peers.PEERS, "recsim", ("RecSim", breaks))
    monkeypatch.setattr(sys, "path", [*sys.path])
    speed_peers.measure("recsim", 4)
    (row,) = speed_peers.read_rows("RecSim", capsys.readouterr().out)
    assert row.skipped == "ValueError: are too many"
