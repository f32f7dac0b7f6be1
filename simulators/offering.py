"""What the recommender sees: candidates, their scores by its own estimate, and the observation; compiled.

The arguments are the same throughout:

    x, w      tables: one blob of floats, one of integers         f, b    rows of what changes, flat: floats, integers
    p, q      parameters: floats, integers                        fo, bo  offset of this user's row in f and in b
    key       key of this user's random draws                     m, u, i member, user, item
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.stretch import copy, dot, inner, sigmoid

MAX_SCORE = 50.0
"""Bound of the click logit in an observation."""


@inner
def _bit(item: int) -> Any:
    return (item * 40503 + (item >> 11)) & (st.FILTER_WORDS * 32 - 1)


@inner
def filter_add(b: Any, at: int, item: int) -> None:
    """Mark an item in the filter that starts at `at`."""
    bit = _bit(item)
    b[at + (bit >> 5)] |= np.int32(1) << np.int32(bit & 31)


@inner
def was_consumed(w: Any, b: Any, q: Any, bo: int, item: int) -> Any:
    """Return whether the user took the item in this episode or in the early log; the filter answers most calls."""
    bit = _bit(item)
    if (b[np.uint64(bo + q[st.S_FILTER] + (bit >> 5))] >> np.int32(bit & 31)) & 1 == 0:
        return False
    consumed = bo + q[st.S_CONSUMED]
    for j in range(b[bo + st.CONSUMED]):
        if b[consumed + j] == item:
            return True
    start = q[st.N_HISTORY_START] + b[bo + st.USER]
    seen = q[st.N_SEEN_ITEM]
    low, high = np.int64(w[start]), np.int64(w[start + 1])
    end = high
    while low < high:
        middle = (low + high) >> 1
        if w[seen + middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and w[seen + low] == item


@inner
def agent_logit(x: Any, f: Any, q: Any, fo: int, u: int, i: int) -> Any:
    """Return the recommender's estimate of the click logit."""
    gr, g = q[st.I_GR], q[st.I_G]
    logit = dot(f, fo + q[st.S_AGENT] + gr, x, q[st.T_AGENT_ITEM] + i * g + gr, g - gr)
    return logit + x[q[st.T_AGENT_USER_ATTRACTION] + u] + x[q[st.T_AGENT_ITEM_ATTRACTION] + i]


@inner
def agent_eta(x: Any, f: Any, q: Any, fo: int, u: int, i: int) -> Any:
    """Return the recommender's estimate of the rating."""
    eta = dot(f, fo + q[st.S_AGENT], x, q[st.T_AGENT_ITEM] + i * q[st.I_G], q[st.I_GR])
    return eta + x[q[st.T_AGENT_USER_RATING] + u] + x[q[st.T_AGENT_ITEM_RATING] + i]


@inner
def agent_score(x: Any, f: Any, p: Any, q: Any, fo: int, u: int, i: int) -> Any:
    """Return the click logit, or the expected reward of a noticed item where ratings count."""
    logit = agent_logit(x, f, q, fo, u, i)
    if q[st.I_SCORE_RATING] == 0:
        return min(max(logit, -MAX_SCORE), MAX_SCORE)
    worth = 1.0
    if q[st.I_SCALE] != 0:
        worth = min(max((agent_eta(x, f, q, fo, u, i) - p[st.P_MIDDLE]) / p[st.P_HALF], -1.0), 1.0)
    return sigmoid(logit) * (p[st.P_W_CLICK] + p[st.P_W_RATING] * worth)


@inner
def draw_random(w: Any, b: Any, q: Any, bo: int, key: Any, marks: Any) -> Any:
    """Fill the candidates with distinct random items that were not consumed; return how many were found.

    `marks` starts as a copy of the user's filter and takes up each candidate, so a clear bit says at once that an item is
    neither consumed nor drawn before; a set one is looked into.
    """
    items, want, out = q[st.I_ITEMS], q[st.I_C], np.uint64(bo + q[st.S_CANDIDATES])
    copy(marks, 0, b, bo + q[st.S_FILTER], st.FILTER_WORDS)
    found, draws, limit = np.uint64(0), 0, 4 * want + 64
    start = rnd.below(key, rnd.CANDIDATE, -1, items)
    while found < np.uint64(want) and draws < limit + items:
        # After many refusals (a catalogue nearly exhausted) go through it in order: still every item at most once.
        item = rnd.half_below(key, rnd.CANDIDATE, draws, items) if draws < limit else (start + draws) % items
        draws += 1
        bit = _bit(item)
        word, mark = np.uint64(bit >> 5), np.int32(1) << np.int32(bit & 31)
        if marks[word] & mark != 0:
            same = 0
            for c in range(found):
                same += b[out + c] == item
            if same > 0 or was_consumed(w, b, q, bo, item):
                continue
        marks[word] |= mark
        b[out + found] = item
        found += np.uint64(1)
    return np.int64(found)


@inner
def sift(scores: Any, chosen: Any, size: int, score: float, item: int) -> None:
    """Put (score, item) in place of the smallest of a heap of `size` entries."""
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and scores[child + 1] < scores[child]:
            child += 1
        if scores[child] >= score:
            break
        scores[place], chosen[place] = scores[child], chosen[child]
        place = child
    scores[place], chosen[place] = score, item


@inner
def retrieve(
    x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, fo: int, bo: int, scores: Any, chosen: Any
) -> Any:
    """Fill the candidates with the best items by the recommender's estimate, best first: a heap of size C."""
    want, size, u, out = q[st.I_C], 0, np.int64(b[bo + st.USER]), bo + q[st.S_CANDIDATES]
    for place in range(want):
        scores[place], chosen[place] = -np.inf, -1
    for item in range(q[st.I_ITEMS]):
        if q[st.I_REPEATS] == 0 and was_consumed(w, b, q, bo, item):
            continue
        score = np.float32(agent_score(x, f, p, q, fo, u, item))
        if score > scores[0]:
            sift(scores, chosen, want, score, item)
            size = min(size + 1, want)
    for place in range(want - 1, -1, -1):
        if chosen[0] >= 0:
            b[out + place] = chosen[0]
        sift(scores, chosen, place, scores[place], chosen[place])
    # Empty heap entries sort last of all; they were skipped, so found items stand first.
    return size


@inner
def offer(
    x: Any,
    w: Any,
    f: Any,
    b: Any,
    p: Any,
    q: Any,
    fo: int,
    bo: int,
    key: Any,
    marks: Any,
    scores: Any,
    chosen: Any,
) -> None:
    """Choose the candidates of the coming step; `key` is the episode's."""
    items, want, kind = q[st.I_ITEMS], q[st.I_C], q[st.I_CANDIDATES]
    out = bo + q[st.S_CANDIDATES]
    found: Any = 0
    item: Any
    if kind == 0:
        found = draw_random(w, b, q, bo, rnd.child_key(key, b[bo + st.STEP]), marks)
    elif kind == 1:
        for rank in range(items):
            item = np.int64(w[q[st.N_POPULAR] + rank])
            if q[st.I_REPEATS] == 0 and was_consumed(w, b, q, bo, item):
                continue
            b[out + found] = item
            found += 1
            if found == want:
                break
    elif kind == 2:
        for item in range(items):
            gone = q[st.I_REPEATS] == 0 and was_consumed(w, b, q, bo, item)
            b[out + item] = items if gone else item
        found = items
    else:
        found = retrieve(x, w, f, b, p, q, fo, bo, scores, chosen)
    for c in range(found, want):
        b[out + c] = items


@inner
def observe(
    x: Any, f: Any, b: Any, p: Any, q: Any, n: int, fo: int, bo: int, oi: Any, of: Any, om: Any
) -> None:
    """Write the observation of user n."""
    length, want, items, step = q[st.I_H], q[st.I_C], np.int32(q[st.I_ITEMS]), b[bo + st.STEP]
    each = np.float32(1.0) / np.float32(q[st.I_T])
    u = np.int64(b[bo + st.USER])
    oi[n, 0], of[n, 0] = u, step * each
    row, now = np.uint64(n), np.float32(step) * each
    history, when = np.uint64(bo + st.INT_HEAD), np.uint64(bo + q[st.S_WHEN])
    marks, wide = np.uint64(fo + q[st.S_FEEDBACK]), np.uint64(length)
    for h in range(wide):
        oi[row, np.uint64(1) + h] = b[history + h]
    for h in range(wide):
        of[row, np.uint64(1) + h] = f[marks + h]
    for h in range(wide):
        then = b[when + h]
        age = now - np.float32(then) * each
        of[row, np.uint64(1) + wide + h] = age if then >= 0 else np.float32(1.0)
    # All that the loop needs is read before it: what it writes might, for all the compiler knows, change q.
    at, ints_at, floats_at = (
        np.uint64(bo + q[st.S_CANDIDATES]),
        np.uint64(1 + length),
        np.uint64(1 + 2 * length),
    )
    gr, g = q[st.I_GR], q[st.I_G]
    own, rows, width = fo + q[st.S_AGENT] + gr, q[st.T_AGENT_ITEM] + gr, g - gr
    user_logit, bias_at = x[q[st.T_AGENT_USER_ATTRACTION] + u], np.uint64(q[st.T_AGENT_ITEM_ATTRACTION])
    simple = q[st.I_SCORE_RATING] == 0
    for c in range(np.uint64(want)):
        item = b[at + c]
        oi[row, ints_at + c] = item
        score, there = np.float32(0.0), item < items
        if there and simple:
            logit = (
                user_logit + x[bias_at + np.uint64(item)] + dot(f, own, x, rows + np.int64(item) * g, width)
            )
            score = min(max(logit, np.float32(-MAX_SCORE)), np.float32(MAX_SCORE))
        elif there:
            score = np.float32(agent_score(x, f, p, q, fo, u, np.int64(item)))
        of[row, floats_at + c] = score
        om[row, c] = there
    estimate_at, taste_at = floats_at + np.uint64(want), np.uint64(fo + q[st.S_AGENT])
    for k in range(np.uint64(g)):
        of[row, estimate_at + k] = f[taste_at + k]
