"""Logs drawn from a known truth of the simulator's own family, to see whether a fit finds back what made them."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from recworld.logs.log import InteractionLog
from recworld.logs.policy import LogBook, draw_slates, policy_score
from recworld.logs.settings import LogSettings, SyntheticSettings
from recworld.logs.splits import split_users
from recworld.logs.synthetic import SyntheticTruth, synthetic_truth
from recworld.seeding import child_seed, generator
from recworld.simulators import state as st
from recworld.simulators.dynamics import DynamicsSettings, dynamics_preset
from recworld.simulators.state import Array
from recworld.simulators.tables import AgentTables, ResponseTables
from recworld.simulators.user import UserSimulator
from recworld.simulators.world import World

DAY = 86_400.0
SLATE_SECONDS = 120.0
"""Time between two slates of a session; sessions of a user start a day apart."""
MAX_SLATES = 40
"""T of a logged session."""


@lru_cache(maxsize=4)
def wellspecified_world(
    settings: SyntheticSettings, seed: int, dynamics: DynamicsSettings | None = None
) -> World:
    """Return the truth itself as a world with one member and nothing known to the recommender.

    Boredom runs on TF-IDF vectors of the items' texts, which need no download.

    Args:
        settings: sizes and shares.
        seed: the seed.
        dynamics: how users change; the preset ``strong`` by default.
    """
    from recworld.encoders.tfidf import TfidfEncoder

    truth = synthetic_truth(settings, seed)
    texts = [*truth.user_text, *truth.item_text]
    vectors = TfidfEncoder.fit(texts).encode(texts)[:, :32]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    tables = response_tables(truth)
    nobody = AgentTables(
        response=tables,
        popularity=np.zeros(truth.num_items, np.float32),
        history_start=np.zeros(truth.num_users + 1, np.int64),
        history_item=np.zeros(0, np.int32),
        history_feedback=np.zeros(0, np.float32),
    )
    return World(
        name="wellspecified",
        truth=tables,
        agent=nobody,
        user_vector=np.asarray(vectors[: truth.num_users], np.float32),
        item_vector=np.asarray(vectors[truth.num_users :], np.float32),
        scale=truth.scale,
        dynamics=dynamics or dynamics_preset("strong"),
        splits=split_users(truth.num_users, (0.7, 0.1, 0.2), child_seed(seed, "users")),
        user_keys=tuple(str(key) for key in truth.user_keys),
        item_keys=tuple(str(key) for key in truth.item_keys),
        user_text=truth.user_text,
        item_text=truth.item_text,
        attraction_known=True,
    )


def response_tables(truth: SyntheticTruth) -> ResponseTables:
    """Return a synthetic truth as response tables with M = 1.

    The tables count eta in units of the rating, and a user's bias is their mean rating over the catalogue: a taste is pulled
    by what is rated above it. eta is moved there, and the user's shift takes the move back: no rating changes.
    """
    move = _mean_rating(truth) - truth.user_rating_bias
    return ResponseTables(
        taste=truth.taste[None],
        item=truth.item[None],
        user_rating_bias=(truth.user_rating_bias + move)[None],
        item_rating_bias=truth.item_rating_bias[None],
        user_attraction_bias=truth.user_attraction_bias[None],
        item_attraction_bias=truth.item_attraction_bias[None],
        thresholds=truth.thresholds[None],
        user_shift=(truth.user_shift + truth.user_scale * move)[None],
        user_scale=truth.user_scale[None],
        user_sigma=np.ones((1, truth.num_users), np.float32),
        rating_width=truth.rating_width,
    )


def _mean_rating(truth: SyntheticTruth) -> Array:
    """Return each user's mean rating over the catalogue, unbored. Shape (U,), float32."""
    levels, fr = np.asarray(truth.scale.levels, np.float32), truth.rating_width
    eta = truth.taste[:, :fr] @ truth.item[:, :fr].T + truth.item_rating_bias
    eta += truth.user_rating_bias[:, None]
    latent = truth.user_scale[:, None] * eta - truth.user_shift[:, None]
    above = [ndtr(latent - threshold).mean(1) for threshold in truth.thresholds]
    return np.asarray(levels[0] + np.diff(levels) @ np.stack(above), np.float32)


def wellspecified(settings: LogSettings, seed: int) -> InteractionLog:
    """Draw a log from `wellspecified_world` by a biased logging policy, with exposures and timestamps in order.

    Args:
        settings: `synthetic` holds the sizes and the logging policy.
        seed: the seed of the truth and of the log.
    """
    return draw_log(settings.synthetic, seed)


def draw_log(
    settings: SyntheticSettings, seed: int, dynamics: DynamicsSettings | None = None
) -> InteractionLog:
    """Draw a log; see `wellspecified`.

    Args:
        settings: sizes and the logging policy.
        seed: the seed of the truth and of the log.
        dynamics: how users change; the preset ``strong`` by default.
    """
    world, truth = wellspecified_world(settings, seed, dynamics), synthetic_truth(settings, seed)
    world = replace(world, name="wellspecified")
    rng, users, items = generator(seed, "synthetic", "policy"), world.num_users, world.num_items
    simulator = UserSimulator(
        world, users, slate_size=settings.slate_size, num_candidates=items, horizon=MAX_SLATES, history_length=1,
        candidates="all", users=np.arange(users, dtype=np.int32),
    )  # fmt: skip
    simulator.seed(child_seed(seed, "synthetic", "users"), np.arange(users))
    simulator.pin(np.arange(users, dtype=np.int32))
    rows, session, clock = np.arange(users), np.zeros(users, np.int64), rng.uniform(0, DAY, users)
    simulator.set_episode(rows, 0)
    simulator.begin(rows, simulator.new_seen())
    fr = truth.rating_width
    personal = np.asarray(truth.taste[:, fr:] @ truth.item[:, fr:].T, np.float64)
    popularity = np.asarray(truth.item_attraction_bias, np.float64)
    score = policy_score(personal, popularity, settings, rng)
    book, taken, counts = LogBook(), np.zeros((users, items), np.bool_), np.zeros(users, np.int64)
    # Every user is shown slates until most have consumed their share; nobody waits for the last.
    for _ in range(40 * settings.consumptions):
        busy = (counts < settings.consumptions) & ((~taken).sum(1) >= settings.slate_size)
        if busy.mean() < 0.02:
            break
        slate, propensity = draw_slates(score, ~taken, settings.slate_size, rng)
        _, happened, _, _ = simulator.step(np.where(busy[:, None], slate, -1))
        k = settings.slate_size
        clicked = happened.ints[:, st.R_INT_HEAD + k : st.R_INT_HEAD + 2 * k] == 1
        rating = happened.floats[:, st.R_FLOAT_HEAD :].astype(np.float64)
        who = np.flatnonzero(busy)
        book.write(who, session[who], clock[who], slate[who], propensity[who], clicked[who], rating[who])
        _note(taken, counts, who, slate, clicked)
        clock[who] += SLATE_SECONDS
        over = np.flatnonzero(simulator.done)
        session[over] += 1
        clock[over] = np.floor(clock[over] / DAY + 1) * DAY + rng.uniform(0, DAY / 2, len(over))
        simulator.set_episode(over, None)
        simulator.begin(over, simulator.new_seen())
    return book.to_log("wellspecified", truth)


def _note(taken: Array, counts: Array, who: Array, slate: Array, clicked: Array) -> None:
    for k in range(slate.shape[1]):
        rows = who[clicked[who, k]]
        taken[rows, slate[rows, k]] = True
        counts[rows] += 1
