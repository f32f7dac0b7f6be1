"""The entry points of the compiled step: loops over users around the functions of `kernel`.

numba keeps compiled entry points on disk and looks only at the entry point's own file to see whether they are stale. The
entry points are therefore closures over a hash of all the source they are made of, which numba counts as part of the key.

What stays the same from call to call travels as `machine`: addresses of the arrays, and of scratch space that no two threads
may share. An entry point works on the rows `first` up to `last`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from recworld.simulators import arithmetic, kernel, lanes, offering
from recworld.simulators import random as rnd
from recworld.simulators import state as st
from recworld.simulators.lanes import ahead, copy, move, pointer

MACHINE = ("x", "w", "f", "b", "keys", "p", "q", "si", "sf", "sd")
"""What the places of `machine` point to; see `kernel`."""

USERS_AT_ONCE = 32
"""Users that go through a stage of the step together: their rows fit the nearest cache but one."""

_begin, _offer, _observe, _idle = kernel.begin, offering.offer, offering.observe, kernel.idle
_place_slate, _respond, _true_worth = kernel.place_slate, kernel.respond, kernel.true_worth
_accept, _choose_from = kernel.accept, offering.choose_from


def _source_hash() -> int:
    digest = hashlib.sha256()
    for module in (kernel, offering, arithmetic, lanes, rnd, st):
        digest.update(Path(str(module.__file__)).read_bytes())
    return int.from_bytes(digest.digest()[:6], "little")


@arithmetic.inner
def parts(machine: Any) -> Any:
    """Return the pointers of `machine`."""
    return (
        lanes.floats_at(machine[0]), lanes.words_at(machine[1]), lanes.floats_at(machine[2]),
        lanes.words_at(machine[3]), lanes.keys_at(machine[4]), lanes.floats_at(machine[5]),
        lanes.switches_at(machine[6]), lanes.words_at(machine[7]), lanes.floats_at(machine[8]),
        lanes.doubles_at(machine[9]),
    )  # fmt: skip


@arithmetic.inner
def start(
    x: Any, w: Any, f: Any, b: Any, keys: Any, p: Any, q: Any, si: Any, sf: Any, oi: Any, of: Any, om: Any
) -> None:
    """Start the episode that the row's number names, and write its first observation."""
    key = rnd.child_key(keys[1], b[st.EPISODE])
    keys[2] = key
    _begin(x, w, f, b, p, q, key)
    _offer(x, w, f, b, p, q, key, si, sf)
    _observe(x, f, b, p, q, oi, of, om, sf)


def _entry_points(version: int) -> tuple[Callable[..., Any], ...]:
    # Only `version` may be a closure cell: anything else (another compiled function) would hash anew in every process.
    compiled = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)

    @compiled
    def begin_rows(machine: Any, rows: Any, oi: Any, of: Any, om: Any) -> int:
        x, w, f, b, keys, p, q, si, sf, _ = parts(machine)
        for n in rows:
            start(
                x, w, ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT]), ahead(keys, 3 * n), p, q, si, sf,
                ahead(pointer(oi), n * oi.shape[1]), ahead(pointer(of), n * of.shape[1]),
                ahead(pointer(om), n * om.shape[1]),
            )  # fmt: skip
        return version

    @compiled
    def observe_rows(machine: Any, oi: Any, of: Any, om: Any) -> int:
        x, _, f, b, _, p, q, _, sf, _ = parts(machine)
        for n in range(len(oi)):
            _observe(
                x, ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT]), p, q,
                ahead(pointer(oi), n * oi.shape[1]), ahead(pointer(of), n * of.shape[1]),
                ahead(pointer(om), n * om.shape[1]), sf,
            )  # fmt: skip
        return version

    @compiled
    def step_rows(
        machine: Any, action: Any, oi: Any, of: Any, om: Any, ri: Any, rf: Any,
        restart: bool, li: Any, lf: Any, lm: Any, ai: Any, af: Any, first: int, last: int,
    ) -> int:  # fmt: skip
        x, w, f, b, keys, p, q, si, sf, sd = parts(machine)
        ended = 0 * version
        # A few users at a time go through one stage after the other: the code and the tables of a stage stay near.
        for block in range(first, last, USERS_AT_ONCE):
            end = min(block + USERS_AT_ONCE, last)
            for n in range(block, end):
                fn, bn = ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT])
                rin, rfn = ahead(pointer(ri), n * ri.shape[1]), ahead(pointer(rf), n * rf.shape[1])
                if bn[st.DONE] == 1:
                    _idle(fn, bn, q, rin, rfn)
                else:
                    _place_slate(bn, q, ahead(pointer(action), n * action.shape[1]), rin, si)
                    _respond(x, fn, bn, p, q, keys[3 * n + 2], rin, rfn, si, sf, sd)
            for n in range(block, end):
                bn, rin = ahead(b, n * q[st.W_INT]), ahead(pointer(ri), n * ri.shape[1])
                if bn[st.DONE] == 0 or rin[st.R_TERMINATED] + rin[st.R_TRUNCATED] > 0:
                    _offer(x, w, ahead(f, n * q[st.W_FLOAT]), bn, p, q, keys[3 * n + 2], si, sf)
            for n in range(block, end):
                fn, bn = ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT])
                oin, ofn = ahead(pointer(oi), n * oi.shape[1]), ahead(pointer(of), n * of.shape[1])
                omn = ahead(pointer(om), n * om.shape[1])
                _observe(x, fn, bn, p, q, oin, ofn, omn, sf)
                rin, over = ahead(pointer(ri), n * ri.shape[1]), False
                if bn[st.DONE] == 1:
                    over = rin[st.R_TERMINATED] + rin[st.R_TRUNCATED] > 0
                    ended += over
                if restart:
                    ain, afn = ahead(pointer(ai), n * ai.shape[1]), ahead(pointer(af), n * af.shape[1])
                    copy(ain, rin, ri.shape[1])
                    copy(afn, ahead(pointer(rf), n * rf.shape[1]), rf.shape[1])
                    if over:
                        copy(ahead(pointer(li), n * li.shape[1]), oin, li.shape[1])
                        copy(ahead(pointer(lf), n * lf.shape[1]), ofn, lf.shape[1])
                        move(ahead(pointer(lm), n * lm.shape[1]), omn, lm.shape[1])
                        bn[st.EPISODE] += 1
                        start(x, w, fn, bn, ahead(keys, 3 * n), p, q, si, sf, oin, ofn, omn)
                        _idle(fn, bn, q, ain, afn)
        return ended

    @compiled
    def true_rows(machine: Any, out: Any) -> int:
        x, _, f, b, _, p, q, _, _, _ = parts(machine)
        for n in range(len(out)):
            fn, bn = ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT])
            for c in range(q[st.I_C]):
                item = np.int64(bn[q[st.S_CANDIDATES] + c])
                out[n, c] = _true_worth(x, fn, bn, p, q, item) if item < q[st.I_ITEMS] else 0.0
        return version

    @compiled
    def answered_rows(
        machine: Any,
        action: Any,
        click: Any,
        value: Any,
        gone: Any,
        oi: Any,
        of: Any,
        om: Any,
        ri: Any,
        rf: Any,
    ) -> int:
        x, w, f, b, keys, p, q, si, sf, _ = parts(machine)
        for n in range(len(action)):
            fn, bn, k = ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT]), action.shape[1]
            rin, rfn = ahead(pointer(ri), n * ri.shape[1]), ahead(pointer(rf), n * rf.shape[1])
            if bn[st.DONE] == 1:
                _idle(fn, bn, q, rin, rfn)
            else:
                _place_slate(bn, q, ahead(pointer(action), n * k), rin, si)
                _accept(
                    x,
                    fn,
                    bn,
                    p,
                    q,
                    ahead(pointer(click), n * k),
                    ahead(pointer(value), n * k),
                    gone[n],
                    rin,
                    rfn,
                )
                _offer(x, w, fn, bn, p, q, keys[3 * n + 2], si, sf)
            _observe(
                x, fn, bn, p, q, ahead(pointer(oi), n * oi.shape[1]), ahead(pointer(of), n * of.shape[1]),
                ahead(pointer(om), n * om.shape[1]), sf,
            )  # fmt: skip
        return version

    @compiled
    def fill_rows(machine: Any, rows: Any, pool: Any, oi: Any, of: Any, om: Any) -> int:
        """Choose the candidates of the users `rows` from their rows of the pool, (len(rows), P) int32, and observe anew."""
        x, w, f, b, _, p, q, si, sf, _ = parts(machine)
        for j in range(len(rows)):
            n, count = rows[j], pool.shape[1]
            fn, bn = ahead(f, n * q[st.W_FLOAT]), ahead(b, n * q[st.W_INT])
            _choose_from(x, w, fn, bn, p, q, si, sf, ahead(pointer(pool), j * count), count)
            _observe(
                x, fn, bn, p, q, ahead(pointer(oi), n * oi.shape[1]), ahead(pointer(of), n * of.shape[1]),
                ahead(pointer(om), n * om.shape[1]), sf,
            )  # fmt: skip
        return version

    @compiled
    def gather_rows(table: Any, numbers: Any, rows: Any, out: Any) -> int:
        """Write rows `numbers[n]` of a table (float32) to `out[n]`, for the n in `rows`."""
        width, start, target, places = table.shape[1], pointer(table), pointer(out), numbers.shape[1]
        for n in rows:
            for c in range(places):
                copy(ahead(target, (n * places + c) * width), ahead(start, numbers[n, c] * width), width)
        return version

    return begin_rows, observe_rows, step_rows, true_rows, answered_rows, fill_rows, gather_rows


begin_rows, observe_rows, step_rows, true_rows, answered_rows, fill_rows, gather_rows = _entry_points(
    _source_hash()
)
