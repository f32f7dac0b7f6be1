"""How far other texts move scores and rankings, what a seller's suffix gains, and what a defence buys and costs.

Scores are the recommender's estimate along the route of `recworld.evaluation.text_route`, of items *as known* (the text has
a say beside the log, the less the more people met the item) and *as new* (the text is all there is). Changed items are
ranked within the whole catalogue; the seller's search sees neither the items nor the users that its suffix is measured on,
and against a defence it searches anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import unit_rows
from recworld.errors import InputError
from recworld.evaluation.robustness_attack import ACCIDENTS, Change, near_words, search_suffix, vocabulary
from recworld.evaluation.robustness_defences import Defence, defences, read_by, skill
from recworld.evaluation.robustness_result import Attack, Cost, RobustnessReport, Row, bootstrap_mean
from recworld.evaluation.text_route import FULL_SAY, Encode, Remembered, TextRoute
from recworld.evaluation.words import appended, without, words_of
from recworld.logs.log import FloatArray
from recworld.progress import bar
from recworld.seeding import generator

if TYPE_CHECKING:
    from recworld.evaluation.intervals import Interval
    from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOP = 10
"""Places whose overlap and membership are reported."""
RANDOM, COPIED = "random words", "text of the most popular item"
SEARCHED, SEARCHED_GROUP = "searched words", "searched for a fifth of users"
"""Kinds of suffixes."""
STRONG = 3
"""Words left out together by the check of faithfulness."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        users: whose scores are measured; as many others are what a seller searches on.
        items: whose texts are changed.
        attacked: items that get a suffix, among them.
        seen: other items that a seller searches on.
        budget: words of a suffix.
        tried: words of the catalogue that a seller tries.
        keep: of them, those tried again after the first word.
    """

    users: int = 200
    items: int = 200
    attacked: int = 60
    seen: int = 6
    budget: int = 5
    tried: int = 80
    keep: int = 10


def robustness_report(
    world: World, encode: Encode, weights: tuple[float, float] = (1.0, 0.0), sizes: Sizes | None = None,
    seed: int = 0, only: Sequence[str] | None = None,
) -> RobustnessReport:  # fmt: skip
    """Measure a world.

    Args:
        world: with texts, and vectors that `encode` made.
        encode: from texts to vectors, usually ``partial(vectors.encode_new, keep=False)``.
        weights: of clicks and of normalised ratings in the score.
        sizes: how much is measured.
        seed: of all that is drawn.
        only: names of the defences to look at beside "none"; all by default, an empty list for none of them.

    Raises:
        InputError: the world has too few users or items, or no texts.
    """
    bench = Bench(world, encode, weights, sizes or Sizes(), seed)
    near = near_words(world.item_text, bench.encode)
    with bar(None, "robustness", "change") as shown:
        rows: list[Row] = []
        for name, change in {**ACCIDENTS, "near words": near}.items():
            rows += bench.changed(name, change)
            shown.update(1)
        attacks, costs, plain = [], [], None
        for defence in bench.defences(only):
            found, left = bench.attacks(defence)
            plain = left if plain is None else plain
            attacks += found
            costs.append(
                Cost(defence.name, bootstrap_mean(1 - left, seed), bootstrap_mean(left - plain, seed))
            )
            shown.update(1)
        faithful = bench.faithful()
    setting = {"world": world.name, "seed": seed, **vars(bench.sizes)}
    return RobustnessReport(tuple(rows), tuple(attacks), tuple(costs), faithful, setting)


def remembered(world: World, encode: Encode) -> Remembered:
    """Return an encoder that works on each text once, and knows those of the catalogue; as it is where it is one already."""
    return (
        encode if isinstance(encode, Remembered) else Remembered(encode, world.item_text, world.item_vector)
    )


class Bench:
    """A world's items and users drawn for measuring, and their scores.

    Args:
        world: the world.
        encode: from texts to vectors.
        weights: of clicks and of normalised ratings in the score.
        sizes: how much is measured; cut to what the world has.
        seed: of all that is drawn.

    Raises:
        InputError: the world has too few users or items, or no texts.
    """

    def __init__(
        self, world: World, encode: Encode, weights: tuple[float, float], sizes: Sizes, seed: int
    ) -> None:
        told = np.array([i for i, text in enumerate(world.item_text) if words_of(text)], np.int64)
        items = min(sizes.items, len(told) * 3 // 4)
        users = min(sizes.users, world.num_users // 2)
        if items < TOP or users < 2:
            raise InputError(
                f"World {world.name!r} has {len(told)} items with texts and {world.num_users} users: "
                f"{TOP * 4 // 3 + 1} items and 4 users are the least."
            )
        order = generator(seed, "items").permutation(told)
        self.items = np.sort(order[:items])
        self.attacked = self.items[: min(sizes.attacked, items)]
        self.attacked = np.sort(generator(seed, "attacked").permutation(self.items)[: len(self.attacked)])
        self.seen = np.sort(order[items:][: sizes.seen])
        people = generator(seed, "users").permutation(world.num_users)
        self.users, self.others = np.sort(people[:users]), np.sort(people[users : 2 * users])
        self.sizes = Sizes(
            users, items, len(self.attacked), len(self.seen), sizes.budget, sizes.tried, sizes.keep
        )
        self.world, self.seed = world, seed
        self.encode = remembered(world, encode)
        self.route = TextRoute.of(world, weights)
        self.in_group = _group(self.route)
        for people in (self.users, self.others):
            self.in_group[people[:1]] |= not self.in_group[people].any()
        self.count = world.agent.popularity.astype(np.float64)
        self.weight = np.minimum(np.maximum(self.count, 0.0), FULL_SAY)
        if (self.weight > 0).sum() < 2:
            self.weight = np.ones(len(self.weight))
        self.words = vocabulary(world.item_text, world.agent.popularity, sizes.tried)

    def texts(self, items: Ints) -> list[str]:
        """Return the texts of items."""
        return [self.world.item_text[i] for i in items]

    def random(self, name: str, item: int) -> np.random.Generator:
        """Return the source of what is drawn for an item."""
        return generator(self.seed, name, item)

    def changed(self, name: str, change: Change) -> list[Row]:
        """Return what a change of all sampled items' texts does, as known and as new."""
        old = self.world.item_vector[self.items]
        new_texts = [change(self.world.item_text[i], self.random(name, int(i))) for i in self.items]
        new = self.encode(new_texts, "item")
        cosine = bootstrap_mean((unit_rows(old) * unit_rows(new)).sum(1), self.seed)
        rows = []
        for known, route in (("as known", self.route), ("as new", self.route.cold())):
            stand = Standings(route, self.users, self.items, self.route.item.own)
            after = route.scores(self.users, new, self.items)
            tau, overlap = stand.agreement(after)
            moved = np.abs(after - stand.before).mean(0) / stand.spread
            seed = self.seed
            rows.append(
                Row(
                    name, known, cosine, bootstrap_mean(moved, seed), bootstrap_mean(tau, seed),
                    bootstrap_mean(overlap, seed), bootstrap_mean(stand.rise(after), seed),
                )
            )  # fmt: skip
        return rows

    def defences(self, only: Sequence[str] | None) -> list[Defence]:
        """Return "none" and the chosen defences.

        Raises:
            InputError: no such defence.
        """
        found = defences(self.world.item_text, self.encode, self.route, self.sizes.budget, self.seed)
        if only is None:
            return found
        names = [one.name for one in found]
        for name in only:
            if name not in names:
                raise InputError(f"There is no defence {name!r}. There are: {', '.join(names[1:])}.")
        return [one for one in found if one.name == "none" or one.name in only]

    def attacks(self, defence: Defence) -> tuple[list[Attack], Floats]:
        """Return what suffixes gain under a defence, and what its reading leaves unexplained of newcomers, by item."""
        plain = self.world.item_vector
        vectors = plain if defence.encode is self.encode else self._catalogue(defence)
        route = read_by(self.route, plain, vectors, self.weight, defence)
        left = skill(self.route, plain, vectors, self.count, defence, self.users, self.seed)
        return [self._attack(defence, route, *one) for one in self._suffixes(defence, route)], left

    def _suffixes(self, defence: Defence, route: TextRoute) -> list[tuple[str, list[list[str]], Ints, bool]]:
        """Return by kind: the words for each attacked item, the users they are measured on, whether they were searched."""
        count, popular = len(self.attacked), words_of(self.world.item_text[int(np.argmax(self.count))])
        of_all = self._search(defence, route, self.others)
        of_group = self._search(defence, route, self.others[self.in_group[self.others]])
        return [
            (RANDOM, [self._drawn(int(i)) for i in self.attacked], self.users, False),
            (COPIED, [popular] * count, self.users, False),
            (SEARCHED, [of_all] * count, self.users, True),
            (SEARCHED_GROUP, [of_group] * count, self.users[self.in_group[self.users]], True),
        ]

    def _attack(
        self,
        defence: Defence,
        route: TextRoute,
        kind: str,
        words: list[list[str]],
        users: Ints,
        searched: bool,
    ) -> Attack:
        texts = [appended(t, w) for t, w in zip(self.texts(self.attacked), words, strict=True)]
        new = defence.encode(texts, "item")
        stand = Standings(route.cold(), users, self.attacked, route.item.own)
        known = Standings(route, users, self.attacked, route.item.own)
        after = stand.route.scores(users, new, self.attacked)
        raised = (after - stand.before).mean(0) / stand.spread
        top = 100 * (stand.inside(after) - stand.inside(stand.before))
        risen = known.rise(route.scores(users, new, self.attacked))
        return Attack(
            defence.name, kind, tuple(words[0]) if searched else (),
            bootstrap_mean(stand.rise(after), self.seed), bootstrap_mean(raised, self.seed),
            bootstrap_mean(top, self.seed), bootstrap_mean(risen, self.seed),
        )  # fmt: skip

    def _catalogue(self, defence: Defence) -> FloatArray:
        """Return the vectors of all items, as a defence reads them: those that are ranked beside attacked ones, too."""
        return defence.encode(self.world.item_text, "item")

    def _drawn(self, item: int) -> list[str]:
        random = self.random("suffix", item)
        return [self.words[n] for n in random.permutation(len(self.words))[: self.sizes.budget]]

    def _search(self, defence: Defence, route: TextRoute, users: Ints) -> list[str]:
        cold = route.cold()

        def score(texts: Sequence[str], items: Ints) -> Floats:
            return np.asarray(cold.scores(users, defence.encode(texts, "item"), items).mean(0))

        s = self.sizes
        return search_suffix(score, self.texts(self.seen), self.seen, self.words, s.budget, s.keep)

    def faithful(self) -> dict[str, Interval]:
        """Return what the scores of new items lose when their strongest words go, and when as many random words do."""
        cold, lost = self.route.cold(), {"strongest words": [], "random words": []}  # type: ignore[var-annotated]
        spread = Standings(cold, self.users, self.items, self.route.item.own).spread
        for item in self.attacked:
            text = self.world.item_text[item]
            count = len(words_of(text))
            if count <= STRONG:
                continue
            single = [without(text, {n}) for n in range(count)]
            base = cold.scores(self.users, self.world.item_vector[[item]], int(item)).mean()
            effect = base - cold.scores(self.users, self.encode(single, "item"), int(item)).mean(0)
            drawn = self.random("faithful", int(item)).permutation(count)[:STRONG]
            sets = [set(np.argsort(-effect)[:STRONG].tolist()), set(drawn.tolist())]
            out = self.encode([without(text, one) for one in sets], "item")
            after = cold.scores(self.users, out, int(item)).mean(0)
            for name, value in zip(lost, after, strict=True):
                lost[name].append(float(base - value) / spread)
        return {name: bootstrap_mean(values, self.seed) for name, values in lost.items()}


def _group(route: TextRoute) -> npt.NDArray[np.bool_]:
    """Return the fifth of the users, (U,) bool, who stand farthest out along the direction in which tastes differ most."""
    taste = route.user.own[:, route.estimate.rating_width : -2]
    centred = taste - taste.mean(0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    return np.asarray(along >= np.quantile(along, 0.8))


class Standings:
    """Where items stand for users before their texts are changed.

    Args:
        route: of the scores of these items.
        users: (n,) users.
        items: (m,) items that are changed.
        shelf: (I, F + 2) rows of the catalogue that each of them is ranked within: as the log knows it.
    """

    def __init__(self, route: TextRoute, users: Ints, items: Ints, shelf: Floats) -> None:
        self.route = route
        rows = route.user.own[users]
        everything = route.estimate.scores(rows, shelf)  # (n, I)
        self.before = route.estimate.scores(rows, route.item.own[items])
        self.spread = float(everything.std(1).mean()) or 1.0
        self._sorted = np.sort(everything, 1)
        self._tenth = self._sorted[:, -min(TOP, everything.shape[1])]

    def _below(self, scores: Floats) -> Floats:
        return np.stack([np.searchsorted(row, own) for row, own in zip(self._sorted, scores, strict=True)])

    def rise(self, after: Floats) -> Floats:
        """Return the places that each item rises by itself, mean over users, in per cent of the catalogue, (m,)."""
        places = (self._below(after) - self._below(self.before)).mean(0)
        return np.asarray(100 * places / self._sorted.shape[1])

    def inside(self, scores: Floats) -> Floats:
        """Return the share of users who have each item among their ten best, (m,)."""
        return np.asarray((scores >= self._tenth[:, None]).mean(0))

    def agreement(self, after: Floats) -> tuple[Floats, Floats]:
        """Return per user Kendall's tau and the overlap of the ten best, all items changed, (n,) each."""
        from scipy.stats import kendalltau

        tau = [kendalltau(a, b).statistic for a, b in zip(self.before, after, strict=True)]
        best, still = (np.argsort(-scores, 1, kind="stable")[:, :TOP] for scores in (self.before, after))
        overlap = [len(np.intersect1d(a, b)) / TOP for a, b in zip(best, still, strict=True)]
        return np.nan_to_num(np.array(tau), nan=1.0), np.array(overlap)
