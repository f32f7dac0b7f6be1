"""The entry points of the compiled step: loops over users around the functions of `kernel`.

numba keeps compiled entry points on disk and looks only at the entry point's own file to see whether they are stale. The
entry points are therefore closures over a hash of all the source they are made of, which numba counts as part of the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from recworld.simulators import kernel, offering, stretch
from recworld.simulators import random as rnd
from recworld.simulators import state as st

_begin, _offer, _observe, _idle = kernel.begin, offering.offer, offering.observe, kernel.idle
_place_slate, _respond, _true_worth = kernel.place_slate, kernel.respond, kernel.true_worth
_accept = kernel.accept


def _source_hash() -> int:
    digest = hashlib.sha256()
    for module in (kernel, offering, stretch, rnd, st):
        digest.update(Path(str(module.__file__)).read_bytes())
    return int.from_bytes(digest.digest()[:6], "little")


@stretch.inner
def start(
    x: Any, w: Any, f: Any, b: Any, keys: Any, p: Any, q: Any, n: int,
    marks: Any, scores: Any, chosen: Any, oi: Any, of: Any, om: Any,
) -> None:  # fmt: skip
    """Start the episode that the row's number names, and write its first observation."""
    fo, bo = n * q[st.W_FLOAT], n * q[st.W_INT]
    key = rnd.child_key(keys[n, 1], b[bo + st.EPISODE])
    keys[n, 2] = key
    _begin(x, w, f, b, p, q, fo, bo, key)
    _offer(x, w, f, b, p, q, fo, bo, key, marks, scores, chosen)
    _observe(x, f, b, p, q, n, fo, bo, oi, of, om)


def _entry_points(version: int) -> tuple[Callable[..., Any], ...]:
    # Only `version` may be a closure cell: anything else (another compiled function) would hash anew in every process.
    compiled = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)

    @compiled
    def begin_rows(
        x: Any, w: Any, f: Any, b: Any, keys: Any, p: Any, q: Any, rows: Any,
        marks: Any, scores: Any, chosen: Any, oi: Any, of: Any, om: Any,
    ) -> int:  # fmt: skip
        for j in range(len(rows)):
            start(x, w, f, b, keys, p, q, rows[j], marks, scores, chosen, oi, of, om)
        return version

    @compiled
    def observe_rows(x: Any, f: Any, b: Any, p: Any, q: Any, oi: Any, of: Any, om: Any) -> int:
        for n in range(len(oi)):
            _observe(x, f, b, p, q, n, n * q[st.W_FLOAT], n * q[st.W_INT], oi, of, om)
        return version

    @compiled
    def step_rows(
        x: Any, w: Any, f: Any, b: Any, keys: Any, p: Any, q: Any, action: Any,
        marks: Any, scores: Any, chosen: Any, dull: Any, oi: Any, of: Any, om: Any, ri: Any, rf: Any,
        restart: bool, li: Any, lf: Any, lm: Any,
    ) -> int:  # fmt: skip
        ended = 0 * version
        for n in range(len(action)):
            fo, bo = n * q[st.W_FLOAT], n * q[st.W_INT]
            if b[bo + st.DONE] == 1:
                _idle(f, b, q, n, fo, bo, ri, rf)
                _observe(x, f, b, p, q, n, fo, bo, oi, of, om)
                continue
            key = keys[n, 2]
            _place_slate(b, q, bo, n, action, ri)
            _respond(x, f, b, p, q, n, fo, bo, key, ri, rf, dull)
            _offer(x, w, f, b, p, q, fo, bo, key, marks, scores, chosen)
            over = b[bo + st.DONE] == 1
            ended += over
            if over and restart:
                _observe(x, f, b, p, q, n, fo, bo, li, lf, lm)
                b[bo + st.EPISODE] += 1
                start(x, w, f, b, keys, p, q, n, marks, scores, chosen, oi, of, om)
            else:
                _observe(x, f, b, p, q, n, fo, bo, oi, of, om)
        return ended

    @compiled
    def true_rows(x: Any, f: Any, b: Any, p: Any, q: Any, out: Any) -> int:
        for n in range(len(out)):
            fo, bo = n * q[st.W_FLOAT], n * q[st.W_INT]
            for c in range(q[st.I_C]):
                item = np.int64(b[bo + q[st.S_CANDIDATES] + c])
                out[n, c] = _true_worth(x, f, b, p, q, fo, bo, item) if item < q[st.I_ITEMS] else 0.0
        return version

    @compiled
    def answered_rows(
        x: Any, w: Any, f: Any, b: Any, keys: Any, p: Any, q: Any, action: Any, click: Any, value: Any, gone: Any,
        marks: Any, scores: Any, chosen: Any, oi: Any, of: Any, om: Any, ri: Any, rf: Any,
    ) -> int:  # fmt: skip
        for n in range(len(action)):
            fo, bo = n * q[st.W_FLOAT], n * q[st.W_INT]
            if b[bo + st.DONE] == 1:
                _idle(f, b, q, n, fo, bo, ri, rf)
            else:
                _place_slate(b, q, bo, n, action, ri)
                _accept(x, f, b, p, q, n, fo, bo, click, value, gone, ri, rf)
                _offer(x, w, f, b, p, q, fo, bo, keys[n, 2], marks, scores, chosen)
            _observe(x, f, b, p, q, n, fo, bo, oi, of, om)
        return version

    return begin_rows, observe_rows, step_rows, true_rows, answered_rows


begin_rows, observe_rows, step_rows, true_rows, answered_rows = _entry_points(_source_hash())
