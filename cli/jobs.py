"""Commands as processes side by side; one that fails is told in a line, and an interruption stops them all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from recworld.errors import InputError
from recworld.progress import bar

START = "from recworld.cli.main import main; main()"
GRACE = 20.0
"""Seconds that a process gets to end by itself once it was told to."""
PAUSE = 0.1


@dataclass(frozen=True)
class Job:
    """One process.

    Attributes:
        name: for people.
        words: of the command, as after ``recworld``.
        log: where its output goes.
        code: what python runs.
    """

    name: str
    words: tuple[str, ...]
    log: Path
    code: str = START


def side_by_side(
    jobs: Sequence[Job],
    width: int,
    title: str,
    keep: int | None = None,
    done: Callable[[], int] | None = None,
    total: int | None = None,
) -> dict[str, str]:
    """Run the jobs in order, at most `width` at a time, and return what those that failed said last, by name.

    Args:
        jobs: what is run; each gets one thread.
        width: processes side by side.
        title: of the progress bar.
        keep: a file descriptor that the children inherit (a lock they share).
        done: how much is done by now, for the bar; the jobs that ended by default.
        total: what `done` counts up to; the number of jobs by default.
    """
    waiting, running, failed = list(jobs), dict[Job, subprocess.Popen[bytes]](), dict[str, str]()
    with bar(total or len(jobs), title, "runs") as shown:
        try:
            while waiting or running:
                while waiting and len(running) < width:
                    job = waiting.pop(0)
                    running[job] = _start(job, keep)
                for job, process in list(running.items()):
                    if process.poll() is not None:
                        del running[job]
                        if process.returncode:
                            failed[job.name] = _last_words(job, process.returncode)
                ended = len(jobs) - len(waiting) - len(running)
                shown.update(max(0, (ended if done is None else done()) - int(shown.n)))
                if waiting or running:
                    time.sleep(PAUSE)
        finally:
            _stop(list(running.values()))
    return failed


def _start(job: Job, keep: int | None) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with job.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", job.code, *job.words],
            env=os.environ | threads | {"RECWORLD_QUIET": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if keep is None else (keep,),
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Tell processes to end, and see to it that they do; another Ctrl-C meanwhile only hurries."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE
    try:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _last_words(job: Job, code: int) -> str:
    lines = [line.strip() for line in job.log.read_text(errors="replace").splitlines() if line.strip()]
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"
    return lines[-1].removeprefix("error: ")[:300] if lines else f"exit code {code}, no word"


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Hold a lock that children share, so that what a killed command left running is not met by a second one.

    Yields:
        The file descriptor for the children; None where the system has no such locks.

    Raises:
        InputError: somebody else holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file: IO[str]
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{path.parent} is at work already, or runs that a killed command left behind are: wait for them."
            ) from None
        yield file.fileno()
