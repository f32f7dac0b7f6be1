"""`InteractionLog`: what people did with a catalogue, as arrays. Identifiers become numbers here only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.storage import content_hash

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RatingScale:
    """How feedback is expressed.

    Attributes:
        kind: "discrete" (levels), "continuous" (low..high) or "click" (consumption only: every rating is 1).
        levels: (R,) the values of a discrete scale in rising order, else empty.
        low: the smallest value the scale allows.
        high: the largest value the scale allows.
    """

    kind: Literal["discrete", "continuous", "click"]
    levels: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0

    def normalise(self, rating: npt.ArrayLike) -> FloatArray:
        """Map ratings to [-1, 1]: (r - mid) / (half range); on a click scale every consumption is 1."""
        values = np.asarray(rating, np.float32)
        if self.kind == "click":
            return np.ones_like(values)
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2 or 1.0  # one level: 0
        return np.asarray((values - middle) / half, np.float32)

    @property
    def liked_from(self) -> float:
        """The smallest rating that counts as liked: three quarters up the scale (4 of 1..5)."""
        return self.low + 0.75 * (self.high - self.low) if self.kind != "click" else 1.0

    def describe(self) -> str:
        """Return the scale in words, as it is said aloud when a log is read."""
        if self.kind == "discrete":
            return f"discrete ratings, {len(self.levels)} levels from {self.low:g} to {self.high:g}"
        return "clicks" if self.kind == "click" else f"continuous ratings from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Exposures:
    """What was shown, row by row; all arrays have one entry per shown item.

    Attributes:
        session: session numbers, 0-based, in time order within a user.
        slate: slate numbers, 0-based, distinct over the whole log.
        position: place in the slate, 0 first.
        user: user numbers.
        item: item numbers.
        clicked: whether the item was taken up.
        rating: the rating given after a click, NaN where none.
        propensity: probability with which the logging policy showed the item, NaN where unknown.
    """

    session: IntArray
    slate: IntArray
    position: IntArray
    user: IntArray
    item: IntArray
    clicked: npt.NDArray[np.bool_]
    rating: FloatArray
    propensity: FloatArray

    def __len__(self) -> int:
        return len(self.item)


@dataclass(frozen=True)
class InteractionLog:
    """Interactions of U users with I items, with the text of both.

    Rows keep the order of the source. Numbers run from 0; `user_keys[u]` and `item_keys[i]` are the source's
    identifiers.

    Attributes:
        name: name of the data set, for people.
        user: (n,) int32 user numbers.
        item: (n,) int32 item numbers.
        rating: (n,) float32 ratings on `scale`; 1.0 throughout for click logs.
        time: (n,) float64 seconds, or None where the log has none.
        user_keys: (U,) identifiers as text.
        item_keys: (I,) identifiers as text.
        user_text: U texts that describe users ("" where unknown).
        item_text: I texts that describe items ("" where unknown).
        scale: the rating scale.
        exposures: what was shown, where it was logged.
        notes: facts said aloud when the log was read (detected scale, dropped duplicates, ...).
    """

    name: str
    user: IntArray
    item: IntArray
    rating: FloatArray
    time: npt.NDArray[np.float64] | None
    user_keys: npt.NDArray[Any]
    item_keys: npt.NDArray[Any]
    user_text: tuple[str, ...]
    item_text: tuple[str, ...]
    scale: RatingScale
    exposures: Exposures | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def num_users(self) -> int:
        """U, the number of users."""
        return len(self.user_keys)

    @property
    def num_items(self) -> int:
        """I, the number of items."""
        return len(self.item_keys)

    def select(self, rows: npt.NDArray[Any]) -> InteractionLog:
        """Return the log with only the given rows (numbers or a mask); users and items stay, exposures go."""
        time = None if self.time is None else self.time[rows]
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=self.rating[rows],
            time=time,
            exposures=None,
        )

    @cached_property
    def order_in_time(self) -> npt.NDArray[np.int64]:
        """Row numbers by user, then time, ties and logs without time in source order. Shape (n,), int64."""
        rows = np.arange(len(self))
        return np.lexsort((rows, self.user) if self.time is None else (rows, self.time, self.user))

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of everything that a fit depends on."""
        parts: list[str | bytes | npt.NDArray[Any]] = [
            repr(self.scale), self.user, self.item, self.rating,
            b"" if self.time is None else self.time,
            "\x00".join(map(str, self.user_keys)), "\x00".join(map(str, self.item_keys)),
            "\x00".join(self.user_text), "\x00".join(self.item_text),
        ]  # fmt: skip
        if self.exposures is not None:
            parts += [getattr(self.exposures, name) for name in Exposures.__annotations__]
        return content_hash(*parts)

    def user_number(self, key: str) -> int:
        """Return the number of the user with identifier `key`.

        Raises:
            InputError: no such user.
        """
        return _number(self.user_keys, key, "user", self.name)

    def item_number(self, key: str) -> int:
        """Return the number of the item with identifier `key`.

        Raises:
            InputError: no such item.
        """
        return _number(self.item_keys, key, "item", self.name)


def _number(keys: npt.NDArray[Any], key: str, what: str, name: str) -> int:
    from recworld.errors import did_you_mean

    found = np.flatnonzero(keys == str(key))
    if len(found) == 0:
        raise InputError(
            f"Unknown {what} {key!r} in {name}. {did_you_mean(str(key), [str(k) for k in keys])}"
        )
    return int(found[0])
