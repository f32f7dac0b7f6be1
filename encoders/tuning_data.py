"""The pairs that a language model learns from: each distinct text once, rows as numbers of texts, and what is held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import clean_texts
from recworld.encoders.tuning_settings import TuningSettings
from recworld.errors import InputError
from recworld.logs.log import InteractionLog, RatingScale
from recworld.progress import say
from recworld.seeding import generator

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
SIDES = ("user", "item")


@dataclass(frozen=True)
class Pairs:
    """n pairs of texts with what came of them.

    Attributes:
        user: (n,) numbers of distinct user texts.
        item: (n,) numbers of distinct item texts.
        value: (n,) float32 ratings; of clicks 1, and 0 of an item that was not consumed.
    """

    user: Ints
    item: Ints
    value: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.value)

    def take(self, rows: Ints | Mask) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.user[rows], self.item[rows], self.value[rows])

    def side(self, name: str) -> Ints:
        """Return `user` or `item`."""
        return self.user if name == "user" else self.item


@dataclass(frozen=True)
class TuningData:
    """What a language model learns from.

    Attributes:
        texts: the distinct texts of each side, by its name.
        train, held: pairs that are learnt from, and those that the epoch is chosen by.
        scale: of the values.
        numbers: (U,) and (I,) numbers of the texts of the log's users and items, -1 where there is none.
        members: numbers of the users of the training rows (n,), and of the held-out ones: who consumed what. Of clicks,
            those of the rows that were clicked.
    """

    texts: dict[str, list[str]]
    train: Pairs
    held: Pairs
    scale: RatingScale
    numbers: dict[str, Ints]
    members: tuple[Ints, Ints]


def tuning_data(
    log: InteractionLog, users: Sequence[str], settings: TuningSettings, seed: int, rows: Ints | None = None
) -> TuningData:
    """Return the pairs of a log.

    Args:
        log: the log.
        users: U texts of users (the log's own, or profiles).
        settings: what is held out.
        seed: of what is held out, and of the items that stand against clicks.
        rows: rows of the log that may be used at all; none: every one.

    Raises:
        InputError: no pair has text on both sides, or nothing can be held out.
    """
    texts, number = {}, {}
    for side, own in (("user", users), ("item", log.item_text)):
        cleaned = clean_texts(own)
        texts[side] = [text for text in dict.fromkeys(cleaned) if text]
        place = {text: n for n, text in enumerate(texts[side])}
        number[side] = np.array([place.get(text, -1) for text in cleaned], np.int64)
    rows = np.arange(len(log)) if rows is None else np.asarray(rows, np.int64)
    users_of, items_of = log.user[rows].astype(np.int64), log.item[rows].astype(np.int64)
    told = (number["user"][users_of] >= 0) | (settings.objective == "contrastive")
    told &= number["item"][items_of] >= 0
    if not told.all():
        say(f"{int((~told).sum()):,} of {len(rows):,} rows have no text on a side and are left out.")
    rows, users_of, items_of = rows[told], users_of[told], items_of[told]
    if len(rows) < 2:
        raise InputError(
            f"{log.name}: fine-tuning needs rows with text of the user and of the item. Got {len(rows)}."
            " Where users have no text, --encoder.user-profile always writes them one."
        )
    whole = Pairs(number["user"][users_of], number["item"][items_of], log.rating[rows].astype(np.float32))
    held = _held(settings, users_of, items_of, seed)
    train, held_pairs = whole.take(~held), whole.take(held)
    if settings.objective == "rating" and log.scale.kind == "click":
        train, held_pairs = (
            _with_absent(part, whole, seed, name) for part, name in ((train, "train"), (held_pairs, "held"))
        )
    return TuningData(texts, train, held_pairs, log.scale, number, (users_of[~held], users_of[held]))


def _held(settings: TuningSettings, users: Ints, items: Ints, seed: int) -> Mask:
    """Return which rows are held out."""
    rng = generator(seed, "tuning", "held")
    if settings.validation == "rows":
        unit = np.arange(len(users))
    else:
        unit = np.unique(users if settings.validation == "users" else items, return_inverse=True)[1]
    count = int(unit.max()) + 1
    if count < 2:
        raise InputError(f"--tuning.validation {settings.validation} needs at least 2 of them. Got {count}.")
    size = min(max(1, round(settings.validation_share * count)), count - 1)
    chosen = np.zeros(count, np.bool_)
    chosen[rng.permutation(count)[:size]] = True
    return np.asarray(chosen[unit], np.bool_)


def _with_absent(part: Pairs, whole: Pairs, seed: int, name: str) -> Pairs:
    """Return clicks beside as many pairs that were not clicked.

    The items of the latter are drawn as often as they are clicked in `part`, so that a text is learnt for whom it suits and
    not for how popular it is.
    """
    rng = generator(seed, "tuning", "absent", name)
    size = int(whole.item.max()) + 1
    known = np.unique(whole.user * size + whole.item)
    item = part.item[rng.integers(len(part), size=len(part))]
    fresh = ~np.isin(part.user * size + item, known)
    zeros = np.zeros(int(fresh.sum()), np.float32)
    return Pairs(
        np.concatenate([part.user, part.user[fresh]]),
        np.concatenate([part.item, item[fresh]]),
        np.concatenate([np.ones(len(part), np.float32), zeros]),
    )


def side_batches(pairs: Pairs, side: str, texts: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield row numbers by batch: all pairs of `texts` texts of one side; every pair stands in one batch."""
    own = pairs.side(side)
    present, place = np.unique(own, return_inverse=True)
    batches = -(-len(present) // texts)
    part = np.empty(len(present), np.int64)
    part[rng.permutation(len(present))] = np.arange(len(present)) % batches
    key = part[place]
    order = np.argsort(key, kind="stable")
    borders = np.searchsorted(key[order], np.arange(batches + 1))
    for n in rng.permutation(batches):
        yield order[borders[n] : borders[n + 1]]


def pair_batches(pairs: Pairs, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield row numbers by batch of random pairs."""
    order = rng.permutation(len(pairs))
    for start in range(0, len(order), size):
        yield order[start : start + size]
