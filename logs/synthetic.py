"""Synthetic truths: a catalogue and its users in words, with the latent tables that the words tell a part of.

The tables have the layout of the response model (two towers, ordinal probit ratings, logistic attraction),
so that the simulator can run them as they are: the truth `wellspecified`. The truth `foreign` bends them
into another family.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.logs import grammar
from recworld.logs.grammar import ItemAttributes, UserAttributes
from recworld.logs.log import FloatArray, RatingScale
from recworld.logs.settings import SyntheticSettings
from recworld.seeding import generator

Float64 = npt.NDArray[np.float64]

SCALE = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
THRESHOLDS = (-2.0, -1.24, -0.2, 1.05)
"""Together with the spreads below they give 6, 11, 27, 35 and 21 % of ones to fives, as in MovieLens-100K."""
USER_SPREAD, ITEM_SPREAD, TASTE_SPREAD = 0.35, 0.45, 0.6
"""Standard deviations of user bias, item bias and <p_u, q_i>, in units of the rating noise."""
ATTRACTION_SPREAD, POPULARITY_SPREAD = 1.0, 0.8
"""Standard deviations of the personal attraction and of the items' log-popularity, in logits."""
BASE_LOGIT = -1.73
"""Logit of the click rate of a mean item that is noticed: 0.15."""


@dataclass(frozen=True)
class SyntheticTruth:
    """Texts and latent tables of a synthetic world.

    eta(u,i) = user_rating_bias[u] + item_rating_bias[i] + <taste[u, :Fr], item[i, :Fr]>
    logit(u,i) = user_attraction_bias[u] + item_attraction_bias[i] + <taste[u, Fr:], item[i, Fr:]>
    P(r <= levels[c]) = Phi(thresholds[c] + user_shift[u] - user_scale[u] * eta)

    All arrays are float32; F = 2 Fr.

    Attributes:
        taste: (U, F) tastes: rating factors, then attraction factors.
        item: (I, F), the same layout.
        user_rating_bias: (U,).
        item_rating_bias: (I,).
        user_attraction_bias: (U,) logits, the intercept included.
        item_attraction_bias: (I,) logits: log-popularity, mean zero.
        thresholds: (R-1,) rising.
        user_shift: (U,).
        user_scale: (U,) positive.
        rating_width: Fr.
        scale: rating scale.
        user_text: U texts.
        item_text: I texts.
        users: what the user texts tell.
        items: what the item texts tell.
    """

    taste: FloatArray
    item: FloatArray
    user_rating_bias: FloatArray
    item_rating_bias: FloatArray
    user_attraction_bias: FloatArray
    item_attraction_bias: FloatArray
    thresholds: FloatArray
    user_shift: FloatArray
    user_scale: FloatArray
    rating_width: int
    scale: RatingScale
    user_text: tuple[str, ...]
    item_text: tuple[str, ...]
    users: UserAttributes
    items: ItemAttributes

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.taste)

    @property
    def num_items(self) -> int:
        """I."""
        return len(self.item)

    @property
    def user_keys(self) -> npt.NDArray[np.str_]:
        """(U,) identifiers "u1".."uU"."""
        return np.array([f"u{n + 1}" for n in range(self.num_users)], np.str_)

    @property
    def item_keys(self) -> npt.NDArray[np.str_]:
        """(I,) identifiers "i1".."iI"."""
        return np.array([f"i{n + 1}" for n in range(self.num_items)], np.str_)


def synthetic_truth(settings: SyntheticSettings, seed: int) -> SyntheticTruth:
    """Draw a catalogue, its users, their texts and their latent tables.

    Each attribute value (a genre, a setting, a mood, ...) has a random direction. An item's text part is the
    sum of the directions of its attributes, a user's that of what they like less what they dislike;
    `settings.text_share` of the variance is the text part, the rest is noise that no text tells.

    Args:
        settings: sizes and shares.
        seed: the seed.
    """
    rng = generator(seed, "synthetic", "truth")
    items, users = grammar.draw_items(settings.num_items, rng), grammar.draw_users(settings.num_users, rng)
    item_text, user_text = grammar.item_texts(items, rng), grammar.user_texts(users)
    width, share = settings.factors, settings.text_share
    directions = {
        name: rng.standard_normal((count, 2 * width))
        for name, count in (
            ("genre", len(grammar.GENRES)),
            ("setting", len(grammar.SETTINGS)),
            ("mood", len(grammar.MOODS)),
            ("pace", len(grammar.PACES)),
            ("job", len(grammar.JOBS)),
        )
    }
    item = _mixed(_item_part(items, directions), share, rng)
    taste = _mixed(_user_part(users, directions), share, rng)
    _spread(taste, item, width)
    liked = _mixed(_item_part(items, {k: v[:, :1] for k, v in directions.items()}), 0.5 * share, rng)[:, 0]
    noise = rng.standard_normal(settings.num_items)
    popularity = 0.4 * liked + np.sqrt(1 - 0.4**2) * noise
    return SyntheticTruth(
        taste=np.asarray(taste, np.float32),
        item=np.asarray(item, np.float32),
        user_rating_bias=_normal(rng, settings.num_users, USER_SPREAD),
        item_rating_bias=np.asarray(ITEM_SPREAD * liked, np.float32),
        user_attraction_bias=np.asarray(
            BASE_LOGIT + 0.4 * rng.standard_normal(settings.num_users), np.float32
        ),
        item_attraction_bias=np.asarray(
            POPULARITY_SPREAD * (popularity - popularity.mean()) / popularity.std(), np.float32
        ),
        thresholds=np.array(THRESHOLDS, np.float32),
        user_shift=_normal(rng, settings.num_users, 0.3),
        user_scale=np.exp(_normal(rng, settings.num_users, 0.15)),
        rating_width=width,
        scale=SCALE,
        user_text=user_text,
        item_text=item_text,
        users=users,
        items=items,
    )


def _item_part(items: ItemAttributes, directions: dict[str, Float64]) -> Float64:
    return np.asarray(
        directions["genre"][items.genre]
        + 0.6 * directions["setting"][items.setting]
        + 0.6 * directions["mood"][items.mood]
        + 0.4 * directions["pace"][items.pace]
    )


def _user_part(users: UserAttributes, directions: dict[str, Float64]) -> Float64:
    genre = directions["genre"]
    return np.asarray(
        genre[users.first]
        + 0.8 * genre[users.second]
        - 0.8 * genre[users.disliked]
        + 0.6 * directions["setting"][users.setting]
        + 0.6 * directions["mood"][users.mood]
        + 0.3 * directions["job"][users.job]
    )


def _mixed(part: Float64, share: float, rng: np.random.Generator) -> Float64:
    """Return columns of mean 0 and variance about 1, `share` of it from the standardised `part`."""
    spread = part.std(0)
    told = (part - part.mean(0)) / np.where(spread > 1e-9, spread, 1.0)
    return np.asarray(np.sqrt(share) * told + np.sqrt(1 - share) * rng.standard_normal(part.shape))


def _spread(taste: Float64, item: Float64, width: int) -> None:
    """Scale both halves of the tables, in place, to the wished standard deviation of the inner products."""
    for half, wished in ((slice(0, width), TASTE_SPREAD), (slice(width, None), ATTRACTION_SPREAD)):
        # Var <p, q> over independent pairs = trace(E pp' E qq').
        second = (taste[:, half].T @ taste[:, half] / len(taste)) @ (
            item[:, half].T @ item[:, half] / len(item)
        )
        factor = np.sqrt(wished / np.sqrt(np.trace(second)))
        taste[:, half] *= factor
        item[:, half] *= factor


def _normal(rng: np.random.Generator, count: int, spread: float) -> FloatArray:
    return np.asarray(spread * rng.standard_normal(count), np.float32)
