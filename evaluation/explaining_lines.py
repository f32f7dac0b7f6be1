"""An `Explanation` in a few lines of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from recworld.evaluation.explaining import Effects, Explanation

SMALLEST = 0.005
"""Effects below it are not named: they would be shown as 0.00."""
LONGEST = 26
"""Characters shown of an item's text."""
CHECKS = (
    ("3 strongest words out", "top"),
    ("3 random ones", "random"),
    ("all", "whole"),
    ("one by one they add up to", "total"),
)
"""What is said of a `Check`: words, field; of what the score loses."""


def lines_of(found: Explanation, top: int) -> list[str]:
    """Return the lines; those of the agent are left out where there is none."""
    say = "nobody met it early: the text is all that is known"
    if found.met:
        say = f"text: {found.text_share:.0%} of the say in its factors, beside {found.met} early interactions"
    lines = _scores("item's words", found.item_words, found.place, top, f" [{say}]")
    lines += _scores("user's words", found.user_words, found.place, top)
    lines += _scores("consumed", found.consumed, found.place, top)
    if found.check:
        lines.append(_line("check", "; ".join(_checked(found, *one) for one in CHECKS)))
    if found.near:
        lines.append(
            _line("near in words", "; ".join(f"{_short(n.name)} {_shared(n.shared)}" for n in found.near))
        )
    return lines


def _checked(found: Explanation, name: str, field: str) -> str:
    both = ", ".join(f"{of} {-getattr(check, field):+.2f}" for of, check in sorted(found.check.items()))
    return f"{name}: {both}"


def _line(label: str, text: str) -> str:
    return f"{label:>14}  {text}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 3].rstrip(" .,:;(") + "..."


def _shared(words: tuple[str, ...]) -> str:
    return f"(shares {', '.join(words)})" if words else "(no word in common)"


def _scores(label: str, effects: Effects, place: int | None, top: int, after: str = "") -> list[str]:
    lines = []
    if effects.agent is not None:
        lines.append(_line(label, f"agent     {_sides(effects, effects.agent, top, place)}"))
        label = ""
    lines.append(_line(label, f"estimate  {_sides(effects, effects.estimate, top, None)}{after}"))
    return lines


def _sides(effects: Effects, values: npt.NDArray[Any], top: int, place: int | None) -> str:
    if len(values) == 0:
        return "none at hand"
    parts = []
    for word, sign in (("for", 1), ("against", -1)):
        order = [n for n in np.argsort(-sign * values, kind="stable")[:top] if sign * values[n] >= SMALLEST]
        named = ", ".join(_named(effects, n, values, place) for n in order)
        if named:
            parts.append(f"{word} {named}")
    return "; ".join(parts) or "hardly moved by any"


def _named(effects: Effects, number: int, values: npt.NDArray[Any], place: int | None) -> str:
    moved = ""
    if place is not None and effects.place is not None and effects.place[number] != place:
        moved = f" (place {place} -> {effects.place[number]})"
    return f"{_short(effects.names[number])} {values[number]:+.2f}{moved}"
