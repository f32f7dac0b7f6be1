"""Progress: silent when asked to be, whole lines where there is no terminal."""

from __future__ import annotations

import time

import pytest

from recworld.progress import announced, bar, say, track


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert list(track(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_whole_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    with bar(4, "counting", "text") as shown:
        shown.mininterval = 0  # ten seconds by default
        time.sleep(0.6)
        for _ in range(4):
            shown.update(1)
    say("done")
    text = capsys.readouterr().err
    assert "\r" not in text
    assert text.splitlines()[-1] == "done"
    assert text.splitlines()[-2].startswith("counting: 100%")
    assert "text/s" in text


def test_a_long_wait_is_announced_and_a_short_one_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    with announced("short", after=5.0):
        pass
    with announced("long", after=0.05):
        time.sleep(0.5)
    assert capsys.readouterr().err == "long\n"
