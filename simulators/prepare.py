"""From a world to the arrays of the compiled step: what is assumed (base rate, popularity) is applied here, once."""

from __future__ import annotations

import math

import numpy as np

from recworld.logs.log import FloatArray
from recworld.simulators import state as st
from recworld.simulators.state import Array, Layout, Tables
from recworld.simulators.tables import ResponseTables
from recworld.simulators.world import World

PAIRS = 65_536
"""User-item pairs on which the intercept is solved; the standard error of the mean rate is then below 0.2 %."""
USERS_SORTED = 100_000
"""Users whose items are sorted together."""
ASSUMED_CLICK_RATE = 0.15
"""Between the 2 to 5 % of advertisements and the 30 % and more of a good top list; the fidelity report varies it."""
ASSUMED_POPULARITY_SHARE = 0.5
"""Half of what makes an item often consumed is taken to be that it was often shown."""


def solve_intercept(tables: ResponseTables, share: float, base_rate: float) -> FloatArray:
    """Return per member the shift of the attraction logits at which a random pair is taken up with `base_rate`.

    Pairs come from a low-discrepancy sequence (multiples of the golden section and of the square root of two), so the
    result is the same everywhere. Shape (M,).
    """
    users, items = tables.taste.shape[1], tables.item.shape[1]
    n = np.arange(PAIRS)
    u = (((n + 0.5) * 0.6180339887498949) % 1.0 * users).astype(np.int64)
    i = (((n + 0.5) * 0.41421356237309515) % 1.0 * items).astype(np.int64)
    fr = tables.rating_width
    shifts = []
    for m in range(tables.num_members):
        logits = tables.user_attraction_bias[m, u] + share * tables.item_attraction_bias[m, i]
        logits = logits + np.einsum("nf,nf->n", tables.taste[m, u, fr:], tables.item[m, i, fr:])
        low, high = -60.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            rate = float(np.mean(1.0 / (1.0 + np.exp(-np.clip(logits + middle, -80, 80)))))
            low, high = (middle, high) if rate < base_rate else (low, middle)
        shifts.append((low + high) / 2)
    return np.asarray(shifts, np.float32)


def assumptions(world: World) -> tuple[float, float | None]:
    """Return the share of popularity that is attraction, and the base click rate (None: the fitted one), of a world."""
    share, rate = world.dynamics.popularity_share, world.dynamics.base_click_rate
    if share is None:
        share = 1.0 if world.attraction_known else ASSUMED_POPULARITY_SHARE
    if rate is None and not world.attraction_known:
        rate = ASSUMED_CLICK_RATE
    return share, rate


def prepare_tables(world: World, users: Array) -> Tables:
    """Return the world's arrays in the form that the compiled step reads, all contiguous.

    Args:
        world: the world.
        users: numbers of the users that episodes may draw.
    """
    truth, agent = world.truth, world.agent
    share, rate = assumptions(world)
    agent_shift = np.zeros(1, np.float32)
    if rate is None:
        shift = world.click_shift
    else:
        shift = solve_intercept(truth, share, rate)
        agent_shift = solve_intercept(agent.response, share, rate)
    popular = np.argsort(-agent.popularity, kind="stable").astype(np.int32)
    levels = world.scale.levels if world.scale.kind == "discrete" else (0.0,)
    seer = agent.response
    return Tables(
        taste=truth.taste,
        item=truth.item,
        user_rating=truth.user_rating_bias,
        item_rating=truth.item_rating_bias,
        user_attraction=truth.user_attraction_bias + shift[:, None],
        item_attraction=truth.item_attraction_bias * np.float32(share),
        thresholds=truth.thresholds,
        user_shift=truth.user_shift,
        user_scale=truth.user_scale,
        user_sigma=truth.user_sigma,
        levels=np.asarray(levels, np.float32),
        text=world.boredom_vector,
        agent_taste=seer.taste[0],
        agent_item=seer.item[0],
        agent_user_rating=seer.user_rating_bias[0],
        agent_item_rating=seer.item_rating_bias[0],
        agent_user_attraction=seer.user_attraction_bias[0] + agent_shift[0],
        agent_item_attraction=seer.item_attraction_bias[0] * np.float32(share),
        history_feedback=agent.history_feedback,
        users=users,
        popular=popular,
        history_start=agent.history_start,
        history_item=agent.history_item,
        seen_item=_sorted_by_user(agent.history_item, agent.history_start),
    )


def _sorted_by_user(items: Array, starts: Array) -> Array:
    """Return each user's items in rising order; some users at a time, so that little memory is needed."""
    out, users = np.empty(len(items), np.int32), len(starts) - 1
    for first in range(0, users, USERS_SORTED):
        some = starts[first : min(first + USERS_SORTED, users) + 1]
        part = items[some[0] : some[-1]].astype(np.int64)
        # One number says whose an item is and which: sorting these is ten times as fast as sorting by two keys.
        offset = np.repeat(np.arange(len(some) - 1), np.diff(some)) * (part.max(initial=0) + 1)
        out[some[0] : some[-1]] = np.sort(part + offset) - offset
    return out


def prepare_parameters(world: World, weights: tuple[float, float], fold_in: float) -> Array:
    """Return the float parameters. Shape (NUM_P,), float32.

    Args:
        world: the world.
        weights: reward of a click, and reward of a normalised rating.
        fold_in: step size of the recommender's estimate within an episode.
    """
    d, scale = world.dynamics, world.scale
    p = np.zeros(st.NUM_P, np.float32)
    p[st.P_DECAY] = d.examination_decay
    p[st.P_BOREDOM], p[st.P_BOREDOM_RATING] = d.boredom, d.boredom_rating
    p[st.P_MEMORY], p[st.P_SCALE] = d.boredom_memory, d.boredom_scale
    p[st.P_TASTE_RATE], p[st.P_TASTE_RETURN] = d.taste_rate, d.taste_return
    p[st.P_SAT_RATE], p[st.P_SAT_START] = d.satisfaction_rate, d.satisfaction_start
    p[st.P_LEAVE_BASE], p[st.P_LEAVE_DISSATISFACTION] = d.leave_base, d.leave_dissatisfaction
    p[st.P_LEAVE_BOREDOM], p[st.P_LEAVE_STEP] = d.leave_boredom, d.leave_step
    p[st.P_FRAILTY], p[st.P_RHO] = d.frailty, d.click_rating_correlation or 0.0
    if d.click_rating_correlation is None:
        p[st.P_RHO] = world.click_rating_correlation
    base = assumptions(world)[1] or ASSUMED_CLICK_RATE
    p[st.P_NO_CLICK] = math.log(max(d.no_click_weight, 1e-30) * base / (1 - base))
    p[st.P_W_CLICK], p[st.P_W_RATING] = weights
    p[st.P_MIDDLE], p[st.P_HALF] = (scale.low + scale.high) / 2, (scale.high - scale.low) / 2 or 1.0
    p[st.P_LOW], p[st.P_HIGH] = scale.low, scale.high
    p[st.P_FOLD_IN] = fold_in
    return p


def prepare_switches(
    world: World, layout: Layout, *, pool: int, candidates: str, repeats: bool, score_rating: bool
) -> Array:
    """Return the integer parameters, offsets of tables still to be written. Shape (NUM_I,), int64."""
    q = np.zeros(st.NUM_I, np.int64)
    layout.write(q)
    exact = world.num_items <= st.FILTER_BITS
    q[st.I_HASH], q[st.I_FOLD], q[st.I_EXACT] = (1, 31, 1) if exact else (40503, 11, 0)
    q[st.I_ITEMS], q[st.I_USERS], q[st.I_POOL] = world.num_items, world.num_users, pool
    q[st.I_MEMBERS], q[st.I_LEVELS] = world.truth.num_members, world.truth.thresholds.shape[1] + 1
    q[st.I_SCALE] = st.SCALE_CODE[world.scale.kind]
    q[st.I_EXAMINATION] = st.EXAMINATION_CODE[world.dynamics.examination]
    q[st.I_LEAVING] = int(world.dynamics.leaving)
    q[st.I_CANDIDATES], q[st.I_REPEATS] = st.CANDIDATE_CODE[candidates], int(repeats)
    q[st.I_SCORE_RATING] = int(score_rating)
    return q
