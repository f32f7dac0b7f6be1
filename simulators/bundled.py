"""A small synthetic world made from a seed in milliseconds, so that an environment works at once and offline.

It is of the simulator's own family with invented people and titles; nothing in it was learnt from anybody. Use it for trying
things out and for tests, never for claims about recommendation.
"""

from __future__ import annotations

import numpy as np

from recworld.logs.log import RatingScale
from recworld.seeding import child_seed, generator
from recworld.simulators.dynamics import DynamicsSettings, dynamics_preset
from recworld.simulators.state import Array
from recworld.simulators.tables import AgentTables, ResponseTables
from recworld.simulators.world import World

KINDS = ("comedy", "drama", "thriller", "romance", "adventure", "documentary", "mystery", "animation")
PLACES = (
    "harbour",
    "mountain",
    "city",
    "garden",
    "desert",
    "island",
    "station",
    "library",
    "river",
    "market",
)
SUBJECTS = (
    "clockmaker",
    "lighthouse",
    "orchard",
    "violin",
    "expedition",
    "letter",
    "neighbour",
    "winter",
    "bakery",
    "comet",
)
JOBS = ("teacher", "engineer", "nurse", "farmer", "student", "lawyer", "artist", "retired clerk")


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)


def bundled_world(
    users: int = 300,
    items: int = 400,
    *,
    width: int = 32,
    factors: int = 8,
    members: int = 2,
    seed: int = 0,
    scale: RatingScale | None = None,
    dynamics: DynamicsSettings | None = None,
    noise: float = 0.5,
) -> World:
    """Return a synthetic world; the same arguments give the same world.

    Args:
        users: U, at least 3.
        items: I.
        width: D of the text vectors.
        factors: width of the rating factors and of the attraction factors, each.
        members: M.
        seed: seed of everything drawn.
        scale: rating scale; 1 to 5 by default.
        dynamics: the preset ``strong`` by default.
        noise: how far the recommender's estimate is from the truth, in units of the factors' own spread.
    """
    rng = generator(seed, "bundled")
    scale = scale or RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
    kind = rng.integers(0, len(KINDS), items)
    centre = rng.normal(size=(len(KINDS), width))
    item_vector = _unit(centre[kind] + 0.6 * rng.normal(size=(items, width)))
    likes = rng.dirichlet(np.full(len(KINDS), 0.4), users)
    user_vector = _unit(likes @ centre + 0.3 * rng.normal(size=(users, width)))
    project = rng.normal(size=(width, 2 * factors)) / np.sqrt(factors)
    truth = _truth(rng, user_vector, item_vector, project, factors, members, scale)
    agent = _agent(rng, truth, likes, kind, noise, scale)
    order = np.random.default_rng(child_seed(seed, "bundled", "split")).permutation(users).astype(np.int32)
    first, second = max(1, int(0.7 * users)), max(2, int(0.8 * users))
    return World(
        name="bundled",
        truth=truth,
        agent=agent,
        user_vector=user_vector,
        item_vector=item_vector,
        scale=scale,
        dynamics=dynamics or dynamics_preset("strong"),
        splits={
            "train": np.sort(order[:first]),
            "validation": np.sort(order[first:second]),
            "test": np.sort(order[second:]),
        },
        user_keys=tuple(str(u + 1) for u in range(users)),
        item_keys=tuple(str(i + 1) for i in range(items)),
        user_text=tuple(
            f"{rng.integers(18, 80)} year old {JOBS[rng.integers(len(JOBS))]} who likes {KINDS[int(row.argmax())]}"
            for row in likes
        ),
        item_text=tuple(
            f"The {SUBJECTS[rng.integers(len(SUBJECTS))]} of the {PLACES[rng.integers(len(PLACES))]} {i + 1} ({KINDS[k]})"
            for i, k in enumerate(kind)
        ),
        report={"note": "invented people and titles; nothing was learnt from a log"},
    )


def _truth(
    rng: np.random.Generator,
    user_vector: Array,
    item_vector: Array,
    project: Array,
    factors: int,
    members: int,
    scale: RatingScale,
) -> ResponseTables:
    users, items, half = len(user_vector), len(item_vector), (scale.high - scale.low) / 2
    tastes, things = [], []
    blocks = np.r_[np.full(factors, np.sqrt(half)), np.full(factors, 1.2)] / np.sqrt(factors)
    for _ in range(members):
        taste = user_vector @ project + 0.4 * rng.normal(size=(users, 2 * factors))
        thing = item_vector @ project + 0.4 * rng.normal(size=(items, 2 * factors))
        tastes.append(taste * blocks * np.sqrt(factors) * 0.6)
        things.append(thing * blocks)
    middle = (scale.low + scale.high) / 2
    levels = np.asarray(scale.levels)
    spread = 0.45 * half
    thresholds = (levels[:-1] + levels[1:]) / 2 / spread if scale.kind == "discrete" else np.zeros(0)
    quality = rng.normal(0, 0.25 * half, items)
    shape = (members, 1)
    return ResponseTables(
        taste=np.asarray(tastes, np.float32),
        item=np.asarray(things, np.float32),
        user_rating_bias=np.tile(middle + 0.2 * half + rng.normal(0, 0.2 * half, users), shape).astype(
            np.float32
        ),
        item_rating_bias=np.tile(quality, shape).astype(np.float32),
        user_attraction_bias=np.tile(rng.normal(0, 0.3, users), shape).astype(np.float32),
        item_attraction_bias=np.tile(rng.normal(0, 1.2, items) + quality / half, shape).astype(np.float32),
        thresholds=np.tile(thresholds, shape).astype(np.float32),
        user_shift=np.zeros((members, users), np.float32),
        user_scale=np.full((members, users), 1 / spread, np.float32),
        user_sigma=np.full((members, users), spread, np.float32),
        rating_width=factors,
    )


def _agent(
    rng: np.random.Generator,
    truth: ResponseTables,
    likes: Array,
    kind: Array,
    noise: float,
    scale: RatingScale,
) -> AgentTables:
    """Return a recommender's view: the truth blurred, and a short early history drawn by liking and popularity."""

    def blur(array: Array) -> Array:
        return np.asarray(array + noise * array.std() * rng.normal(size=array.shape), np.float32)

    first = truth.members([0])
    seen = ResponseTables(
        **{
            k: blur(v) if k in ("taste", "item", "item_attraction_bias", "item_rating_bias") else v
            for k, v in first.arrays().items()
        },
        rating_width=first.rating_width,
    )
    users, items, each = len(likes), len(kind), min(12, max(1, len(kind) // 10))
    weight = np.exp(first.item_attraction_bias[0].astype(np.float64))
    history = np.zeros((users, each), np.int32)
    for u in range(users):
        chance = weight * (0.05 + likes[u, kind])
        history[u] = rng.choice(items, each, replace=False, p=chance / chance.sum())
    popularity = np.bincount(history.ravel(), minlength=items).astype(np.float32)
    if scale.kind == "click":
        feedback = np.ones((users, each), np.float32)
    else:
        eta = first.user_rating_bias[0][:, None] + first.item_rating_bias[0][history]
        feedback = np.clip(scale.normalise(np.round(eta + 0.3 * rng.normal(size=eta.shape))), -1, 1)
    return AgentTables(
        response=seen,
        popularity=popularity,
        history_start=np.arange(0, users * each + 1, each, dtype=np.int64),
        history_item=history.ravel(),
        history_feedback=feedback.ravel().astype(np.float32),
    )
