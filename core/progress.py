"""Progress bars with a rate, on stderr; RECWORLD_QUIET=1 switches them off."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def quiet() -> bool:
    """Return whether bars are switched off by the environment variable RECWORLD_QUIET."""
    return os.environ.get("RECWORLD_QUIET", "") not in ("", "0")


class _Lines:
    """Where there is no terminal, a bar is a line every now and then: nothing is drawn over."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(total: int | None, description: str, unit: str = "it") -> Any:
    """Return a tqdm bar (a context manager with ``update(n)``) that appears after half a second of waiting.

    Where stderr is not a terminal, it prints a line at most every ten seconds.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        unit_scale=True,
        file=sys.stderr if terminal else _Lines(),
        disable=quiet(),
        delay=0.5,
        mininterval=0.1 if terminal else 10.0,
        ascii=None if terminal else " #",
        dynamic_ncols=terminal,
    )


def track(items: Iterable[T], description: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yield `items` under a progress bar."""
    with bar(total, description, unit) as shown:
        for item in items:
            yield item
            shown.update(1)


def say(text: str) -> None:
    """Print one line of progress on stderr, unless RECWORLD_QUIET is set."""
    if not quiet():
        print(text, file=sys.stderr, flush=True)


@contextmanager
def announced(text: str, after: float = 2.0) -> Iterator[None]:
    """Say `text` where what is done inside takes longer than `after` seconds."""
    timer = threading.Timer(after, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
