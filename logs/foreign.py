"""The truth `foreign`: a world outside our simulator's family, to see what a wrong model is worth.

What differs from the simulator of DESIGN §4, each on purpose:

* attraction goes through a cauchit link, P = 1/2 + atan(x)/pi, and examination falls as (k + 1)^-0.7;
* rating noise is a mixture, 70 % normal and 30 % Cauchy, and the thresholds differ by genre;
* satiation is multiplicative, per genre, and recovers with *real time*, each user with a half-life of their
own; * `1 - text_share` of the tastes is in no text, and two hidden factors touch both responses;
* popularity has trends: items are released during the log and their appeal decays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.logs import grammar
from recworld.logs.log import InteractionLog
from recworld.logs.policy import LogBook, draw_slates, policy_score
from recworld.logs.settings import LogSettings, SyntheticSettings
from recworld.logs.synthetic import SyntheticTruth, synthetic_truth
from recworld.progress import bar
from recworld.seeding import generator

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

START = 1_600_000_000.0
"""Unix seconds at which the log begins."""
DAY = 86_400.0
SPAN = 60 * DAY
"""Seconds within which new items are released."""
SATIATION_GAIN, SATIATION_DEPTH = 0.35, 0.85
"""Share of the remaining room that a consumption fills; share of attraction that full satiation takes."""
CELLS = 4_000_000
"""Most users x items scored at once."""


@dataclass(frozen=True)
class ForeignTruth:
    """What there is to know about the foreign world.

    Attributes:
        base: texts and the latent tables that it bends.
        hidden_user: (U, 2) factors that no text tells.
        hidden_item: (I, 2).
        thresholds: (G, R-1) rating thresholds by genre.
        half_life: (U,) seconds in which satiation halves.
        release: (I,) seconds at which an item appears; START for the most.
        trend: (I,) logits of appeal at release, decaying.
        decay: (I,) seconds in which the trend falls to 1/e.
    """

    base: SyntheticTruth
    hidden_user: Float64
    hidden_item: Float64
    thresholds: Float64
    half_life: Float64
    release: Float64
    trend: Float64
    decay: Float64

    def appeal(self, time: Float64) -> Float64:
        """Return (N, I) log-popularity at (N,) times."""
        age = np.maximum(time[:, None] - self.release, 0.0)
        return np.asarray(self.base.item_attraction_bias + self.trend * np.exp(-age / self.decay))

    def attraction(self, user: Int64, slate: Int64, time: Float64) -> Float64:
        """Return (N, K) attraction of slate items before satiation, in units of the cauchit link."""
        width = self.base.rating_width
        taste, item = self.base.taste[user, width:], self.base.item[slate, width:]
        age = np.maximum(time[:, None] - self.release[slate], 0.0)
        popular = self.base.item_attraction_bias[slate] + self.trend[slate] * np.exp(-age / self.decay[slate])
        personal = np.einsum("nf,nkf->nk", taste, item) + self._hidden(user, slate)
        return np.asarray(self.base.user_attraction_bias[user][:, None] + popular + personal, np.float64)

    def utility(self, user: Int64, slate: Int64) -> Float64:
        """Return (N, K) mean rating utility of slate items."""
        width = self.base.rating_width
        personal = np.einsum("nf,nkf->nk", self.base.taste[user, :width], self.base.item[slate, :width])
        bias = self.base.user_rating_bias[user][:, None] + self.base.item_rating_bias[slate]
        return np.asarray(bias + personal + 0.6 * self._hidden(user, slate), np.float64)

    def _hidden(self, user: Int64, slate: Int64) -> Float64:
        return np.asarray(np.einsum("nf,nkf->nk", self.hidden_user[user], self.hidden_item[slate]))


def foreign_truth(settings: SyntheticSettings, seed: int) -> ForeignTruth:
    """Draw the foreign world; the same settings and seed always give the same one."""
    base = synthetic_truth(settings, seed)
    rng = generator(seed, "synthetic", "foreign")
    genres = len(grammar.GENRES)
    shift, stretch = 0.35 * rng.standard_normal((genres, 1)), np.exp(0.2 * rng.standard_normal((genres, 1)))
    late = rng.random(base.num_items) < 0.3
    return ForeignTruth(
        base=base,
        hidden_user=0.6 * rng.standard_normal((base.num_users, 2)),
        hidden_item=0.6 * rng.standard_normal((base.num_items, 2)),
        thresholds=shift + stretch * base.thresholds.astype(np.float64),
        half_life=DAY * np.exp(np.log(2.0) + 0.7 * rng.standard_normal(base.num_users)),
        release=START + np.where(late, SPAN * rng.random(base.num_items), 0.0),
        trend=np.where(late, 1.5, 0.3) * rng.random(base.num_items),
        decay=DAY * rng.uniform(5.0, 30.0, base.num_items),
    )


class ForeignUsers:
    """N users of the foreign world, side by side, to be shown slates by the logging policy or any other.

    Args:
        truth: the world.
        user: (N,) user numbers.
        rng: draws everything.
    """

    def __init__(self, truth: ForeignTruth, user: Int64, rng: np.random.Generator) -> None:
        self.truth, self.user, self._rng = truth, user, rng
        n = len(user)
        self.time: Float64 = START + 30 * DAY * rng.random(n)
        """(N,) seconds."""
        self.session: Int64 = np.zeros(n, np.int64)
        """(N,) number of the session, from 0."""
        self.satiation: Float64 = np.zeros((n, len(grammar.GENRES)))
        """(N, G) in [0, 1)."""
        self.satisfaction: Float64 = np.full(n, 0.6)
        """(N,) in [0, 1]."""

    def step(self, rows: Int64, slate: Int64) -> tuple[Mask, Float64]:
        """Show one slate each to the users in `rows`, and let their time pass.

        Args:
            rows: (n,) places 0..N-1.
            slate: (n, K) item numbers; I is an empty slot.

        Returns:
            (n, K) clicked and (n, K) ratings, drawn for every item and given where clicked.
        """
        truth, rng, user = self.truth, self._rng, self.user[rows]
        empty = slate >= truth.base.num_items
        slate = np.where(empty, 0, slate)
        genre = truth.base.items.genre[slate]
        sated = self.satiation[rows[:, None], genre]
        chance = 0.5 + np.arctan(1.5 * truth.attraction(user, slate, self.time[rows])) / np.pi
        seen = (np.arange(slate.shape[1]) + 1.0) ** -0.7
        clicked = (rng.random(slate.shape) < chance * (1 - SATIATION_DEPTH * sated) * seen) & ~empty
        rating = self._rate(user, slate, genre, sated)
        self._feel(rows, genre, clicked, rating)
        self._pass_time(rows, slate.shape[1])
        return clicked, rating

    def _rate(self, user: Int64, slate: Int64, genre: Int64, sated: Float64) -> Float64:
        rng, base = self._rng, self.truth.base
        heavy = rng.random(slate.shape) < 0.3
        noise = np.where(heavy, 0.5 * rng.standard_cauchy(slate.shape), rng.standard_normal(slate.shape))
        eta = base.user_scale[user][:, None] * (self.truth.utility(user, slate) - 0.4 * sated)
        latent = eta - base.user_shift[user][:, None] + noise
        level = (latent[:, :, None] > self.truth.thresholds[genre]).sum(2)
        return np.asarray(np.array(base.scale.levels)[level], np.float64)

    def _feel(self, rows: Int64, genre: Int64, clicked: Mask, rating: Float64) -> None:
        for k in range(genre.shape[1]):
            taken = clicked[:, k]
            who, what = rows[taken], genre[taken, k]
            self.satiation[who, what] += SATIATION_GAIN * (1 - self.satiation[who, what])
        pleasure = np.where(clicked, (rating - 1) / 4, 0.0).max(1)
        self.satisfaction[rows] += 0.3 * (pleasure - self.satisfaction[rows])

    def _pass_time(self, rows: Int64, size: int) -> None:
        rng, n = self._rng, len(rows)
        leaves = rng.random(n) < 1 / (1 + np.exp(2.5 - 3.0 * (1 - self.satisfaction[rows])))
        within = 10.0 * (size + 1) + 120.0 * rng.random(n)
        passed = within + np.where(leaves, 3600.0 + rng.exponential(2 * DAY, n), 0.0)
        self.time[rows] += passed
        self.session[rows] += leaves
        self.satisfaction[rows] = np.where(leaves, 0.6, self.satisfaction[rows])
        self.satiation[rows] *= 0.5 ** (passed / self.truth.half_life[self.user[rows]])[:, None]


def foreign(settings: LogSettings, seed: int = 0) -> InteractionLog:
    """Draw a log of the foreign world by a biased logging policy with known propensities.

    Args:
        settings: `synthetic` gives the size; the scale is that of the truth.
        seed: the seed of the world and of its log.
    """
    truth = foreign_truth(settings.synthetic, seed)
    users, items = truth.base.num_users, truth.base.num_items
    book = LogBook()
    size = max(CELLS // items, 1)
    with bar(users, "Drawing the log of the foreign world", "user") as shown:
        for start in range(0, users, size):
            chosen = np.arange(start, min(start + size, users))
            _draw(truth, settings.synthetic, chosen, book, generator(seed, "synthetic", "log", start))
            shown.update(len(chosen))
    return book.to_log("foreign", truth.base)


def _draw(
    truth: ForeignTruth,
    settings: SyntheticSettings,
    user: Int64,
    book: LogBook,
    rng: np.random.Generator,
) -> None:
    """Log a block of users until each has consumed what was drawn for them."""
    n, items = len(user), truth.base.num_items
    people = ForeignUsers(truth, user, rng)
    size = min(settings.slate_size, items // 4)
    most = items // 2
    target = np.clip(settings.consumptions * np.exp(0.5 * rng.standard_normal(n) - 0.125), 2, most)
    everything = np.tile(np.arange(items), (n, 1))
    personal = (
        truth.base.taste[user, truth.base.rating_width :] @ truth.base.item[:, truth.base.rating_width :].T
    )
    taste_score = policy_score(personal.astype(np.float64), np.zeros(everything.shape), settings, rng)
    consumed = np.zeros((n, items), np.bool_)
    count = np.zeros(n)
    for _ in range(30 * settings.consumptions):
        rows = np.flatnonzero(count < target)
        if len(rows) == 0:
            break
        time, session = people.time[rows].copy(), people.session[rows].copy()
        popular = truth.appeal(time)
        popular = (popular - popular.mean(1, keepdims=True)) / popular.std(1, keepdims=True)
        score = taste_score[rows] + settings.popularity_bias * popular / settings.policy_noise
        allowed = (truth.release <= time[:, None]) & ~consumed[rows]
        if (poor := allowed.sum(1) < size).any():
            # Too little is left to fill a slate (tiny catalogues): these users are done.
            count[rows[poor]] = np.inf
            rows, time, session = rows[~poor], time[~poor], session[~poor]
            score, allowed = score[~poor], allowed[~poor]
        slate, propensity = draw_slates(score, allowed, size, rng)
        clicked, rating = people.step(rows, slate)
        book.write(user[rows], session, time, slate, propensity, clicked, rating)
        consumed[rows[:, None], slate] |= clicked
        count[rows] += clicked.sum(1)
