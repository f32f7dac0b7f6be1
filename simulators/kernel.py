"""What a simulated user does with a slate, and how that changes them; compiled.

Every function works on one user and reads nothing of the others, so a user's episode does not depend on N. The
equations are those of the class docstring of `UserSimulator`; a plain NumPy form stands in the tests. Arguments:

    x, w      tables: one blob of floats, one of integers         f, b    rows of what changes, flat: floats, integers
    p, q      parameters: floats, integers                        fo, bo  offset of this user's row in f and in b
    key       key of this user's random draws                     m, u, i member, user, item
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.offering import agent_eta, agent_logit, filter_add
from recworld.simulators.stretch import add, apart, copy, dot, inner, multiply, sigmoid


@inner
def begin(x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, key: Any) -> None:
    """Start an episode: choose user and member, reset what changes."""
    pinned = b[bo + st.PINNED]
    u = np.int64(pinned)
    if pinned < 0:
        u = np.int64(w[q[st.N_POOL] + rnd.below(key, rnd.USER, 0, q[st.I_POOL])])
    m = rnd.below(key, rnd.MEMBER, 0, q[st.I_MEMBERS])
    b[bo + st.USER], b[bo + st.MEMBER] = u, m
    b[bo + st.STEP] = b[bo + st.DONE] = b[bo + st.CONSUMED] = 0
    start = q[st.T_TASTE] + (m * q[st.I_USERS] + u) * q[st.I_F]
    fr = q[st.I_FR]
    copy(f, fo + st.FLOAT_HEAD, x, start, q[st.I_F])
    f[fo + st.NORM_RATING] = math.sqrt(dot(x, start, x, start, fr))
    f[fo + st.NORM_ATTRACTION] = math.sqrt(dot(x, start + fr, x, start + fr, q[st.I_F] - fr))
    f[fo + st.SATISFACTION] = p[st.P_SAT_START]
    f[fo + st.FRAILTY] = p[st.P_FRAILTY] * rnd.normal_quantile(rnd.uniform(key, rnd.FRAILTY, 0))
    multiply(f, fo + q[st.S_MEMORY], np.float32(0.0), q[st.I_D])
    copy(f, fo + q[st.S_AGENT], x, q[st.T_AGENT_TASTE] + u * q[st.I_G], q[st.I_G])
    begin_history(x, w, f, b, q, fo, bo, u)


@inner
def begin_history(x: Any, w: Any, f: Any, b: Any, q: Any, fo: int, bo: int, u: int) -> None:
    """Fill the history with the newest items of the early log, and the filter with all of them."""
    length = q[st.I_H]
    start, end = np.int64(w[q[st.N_HISTORY_START] + u]), np.int64(w[q[st.N_HISTORY_START] + u + 1])
    for h in range(length):
        row = end - length + h
        b[bo + q[st.S_WHEN] + h] = -1
        inside = row >= start
        b[bo + st.INT_HEAD + h] = w[q[st.N_HISTORY_ITEM] + row] if inside else q[st.I_ITEMS]
        f[fo + q[st.S_FEEDBACK] + h] = x[q[st.T_HISTORY_FEEDBACK] + row] if inside else np.float32(0.0)
    at = bo + q[st.S_FILTER]
    for word in range(st.FILTER_WORDS):
        b[at + word] = 0
    if q[st.I_REPEATS] == 0:
        for row in range(start, end):
            filter_add(b, at, np.int64(w[q[st.N_SEEN_ITEM] + row]))


@inner
def place_slate(b: Any, q: Any, bo: int, n: int, action: Any, ri: Any) -> None:
    """Turn positions into items; a position that is masked, repeated or out of range is an empty slot."""
    items, k_size, invalid = q[st.I_ITEMS], q[st.I_K], 0
    for k in range(k_size):
        position, item = action[n, k], items
        if position >= 0 and position < q[st.I_C]:
            item = np.int64(b[bo + q[st.S_CANDIDATES] + position])
            for earlier in range(k):
                if ri[n, st.R_INT_HEAD + earlier] == item:
                    item = items
        invalid += item == items
        ri[n, st.R_INT_HEAD + k] = item
        ri[n, st.R_INT_HEAD + k_size + k] = 0
        ri[n, st.R_INT_HEAD + 2 * k_size + k] = 0
    ri[n, st.R_INVALID] = invalid


@inner
def bored(x: Any, f: Any, p: Any, q: Any, fo: int, i: int) -> Any:
    """Return b_i = 1 - exp(-max(0, <v_i, s>) / s0)."""
    near = dot(f, fo + q[st.S_MEMORY], x, q[st.T_TEXT] + i * q[st.I_D], q[st.I_D])
    return 1.0 - math.exp(-near / p[st.P_SCALE]) if near > 0.0 else 0.0


@inner
def attraction(x: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, i: int, dull: float) -> Any:
    """Return the logit with which a noticed item is taken up."""
    m, fr, width = np.int64(b[bo + st.MEMBER]), q[st.I_FR], q[st.I_F]
    row = m * q[st.I_ITEMS] + i
    logit = dot(f, fo + st.FLOAT_HEAD + fr, x, q[st.T_ITEM] + row * width + fr, width - fr)
    logit += (
        x[q[st.T_USER_ATTRACTION] + m * q[st.I_USERS] + b[bo + st.USER]] + x[q[st.T_ITEM_ATTRACTION] + row]
    )
    return logit - p[st.P_BOREDOM] * dull


@inner
def rating_predictor(x: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, i: int, dull: float) -> Any:
    """Return eta of the current taste, less boredom."""
    m = np.int64(b[bo + st.MEMBER])
    row = m * q[st.I_ITEMS] + i
    eta = dot(f, fo + st.FLOAT_HEAD, x, q[st.T_ITEM] + row * q[st.I_F], q[st.I_FR])
    eta += x[q[st.T_USER_RATING] + m * q[st.I_USERS] + b[bo + st.USER]] + x[q[st.T_ITEM_RATING] + row]
    return eta - p[st.P_BOREDOM_RATING] * dull


@inner
def rate(x: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, i: int, dull: float, key: Any) -> Any:
    """Draw the rating of a taken item, its error correlated with the click's by rho; `key` is the step's."""
    person = np.int64(b[bo + st.MEMBER]) * q[st.I_USERS] + b[bo + st.USER]
    error, rho = rnd.normal_quantile(rnd.uniform(key, rnd.RATING, i)), p[st.P_RHO]
    if rho != 0.0:
        # A low uniform is what made the click: the upper end of the latent willingness.
        willing = -rnd.normal_quantile(rnd.uniform(key, rnd.CLICK, i))
        error = rho * willing + math.sqrt(1.0 - rho * rho) * error
    eta = rating_predictor(x, f, b, p, q, fo, bo, i, dull)
    if q[st.I_SCALE] == 2:
        return min(max(eta + x[q[st.T_USER_SIGMA] + person] * error, p[st.P_LOW]), p[st.P_HIGH])
    latent = x[q[st.T_USER_SCALE] + person] * eta - x[q[st.T_USER_SHIFT] + person] + error
    levels, level = q[st.I_LEVELS], 0
    at = q[st.T_THRESHOLDS] + b[bo + st.MEMBER] * (levels - 1)
    for c in range(levels - 1):
        if latent > x[at + c]:
            level = c + 1
    return x[q[st.T_LEVELS] + level]


@inner
def examine(
    x: Any, f: Any, b: Any, p: Any, q: Any, n: int, fo: int, bo: int, key: Any, ri: Any, dull: Any
) -> Any:
    """Decide which shown items are clicked; `dull[k]` receives the boredom of slot k. Return the mean boredom."""
    items, kind, clicks = q[st.I_ITEMS], q[st.I_EXAMINATION], st.R_INT_HEAD + q[st.I_K]
    seen, total, noticed, looking, choice = 0, 0.0, 1.0, True, -1
    best = 0.0
    if kind == 2:
        best = p[st.P_NO_CLICK] - math.log(-math.log(rnd.uniform(key, rnd.NO_CLICK, 0)))
    for k in range(q[st.I_K]):
        item = np.int64(ri[n, st.R_INT_HEAD + k])
        if item < items:
            tired = bored(x, f, p, q, fo, item)
            dull[k] = tired
            seen += 1
            total += tired
            luck = rnd.uniform(key, rnd.CLICK, item)
            if kind == 2:
                logit = attraction(x, f, b, p, q, fo, bo, item, tired)
                value = logit + math.log(noticed) - math.log(-math.log(1.0 - luck))
                if value > best:
                    best, choice = value, k
            elif looking and luck < noticed:  # an unnoticed item needs no attraction
                logit = attraction(x, f, b, p, q, fo, bo, item, tired)
                if luck < noticed * sigmoid(logit):
                    ri[n, clicks + k] = 1
                    looking = kind == 0
        noticed *= p[st.P_DECAY]
    if choice >= 0:
        ri[n, clicks + choice] = 1
    return total / seen if seen > 0 else 0.0


@inner
def pull(f: Any, at: int, x: Any, item_at: int, width: int, own: float, rate_: float) -> None:
    """z <- z + rate (|p| q^ - z) for rate > 0, away along -q^ for rate < 0; one block.

    Both are steps between two points of norm |p| at most, so the norm of z never exceeds |p|.
    """
    square = dot(x, item_at, x, item_at, width)
    if square <= 1e-12 or own <= 0.0:
        return
    goal = np.float32((own if rate_ > 0 else -own) / math.sqrt(square))
    amount = np.float32(abs(rate_))
    multiply(f, at, np.float32(1.0) - amount, width)
    add(f, at, amount * goal, x, item_at, width)


@inner
def take(
    x: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, item: int, value: float, feedback: float
) -> None:
    """What a taken item changes: memory, taste, history, the list of consumed items and the recommender's estimate."""
    m, width, fr = np.int64(b[bo + st.MEMBER]), q[st.I_F], q[st.I_FR]
    add(f, fo + q[st.S_MEMORY], np.float32(1.0), x, q[st.T_TEXT] + item * q[st.I_D], q[st.I_D])
    if p[st.P_TASTE_RATE] > 0.0:
        surprise = 1.0
        if q[st.I_SCALE] != 0:
            usual = x[q[st.T_USER_RATING] + m * q[st.I_USERS] + b[bo + st.USER]]
            surprise = min(max((value - usual) / p[st.P_HALF], -1.0), 1.0)
        speed, z = p[st.P_TASTE_RATE] * surprise, fo + st.FLOAT_HEAD
        row = q[st.T_ITEM] + (m * q[st.I_ITEMS] + item) * width
        pull(f, z, x, row, fr, f[fo + st.NORM_RATING], speed)
        pull(f, z + fr, x, row + fr, width - fr, f[fo + st.NORM_ATTRACTION], speed)
    length, history, when, marks = q[st.I_H], bo + st.INT_HEAD, bo + q[st.S_WHEN], fo + q[st.S_FEEDBACK]
    copy(b, history, b, history + 1, length - 1)
    copy(b, when, b, when + 1, length - 1)
    copy(f, marks, f, marks + 1, length - 1)
    b[history + length - 1] = item
    b[when + length - 1] = b[bo + st.STEP]
    f[marks + length - 1] = feedback
    if q[st.I_REPEATS] == 0:
        b[bo + q[st.S_CONSUMED] + b[bo + st.CONSUMED]] = item
        filter_add(b, bo + q[st.S_FILTER], item)
    b[bo + st.CONSUMED] += 1
    fold_in(x, f, b, p, q, fo, bo, item, value)


@inner
def fold_in(x: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, i: int, value: float) -> None:
    """One normalised gradient step of the recommender's estimate on what was just taken and how it was rated."""
    u, gr, g = np.int64(b[bo + st.USER]), q[st.I_GR], q[st.I_G]
    own, row = fo + q[st.S_AGENT], q[st.T_AGENT_ITEM] + i * g
    miss = 1.0 - sigmoid(agent_logit(x, f, q, fo, u, i))
    move = np.float32(p[st.P_FOLD_IN] * miss / (1.0 + dot(x, row + gr, x, row + gr, g - gr)))
    add(f, own + gr, move, x, row + gr, g - gr)
    if q[st.I_SCALE] != 0:
        miss = value - agent_eta(x, f, q, fo, u, i)
        move = np.float32(p[st.P_FOLD_IN] * miss / (1.0 + dot(x, row, x, row, gr)))
        add(f, own, move, x, row, gr)


@inner
def answer(
    x: Any, f: Any, b: Any, p: Any, q: Any, n: int, fo: int, bo: int, key: Any, ri: Any, rf: Any, dull: Any
) -> Any:
    """Clicks, ratings and what each taken item changes; returns the sum of liking. `key` is the step's."""
    k_size, items_at = q[st.I_K], st.R_INT_HEAD
    rf[n, st.R_BOREDOM] = examine(x, f, b, p, q, n, fo, bo, key, ri, dull)
    multiply(f, fo + q[st.S_MEMORY], p[st.P_MEMORY], q[st.I_D])
    reward, liked = 0.0, 0.0
    # The whole slate is rated before any of it changes the user: slots of one slate are answered together.
    for k in range(k_size):
        rf[n, st.R_FLOAT_HEAD + k] = 0.0
        if ri[n, items_at + k_size + k] == 1:
            feedback: Any = np.float32(1.0)
            if q[st.I_SCALE] != 0:
                value = rate(x, f, b, p, q, fo, bo, np.int64(ri[n, items_at + k]), dull[k], key)
                rf[n, st.R_FLOAT_HEAD + k] = value
                ri[n, items_at + 2 * k_size + k] = 1
                feedback = (np.float32(value) - p[st.P_MIDDLE]) / p[st.P_HALF]
            reward += p[st.P_W_CLICK] + p[st.P_W_RATING] * feedback
            liked += 0.5 * (feedback + 1.0)
    for k in range(k_size):
        if ri[n, items_at + k_size + k] == 1:
            value = rf[n, st.R_FLOAT_HEAD + k]
            feedback = (value - p[st.P_MIDDLE]) / p[st.P_HALF] if q[st.I_SCALE] != 0 else np.float32(1.0)
            take(x, f, b, p, q, fo, bo, np.int64(ri[n, items_at + k]), value, feedback)
    rf[n, st.R_REWARD] = reward
    return liked


@inner
def respond(
    x: Any, f: Any, b: Any, p: Any, q: Any, n: int, fo: int, bo: int, key: Any, ri: Any, rf: Any, dull: Any
) -> None:
    """Everything from a slate to whether the user leaves; `key` is the episode's."""
    step, m, u = b[bo + st.STEP], np.int64(b[bo + st.MEMBER]), np.int64(b[bo + st.USER])
    key = rnd.child_key(key, step)
    liked = answer(x, f, b, p, q, n, fo, bo, key, ri, rf, dull)
    z, start, width = fo + st.FLOAT_HEAD, q[st.T_TASTE] + (m * q[st.I_USERS] + u) * q[st.I_F], q[st.I_F]
    multiply(f, z, np.float32(1.0) - p[st.P_TASTE_RETURN], width)
    add(f, z, p[st.P_TASTE_RETURN], x, start, width)
    shift = apart(f, z, x, start, width)
    own = math.sqrt(f[fo + st.NORM_RATING] ** 2 + f[fo + st.NORM_ATTRACTION] ** 2)
    content = f[fo + st.SATISFACTION]
    content += p[st.P_SAT_RATE] * ((1.0 - math.exp(-liked)) - content)
    f[fo + st.SATISFACTION] = content
    rf[n, st.R_SATISFACTION] = content
    rf[n, st.R_SHIFT] = math.sqrt(shift) / own if own > 0.0 else 0.0
    gone = False
    if q[st.I_LEAVING] == 1:
        logit = p[st.P_LEAVE_BASE] + p[st.P_LEAVE_DISSATISFACTION] * (1.0 - content) + f[fo + st.FRAILTY]
        logit += p[st.P_LEAVE_BOREDOM] * rf[n, st.R_BOREDOM] + p[st.P_LEAVE_STEP] * step
        gone = rnd.uniform(key, rnd.LEAVE, 0) < sigmoid(logit)
    over = step + 1 >= q[st.I_T]
    b[bo + st.STEP] = step + 1
    b[bo + st.DONE] = gone or over
    ri[n, st.R_TERMINATED] = gone
    ri[n, st.R_TRUNCATED] = over and not gone
    ri[n, st.R_USER] = u


@inner
def accept(
    x: Any,
    f: Any,
    b: Any,
    p: Any,
    q: Any,
    n: int,
    fo: int,
    bo: int,
    click: Any,
    value: Any,
    gone: Any,
    ri: Any,
    rf: Any,
) -> None:
    """As `respond`, for answers that were given elsewhere: history, consumed items and the recommender's estimate move on.

    `click` (N, K), `value` (N, K) ratings and `gone` (N,) are the answers; clicks on empty slots do not count.
    """
    k_size, items_at, reward = q[st.I_K], st.R_INT_HEAD, 0.0
    multiply(f, fo + q[st.S_MEMORY], p[st.P_MEMORY], q[st.I_D])
    for k in range(k_size):
        item = np.int64(ri[n, items_at + k])
        rf[n, st.R_FLOAT_HEAD + k] = 0.0
        if click[n, k] and item < q[st.I_ITEMS]:
            feedback: Any = np.float32(1.0)
            ri[n, items_at + k_size + k] = 1
            if q[st.I_SCALE] != 0:
                rf[n, st.R_FLOAT_HEAD + k] = value[n, k]
                ri[n, items_at + 2 * k_size + k] = 1
                feedback = (np.float32(value[n, k]) - p[st.P_MIDDLE]) / p[st.P_HALF]
            reward += p[st.P_W_CLICK] + p[st.P_W_RATING] * feedback
            take(x, f, b, p, q, fo, bo, item, value[n, k], feedback)
    over = b[bo + st.STEP] + 1 >= q[st.I_T]
    b[bo + st.STEP] += 1
    b[bo + st.DONE] = gone[n] or over
    ri[n, st.R_TERMINATED] = gone[n]
    ri[n, st.R_TRUNCATED] = over and not gone[n]
    ri[n, st.R_USER] = b[bo + st.USER]
    rf[n, st.R_REWARD] = reward
    rf[n, st.R_SATISFACTION] = f[fo + st.SATISFACTION]
    rf[n, st.R_BOREDOM] = rf[n, st.R_SHIFT] = 0.0


@inner
def idle(f: Any, b: Any, q: Any, n: int, fo: int, bo: int, ri: Any, rf: Any) -> None:
    """A user whose episode is over, in a batch where others go on: nothing is shown, nothing changes."""
    for k in range(ri.shape[1]):
        ri[n, k] = 0
    for k in range(rf.shape[1]):
        rf[n, k] = 0.0
    for k in range(q[st.I_K]):
        ri[n, st.R_INT_HEAD + k] = q[st.I_ITEMS]
    ri[n, st.R_USER] = b[bo + st.USER]
    rf[n, st.R_SATISFACTION] = f[fo + st.SATISFACTION]


@inner
def true_worth(x: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, item: int) -> Any:
    """Return the true expected immediate reward of an item in the first position."""
    dull = bored(x, f, p, q, fo, item)
    chance = sigmoid(attraction(x, f, b, p, q, fo, bo, item, dull))
    worth = 1.0
    if q[st.I_SCALE] != 0:
        mean = rating_predictor(x, f, b, p, q, fo, bo, item, dull)
        if q[st.I_SCALE] == 1:
            levels, person = q[st.I_LEVELS], np.int64(b[bo + st.MEMBER]) * q[st.I_USERS] + b[bo + st.USER]
            latent = x[q[st.T_USER_SCALE] + person] * mean - x[q[st.T_USER_SHIFT] + person]
            at, mean = q[st.T_THRESHOLDS] + b[bo + st.MEMBER] * (levels - 1), x[q[st.T_LEVELS]]
            for c in range(levels - 1):
                rise = x[q[st.T_LEVELS] + c + 1] - x[q[st.T_LEVELS] + c]
                mean += rise * rnd.normal_cdf(latent - x[at + c])
        worth = (min(max(mean, p[st.P_LOW]), p[st.P_HIGH]) - p[st.P_MIDDLE]) / p[st.P_HALF]
    return chance * (p[st.P_W_CLICK] + p[st.P_W_RATING] * worth)
