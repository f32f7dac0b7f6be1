"""`explain`: which words of the two texts and which consumed items move a score, and which items are near in words.

Two scores are looked into, each by *occlusion*: something is left out, and the score is worked out again.

* The recommender's *estimate* (a click logit, or an expected reward), along the route of `recworld.evaluation.text_route`:
  another text is another row of the tables, by as much as the text has a say beside the log. For consumed items, the
  user's taste is folded in again without each (`recworld.evaluation.fold_in`).
* The trained *agent's* preference among the candidates: it is shown the observation that follows, with other text vectors,
  another history, and the estimate that goes with them. Its unit is the standard deviation of its preferences over the
  candidates that it looks at closely, so that it tells what happens to the item beside the others.

Leaving out is not causing: a text without a word is a text that nobody wrote, words that say the same stand in for each
other, and nothing here says what people would do. `Explanation.check` tells how far single effects may be trusted: whether
the words that moved the score most do so together, against words drawn at random, and what they add up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.baselines_static import reward_weights
from recworld.agents.preferences import preference_of
from recworld.errors import InputError
from recworld.evaluation.fold_in import FoldIn
from recworld.evaluation.text_route import Encode, TextRoute
from recworld.evaluation.words import without, words_of
from recworld.seeding import generator

if TYPE_CHECKING:
    from recworld.agents.base import Observation
    from recworld.envs import RecVectorEnv

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOP = 3
"""Words left out together by the check."""
SAME = 0.01
"""Difference of components above which a text is not what a user's vector was made of."""
DRAWS = 8
"""Draws of as many random words."""


@dataclass(frozen=True)
class Effects:
    """What each of n things adds to the score of an item: the score less the score without it.

    Attributes:
        names: words or item texts.
        estimate: (n,) in units of the recommender's score.
        agent: (n,) in standard deviations of the agent's preferences; None without an agent.
        place: (n,) place of the item among the candidates, 1 the best, without the thing; None without an agent.
        items: (n,) item numbers where things are items.
    """

    names: tuple[str, ...]
    estimate: Floats
    agent: Floats | None = None
    place: Ints | None = None
    items: Ints | None = None


@dataclass(frozen=True)
class Check:
    """Whether the single effects of an item's words hold together, for one score.

    Attributes:
        top: what the score loses when the `TOP` words of the largest effects are left out together.
        random: what it loses, on average, when as many random words are.
        whole: what it loses when the whole text is.
        total: sum of the effects of single words.
    """

    top: float
    random: float
    whole: float
    total: float


@dataclass(frozen=True)
class Near:
    """An item near in words.

    Attributes:
        item: item number.
        name: its text.
        likeness: cosine of the centred text vectors.
        shared: words in common.
    """

    item: int
    name: str
    likeness: float
    shared: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """Why an item stands where it stands for a user; see the module's text.

    Attributes:
        user, item: numbers.
        score: the recommender's estimate.
        place: of the item among the candidates, by the agent; None without an agent.
        text_share: share of the item's attraction factors that its text still decides.
        met: early interactions of the item.
        item_words, user_words, consumed: effects.
        near: items near in words, the nearest first.
        check: of the item's words, by "estimate" and, with an agent, "agent"; empty with fewer than `TOP` + 1 words.
        fold_fit: R^2 of folded-in tastes: how well `consumed` retells the estimate.
    """

    user: int
    item: int
    score: float
    place: int | None
    text_share: float
    met: int
    item_words: Effects
    user_words: Effects
    consumed: Effects
    near: tuple[Near, ...]
    check: dict[str, Check]
    fold_fit: float

    def text(self, top: int = 2) -> str:
        """Return a few lines of words.

        Args:
            top: words and items named on each side.
        """
        from recworld.evaluation.explaining_lines import lines_of

        return "\n".join(lines_of(self, top))


class Explainer:
    """Explains scores at the start of an episode; what belongs to a user is worked out once.

    Args:
        env: of one user, in the features form, with the candidates among which the agent chooses.
        encode: from texts to vectors, usually ``TextVectors.load(run / "text").encode_new``.
        agent: whose preferences are looked into; without one, the estimate alone is.
        seed: of the episode and of random draws.

    Raises:
        InputError: the environment has more than one user or another form, a reward that no estimate aims at, or no text.
    """

    def __init__(self, env: RecVectorEnv, encode: Encode, agent: Any = None, seed: int = 0) -> None:
        if env.num_envs != 1 or env.observation_form != "features":
            raise InputError("An explanation needs an environment of one user with observation='features'.")
        weights = reward_weights(env)
        self.env, self.world, self.encode, self.seed = env, env.world, encode, seed
        self.route = TextRoute.of(env.world, (1.0, 0.0) if weights is None else weights)
        self.preference = None if agent is None else preference_of(agent)
        self._person: Person | None = None

    @cached_property
    def fold_in(self) -> FoldIn:
        """Tastes folded in again."""
        return FoldIn(self.world, self.route, self.seed)

    def explain(self, user: int, item: int, near: int = 3) -> Explanation:
        """Return why an item stands where it stands for a user.

        Args:
            user: user number.
            item: item number, among the candidates where there is an agent.
            near: items near in words.

        Raises:
            InputError: no such user or item, or the agent cannot choose the item.
        """
        for name, number, size in (
            ("user", user, self.world.num_users),
            ("item", item, self.world.num_items),
        ):
            if not 0 <= number < size:
                raise InputError(f"The {name} must be a number from 0 to {size - 1}. Got {number}.")
        if self._person is None or self._person.user != user:
            self._person = Person(self, user)
        person, met = self._person, int(self.world.agent.popularity[item])
        words, check = self._item_words(person, item)
        return Explanation(
            user, item, person.score(item), person.place(item), float(self.route.item.share[item, -3]), met,
            words, person.by_words(item), person.by_consumed(item), self._near(item, near), check,
            self.fold_in.fit[1] if self.route.estimate.by_click else float(np.nanmean(self.fold_in.fit)),
        )  # fmt: skip

    def _item_words(self, person: Person, item: int) -> tuple[Effects, dict[str, Check]]:
        text = self.world.item_text[item]
        words = words_of(text)
        count = len(words)
        texts = [without(text, {n}) for n in range(count)]
        both = person.by_item_texts(item, [*texts, ""])
        single = Effects(
            tuple(words), both.estimate[:count], _first(both.agent, count), _first(both.place, count)
        )
        if count <= TOP:
            return single, {}
        drawn = _draws(count, generator(self.seed, "words", item))
        check = {}
        for name, effect in (("estimate", both.estimate), ("agent", both.agent)):
            if effect is None:
                continue
            top = np.argsort(-effect[:count], kind="stable")[:TOP]
            sets = [set(top.tolist()), *drawn]
            out = getattr(person.by_item_texts(item, [without(text, one) for one in sets]), name)
            check[name] = Check(
                float(out[0]), float(out[1:].mean()), float(effect[count]), float(effect[:count].sum())
            )
        return single, check

    def _near(self, item: int, number: int) -> tuple[Near, ...]:
        vectors, own = self.world.boredom_vector, self.world.item_text[item]
        likeness = vectors @ vectors[item]
        likeness[item] = -np.inf
        mine = {word.lower() for word in words_of(own)}
        out = []
        for other in np.argsort(-likeness, kind="stable")[: min(number, len(likeness) - 1)]:
            text = self.world.item_text[other]
            common = tuple(dict.fromkeys(word for word in words_of(text) if word.lower() in mine))
            name = text or f"item {self.world.item_keys[other]}"
            out.append(Near(int(other), name, float(likeness[other]), common))
        return tuple(out)


class Person:
    """One user at the start of an episode: what the agent sees, and what it sees when something is left out."""

    def __init__(self, explainer: Explainer, user: int) -> None:
        self.explainer, self.user = explainer, user
        self.world, self.route = explainer.world, explainer.route
        self.row = self.route.user.own[[user]]
        self._known: dict[str, tuple[tuple[str, ...], Floats, Floats | None]] = {}
        self.seen: Observation = {}
        if explainer.preference is None:
            return
        env = explainer.env
        seen, _ = env.reset(seed=explainer.seed, options={"user": np.array([user])})
        close = explainer.preference.shortlist(seen)
        wide = ("candidates", "candidate_score", "action_mask")
        self.seen = {name: array[:, close] if name in wide else array for name, array in seen.items()}
        self.numbers = env.candidate_items()[:, close]
        self.base = explainer.preference(self.seen, self.numbers)[0]
        self.spread = float(self.base.std()) or 1.0

    def score(self, item: int) -> float:
        """Return the recommender's estimate."""
        return float(self.route.estimate.scores(self.row, self.route.item.own[[item]])[0, 0])

    def _at(self, item: int) -> int:
        found = np.flatnonzero(self.numbers[0] == item)
        if len(found) == 0:
            raise InputError(
                f"Item {self.world.item_keys[item]!r} is not among the candidates that the agent looks at for user "
                f"{self.world.user_keys[self.user]!r}."
            )
        return int(found[0])

    def place(self, item: int) -> int | None:
        """Return the item's place among the candidates, 1 the best."""
        if not self.seen:
            return None
        return 1 + int((self.base > self.base[self._at(item)]).sum())

    def _standing(self, preferences: Floats, item: int) -> tuple[Floats, Ints]:
        """Return what the item stands above the mean candidate, (n,), and its place, (n,), of preferences (n, C)."""
        own = preferences[:, self._at(item)]
        place = 1 + (preferences > own[:, None]).sum(1)
        return (own - preferences.mean(1)) / self.spread, place.astype(np.int64)

    def _effects(self, names: tuple[str, ...], estimate: Floats, prefer: Floats | None, item: int) -> Effects:
        """Return effects on one item, from its scores (n,) and all preferences (n, C) without each thing."""
        moved = self.score(item) - estimate
        if prefer is None:
            return Effects(names, moved)
        before, _ = self._standing(self.base[None], item)
        after, place = self._standing(prefer, item)
        return Effects(names, moved, before - after, place)

    def by_item_texts(self, item: int, texts: Sequence[str]) -> Effects:
        """Return what the item's text has over each of other texts."""
        vectors = self.explainer.encode(texts, "item")
        scores = self.route.scores(np.array([self.user]), vectors, item)[0]
        if not self.seen:
            return self._effects(tuple(texts), scores, None, item)
        at, seen = self._at(item), self._repeated(len(texts))
        seen["candidates"][:, at], seen["candidate_score"][:, at] = vectors, scores
        return self._effects(tuple(texts), scores, self._prefer(seen), item)

    def by_words(self, item: int) -> Effects:
        """Return the effects of the words of the user's text."""
        if "words" not in self._known:
            text = self.world.user_text[self.user]
            words = words_of(text)
            texts = [text, *(without(text, {n}) for n in range(len(words)))]
            vectors = self.explainer.encode(texts, "user")
            if np.abs(vectors[0] - self.world.user_vector[self.user]).max() > SAME:
                words = []  # the vector was made of something else, of a profile say
            vectors = vectors[1 : 1 + len(words)]
            rows = self.route.user.moved(self.user, vectors)
            self._known["words"] = (tuple(words), rows, self._prefer_of(rows, user=vectors))
        return self._cut("words", item)

    def by_consumed(self, item: int) -> Effects:
        """Return the effects of the consumed items."""
        if "consumed" not in self._known:
            past = self.explainer.fold_in.consumed(self.user).item
            rows = self.row + self.explainer.fold_in.moves(self.user)
            names = tuple(self.world.item_text[i] or f"item {self.world.item_keys[i]}" for i in past)
            self._known["consumed"] = (names, rows, self._prefer_of(rows, **self._histories(len(past))))
        effects, past = self._cut("consumed", item), self.explainer.fold_in.consumed(self.user).item
        return Effects(effects.names, effects.estimate, effects.agent, effects.place, past)

    def _cut(self, what: str, item: int) -> Effects:
        names, rows, prefer = self._known[what]
        scores = self.route.estimate.scores(rows, self.route.item.own[[item]])[:, 0]
        return self._effects(names, scores, prefer, item)

    def _prefer_of(self, rows: Floats, **other: npt.NDArray[Any]) -> Floats | None:
        """Return preferences where the user has other rows (n, F + 2) of the estimate, and the observation other parts."""
        if not self.seen:
            return None
        seen = self._repeated(len(rows))
        items = self.route.item.own[self.numbers[0]]
        seen["candidate_score"][:] = np.clip(self.route.estimate.scores(rows, items), -50, 50)
        seen["user_estimate"][:] = rows[:, :-2]
        for name, array in other.items():
            seen[name][:] = array
        return self._prefer(seen)

    def _histories(self, count: int) -> dict[str, npt.NDArray[Any]]:
        """Return the parts of the observation that tell what was consumed, without each item in turn."""
        if not self.seen:
            return {}
        agent, length = self.world.agent, self.seen["history"].shape[1]
        begin, end = agent.history_start[self.user : self.user + 2]
        rows = np.arange(begin, end)
        shape = (count, length)
        vectors = np.zeros((*shape, self.world.vector_width), np.float32)
        feedback = np.zeros(shape, np.float32)
        for n, left in enumerate(rows[len(rows) - count :]):
            last = rows[rows != left][-length:]
            if len(last):
                vectors[n, -len(last) :] = self.world.item_vector[agent.history_item[last]]
                feedback[n, -len(last) :] = agent.history_feedback[last]
        return {"history": vectors, "history_feedback": feedback}

    def _repeated(self, count: int) -> Observation:
        return {name: np.repeat(array, count, 0) for name, array in self.seen.items()}

    def _prefer(self, seen: Observation) -> Floats:
        count = len(seen["step"])
        preference = self.explainer.preference
        if preference is None or count == 0:
            return np.zeros((0, len(self.base)))
        return preference(seen, np.repeat(self.numbers, count, 0))


def explain(
    env: RecVectorEnv, encode: Encode, user: int, item: int, agent: Any = None, near: int = 3, seed: int = 0
) -> Explanation:
    """Return why an item stands where it stands for a user; for several, make one `Explainer`.

    Args:
        env: of one user, in the features form.
        encode: from texts to vectors: ``TextVectors.encode_new``.
        user: user number.
        item: item number.
        agent: whose preferences are looked into beside the estimate.
        near: items near in words.
        seed: of the episode.

    Raises:
        InputError: as `Explainer` and `Explainer.explain` say.
    """
    return Explainer(env, encode, agent, seed).explain(user, item, near)


def _first(array: npt.NDArray[Any] | None, count: int) -> npt.NDArray[Any] | None:
    return None if array is None else array[:count]


def _draws(count: int, random: np.random.Generator) -> list[set[int]]:
    return [set(random.permutation(count)[:TOP].tolist()) for _ in range(DRAWS)]
