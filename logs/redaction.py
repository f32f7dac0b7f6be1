"""Redaction: what matches a pattern is taken out of the texts of a log before anything is made of them.

Vectors, worlds, run folders and caches are made of the redacted texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from recworld.errors import InputError, did_you_mean
from recworld.logs.log import InteractionLog
from recworld.logs.words import counted
from recworld.progress import track
from recworld.settings import VERBATIM

TOKEN = "[redacted]"
"""What stands in place of a match; the same for all patterns, so that it does not tell which one matched."""

NAMED = {
    "email": r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "phone": r"(?<!\w)\+?\(?\d(?:[\s().\-/]{0,3}\d){6,14}(?!\w)",
    "url": r"(?i:https?://|\bwww\.)\S+",
    "number": r"\d+(?:[.,]\d+)*",
}
"""Patterns by name; each takes time proportional to the text. A phone number has 7 to 15 digits (ITU-T E.164)."""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern, or the one of that name, ready for use.

    Raises:
        InputError: it is no regular expression, or matches the empty text.
    """
    try:
        found = re.compile(NAMED.get(pattern, pattern))
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        raise InputError(f"no regular expression: {error.msg}{place}") from None
    except (OverflowError, RecursionError) as error:
        raise InputError(f"no regular expression that can be used: {error}") from None
    if found.search(""):
        raise InputError("the pattern matches the empty text, so it would match everywhere")
    return found


def _named_hint(pattern: str) -> str:
    hint = did_you_mean(pattern, NAMED)
    return f" ({hint[:1].lower()}{hint[1:]})" if hint.startswith("Did") and pattern not in NAMED else ""


def check_pattern(pattern: str) -> str:
    """Return the pattern as it is.

    Raises:
        InputError: as in `compiled`.
    """
    compiled(pattern)
    return pattern


Pattern = Annotated[str, AfterValidator(check_pattern), VERBATIM]
"""A regular expression of Python's `re`, or a name of `NAMED`, as the type of a setting."""


@dataclass(frozen=True)
class Redacted:
    """Texts after redaction.

    Attributes:
        texts: as many as were given, in their order.
        changed: texts with at least one match.
        places: stretches that were replaced.
        idle: patterns that matched nothing, as they were given.
    """

    texts: tuple[str, ...]
    changed: int
    places: int
    idle: tuple[str, ...] = ()


def redact(texts: Sequence[str], patterns: Sequence[str]) -> Redacted:
    """Replace what the patterns match by `TOKEN`.

    All patterns see the text as it was given; matches that overlap or touch are replaced as one, so the order of the
    patterns does not matter. Matches without length are passed over.

    Python's `re` backtracks: a pattern with a repetition inside a repetition, as ``(a+)+b``, can take hours on a text of
    thirty characters. Ctrl-C stops it.

    Args:
        texts: any texts.
        patterns: regular expressions of `re`, or names of `NAMED`.

    Raises:
        InputError: a pattern is not a regular expression, or matches the empty text.
    """
    ready = {pattern: compiled(pattern) for pattern in patterns}
    if not ready:
        return Redacted(tuple(texts), 0, 0)
    done: dict[str, tuple[str, int]] = {}
    idle = dict.fromkeys(ready)
    for text in track(dict.fromkeys(texts), "Redacting texts", unit="texts"):
        spans = []
        for pattern, expression in ready.items():
            own = [match.span() for match in expression.finditer(text) if match.end() > match.start()]
            if own:
                idle.pop(pattern, None)
            spans += own
        done[text] = _replaced(text, sorted(spans))
    found = [done[text] for text in texts]
    return Redacted(
        tuple(text for text, _ in found), sum(n > 0 for _, n in found), sum(n for _, n in found), tuple(idle)
    )


def _replaced(text: str, spans: Sequence[tuple[int, int]]) -> tuple[str, int]:
    """Return the text with `TOKEN` in place of spans, which come in rising order, and how many of it."""
    parts: list[str] = []
    end = 0
    for start, stop in spans:
        if start > end or not parts:
            parts += [text[end:start], TOKEN]
        end = max(end, stop)
    return "".join([*parts, text[end:]]), len(parts) // 2


def redact_log(log: InteractionLog, patterns: Sequence[str], items: bool = False) -> InteractionLog:
    """Return the log with redacted user texts, and a note that says how much was replaced.

    Identifiers, and the names of columns, are left as they are.

    Args:
        log: any log.
        patterns: as in `redact`; without any the log is returned as it is.
        items: whether item texts are redacted too.

    Raises:
        InputError: as in `redact`.
    """
    if not patterns:
        return log
    users = redact(log.user_text, patterns)
    notes, item_text = [_note(users, "user")], log.item_text
    if items:
        catalogue = redact(log.item_text, patterns)
        item_text = catalogue.texts
        notes.append(_note(catalogue, "item"))
    return replace(log, user_text=users.texts, item_text=item_text, notes=(*log.notes, *notes))


def _note(done: Redacted, what: str) -> str:
    texts = f"{done.changed:,} of {counted(len(done.texts), f'{what} text')}"
    idle = [f"{pattern!r}{_named_hint(pattern)}" for pattern in done.idle]
    nothing = f"; nothing matched {', '.join(idle)}" if idle else ""
    return f"redacted: {counted(done.places, 'place')} in {texts}{nothing}"
