"""Simulated beside real sessions: Frechet distance of their embeddings, and transitions between clusters of items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from recworld.evaluation.distances import frechet, jensen_shannon, transition_counts
from recworld.evaluation.fidelity_lines import Line, Tolerance, judge, line_of, unknown
from recworld.evaluation.fidelity_replay import Replayed, Sessions, replay
from recworld.evaluation.fidelity_splits import Split
from recworld.evaluation.resampling import Measured, compact, half_weights, measure_distance
from recworld.logs.log import InteractionLog
from recworld.logs.policy import draw_slates
from recworld.seeding import child_seed, generator
from recworld.simulators.calibration_sessions import choose_gap, read_order
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.prepare import assumptions
from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GROUP = "sessions"
WIDTH = 8
"""Principal components of the item vectors in a session's embedding."""
CLUSTERS = 8
FEWEST = 40
"""Sessions with a consumption below which nothing is said."""
MOST = 2000
"""Sessions that are simulated at most."""
CELLS = 4_000_000
"""Sessions x items that are scored at once, where slates have to be drawn."""
LONGEST = 40
"""Consumptions of a session that count, where slates have to be drawn."""
SLATE = 10
MOST_SLATES = 200


@dataclass(frozen=True)
class SessionPairs:
    """Consumptions of real and of simulated sessions, side by side.

    Attributes:
        user: (S,) user numbers.
        real: S arrays of consumed items, in order.
        simulated: S arrays of what the same user consumed in the simulation.
        ordered: whether the order of the real ones means anything; the reason in words where not.
        how: where the simulated sessions come from, for people.
    """

    user: Ints
    real: list[Ints]
    simulated: list[Ints]
    ordered: str
    how: str


@dataclass(frozen=True)
class SessionLines:
    """Lines of the group, and the transition matrices of its plot."""

    lines: list[Line]
    transitions: dict[str, list[list[float]]]


def replayed_pairs(sessions: Sessions, drawn: Replayed) -> SessionPairs:
    """Return what was consumed from the logged slates, by real and by simulated people."""
    real, ours = [], []
    for row in range(len(sessions)):
        kept = sessions.scored[row][:, None]
        real.append(sessions.item[row][sessions.click[row] & kept].astype(np.int64))
        ours.append(sessions.item[row][drawn.click[row] & kept].astype(np.int64))
    how = "Simulated people were shown the logged slates."
    return SessionPairs(sessions.user, real, ours, "", how)


def drawn_pairs(log: InteractionLog, world: World, split: Split, seed: int) -> SessionPairs:
    """Return held-out consumptions by session, and as many that the same users take from slates drawn for them.

    What was shown is not logged, so slates are drawn as the world's own assumption has it: an item's popularity is
    attraction to a share, exposure for the rest; the chance to be shown follows the rest. What the user had consumed in the
    training part is not shown, as it is not held out either.
    """
    order = read_order(log, CalibrationSettings())
    gap = choose_gap(order.gaps)[0] if len(order.gaps) else np.inf
    user, real = _cut(log, split, gap, seed)
    simulated = _consume(log, world, split, user, [len(one) for one in real], child_seed(seed, "sessions"))
    how = "What was shown is not logged: slates were drawn by the share of popularity that is not attraction."
    return SessionPairs(user, real, simulated, order.why, how)


def _cut(log: InteractionLog, split: Split, gap: float, seed: int) -> tuple[Ints, list[Ints]]:
    """Cut each user's rows where nothing happened for `gap` seconds, and keep the held-out ones."""
    order = log.order_in_time
    user = log.user[order].astype(np.int64)
    new = np.r_[True, np.diff(user) != 0]
    if log.time is not None and np.isfinite(gap):
        new[1:] |= np.diff(log.time[order]) > gap
    session = np.cumsum(new) - 1
    held = np.zeros(len(log), np.bool_)
    held[split.test] = True
    kept = held[order]
    number, first, count = np.unique(session[kept], return_index=True, return_counts=True)
    chosen = np.sort(generator(seed, "chosen sessions").permutation(len(number))[:MOST])
    item = log.item[order][kept].astype(np.int64)
    owner = user[kept]
    return owner[first[chosen]], [item[first[c] : first[c] + min(count[c], LONGEST)] for c in chosen]


def _consume(
    log: InteractionLog, world: World, split: Split, user: Ints, wanted: list[int], seed: int
) -> list[Ints]:
    """Return per session what its user takes from drawn slates until they have consumed as many items as were wanted."""
    share = assumptions(world)[0]
    popular = (1 - share) * world.truth.item_attraction_bias.mean(0).astype(np.float64)
    size = min(SLATE, max(world.num_items // 4, 1))
    out: list[Ints] = [np.zeros(0, np.int64)] * len(user)
    block = max(1, CELLS // world.num_items)
    order = np.argsort(wanted, kind="stable")
    rng = generator(seed, "slates")
    for start in range(0, len(user), block):
        rows = order[start : start + block]
        allowed = np.ones((len(rows), world.num_items), np.bool_)
        _forbid(allowed, log, split, user[rows])
        need = np.asarray([wanted[r] for r in rows])
        # Enough slates for a click rate of a tenth of a click a slate; sessions that still lack some stay shorter.
        steps = int(min(MOST_SLATES, 10 + 4 * need.max()))
        item = np.full((len(rows), steps, size), world.num_items, np.int32)
        for step in range(steps):
            full = np.flatnonzero(allowed.sum(1) >= size)
            if len(full) == 0:
                break
            item[full, step] = draw_slates(np.tile(popular, (len(full), 1)), allowed[full], size, rng)[0]
            np.put_along_axis(
                allowed, np.minimum(item[:, step], world.num_items - 1).astype(np.int64), False, 1
            )
        drawn = replay(world, user[rows], item, child_seed(seed, "drawn", start), leaving=False)
        for place, row in enumerate(rows):
            out[row] = item[place][drawn.click[place]][: need[place]].astype(np.int64)
    return out


def _forbid(allowed: Any, log: InteractionLog, split: Split, user: Ints) -> None:
    """Take out of `allowed` (S, I) what each session's user consumed in the training part."""
    train = split.train
    order = np.argsort(train.user, kind="stable")
    start = np.searchsorted(train.user[order], np.arange(log.num_users + 1))
    for row, owner in enumerate(user):
        allowed[row, train.item[order[start[owner] : start[owner + 1]]]] = False


def session_lines(world: World, pairs: SessionPairs | None, why: str, seed: int) -> SessionLines:
    """Return the lines.

    Args:
        world: its item vectors are used.
        pairs: real and simulated sessions; None where there are none.
        why: the reason then.
        seed: of clusters and halvings.
    """
    titles = (
        ("frechet", "Session embeddings", True),
        ("transitions", "Transitions between kinds of items", False),
    )
    if pairs is not None:
        both = [n for n in range(len(pairs.user)) if len(pairs.real[n]) and len(pairs.simulated[n])]
        if len(both) < FEWEST:
            why = f"{len(both)} sessions hold a consumption on both sides"
    if why or pairs is None:
        return SessionLines(
            [unknown(GROUP, name, title, why, required) for name, title, required in titles], {}
        )
    seed, who = child_seed(seed, "session lines"), compact(pairs.user[both])
    vectors = _components(world)
    real, ours = (
        np.stack([vectors[side[n]].mean(0) for n in both]) for side in (pairs.real, pairs.simulated)
    )
    spread = max(float(np.trace(np.atleast_2d(np.cov(real, rowvar=False)))), 1e-12)
    found = measure_distance(lambda a, b: frechet(a, b) / spread, real, ours, who, seed)
    level, verdict = judge(found, Tolerance(0.05, 0.2, " of the variance of real sessions"))
    lines = [
        line_of(GROUP, "frechet", "Session embeddings", f"Squared Frechet distance between simulated and real sessions "
                f"(mean of the consumed items' text vectors, {vectors.shape[1]} components), as a share of the variance "
                f"between real sessions. {pairs.how}", found, level, verdict, required=True)
    ]  # fmt: skip
    line, matrices = _transitions(vectors, pairs, both, who, seed)
    return SessionLines([*lines, line], matrices)


def _components(world: World) -> Floats:
    vectors = world.item_vector.astype(np.float64)
    width = min(WIDTH, *vectors.shape)
    return np.asarray(PCA(width, random_state=0).fit_transform(vectors))


def _transitions(
    vectors: Floats, pairs: SessionPairs, both: list[int], who: Ints, seed: int
) -> tuple[Line, dict[str, list[list[float]]]]:
    name, title = "transitions", "Transitions between kinds of items"
    if pairs.ordered:
        return unknown(GROUP, name, title, f"the order of the log tells nothing: {pairs.ordered}"), {}
    clusters = min(CLUSTERS, len(vectors) // 5)
    if clusters < 2:
        return unknown(GROUP, name, title, "the catalogue is too small for clusters"), {}
    kind = KMeans(clusters, n_init=4, random_state=0).fit_predict(vectors).astype(np.int64)
    users = int(who.max()) + 1

    def counts(side: list[Ints]) -> Floats:
        out = np.zeros((users, clusters, clusters))
        for owner, n in zip(who, both, strict=True):
            out[owner] += transition_counts([kind[side[n]]], clusters)
        return out

    real, ours = counts(pairs.real), counts(pairs.simulated)
    if min(real.sum(), ours.sum()) < 10 * clusters:
        return unknown(GROUP, name, title, "too few sessions hold two consumptions"), {}
    found = _halved(real, ours, seed)
    level, verdict = judge(found, Tolerance(0.1, 0.2))
    line = line_of(
        GROUP, name, title, f"Jensen-Shannon distance (0 to 1) between how often an item of one of {clusters} clusters is "
        "followed by one of another, within sessions.", found, level, verdict,
    )  # fmt: skip
    return line, {"real": _shares(real), "simulated": _shares(ours)}


def _shares(counts: Floats) -> list[list[float]]:
    total = counts.sum(0)
    rows: list[list[float]] = (total / np.maximum(total.sum(1, keepdims=True), 1)).round(5).tolist()
    return rows


def _halved(real: Floats, ours: Floats, seed: int) -> Measured:
    """Return the distance between halves of the users, as `measure_distance` does, of tables summed over users."""
    figures, floors = [], []
    for half in half_weights(len(real), seed):
        inside = half == 1
        a, b = real[inside].sum(0), real[~inside].sum(0)
        c, d = ours[inside].sum(0), ours[~inside].sum(0)
        if min(a.sum(), b.sum(), c.sum(), d.sum()) > 0:
            figures += [jensen_shannon(a, d), jensen_shannon(b, c)]
            floors.append(jensen_shannon(a, b))
    low, high = np.quantile(figures, [0.025, 0.975])
    return Measured(
        float(np.mean(figures)),
        float(low),
        float(high),
        float(np.mean(floors)),
        float(np.quantile(floors, 0.95)),
    )
