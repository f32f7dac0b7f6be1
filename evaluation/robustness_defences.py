"""Ways to read an item's text that a few added words move less, and what the reading costs an honest text.

Each is a function from texts to vectors in the place of the encoder (or a change of the route behind it). A seller who knows
the reading searches against it; so must whoever measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import unit_rows
from recworld.encoders.reduction import Role
from recworld.evaluation.text_route import Encode, Side, TextRoute, ridge
from recworld.evaluation.words import without, words_of
from recworld.logs.log import FloatArray
from recworld.seeding import generator

Floats = npt.NDArray[np.float64]

SMOOTH = 5
"""Drafts of a text whose vectors are averaged."""
KEPT = 0.5
"""Share of the words in a draft."""
CAP = 90
"""Percentile of the catalogue's numbers of words at which texts are cut."""


@dataclass(frozen=True)
class Defence:
    """A way to read the texts of items.

    Attributes:
        name: for tables.
        encode: from texts to vectors.
        uses_level: whether a text may say how attractive an item is to all, or only what kind of item it is.
        refits: whether the regression behind the route is fitted to texts read this way, or stays that of the plain reading.
    """

    name: str
    encode: Encode
    uses_level: bool = True
    refits: bool = True


def defences(texts: Sequence[str], encode: Encode, route: TextRoute, budget: int, seed: int) -> list[Defence]:
    """Return the defences, "none" first.

    * cap: words beyond the `CAP`-th percentile of the catalogue's lengths are not read.
    * smooth: the mean vector of `SMOOTH` drafts, each with half of the words (smoothing by ablation, after Levine & Feizi
      2020, "Robustness certificates for sparse adversarial attacks by randomized ablation").
    * window: of the text and its versions without `budget` words in a row, the one that the mean user likes least. Whichever
      `budget` words somebody adds in one place, one version is the text without them: the mean score over users, where it is
      a click logit, cannot pass that of the honest text read plainly. (Of fewer words that is likely, not certain.)
    * no level: a text tells what an item is like; how much it is liked by all, only the log tells.

    Args:
        texts: of the catalogue.
        encode: the plain reading.
        route: whose mean user "window" asks.
        budget: words of a suffix.
        seed: of the drafts, which are a function of each text.
    """
    longest = int(np.percentile([len(words_of(text)) for text in texts], CAP))

    def cap(given: Sequence[str], role: Role) -> FloatArray:
        return encode([without(t, set(range(longest, len(words_of(t))))) for t in given], role)

    return [
        Defence("none", encode),
        Defence("cap", cap),
        Defence("smooth", _smooth(encode, seed)),
        Defence("window", _window(encode, route, budget), refits=False),
        Defence("no level", encode, uses_level=False),
    ]


def _smooth(encode: Encode, seed: int) -> Encode:
    def draft(text: str, number: int) -> str:
        count = len(words_of(text))
        random = generator(seed, "draft", text, number)
        keep = max(1, round(KEPT * count))
        return without(text, set(random.permutation(count)[keep:].tolist()))

    def smooth(given: Sequence[str], role: Role) -> FloatArray:
        vectors = encode([draft(text, n) for text in given for n in range(SMOOTH)], role)
        return unit_rows(vectors.reshape(len(given), SMOOTH, -1).mean(1))

    return smooth


def _window(encode: Encode, route: TextRoute, budget: int) -> Encode:
    middle = route.user.own.mean(0, keepdims=True)

    def window(given: Sequence[str], role: Role) -> FloatArray:
        versions: list[str] = []
        owner: list[int] = []
        for n, text in enumerate(given):
            count = len(words_of(text))
            starts = range(max(count - budget, 0) + 1)
            own = dict.fromkeys([text, *(without(text, set(range(s, s + budget))) for s in starts)])
            versions += own
            owner += [n] * len(own)
        vectors = encode(versions, role)
        liked = route.estimate.scores(middle, route.item.of(vectors))[0]
        order = np.lexsort((liked, owner))
        first = order[np.searchsorted(np.asarray(owner)[order], np.arange(len(given)))]
        return np.asarray(vectors[first])

    return window


def read_by(
    route: TextRoute, plain: FloatArray, vectors: FloatArray, weight: Floats, defence: Defence
) -> TextRoute:
    """Return the route by which texts speak that are read in another way.

    Args:
        route: of the plain reading.
        plain: (I, D) of the catalogue, read plainly.
        vectors: (I, D) of the catalogue, as the defence reads it.
        weight: (I,) of the items in the regression; 0 leaves one out.
        defence: the reading.
    """
    met = weight > 0
    slope, level = ridge((vectors if defence.refits else plain)[met], route.item.own[met], weight[met])
    if not defence.uses_level:
        slope[:, -2:] = 0.0
        level[-2:] = np.average(route.item.own[met][:, -2:], axis=0, weights=weight[met])
    told = vectors.astype(np.float64) @ slope + level
    return replace(route, item=Side(route.item.own, told, route.item.share, slope, level))


def skill(
    route: TextRoute, plain: FloatArray, vectors: FloatArray, count: Floats, defence: Defence,
    users: npt.NDArray[np.int64], seed: int, least: int = 20, folds: int = 5,
) -> Floats:  # fmt: skip
    """Return the share of variance left unexplained in scores of items that a text alone tells of, by item.

    Folds over items: the regression on the others' texts predicts the scores of the items left out, as the users' own rows
    and the log tell them. 1 less the mean is an R^2: what the reading is worth to an honest newcomer.

    Args:
        route: of the plain reading.
        plain: (I, D) texts read plainly.
        vectors: (I, D) as the defence reads them.
        count: (I,) early interactions.
        defence: the reading.
        users: (n,) whose scores are compared.
        seed: of the folds.
        least: early interactions of an item whose scores the log is taken to know.
        folds: over items.
    """
    known = np.flatnonzero(count >= min(least, np.sort(count)[-min(len(count), 20)]))  # twenty items at least
    part = generator(seed, "skill").permutation(len(known)) % folds
    weight = np.minimum(count, 20.0)
    own = route.estimate.scores(route.user.own[users], route.item.own[known])  # (n, items)
    guess = np.empty_like(own)
    for fold in range(folds):
        out = known[part == fold]
        fitted = read_by(
            route, plain, vectors, np.where(np.isin(np.arange(len(count)), out), 0.0, weight), defence
        )
        guess[:, part == fold] = route.estimate.scores(route.user.own[users], fitted.item.told[out])
    spread = ((own - own.mean(1, keepdims=True)) ** 2).mean()
    return np.asarray(((own - guess) ** 2).mean(0) / spread)
