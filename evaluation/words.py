"""Texts as words: finding them, leaving some out, and the small accidents that happen to a text on its way."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np

_WORD = re.compile(r"\w+(?:['’\-&.]\w+)*")
_EMPTY = re.compile(r"\(\s*\)|\[\s*\]|\"\s*\"")
_SPACE = re.compile(r"\s+")
_BEFORE = re.compile(r"\s+([,.;:!?)\]])")
_TWICE = re.compile(r"([,.;:])(?:\s*[,;:.])+")
_START = re.compile(r"^[\s,.;:]+")

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""Letters of a keyboard; neighbours of a key are those beside, above and below it."""


def _neighbours() -> dict[str, str]:
    place = {letter: (r, c) for r, row in enumerate(ROWS) for c, letter in enumerate(row)}
    return {
        one: "".join(o for o, (r, c) in place.items() if o != one and abs(r - pr) <= 1 and abs(c - pc) <= 1)
        for one, (pr, pc) in place.items()
    }


NEIGHBOURS = _neighbours()


def words_of(text: str) -> list[str]:
    """Return the words of a text in order: runs of letters and digits, with what joins them inside (rock-'n'-roll).

    >>> words_of("Toy Story (1995). Children's, Sci-Fi.")
    ['Toy', 'Story', '1995', "Children's", 'Sci-Fi']
    """
    return [found.group() for found in _WORD.finditer(text)]


def without(text: str, left_out: Collection[int]) -> str:
    """Return a text without the words of these numbers, and without the empty brackets and double commas they leave.

    >>> without("Toy Story (1995). Animation, Comedy.", {2, 3})
    'Toy Story. Comedy.'
    """
    parts, end = [], 0
    for number, found in enumerate(_WORD.finditer(text)):
        if number in left_out:
            parts.append(text[end : found.start()])
            end = found.end()
    return _tidy("".join([*parts, text[end:]]))


def _tidy(text: str) -> str:
    text = _BEFORE.sub(r"\1", _SPACE.sub(" ", _EMPTY.sub("", text)))
    text = _START.sub("", _TWICE.sub(r"\1", text)).strip()
    return text if _WORD.search(text) else ""


def replaced(text: str, new: dict[int, str]) -> str:
    """Return a text with the words of these numbers replaced."""
    parts, end = [], 0
    for number, found in enumerate(_WORD.finditer(text)):
        if number in new:
            parts += [text[end : found.start()], new[number]]
            end = found.end()
    return "".join([*parts, text[end:]])


def typo(word: str, random: np.random.Generator) -> str:
    """Return a word with one slip of the fingers: a neighbouring key, two letters swapped, one lost or one doubled."""
    places = [n for n, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not places:
        return word
    at, kind = int(random.choice(places)), int(random.integers(4))
    letter = word[at]
    if kind == 1 and at + 1 < len(word) and word[at + 1] != letter:
        return word[:at] + word[at + 1] + letter + word[at + 2 :]
    if kind == 2 and len(word) > 2:
        return word[:at] + word[at + 1 :]
    if kind == 3:
        return word[:at] + letter + word[at:]
    other = str(random.choice(list(NEIGHBOURS[letter.lower()])))
    return word[:at] + (other.upper() if letter.isupper() else other) + word[at + 1 :]


def with_typos(text: str, share: float, random: np.random.Generator) -> str:
    """Return a text with one slip in this share of its words of three characters and more, in one of them at least."""
    words = words_of(text)
    able = [n for n, word in enumerate(words) if len(word) > 2 and any(c.lower() in NEIGHBOURS for c in word)]
    if not able:
        return text
    hit = random.permutation(able)[: max(1, round(share * len(able)))]
    return replaced(text, {int(n): typo(words[n], random) for n in hit})


def with_dropped(text: str, share: float, random: np.random.Generator) -> str:
    """Return a text without this share of its words, drawn at random: one at least, and never all of them."""
    count = len(words_of(text))
    if count < 2:
        return text
    drop = min(max(1, round(share * count)), count - 1)
    return without(text, set(random.permutation(count)[:drop].tolist()))


def with_order_lost(text: str, random: np.random.Generator) -> str:
    """Return the words of a text in random order, its marks in their places."""
    words = words_of(text)
    order = random.permutation(len(words))
    return replaced(text, {n: words[order[n]] for n in range(len(words))})


def shouted(text: str) -> str:
    """Return a text in capitals, without its marks."""
    return " ".join(words_of(text)).upper()


def appended(text: str, words: Sequence[str]) -> str:
    """Return a text with words after it."""
    return " ".join([text, *words]).strip()
