"""What the recommender sees: candidates, their scores by its own estimate, and the observation; compiled.

Every function works on one user; all that it is given are pointers, the same throughout:

    x, w      tables: floats, integers                            f, b    what changes of this user: floats, integers
    p, q      parameters: floats, integers                        si, sf  scratch space: integers, floats
    key       key of this user's random draws                     m, u    member, user
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.arithmetic import inner, sigmoids
from recworld.simulators.lanes import ahead, copy, dot, logits, screened

MAX_SCORE = np.float32(50.0)
"""Bound of the click logit in an observation."""
_BITS, _NONE, _ONE = np.int64(st.FILTER_BITS - 1), np.float32(0.0), np.float32(1.0)


@inner
def _bit(q: Any, item: int) -> Any:
    return (item * q[st.I_HASH] + (item >> q[st.I_FOLD])) & _BITS


@inner
def filter_add(b: Any, q: Any, item: int) -> None:
    """Mark an item in the user's filter."""
    bit = _bit(q, item)
    b[q[st.S_FILTER] + (bit >> 5)] |= np.int32(1) << np.int32(bit & 31)


@inner
def _looked_up(w: Any, b: Any, q: Any, item: int) -> Any:
    """Return whether the user took the item in this episode or in the early log, by looking through both."""
    consumed = ahead(b, q[st.S_CONSUMED])
    for j in range(b[st.CONSUMED]):
        if consumed[j] == item:
            return True
    start = q[st.N_HISTORY_START] + b[st.USER]
    seen = ahead(w, q[st.N_SEEN_ITEM])
    low, high = np.int64(w[start]), np.int64(w[start + 1])
    end = high
    while low < high:
        middle = (low + high) >> 1
        if seen[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and seen[low] == item


@inner
def was_consumed(w: Any, b: Any, q: Any, item: int) -> Any:
    """Return whether the user took the item in this episode or in the early log; the filter answers most calls."""
    bit = _bit(q, item)
    if (b[q[st.S_FILTER] + (bit >> 5)] >> np.int32(bit & 31)) & 1 == 0:
        return False
    return q[st.I_EXACT] == 1 or _looked_up(w, b, q, item)


@inner
def agent_logit(x: Any, f: Any, q: Any, u: int, i: int) -> Any:
    """Return the recommender's estimate of the click logit."""
    gr, g = q[st.I_GR], q[st.I_G]
    row = ahead(x, q[st.T_AGENT_ITEM_ATTRACTING] + i * (g - gr))
    logit = dot(ahead(f, q[st.S_AGENT] + gr), row, g - gr)
    return logit + x[q[st.T_AGENT_USER_ATTRACTION] + u] + x[q[st.T_AGENT_ITEM_ATTRACTION] + i]


@inner
def agent_eta(x: Any, f: Any, q: Any, u: int, i: int) -> Any:
    """Return the recommender's estimate of the rating."""
    eta = dot(ahead(f, q[st.S_AGENT]), ahead(x, q[st.T_AGENT_ITEM] + i * q[st.I_GR]), q[st.I_GR])
    return eta + x[q[st.T_AGENT_USER_RATING] + u] + x[q[st.T_AGENT_ITEM_RATING] + i]


@inner
def agent_scores(x: Any, f: Any, p: Any, q: Any, u: int, rows: Any, count: int, out: Any, etas: Any) -> None:
    """Write the recommender's scores of the items `rows[: count]`; `out` and `etas` have room for a multiple of eight.

    A score is the click logit (not yet bounded), or the expected reward of a noticed item where ratings count.
    """
    gr, ga, items = q[st.I_GR], q[st.I_G] - q[st.I_GR], ahead(x, q[st.T_AGENT_ITEM_ATTRACTING])
    own, bias = ahead(f, q[st.S_AGENT]), ahead(x, q[st.T_AGENT_ITEM_ATTRACTION])
    mean = x[q[st.T_AGENT_USER_ATTRACTION] + u]
    logits(out, ahead(own, gr), items, ga, ga, rows, count, bias, mean)
    if q[st.I_SCORE_RATING] == 0:
        return
    sigmoids(out, count)
    by_click, by_rating, middle, half = p[st.P_W_CLICK], p[st.P_W_RATING], p[st.P_MIDDLE], p[st.P_HALF]
    if q[st.I_SCALE] == 0:
        for c in range(count):
            out[c] *= by_click + by_rating
        return
    bias, mean = ahead(x, q[st.T_AGENT_ITEM_RATING]), x[q[st.T_AGENT_USER_RATING] + u]
    logits(etas, own, ahead(x, q[st.T_AGENT_ITEM]), gr, gr, rows, count, bias, mean)
    for c in range(count):
        worth = min(max((etas[c] - middle) / half, -_ONE), _ONE)
        out[c] *= by_click + by_rating * worth


@inner
def draw_random(w: Any, b: Any, q: Any, key: Any, marks: Any) -> Any:
    """Fill the candidates with distinct random items that were not consumed; return how many were found.

    `marks` starts as a copy of the user's filter and takes up each candidate, so a clear bit says at once that an item is
    neither consumed nor drawn before; a set one is looked into, where the filter is not exact.
    """
    items, want, out = q[st.I_ITEMS], q[st.I_C], ahead(b, q[st.S_CANDIDATES])
    copy(marks, ahead(b, q[st.S_FILTER]), st.FILTER_WORDS)
    found, draws, limit = 0, 0, 4 * want + 64
    if q[st.I_EXACT] == 1:
        found = draw_exact(q, key, marks, out, want & ~1)
        draws = want & ~1
    while found < want and draws < limit + items:
        if draws < limit:
            item = rnd.half_below(rnd.bits(key, rnd.CANDIDATE, draws >> 1), draws, items)
        else:
            # After many refusals (a catalogue nearly exhausted) go through it in order: still every item at most once.
            item = (rnd.below(key, rnd.CANDIDATE, -1, items) + draws) % items
        draws += 1
        bit = _bit(q, item)
        mark = np.int32(1) << np.int32(bit & 31)
        if marks[bit >> 5] & mark != 0:
            if q[st.I_EXACT] == 1:
                continue
            same = 0
            for c in range(found):
                same += out[c] == item
            if same > 0 or was_consumed(w, b, q, item):
                continue
        marks[bit >> 5] |= mark
        out[found] = item
        found += 1
    return found


@inner
def draw_exact(q: Any, key: Any, marks: Any, out: Any, count: int) -> Any:
    """Make the first `count` draws (an even number) of `draw_random` without a branch: what is refused is written over."""
    items, found = q[st.I_ITEMS], 0
    for pair in range(count >> 1):
        drawn = rnd.bits(key, rnd.CANDIDATE, pair)
        for half in range(2):
            item = rnd.half_below(drawn, half, items)
            word, mark = item >> 5, np.int32(1) << np.int32(item & 31)
            before = marks[word]
            marks[word] = before | mark
            out[found] = item
            found += (before & mark) == 0
    return found


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
def empty_heap(q: Any, si: Any, sf: Any) -> None:
    """Start a heap of the C best items, in the scratch space."""
    scores, chosen = sf, ahead(si, q[st.S_CHOSEN])
    for place in range(q[st.I_C]):
        scores[place], chosen[place] = -np.inf, -1


@inner
def weigh(x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, si: Any, sf: Any, count: int, size: int) -> Any:
    """Put the first `count` items of the block in the scratch space into the heap; return how many items it then holds."""
    scores, chosen, block = sf, ahead(si, q[st.S_CHOSEN]), ahead(si, q[st.S_BLOCK])
    score, eta = ahead(sf, q[st.S_BLOCK_SCORE]), ahead(sf, q[st.S_BLOCK_ETA])
    agent_scores(x, f, p, q, np.int64(b[st.USER]), block, count, score, eta)
    for j in range(count):
        if score[j] > scores[0]:
            item = np.int64(block[j])
            if q[st.I_REPEATS] == 0 and was_consumed(w, b, q, item):
                continue
            sift(scores, chosen, q[st.I_C], score[j], item)
            size = min(size + 1, q[st.I_C])
    return size


@inner
def best_first(b: Any, q: Any, si: Any, sf: Any) -> None:
    """Turn the heap into the candidates; empty entries sort last of all and are skipped, so found items stand first."""
    scores, chosen, out = sf, ahead(si, q[st.S_CHOSEN]), ahead(b, q[st.S_CANDIDATES])
    for place in range(q[st.I_C] - 1, -1, -1):
        if chosen[0] >= 0:
            out[place] = chosen[0]
        sift(scores, chosen, place, scores[place], chosen[place])


@inner
def retrieve(x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, si: Any, sf: Any) -> Any:
    """Fill the candidates with the best items by the recommender's estimate, best first; return how many were found."""
    size, items, block = 0, q[st.I_ITEMS], ahead(si, q[st.S_BLOCK])
    empty_heap(q, si, sf)
    for first in range(0, items, st.BLOCK):
        for j in range(st.BLOCK):
            block[j] = min(first + j, items - 1)
        size = weigh(x, w, f, b, p, q, si, sf, min(st.BLOCK, items - first), size)
    best_first(b, q, si, sf)
    return size


@inner
def choose_from(
    x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, si: Any, sf: Any, pool: Any, count: int
) -> None:
    """As `retrieve`, among `count` distinct items (negative: none); among all items, where too few are left."""
    size, filled, items, want, block = 0, 0, q[st.I_ITEMS], q[st.I_C], ahead(si, q[st.S_BLOCK])
    empty_heap(q, si, sf)
    for j in range(st.BLOCK):
        block[j] = 0
    for c in range(count):
        if pool[c] >= 0:
            block[filled] = pool[c]
            filled += 1
        if filled == st.BLOCK or c == count - 1:
            size = weigh(x, w, f, b, p, q, si, sf, filled, size)
            filled = 0
    if size < want:
        size = retrieve(x, w, f, b, p, q, si, sf)
    else:
        best_first(b, q, si, sf)
    out = ahead(b, q[st.S_CANDIDATES])
    for c in range(size, want):
        out[c] = items


@inner
def offer(x: Any, w: Any, f: Any, b: Any, p: Any, q: Any, key: Any, si: Any, sf: Any) -> None:
    """Choose the candidates of the coming step; `key` is the episode's."""
    items, want, kind = q[st.I_ITEMS], q[st.I_C], q[st.I_CANDIDATES]
    out = ahead(b, q[st.S_CANDIDATES])
    found: Any = 0
    item: Any
    if kind == 0:
        found = draw_random(w, b, q, rnd.child_key(key, b[st.STEP]), si)
    elif kind == 1:
        popular = ahead(w, q[st.N_POPULAR])
        for rank in range(items):
            item = np.int64(popular[rank])
            if q[st.I_REPEATS] == 0 and was_consumed(w, b, q, item):
                continue
            out[found] = item
            found += 1
            if found == want:
                break
    elif kind == 2:
        for item in range(items):
            gone = q[st.I_REPEATS] == 0 and was_consumed(w, b, q, item)
            out[item] = items if gone else item
        found = items
    elif kind == 3:
        found = retrieve(x, w, f, b, p, q, si, sf)
    else:  # they are looked up in an index, by `choose_from`, after the step
        found = want
    for c in range(found, want):
        out[c] = items


@inner
def observe(x: Any, f: Any, b: Any, p: Any, q: Any, oi: Any, of: Any, om: Any, sf: Any) -> None:
    """Write the observation of a user: rows of integers, of floats and of the mask."""
    length, want, items = q[st.I_H], q[st.I_C], np.int32(q[st.I_ITEMS])
    each = np.float32(1.0) / np.float32(q[st.I_T])
    now, u = np.float32(b[st.STEP]) * each, np.int64(b[st.USER])
    oi[0], of[0] = u, now
    offered = ahead(b, q[st.S_CANDIDATES])
    copy(
        ahead(oi, 1), ahead(b, st.INT_HEAD), length + want
    )  # the candidates follow the history, here and there
    copy(ahead(of, 1), ahead(f, q[st.S_FEEDBACK]), length)
    when, age = ahead(b, q[st.S_WHEN]), ahead(of, 1 + length)
    for h in range(length):
        then = when[h]
        age[h] = now - np.float32(then) * each if then >= 0 else _ONE
    agent_scores(x, f, p, q, u, offered, want, sf, ahead(sf, q[st.S_ETA]))
    out = ahead(of, 1 + 2 * length)
    screened(out, om, sf, offered, items, -MAX_SCORE, MAX_SCORE, want)
    own, taste, gr = ahead(out, want), ahead(f, q[st.S_AGENT]), q[st.I_OWN_GR]
    if gr == q[st.I_GR]:
        copy(own, taste, gr + q[st.I_OWN_GA])
    else:
        copy(own, taste, gr)
        copy(ahead(own, gr), ahead(taste, q[st.I_GR]), q[st.I_OWN_GA])
