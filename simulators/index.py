"""Candidates `retrieved` by an index (faiss) instead of a scan of the catalogue: for 100,000 items and more.

The recommender's click logit of an item is an inner product and a bias. One more coordinate makes the nearest items in
Euclidean distance the ones with the highest logit (Bachrach et al. 2014, "Speeding up the Xbox recommender system using a
Euclidean transformation for inner-product spaces"), and an inverted file finds these: items fall into cells around some
2 sqrt(I) centres, and only the cells nearest to a query are gone through. What it finds is scored and ordered by the step's
own code, so that the recommender's scores and the order of candidates are those of the scan; few items are missed.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from recworld.errors import InputError
from recworld.logs.log import FloatArray, IntArray
from recworld.progress import say
from recworld.simulators import compiled
from recworld.simulators import state as st
from recworld.simulators.state import Array, Happened, Restarted, Seen
from recworld.simulators.user import UserSimulator
from recworld.storage import content_hash

RECALL = 0.98
"""Share of the 100 best items that sampled users are to be given, at least; so many cells are gone through."""
SAMPLES, DEPTH = 64, 100
SPOKEN_OF = 100_000
"""From so many items on, building takes seconds and is spoken of."""
TOGETHER = 16
"""Queries at once: from 20 on, faiss finds cells by matrix products, whose rounding depends on how many rows there are."""
KEPT = 2
"""Indices that a process keeps: environments of one world share one."""


def load_faiss() -> Any:
    """Return the library.

    Raises:
        InputError: it is missing; the line says how to install it.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "retrieval 'index' needs faiss, which is not installed: "
            "python -m pip install \"recworld[index]\", or use retrieval 'exact'."
        ) from error
    return faiss


class ItemIndex:
    """An inverted file of a catalogue; answers do not depend on how many queries are asked together, or by how many threads.

    Args:
        items: (I, G) float32, the recommender's attraction factors.
        bias: (I,) float32.
        samples: (S, G) float32, tastes of users on which the number of cells to go through is chosen.

    Attributes:
        cells: number of cells.
        probes: cells that a query goes through.
        recall: share of the best items that the sampled users are given.
        size: bytes of the index.
    """

    def __init__(self, items: FloatArray, bias: FloatArray, samples: FloatArray) -> None:
        faiss = self._faiss = load_faiss()
        rows = np.column_stack([items, bias]).astype(np.float32)
        squares = np.einsum("ig,ig->i", rows, rows)
        raised = np.column_stack([rows, np.sqrt(np.maximum(squares.max() - squares, 0))]).astype(np.float32)
        self.width, self.cells = (
            items.shape[1],
            max(1, min(round(2 * math.sqrt(len(items))), len(items) // 8)),
        )
        if len(items) >= SPOKEN_OF:
            say(
                f"Index of {len(items):,} items in {self.cells:,} cells: some ten seconds for a million items"
            )
        self._quantizer = faiss.IndexFlatL2(self.width + 2)
        self._index = faiss.IndexIVFFlat(self._quantizer, self.width + 2, self.cells, faiss.METRIC_L2)
        self._index.cp.niter, self._index.cp.max_points_per_centroid = 10, 64
        self._index.cp.min_points_per_centroid = 1
        # Sums are in one order, whatever threads there are.
        with threadpool_limits(1):
            self._index.train(raised)
            self._index.add(raised)
            self.probes, self.recall = self._choose_probes(rows, samples)
        self.size = len(items) * (4 * (self.width + 2) + 8) + self.cells * 4 * (self.width + 2)
        if len(items) >= SPOKEN_OF:
            say(
                f"Index: {self.size / 2**20:,.0f} MiB, {self.probes} cells a query, "
                f"{self.recall:.1%} of the {DEPTH} best items of {len(samples)} users"
            )

    def _choose_probes(self, rows: FloatArray, samples: FloatArray) -> tuple[int, float]:
        depth = min(DEPTH, len(rows))
        queries = np.column_stack([samples, np.ones(len(samples), np.float32)])
        best = [np.argpartition(-(rows @ one), depth - 1)[:depth] for one in queries]
        probes = 4
        while True:
            probes = self.probes = min(probes, self.cells)
            found = self.search(samples, depth)
            recall = float(np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]))
            if recall >= RECALL or probes == self.cells:
                return probes, recall
            probes += probes // 2

    def search(self, taste: FloatArray, count: int, threads: int = 1) -> IntArray:
        """Return the items with the highest click logits, best first, -1 where there are no more. Shape (n, count), int32.

        Args:
            taste: (n, G) float32, the recommender's attraction taste of users.
            count: how many.
            threads: of faiss.
        """
        query = np.zeros((len(taste), self.width + 2), np.float32)
        query[:, : self.width], query[:, self.width] = taste, 1.0
        found = np.empty((len(query), count), np.int32)
        self._index.nprobe = self.probes
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(threads)
        try:
            for first in range(0, len(query), TOGETHER):
                found[first : first + TOGETHER] = self._index.search(query[first : first + TOGETHER], count)[
                    1
                ]
        finally:
            self._faiss.omp_set_num_threads(before)
        return found


_kept: OrderedDict[str, ItemIndex] = OrderedDict()


def item_index(items: FloatArray, bias: FloatArray, samples: FloatArray) -> ItemIndex:
    """Return the index of a catalogue, built once in a process; arguments as of `ItemIndex`."""
    key = content_hash(items, bias, samples)
    if key not in _kept:
        _kept[key] = ItemIndex(items, bias, samples)
    _kept.move_to_end(key)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[key]


class IndexedSimulator(UserSimulator):
    """As `UserSimulator` with candidates "indexed": those that are `retrieved`, found by an index.

    The rows that need candidates are looked up together after each step; else everything is as there.

    Args:
        arguments: as of `UserSimulator`, without `candidates`.

    Raises:
        InputError: faiss is missing.
    """

    def __init__(self, *arguments: Any, threads: int = 1, **named: Any) -> None:
        load_faiss()
        super().__init__(*arguments, threads=threads, candidates="indexed", **named)
        q, attraction = self._q, self.layout.agent_factors[1]
        response = self.world.agent.response
        sampled = np.linspace(0, self.world.num_users - 1, min(SAMPLES, self.world.num_users)).astype(
            np.int64
        )
        start = int(q[st.I_GR])
        self.index = item_index(
            np.ascontiguousarray(
                self._table(st.T_AGENT_ITEM_ATTRACTING, self.world.num_items, int(q[st.I_G]) - start)[
                    :, :attraction
                ]
            ),
            self._table(st.T_AGENT_ITEM_ATTRACTION, self.world.num_items, 1)[:, 0].copy(),
            np.ascontiguousarray(response.taste[0][sampled, response.rating_width :]),
        )
        self._taste = slice(self.layout.agent_at + start, self.layout.agent_at + start + attraction)
        self._threads = threads
        starts = self.world.agent.history_start
        # Consumed items are the likeliest to be found: so many more must be looked for.
        self._known = np.zeros(self.world.num_users, np.int64) if named.get("repeats") else np.diff(starts)
        self._repeats = bool(named.get("repeats"))

    def _table(self, place: int, rows: int, width: int) -> Array:
        start = int(self._q[place])
        return self._x[start : start + rows * width].reshape(rows, width)

    def _fill(self, rows: Array, seen: Seen) -> None:
        """Look up the candidates of rows, and write their observations."""
        ints, want = self.int_rows, self.layout.candidates
        consumed = self._known[ints[rows, st.USER]]
        if not self._repeats:
            consumed = consumed + ints[rows, st.CONSUMED]
        # How many are looked for depends on a row alone, never on those beside it.
        counts = np.minimum(2 ** np.ceil(np.log2(want + consumed)).astype(np.int64), self.world.num_items)
        for count in np.unique(counts):
            chosen = np.ascontiguousarray(rows[counts == count], np.int64)
            found = self.index.search(self.float_rows[chosen, self._taste], int(count), self._threads)
            compiled.fill_rows(self._machine.addresses, chosen, found, *seen)

    def begin(self, rows: Array, seen: Seen) -> None:
        """As there."""
        super().begin(rows, seen)
        self._fill(rows, seen)

    def step(self, action: Array, restart: bool = False) -> tuple[Seen, Happened, Restarted, int]:
        """As there."""
        active = np.flatnonzero(self.int_rows[:, st.DONE] == 0)
        seen, happened, again, ended = super().step(action)
        self._fill(active, seen)
        if not restart:
            return seen, happened, again, ended
        last = Seen(*(np.zeros(array.shape, array.dtype) for array in seen))
        after = Happened(happened.ints.copy(), happened.floats.copy())
        over = np.flatnonzero(happened.ints[:, st.R_TERMINATED] + happened.ints[:, st.R_TRUNCATED])
        if len(over):
            for kept, array in zip(last, seen, strict=True):
                kept[over] = array[over]
            self.set_episode(over, None)
            self.begin(over, seen)
            after.ints[over], after.floats[over] = 0, 0.0
            head = st.R_INT_HEAD
            after.ints[over, head : head + self.layout.slate] = self.world.num_items
            after.ints[over, st.R_USER] = self.int_rows[over, st.USER]
            after.floats[over, st.R_SATISFACTION] = self.float_rows[over, st.SATISFACTION]
        return seen, happened, Restarted(last, after), ended

    def answered(self, action: Array, click: Array, rating: Array, gone: Array) -> tuple[Seen, Happened]:
        """As there."""
        active = np.flatnonzero(self.int_rows[:, st.DONE] == 0)
        seen, happened = super().answered(action, click, rating, gone)
        self._fill(active, seen)
        return seen, happened
