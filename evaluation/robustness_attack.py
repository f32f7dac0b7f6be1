"""Other texts for the same item: accidents, near words, and the words that a seller adds to be ranked higher.

The seller's search is greedy, for one suffix that fits all items (a universal trigger: Wallace et al. 2019, "Universal
adversarial triggers for attacking and analyzing NLP"): each word added is the one of the catalogue's own vocabulary that
raises the mean score most, over items and users that the result is not measured on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.evaluation.text_route import Encode
from recworld.evaluation.words import (
    replaced,
    shouted,
    with_dropped,
    with_order_lost,
    with_typos,
    words_of,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Change = Callable[[str, np.random.Generator], str]
"""``change(text, random) -> text``."""
Raise = Callable[[Sequence[str], Ints], Floats]
"""``score(texts, items) -> (n,)``: mean score over users of items with these texts."""

ACCIDENTS: Mapping[str, Change] = {
    "typos": lambda text, random: with_typos(text, 0.3, random),
    "dropped words": lambda text, random: with_dropped(text, 0.2, random),
    "word order": with_order_lost,
    "capitals, no marks": lambda text, random: shouted(text),
}
"""Accidents by name: a slip in three words of ten, one word of five lost, words shuffled, form alone."""
NEAR_SHARE = 0.3
"""Share of the words replaced by near words."""
NEAREST = 0.35
"""Least cosine of a near word's centred vector."""


def vocabulary(texts: Sequence[str], popularity: npt.NDArray[Any], size: int) -> list[str]:
    """Return words that a seller would try: those of the ten most popular items, then the most frequent ones.

    Args:
        texts: of the I items.
        popularity: (I,).
        size: most words.
    """
    best = np.argsort(-np.asarray(popularity), kind="stable")[:10]
    first = [word for i in best for word in words_of(texts[i])]
    often = [word for word, _ in Counter(w for text in texts for w in words_of(text)).most_common()]
    found: dict[str, str] = {}
    for word in [*first, *often]:
        found.setdefault(word.lower(), word)
    return list(found.values())[:size]


def near_words(texts: Sequence[str], encode: Encode, size: int = 1500) -> Change:
    """Return a change that puts near words in the place of some words of a text.

    Near is what the encoder itself finds near among the catalogue's `size` most frequent words, each encoded alone. Nobody
    checked that these are synonyms: they are what this encoder confuses most easily.

    Args:
        texts: of the catalogue.
        encode: from texts to vectors.
        size: words looked at.
    """
    often = Counter(word.lower() for text in texts for word in words_of(text) if len(word) > 2)
    words = [word for word, _ in often.most_common(size)]
    table: dict[str, str] = {}
    if len(words) > 1:
        vectors = encode(words, "item")
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -1.0)
        best = likeness.argmax(1)
        table = {w: words[best[n]] for n, w in enumerate(words) if likeness[n, best[n]] >= NEAREST}
    return partial(_with_near_words, table)


def _with_near_words(table: dict[str, str], text: str, random: np.random.Generator) -> str:
    words = words_of(text)
    able = [n for n, word in enumerate(words) if word.lower() in table]
    if not able:
        return text
    hit = random.permutation(able)[: max(1, round(NEAR_SHARE * len(words)))]
    new = {int(n): table[words[n].lower()] for n in hit}
    return replaced(text, {n: w.capitalize() if words[n][0].isupper() else w for n, w in new.items()})


def search_suffix(
    score: Raise, texts: Sequence[str], items: Ints, words: Sequence[str], budget: int, keep: int
) -> list[str]:
    """Return the suffix that a greedy search finds, at most `budget` words; shorter where no word raises the score.

    Args:
        score: mean score over users of items with other texts.
        texts: (n,) texts of the items that the search looks at.
        items: (n,) their numbers.
        words: that may be added.
        budget: most words.
        keep: words that are tried again after the first round, the best alone.
    """
    suffix: list[str] = []
    best = float(score(texts, items).mean())
    tried = list(words)
    for _ in range(budget):
        if not tried:
            break
        many = [" ".join([text, *suffix, word]) for word in tried for text in texts]
        gain = score(many, np.tile(items, len(tried))).reshape(len(tried), len(texts)).mean(1)
        order = np.argsort(-gain, kind="stable")
        if gain[order[0]] <= best + 1e-9:
            break
        best = float(gain[order[0]])
        suffix.append(tried[order[0]])
        tried = [tried[n] for n in order[:keep]]
    return suffix
