"""From a text to a score: what the recommender's estimate would be, had a user or an item another text.

The factors of a world's agent side are fitted with text as side information: around a linear function of the text vector
where little else is known, away from it where the log says more. That function is read off the tables again, by ridge
regression, and a changed text moves a row by a share of what it moves the function:

    row(text') = row + share * (T(text') - T(text))

With no early interaction text is all there is: share 1. Ratings, and attraction learnt from exposures, are Bayesian
factorisations: share = n0 / (n0 + n) after n interactions, n0 the variance of the noise over that of what text leaves open.
Attraction learnt from consumption is drawn towards the text at each of its rows, so the text's say does not fade:
share = floor + (1 - floor) n0 / (n0 + n), with numbers measured on MovieLens-100K by fitting it again with other texts
(`benchmarks/robustness.py --again` measures them on any log). A text changed after the fit, and the log left as it is: this
is what a new fit would make of it, to first order and on average over items of as many interactions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.encoders.reduction import Role
from recworld.errors import InputError
from recworld.logs.log import FloatArray
from recworld.simulators.prepare import prepare_tables

if TYPE_CHECKING:
    from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Encode = Callable[[Sequence[str], Role], FloatArray]
"""``encode(texts, role) -> (n, D)``: unit text vectors, as `TextVectors.encode_new` gives them."""


class Remembered:
    """An `Encode` that asks another for each text once, and for none of a catalogue whose vectors are there.

    Args:
        encode: the other.
        texts: of the catalogue, as items.
        vectors: (I, D) float32.
    """

    def __init__(self, encode: Encode, texts: Sequence[str] = (), vectors: FloatArray | None = None) -> None:
        self._encode = encode
        self._known: dict[tuple[Role, str], FloatArray] = {}
        if vectors is not None:
            self._known = {("item", text): row for text, row in zip(texts, vectors, strict=True)}

    def __call__(self, texts: Sequence[str], role: Role) -> FloatArray:
        """Return the vectors of texts, (n, D) float32."""
        new = [text for text in dict.fromkeys(texts) if (role, text) not in self._known]
        if new or not texts:
            rows = self._encode(new, role)
            self._known |= {(role, text): row for text, row in zip(new, rows, strict=True)}
        if not texts:
            return rows
        return np.stack([self._known[role, text] for text in texts])


STRENGTHS = tuple(10.0 ** np.arange(-2, 5))
"""Ridge penalties tried; each column takes the one with the smallest leave-one-out error."""
FADING = {1: (0.3, 3.0), 3: (0.17, 1.0)}
"""Floor and n0 of attraction learnt from consumption: of factors (group 1) and of biases (group 3)."""
FULL_SAY = 20.0
"""Interactions from which on a member counts in full in the regression, as in the fit of the attraction model."""


@dataclass(frozen=True)
class Estimate:
    """The recommender's score of user rows and item rows: a click logit, or the expected reward where ratings count.

    Rows hold F factors, then the rating bias, then the attraction bias.

    Attributes:
        rating_width: Fr.
        weights: reward of a click and of a normalised rating.
        middle, half: of the rating scale.
        by_click: whether the score is the click logit.
        rates: whether the scale has ratings.
    """

    rating_width: int
    weights: tuple[float, float]
    middle: float
    half: float
    by_click: bool
    rates: bool

    def scores(self, user: Floats, item: Floats) -> Floats:
        """Return scores, (n, m), of n user rows (n, F + 2) and m item rows (m, F + 2)."""
        fr = self.rating_width
        logit = user[:, fr:-2] @ item[:, fr:-2].T + user[:, -1:] + item[:, -1]
        if self.by_click:
            return np.asarray(logit)
        worth = self.weights[0] + self.weights[1] * (self._worth(user, item) if self.rates else 1.0)
        return np.asarray(expit(logit) * worth)

    def _worth(self, user: Floats, item: Floats) -> Floats:
        fr = self.rating_width
        eta = user[:, :fr] @ item[:, :fr].T + user[:, -2:-1] + item[:, -2]
        return np.asarray(np.clip((eta - self.middle) / self.half, -1.0, 1.0))


@dataclass(frozen=True)
class Side:
    """One side of the estimate, and what its texts say of it.

    Attributes:
        own: (n, F + 2) rows as they stand.
        told: (n, F + 2) what the texts alone say, T.
        share: (n, F + 2) how much of the text's word is left, 1 where nothing else is known.
        slope: (D, F + 2) of T.
        level: (F + 2,) T of a text that tells nothing.
    """

    own: Floats
    told: Floats
    share: Floats
    slope: Floats
    level: Floats

    def of(self, vectors: npt.NDArray[Any]) -> Floats:
        """Return the rows that texts alone make one expect, (n, F + 2), for vectors (n, D)."""
        return np.asarray(np.asarray(vectors, np.float64) @ self.slope + self.level)

    def moved(self, number: int | npt.NDArray[Any], vectors: npt.NDArray[Any]) -> Floats:
        """Return the rows of members that have other texts, (n, F + 2).

        Args:
            number: of one member for all vectors, or of one for each.
            vectors: (n, D) of the new texts.
        """
        return np.asarray(self.own[number] + self.share[number] * (self.of(vectors) - self.told[number]))

    def as_new(self) -> Side:
        """Return the side as if nobody had met its members: their texts alone speak."""
        return replace(self, own=self.told, share=np.ones_like(self.share))


@dataclass(frozen=True)
class TextRoute:
    """The recommender's estimate as a function of texts.

    Attributes:
        estimate: from rows to scores.
        user: the users' side.
        item: the items' side.
    """

    estimate: Estimate
    user: Side
    item: Side

    @classmethod
    def of(cls, world: World, weights: tuple[float, float] = (1.0, 0.0)) -> TextRoute:
        """Read the route off a world.

        Args:
            world: with text vectors.
            weights: of clicks and of normalised ratings in the reward that the estimate aims at.

        Raises:
            InputError: the world's text vectors are all zero.
        """
        if not world.item_vector.any() and not world.user_vector.any():
            raise InputError(
                f"World {world.name!r} has no text vectors: nothing leads from a text to a score."
            )
        seer = world.agent.response
        tables = prepare_tables(world, np.arange(world.num_users, dtype=np.int32))
        user = _rows(tables.agent_taste, tables.agent_user_rating, tables.agent_user_attraction)
        item = _rows(tables.agent_item, tables.agent_item_rating, tables.agent_item_attraction)
        low, high = world.scale.low, world.scale.high
        estimate = Estimate(
            seer.rating_width, weights, (low + high) / 2, (high - low) / 2 or 1.0, weights[1] == 0.0,
            world.scale.kind != "click",
        )  # fmt: skip
        met = np.diff(world.agent.history_start).astype(np.float64)
        groups, noise = column_groups(user.shape[1], seer.rating_width), _noise(world)
        return cls(
            estimate,
            _side(world.user_vector, user, met, item, groups, noise),
            _side(world.item_vector, item, world.agent.popularity.astype(np.float64), user, groups, noise),
        )

    def cold(self) -> TextRoute:
        """Return the route as it would be for a catalogue nobody has rated: texts alone speak of the items."""
        return replace(self, item=self.item.as_new())

    def scores(
        self, users: npt.NDArray[Any], vectors: npt.NDArray[Any], item: int | npt.NDArray[Any]
    ) -> Floats:
        """Return the scores, (n, m), that users give items of other texts.

        Args:
            users: (n,) user numbers.
            vectors: (m, D) of the texts.
            item: the item that has each text, one number or (m,).
        """
        return self.estimate.scores(self.user.own[users], self.item.moved(item, vectors))


def column_groups(width: int, rating_width: int) -> Floats:
    """Return the group of each column: 0 rating factors, 1 attraction factors, 2 rating bias, 3 attraction bias."""
    group = np.ones(width)
    group[:rating_width], group[-2], group[-1] = 0, 2, 3
    return group


def ridge(vectors: npt.NDArray[Any], rows: Floats, weight: Floats | None = None) -> tuple[Floats, Floats]:
    """Return slope (D, P) and level (P,) of a ridge regression of rows (n, P) on vectors (n, D), a penalty per column."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=STRENGTHS, alpha_per_target=True)
    model.fit(np.asarray(vectors, np.float64), rows, sample_weight=weight)
    return np.asarray(model.coef_).T, np.asarray(model.intercept_)


def _rows(factors: FloatArray, rating: FloatArray, attraction: FloatArray) -> Floats:
    return np.concatenate([factors, rating[:, None], attraction[:, None]], 1).astype(np.float64)


def _noise(world: World) -> dict[int, float]:
    """Return the noise variance of one interaction by group of columns; none for attraction learnt from consumption."""
    seer = world.agent.response
    spread = 1 / seer.user_scale if world.scale.kind == "discrete" else seer.user_sigma
    ratings = float(np.mean(spread.astype(np.float64) ** 2))
    out = {0: ratings, 2: ratings}
    if world.attraction_known:
        # A shown row tells s (1 - s) of a logit; counted are clicks, one in 1 / s rows.
        rate = float(np.mean(expit(seer.user_attraction_bias.astype(np.float64))))
        out |= dict.fromkeys((1, 3), 1 / max(1 - rate, 0.1))
    return out


def _side(
    vectors: FloatArray, own: Floats, count: Floats, other: Floats, groups: Floats, noise: dict[int, float]
) -> Side:
    """Return a side.

    Args:
        vectors: (n, D).
        own: (n, F + 2).
        count: (n,) early interactions.
        other: (m, F + 2) rows of the other side: they say how much a gap in the factors matters.
        groups: (F + 2,) of `column_groups`.
        noise: of `_noise`.
    """
    met = count > 0
    if met.sum() < 2:
        met = np.ones(len(own), np.bool_)
    slope, level = ridge(vectors[met], own[met], np.minimum(np.maximum(count[met], 1.0), FULL_SAY))
    told = vectors.astype(np.float64) @ slope + level
    share = np.ones_like(own)
    for group in (0, 1, 2, 3):
        columns = groups == group
        if group not in noise:
            floor, rows = FADING[group]
        elif columns.any():
            gap = own[met][:, columns] - told[met][:, columns]
            metric = np.atleast_2d(np.cov(other[:, columns].T)) if group < 2 else np.eye(1)
            floor, rows = (
                0.0,
                rows_of_text(count[met], np.einsum("nf,fg,ng->n", gap, metric, gap), noise[group]),
            )
        else:
            continue
        share[:, columns] = (floor + (1 - floor) / (1 + count / rows))[:, None]
    return Side(own, told, share, slope, level)


def rows_of_text(count: Floats, size: Floats, noise: float) -> float:
    """Return n0: how many interactions the text is worth, from the gaps of the half of the members with the most.

    A posterior mean stands tau^2 n / (n + n0) from what its text says, in mean square, and n0 = noise / tau^2: both together
    are a quadratic equation in n0.

    Args:
        count: (n,) interactions of each member.
        size: (n,) squared gaps between the scores that its row and its text make one expect.
        noise: variance of the noise of one interaction.
    """
    many = count >= np.median(count)
    gap, rows = float(size[many].mean()), max(float(count[many].mean()), 1.0)
    ratio = noise / max(gap, 1e-9 * noise)
    return float(max(rows / 2 * (np.sqrt(1 + 4 * ratio / rows) - 1), 1e-3))
