"""Errors that a user can act on: one line that says what, where, what was expected, and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RecworldError(Exception):
    """Base of every error raised on purpose; the command line prints it in one line, exit code 2."""


class InputError(RecworldError, ValueError):
    """A value, name, file or column given by the user is wrong."""


class InputTypeError(RecworldError, TypeError):
    """A value given by the user has the wrong type."""


class UnavailableError(RecworldError, RuntimeError):
    """Something outside the process (network, disk, a package) is not there; the text says what to do."""


class CorruptError(RecworldError, RuntimeError):
    """A stored file does not hold what was written to it."""


def did_you_mean(name: str, options: Iterable[str], limit: int = 12) -> str:
    """Return the end of an error sentence: the nearest right name, or the list of names when none is near.

    >>> did_you_mean("ppoo", ["dqn", "ppo"])
    "Did you mean 'ppo'?"
    >>> did_you_mean("x", ["dqn", "ppo"])
    'Known: dqn, ppo.'
    """
    known = sorted(set(options))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    shown = ", ".join(known[:limit]) + (", ..." if len(known) > limit else "")
    return f"Known: {shown}."
