"""The log's own consumptions replayed: simulated ratings of held-out (user, item) pairs beside the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.evaluation.distances import jensen_shannon, kolmogorov_smirnov, wasserstein
from recworld.evaluation.fidelity_lines import Line, Tolerance, judge, line_of, unknown
from recworld.evaluation.fidelity_replay import Sessions, rate_logged
from recworld.evaluation.fidelity_splits import Split
from recworld.evaluation.resampling import Measured, compact, measure_distance, measure_gap, ratio
from recworld.logs.log import InteractionLog, RatingScale
from recworld.seeding import child_seed
from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GROUP = "marginals"
FEWEST = 30
"""Held-out ratings below which nothing is said."""
LEAST_ROWS = 4
"""Ratings that a user or an item needs to have a mean and a spread of their own."""
BINS = 20
"""Bins of a continuous scale's histogram."""


@dataclass(frozen=True)
class Marginals:
    """Lines of the group, and what its plots need.

    Attributes:
        lines: the lines.
        rows: user, item, real and simulated rating of every held-out pair; None where nothing could be replayed.
    """

    lines: list[Line]
    rows: tuple[Ints, Ints, Floats, Floats] | None


def marginals(
    log: InteractionLog, world: World, split: Split | str, sessions: Sessions | None, seed: int
) -> Marginals:
    """Return the lines.

    Args:
        log: the log.
        world: with a truth that did not see the held-out rows.
        split: the random split.
        sessions: the logged sessions with held-out slates, where exposures are logged: consumptions are then replayed in
            their order, so that boredom counts; else each consumption is replayed on its own.
        seed: of the ratings and halvings.
    """
    why = _why_not(log, split)
    if why or isinstance(split, str):
        return Marginals(
            [unknown(GROUP, "ratings", "Ratings of the log's own consumptions", why, True)], None
        )
    seed = child_seed(seed, "marginals")
    user, item, real, drawn = _alone(log, world, split, seed)
    if sessions is not None:
        in_order = _in_order(world, sessions, seed)
        if len(in_order[0]) >= FEWEST:
            user, item, real, drawn = in_order
    return Marginals(_lines(log.scale, user, item, real, drawn, seed), (user, item, real, drawn))


def _why_not(log: InteractionLog, split: Split | str) -> str:
    if isinstance(split, str):
        return split
    if log.scale.kind == "click":
        return "the log has no ratings, only clicks"
    if log.scale.high <= log.scale.low:
        return "all ratings are the same"
    return "" if len(split.test) >= FEWEST else f"{len(split.test)} held-out ratings are too few"


def _alone(log: InteractionLog, world: World, split: Split, seed: int) -> tuple[Ints, Ints, Floats, Floats]:
    user, item = log.user[split.test].astype(np.int64), log.item[split.test]
    drawn = rate_logged(world, user, item[:, None, None], seed)[:, 0, 0]
    return user, item.astype(np.int64), log.rating[split.test].astype(np.float64), drawn.astype(np.float64)


def _in_order(world: World, sessions: Sessions, seed: int) -> tuple[Ints, Ints, Floats, Floats]:
    taken = np.where(sessions.click, sessions.item, world.num_items)
    drawn = rate_logged(world, sessions.user, taken, seed)
    rated = sessions.click & np.isfinite(sessions.rating) & sessions.scored[:, :, None]
    where = np.nonzero(rated)
    return (
        sessions.user[where[0]], sessions.item[where].astype(np.int64), sessions.rating[where],
        drawn[where].astype(np.float64),
    )  # fmt: skip


def _lines(scale: RatingScale, user: Ints, item: Ints, real: Floats, drawn: Floats, seed: int) -> list[Line]:
    span = scale.high - scale.low
    who, share = compact(user), " of the scale"
    lines = []

    def add(name: str, title: str, meaning: str, found: Measured, good: float, fair: float, unit: str = "",
            required: bool = False, beside: dict[str, float] | None = None, words: str = "") -> None:  # fmt: skip
        level, verdict = judge(found, Tolerance(good, fair, words))
        lines.append(
            line_of(
                GROUP,
                name,
                title,
                meaning,
                found,
                level,
                verdict,
                unit=unit,
                required=required,
                beside=beside,
            )
        )

    edges = histogram_edges(scale)

    def histogram(first: Floats, second: Floats) -> float:
        return jensen_shannon(np.histogram(first, edges)[0], np.histogram(second, edges)[0])

    def in_span(first: Floats, second: Floats) -> float:
        return wasserstein(first, second) / span

    add("histogram_js", "How often each rating is given", "Jensen-Shannon distance (0 to 1) between the histograms of "
        "simulated and real ratings of the same held-out pairs.", measure_distance(histogram, real, drawn, who, seed),
        0.05, 0.1, required=True, beside={"real mean": real.mean(), "simulated mean": drawn.mean()})  # fmt: skip
    add("histogram_wasserstein", "How far ratings are off, all together", "Wasserstein distance of the same, as a share of "
        "the scale.", measure_distance(in_span, real, drawn, who, seed), 0.02, 0.05, words=share)  # fmt: skip
    add("histogram_ks", "Largest gap of the distributions", "Kolmogorov-Smirnov distance of the same.",
        measure_distance(kolmogorov_smirnov, real, drawn, who, seed), 0.05, 0.1)  # fmt: skip
    for key, title, owner in (("user", "users", user), ("item", "items", item)):
        table = per_owner(owner, real, drawn)
        if len(table) < 10:
            lines.append(unknown(GROUP, f"{key}_means", f"Means of {title}", f"{len(table)} {title} have "
                                 f"{LEAST_ROWS} held-out ratings"))  # fmt: skip
            continue
        alone = np.arange(len(table))
        means = f"mean ratings of {title}, who" if key == "user" else f"mean ratings of {title}, which"
        add(f"{key}_means_wasserstein", f"Means of {title}", f"Wasserstein distance, as a share of the scale, between the "
            f"simulated and the real {means} have {LEAST_ROWS} held-out ratings at least.",
            measure_distance(in_span, table[:, 0], table[:, 1], alone, seed), 0.02, 0.05, required=True,
            words=share)  # fmt: skip
        add(f"{key}_means_ks", f"Largest gap of the means of {title}", "Kolmogorov-Smirnov distance of the same.",
            measure_distance(kolmogorov_smirnov, table[:, 0], table[:, 1], alone, seed), 0.1, 0.2)  # fmt: skip
        if key == "user":
            add("user_spread_wasserstein", "Spreads of users", "Wasserstein distance, as a share of the scale, between the "
                "standard deviations of simulated and of real ratings within a user.",
                measure_distance(in_span, table[:, 2], table[:, 3], alone, seed), 0.02, 0.05, words=share)  # fmt: skip
            _within(add, who, real, drawn, seed)
    return lines


def _within(add: Callable[..., None], who: Ints, real: Floats, drawn: Floats, seed: int) -> None:
    """Add the line of the pooled within-user variance, as a share of the real one."""
    users = int(who.max()) + 1
    count = np.bincount(who, minlength=users).astype(np.float64)

    def pooled(values: Floats) -> tuple[Floats, Floats]:
        mean = np.bincount(who, values, users) / count
        squares = np.bincount(who, (values - mean[who]) ** 2, users).astype(np.float64)
        return squares, np.maximum(count - 1, 0)

    (squares, freedom), (ours, _) = pooled(real), pooled(drawn)
    overall = max(float(squares.sum() / freedom.sum()), 1e-12)
    statistics = [ratio(above, freedom, overall) for above in (squares, ours)]
    found = measure_gap(statistics[0], statistics[1], users, seed)
    add("within_user_variance", "Variance within users", "Gap between the variance of simulated and of real ratings around "
        "each user's mean, as a share of the real one.", found, 0.05, 0.15, required=True,
        beside={"real": overall, "simulated": float(ours.sum() / freedom.sum())})  # fmt: skip


def per_owner(owner: Ints, real: Floats, drawn: Floats) -> Floats:
    """Return (n, 4): real mean, simulated mean, real and simulated standard deviation, of owners with enough rows."""
    place = compact(owner)
    count = np.bincount(place).astype(np.float64)
    columns: list[Any] = []
    spreads: list[Any] = []
    for values in (real, drawn):
        mean = np.bincount(place, values) / count
        square = np.bincount(place, (values - mean[place]) ** 2)
        columns.append(mean)
        spreads.append(np.sqrt(square / np.maximum(count - 1, 1)))
    return np.asarray(np.stack([*columns, *spreads], 1)[count >= LEAST_ROWS])


def histogram_edges(scale: RatingScale) -> Floats:
    """Return the borders of the bins of a scale's histogram: one bin a level, or 20 equal ones."""
    if scale.kind == "discrete":
        levels = np.asarray(scale.levels)
        middle = (levels[:-1] + levels[1:]) / 2
        return np.concatenate([[-np.inf], middle, [np.inf]])
    return np.linspace(scale.low, scale.high, BINS + 1)
