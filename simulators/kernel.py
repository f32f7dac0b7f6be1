"""What a simulated user does with a slate, and how that changes them; compiled.

Every function works on one user and reads nothing of the others, so a user's episode does not depend on N. The
equations are those of the class docstring of `UserSimulator`; a plain NumPy form stands in the tests. All that a function is
given are pointers, the same throughout:

    x, w      tables: floats, integers                            f, b    what changes of this user: floats, integers
    p, q      parameters: floats, integers                        si, sf, sd  scratch space: integers, floats, doubles
    key       key of this user's random draws                     ri, rf  what happened: integers, floats
    m, u, i   member, user, item
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.arithmetic import dullness, exp, inner, sigmoid, sigmoids
from recworld.simulators.lanes import LANES, ahead, apart, blend, copy, dot, dots, logits, move, scale
from recworld.simulators.offering import agent_eta, agent_logit, filter_add

_NONE, _ONE = np.float32(0.0), np.float32(1.0)


@inner
def begin(x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, key: Any) -> None:
    """Start an episode: choose user and member, reset what changes."""
    u = np.int64(b[st.PINNED])
    if u < 0:
        u = np.int64(w[q[st.N_POOL] + rnd.below(key, rnd.USER, 0, q[st.I_POOL])])
    m = rnd.below(key, rnd.MEMBER, 0, q[st.I_MEMBERS])
    b[st.USER], b[st.MEMBER] = u, m
    b[st.STEP] = b[st.DONE] = b[st.CONSUMED] = 0
    fr, width = q[st.I_FR], q[st.I_F]
    own = ahead(x, q[st.T_TASTE] + (m * q[st.I_USERS] + u) * width)
    copy(ahead(f, st.FLOAT_HEAD), own, width)
    f[st.NORM_RATING] = math.sqrt(dot(own, own, fr))
    f[st.NORM_ATTRACTION] = math.sqrt(dot(ahead(own, fr), ahead(own, fr), width - fr))
    f[st.SATISFACTION] = p[st.P_SAT_START]
    f[st.FRAILTY] = p[st.P_FRAILTY] * rnd.normal_quantile(rnd.uniform(key, rnd.FRAILTY, 0))
    memory, known = ahead(f, q[st.S_MEMORY]), ahead(x, q[st.T_AGENT_TASTE] + u * q[st.I_G])
    for d in range(q[st.I_D]):
        memory[d] = _NONE
    copy(ahead(f, q[st.S_AGENT]), known, q[st.I_G])
    begin_history(x, w, f, b, q, u)


@inner
def begin_history(x: Any, w: Any, f: Any, b: Any, q: Any, u: int) -> None:
    """Fill the history with the newest items of the early log, and the filter with all of them."""
    length = q[st.I_H]
    start, end = np.int64(w[q[st.N_HISTORY_START] + u]), np.int64(w[q[st.N_HISTORY_START] + u + 1])
    for h in range(length):
        row = end - length + h
        b[q[st.S_WHEN] + h] = -1
        inside = row >= start
        b[st.INT_HEAD + h] = w[q[st.N_HISTORY_ITEM] + row] if inside else q[st.I_ITEMS]
        f[q[st.S_FEEDBACK] + h] = x[q[st.T_HISTORY_FEEDBACK] + row] if inside else _NONE
    words = ahead(b, q[st.S_FILTER])
    for word in range(st.FILTER_WORDS):
        words[word] = 0
    if q[st.I_REPEATS] == 0:
        for row in range(start, end):
            filter_add(b, q, np.int64(w[q[st.N_SEEN_ITEM] + row]))


@inner
def place_slate(b: Any, q: Any, action: Any, ri: Any, si: Any) -> None:
    """Turn positions into items; a position that is masked, repeated or out of range is an empty slot."""
    items, k_size, c_size, invalid = q[st.I_ITEMS], q[st.I_K], q[st.I_C], 0
    offered, slate = ahead(b, q[st.S_CANDIDATES]), ahead(si, q[st.S_SLATE])
    shown, few = ahead(ri, st.R_INT_HEAD), c_size <= st.FILTER_BITS
    if few:  # the first words of the scratch space mark the positions that were chosen
        for word in range((c_size + 31) >> 5):
            si[word] = 0
    for k in range(k_size):
        position, item = action[k], items
        if position >= 0 and position < c_size:
            item, same = np.int64(offered[position]), np.int32(0)
            if few:
                word, mark = position >> 5, np.int32(1) << np.int32(position & 31)
                same = si[word] & mark
                si[word] |= mark
            else:
                for earlier in range(k):
                    same |= slate[earlier] == item
            item = item if same == 0 else items
        invalid += item == items
        slate[k] = shown[k] = item
        shown[k_size + k] = shown[2 * k_size + k] = 0
    for k in range(k_size, (k_size + LANES - 1) // LANES * LANES):
        slate[k] = 0
    ri[st.R_INVALID] = invalid


@inner
def look(x: Any, f: Any, b: Any, p: Any, q: Any, si: Any, sf: Any) -> None:
    """Work out boredom and chance of a click, when noticed, of every slot (the logit, where one item is chosen)."""
    m, u, k_size = np.int64(b[st.MEMBER]), np.int64(b[st.USER]), q[st.I_K]
    slate, near, chance = ahead(si, q[st.S_SLATE]), ahead(sf, q[st.S_NEAR]), ahead(sf, q[st.S_CHANCE])
    fr, width, first = q[st.I_FR], q[st.I_F], m * q[st.I_ITEMS]
    dots(near, ahead(f, q[st.S_MEMORY]), ahead(x, q[st.T_TEXT]), q[st.I_D], q[st.I_D], slate, k_size)
    dullness(near, p[st.P_SCALE], k_size)
    own, bias = x[q[st.T_USER_ATTRACTION] + m * q[st.I_USERS] + u], ahead(x, q[st.T_ITEM_ATTRACTION] + first)
    table = ahead(x, q[st.T_ITEM_ATTRACTING] + first * (width - fr))
    logits(chance, ahead(f, st.FLOAT_HEAD + fr), table, width - fr, width - fr, slate, k_size, bias, own)
    blend(chance, _ONE, -p[st.P_BOREDOM], near, q[st.I_K] + LANES - 1)
    if q[st.I_EXAMINATION] != 2:
        sigmoids(chance, k_size)


@inner
def examine(p: Any, q: Any, key: Any, ri: Any, si: Any, sf: Any, sd: Any) -> Any:
    """Decide which shown items are clicked, after `look`. Return the mean boredom."""
    items, kind, k_size = q[st.I_ITEMS], q[st.I_EXAMINATION], q[st.I_K]
    slate, near, chance = ahead(si, q[st.S_SLATE]), ahead(sf, q[st.S_NEAR]), ahead(sf, q[st.S_CHANCE])
    clicks, seen, total = ahead(ri, st.R_INT_HEAD + k_size), 0, _NONE
    for k in range(k_size):
        sd[k] = rnd.uniform(key, rnd.CLICK, slate[k])
    noticed, decay = 1.0, np.float64(p[st.P_DECAY])
    if kind != 2:
        looking = True
        for k in range(k_size):
            there = slate[k] < items
            seen += there
            total += near[k] if there else _NONE
            clicked = there & looking & (sd[k] < noticed * chance[k])
            clicks[k] = clicked
            looking = looking & ((kind == 0) | (not clicked))
            noticed *= decay
        return total / np.float32(seen) if seen > 0 else _NONE
    best, choice = p[st.P_NO_CLICK] - math.log(-math.log(rnd.uniform(key, rnd.NO_CLICK, 0))), -1
    for k in range(k_size):
        if slate[k] < items:
            seen += 1
            total += near[k]
            value = chance[k] + math.log(noticed) - math.log(-math.log(1.0 - sd[k]))
            if value > best:
                best, choice = value, k
        noticed *= decay
    if choice >= 0:
        clicks[choice] = 1
    return total / np.float32(seen) if seen > 0 else _NONE


@inner
def rating_predictor(x: Any, f: Any, b: Any, p: Any, q: Any, i: int, dull: float) -> Any:
    """Return eta of the current taste, less boredom."""
    m = np.int64(b[st.MEMBER])
    row = m * q[st.I_ITEMS] + i
    eta = dot(ahead(f, st.FLOAT_HEAD), ahead(x, q[st.T_ITEM] + row * q[st.I_FR]), q[st.I_FR])
    eta += x[q[st.T_USER_RATING] + m * q[st.I_USERS] + b[st.USER]] + x[q[st.T_ITEM_RATING] + row]
    return eta - p[st.P_BOREDOM_RATING] * dull


@inner
def rate(x: Any, f: Any, b: Any, p: Any, q: Any, i: int, dull: float, key: Any) -> Any:
    """Draw the rating of a taken item, its error correlated with the click's by rho; `key` is the step's."""
    m = np.int64(b[st.MEMBER])
    person = m * q[st.I_USERS] + b[st.USER]
    error, rho = rnd.normal_quantile(rnd.uniform(key, rnd.RATING, i)), p[st.P_RHO]
    if rho != 0.0:
        # A low uniform is what made the click: the upper end of the latent willingness.
        willing = -rnd.normal_quantile(rnd.uniform(key, rnd.CLICK, i))
        error = rho * willing + math.sqrt(1.0 - rho * rho) * error
    eta = rating_predictor(x, f, b, p, q, i, dull)
    if q[st.I_SCALE] == 2:
        return np.float32(min(max(eta + x[q[st.T_USER_SIGMA] + person] * error, p[st.P_LOW]), p[st.P_HIGH]))
    latent = x[q[st.T_USER_SCALE] + person] * eta - x[q[st.T_USER_SHIFT] + person] + error
    steps, level = q[st.I_LEVELS] - 1, 0
    thresholds = ahead(x, q[st.T_THRESHOLDS] + m * steps)
    for c in range(steps):
        if latent > thresholds[c]:
            level = c + 1
    return x[q[st.T_LEVELS] + level]


@inner
def pull(z: Any, item: Any, width: int, own: float, rate_: float) -> None:
    """z <- z + rate (|p| q^ - z) for rate > 0, away along -q^ for rate < 0; one block.

    Both are steps between two points of norm |p| at most, so the norm of z never exceeds |p|.
    """
    square = dot(item, item, width)
    if square <= 1e-12 or own <= 0.0:
        return
    amount = abs(rate_)
    goal = np.float32((own if rate_ > 0 else -own) / math.sqrt(square))
    blend(z, _ONE - amount, amount * goal, item, width)


@inner
def take(x: Any, f: Any, b: Any, p: Any, q: Any, item: int, value: float, feedback: float) -> None:
    """What a taken item changes: memory, taste, history, the list of consumed items and the recommender's estimate."""
    m, width, fr = np.int64(b[st.MEMBER]), q[st.I_F], q[st.I_FR]
    blend(ahead(f, q[st.S_MEMORY]), _ONE, _ONE, ahead(x, q[st.T_TEXT] + item * q[st.I_D]), q[st.I_D])
    if p[st.P_TASTE_RATE] > 0.0:
        surprise = _ONE
        if q[st.I_SCALE] != 0:
            usual = x[q[st.T_USER_RATING] + m * q[st.I_USERS] + b[st.USER]]
            surprise = min(max((value - usual) / p[st.P_HALF], -_ONE), _ONE)
        speed, z = np.float32(p[st.P_TASTE_RATE] * surprise), ahead(f, st.FLOAT_HEAD)
        row, fa = m * q[st.I_ITEMS] + item, width - fr
        pull(z, ahead(x, q[st.T_ITEM] + row * fr), fr, f[st.NORM_RATING], speed)
        attracting = ahead(x, q[st.T_ITEM_ATTRACTING] + row * fa)
        pull(ahead(z, fr), attracting, fa, f[st.NORM_ATTRACTION], speed)
    length = q[st.I_H]
    history, when, marks = ahead(b, st.INT_HEAD), ahead(b, q[st.S_WHEN]), ahead(f, q[st.S_FEEDBACK])
    move(history, ahead(history, 1), length - 1)
    move(when, ahead(when, 1), length - 1)
    move(marks, ahead(marks, 1), length - 1)
    history[length - 1] = item
    when[length - 1] = b[st.STEP]
    marks[length - 1] = feedback
    if q[st.I_REPEATS] == 0:
        b[q[st.S_CONSUMED] + b[st.CONSUMED]] = item
        filter_add(b, q, item)
    b[st.CONSUMED] += 1
    fold_in(x, f, b, p, q, item, value)


@inner
def fold_in(x: Any, f: Any, b: Any, p: Any, q: Any, i: int, value: float) -> None:
    """One normalised gradient step of the recommender's estimate on what was just taken and how it was rated."""
    u, gr, g = np.int64(b[st.USER]), q[st.I_GR], q[st.I_G]
    own, row = ahead(f, q[st.S_AGENT]), ahead(x, q[st.T_AGENT_ITEM] + i * gr)
    miss = _ONE - sigmoid(agent_logit(x, f, q, u, i))
    by_click = ahead(x, q[st.T_AGENT_ITEM_ATTRACTING] + i * (g - gr))
    move = np.float32(p[st.P_FOLD_IN] * miss / (_ONE + dot(by_click, by_click, g - gr)))
    blend(ahead(own, gr), _ONE, move, by_click, g - gr)
    if q[st.I_SCALE] != 0:
        miss = value - agent_eta(x, f, q, u, i)
        move = np.float32(p[st.P_FOLD_IN] * miss / (_ONE + dot(row, row, gr)))
        blend(own, _ONE, move, row, gr)


@inner
def answer(
    x: Any, f: Any, b: Any, p: Any, q: Any, key: Any, ri: Any, rf: Any, si: Any, sf: Any, sd: Any
) -> Any:
    """Clicks, ratings and what each taken item changes; returns the sum of liking. `key` is the step's."""
    k_size = q[st.I_K]
    look(x, f, b, p, q, si, sf)
    rf[st.R_BOREDOM] = examine(p, q, key, ri, si, sf, sd)
    scale(ahead(f, q[st.S_MEMORY]), p[st.P_MEMORY], q[st.I_D])
    items, near, values = ahead(ri, st.R_INT_HEAD), ahead(sf, q[st.S_NEAR]), ahead(rf, st.R_FLOAT_HEAD)
    clicks, has_rating = ahead(items, k_size), ahead(items, 2 * k_size)
    rated, middle, half = q[st.I_SCALE] != 0, p[st.P_MIDDLE], p[st.P_HALF]
    reward, liked, taken, count = 0.0, _NONE, ahead(si, q[st.S_CHOSEN]), 0
    for k in range(k_size):
        values[k] = _NONE
        taken[count] = k
        count += clicks[k]
    # The whole slate is rated before any of it changes the user: slots of one slate are answered together.
    for j in range(count):
        k, feedback = taken[j], _ONE
        if rated:
            values[k] = rate(x, f, b, p, q, np.int64(items[k]), near[k], key)
            has_rating[k] = 1
            feedback = (values[k] - middle) / half
        reward += p[st.P_W_CLICK] + p[st.P_W_RATING] * feedback
        liked += np.float32(0.5) * (feedback + _ONE)
    for j in range(count):
        k = taken[j]
        feedback = (values[k] - middle) / half if rated else _ONE
        take(x, f, b, p, q, np.int64(items[k]), values[k], feedback)
    rf[st.R_REWARD] = reward
    return liked


@inner
def respond(
    x: Any, f: Any, b: Any, p: Any, q: Any, key: Any, ri: Any, rf: Any, si: Any, sf: Any, sd: Any
) -> None:
    """Everything from a slate to whether the user leaves; `key` is the episode's."""
    step, m, u = b[st.STEP], np.int64(b[st.MEMBER]), np.int64(b[st.USER])
    key = rnd.child_key(key, step)
    liked = answer(x, f, b, p, q, key, ri, rf, si, sf, sd)
    width, z = q[st.I_F], ahead(f, st.FLOAT_HEAD)
    home = ahead(x, q[st.T_TASTE] + (m * q[st.I_USERS] + u) * width)
    blend(z, _ONE - p[st.P_TASTE_RETURN], p[st.P_TASTE_RETURN], home, width)
    shift = apart(z, home, width)
    norms = f[st.NORM_RATING] * f[st.NORM_RATING] + f[st.NORM_ATTRACTION] * f[st.NORM_ATTRACTION]
    content = f[st.SATISFACTION]
    content += p[st.P_SAT_RATE] * ((_ONE - exp(-liked)) - content)
    f[st.SATISFACTION] = rf[st.R_SATISFACTION] = content
    rf[st.R_SHIFT] = math.sqrt(shift / norms) if norms > 0.0 else 0.0
    gone = False
    if q[st.I_LEAVING] == 1:
        logit = p[st.P_LEAVE_BASE] + p[st.P_LEAVE_DISSATISFACTION] * (_ONE - content) + f[st.FRAILTY]
        logit += p[st.P_LEAVE_BOREDOM] * rf[st.R_BOREDOM] + p[st.P_LEAVE_STEP] * np.float32(step)
        gone = rnd.uniform(key, rnd.LEAVE, 0) < sigmoid(logit)
    over = step + 1 >= q[st.I_T]
    b[st.STEP] = step + 1
    b[st.DONE] = gone or over
    ri[st.R_TERMINATED] = gone
    ri[st.R_TRUNCATED] = over and not gone
    ri[st.R_USER] = u


@inner
def accept(
    x: Any, f: Any, b: Any, p: Any, q: Any, click: Any, value: Any, gone: Any, ri: Any, rf: Any
) -> None:
    """As `respond`, for answers that were given elsewhere: history, consumed items and the recommender's estimate move on.

    `click` (K,) 0 or 1, `value` (K,) ratings and `gone` are the answers; clicks on empty slots do not count.
    """
    k_size, reward = q[st.I_K], 0.0
    items, values = ahead(ri, st.R_INT_HEAD), ahead(rf, st.R_FLOAT_HEAD)
    scale(ahead(f, q[st.S_MEMORY]), p[st.P_MEMORY], q[st.I_D])
    for k in range(k_size):
        item = np.int64(items[k])
        values[k] = _NONE
        if click[k] != 0 and item < q[st.I_ITEMS]:
            feedback = _ONE
            items[k_size + k] = 1
            if q[st.I_SCALE] != 0:
                values[k] = value[k]
                items[2 * k_size + k] = 1
                feedback = (value[k] - p[st.P_MIDDLE]) / p[st.P_HALF]
            reward += p[st.P_W_CLICK] + p[st.P_W_RATING] * feedback
            take(x, f, b, p, q, item, values[k], feedback)
    over = b[st.STEP] + 1 >= q[st.I_T]
    b[st.STEP] += 1
    b[st.DONE] = gone or over
    ri[st.R_TERMINATED] = gone
    ri[st.R_TRUNCATED] = over and not gone
    ri[st.R_USER] = b[st.USER]
    rf[st.R_REWARD] = reward
    rf[st.R_SATISFACTION] = f[st.SATISFACTION]
    rf[st.R_BOREDOM] = rf[st.R_SHIFT] = 0.0


@inner
def idle(f: Any, b: Any, q: Any, ri: Any, rf: Any) -> None:
    """A user whose episode is over, in a batch where others go on: nothing is shown, nothing changes."""
    k_size = q[st.I_K]
    for k in range(st.R_INT_HEAD + 3 * k_size):
        ri[k] = 0
    for k in range(st.R_FLOAT_HEAD + k_size):
        rf[k] = 0.0
    for k in range(k_size):
        ri[st.R_INT_HEAD + k] = q[st.I_ITEMS]
    ri[st.R_USER] = b[st.USER]
    rf[st.R_SATISFACTION] = f[st.SATISFACTION]


@inner
def true_worth(x: Any, f: Any, b: Any, p: Any, q: Any, item: int) -> Any:
    """Return the true expected immediate reward of an item in the first position."""
    m, u, fr, width = np.int64(b[st.MEMBER]), np.int64(b[st.USER]), q[st.I_FR], q[st.I_F]
    near = dot(ahead(f, q[st.S_MEMORY]), ahead(x, q[st.T_TEXT] + item * q[st.I_D]), q[st.I_D])
    dull = _ONE - exp(-max(near, _NONE) / p[st.P_SCALE])
    row, person = m * q[st.I_ITEMS] + item, m * q[st.I_USERS] + u
    attracting = ahead(x, q[st.T_ITEM_ATTRACTING] + row * (width - fr))
    logit = dot(ahead(f, st.FLOAT_HEAD + fr), attracting, width - fr)
    logit += x[q[st.T_USER_ATTRACTION] + person] + x[q[st.T_ITEM_ATTRACTION] + row] - p[st.P_BOREDOM] * dull
    worth = 1.0
    if q[st.I_SCALE] != 0:
        mean = np.float64(rating_predictor(x, f, b, p, q, item, dull))
        if q[st.I_SCALE] == 1:
            latent = x[q[st.T_USER_SCALE] + person] * mean - x[q[st.T_USER_SHIFT] + person]
            steps, levels = q[st.I_LEVELS] - 1, ahead(x, q[st.T_LEVELS])
            thresholds, mean = ahead(x, q[st.T_THRESHOLDS] + m * steps), np.float64(levels[0])
            for c in range(steps):
                mean += (levels[c + 1] - levels[c]) * rnd.normal_cdf(latent - thresholds[c])
        worth = (min(max(mean, p[st.P_LOW]), p[st.P_HIGH]) - p[st.P_MIDDLE]) / p[st.P_HALF]
    return sigmoid(logit) * (p[st.P_W_CLICK] + p[st.P_W_RATING] * worth)
