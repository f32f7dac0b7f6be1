"""A fixed list of policies in the world under each named assumption moved low and high: does the ranking hold?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from recworld.agents.base import Agent
from recworld.agents.baselines import (
    EpsilonGreedyAgent,
    GreedyAgent,
    MMRAgent,
    PopularityAgent,
    RandomAgent,
    StaticAgent,
)
from recworld.agents.episodes import episode_env
from recworld.evaluation.comparing import evaluate_policy
from recworld.evaluation.fidelity_lines import Level, Line, line_of, shown, unknown
from recworld.evaluation.intervals import mean_interval
from recworld.evaluation.resampling import Measured, bootstrap_weights
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators.prepare import ASSUMED_CLICK_RATE, assumptions
from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]

GROUP = "sensitivity"
POLICIES: dict[str, Callable[..., Agent]] = {
    "random": RandomAgent,
    "popularity": PopularityAgent,
    "static": StaticAgent,
    "greedy": GreedyAgent,
    "epsilon-greedy (10 %)": partial(EpsilonGreedyAgent, epsilon=0.1),
    "MMR, mild": partial(MMRAgent, slate_penalty=0.2, history_penalty=0.5),
    "MMR, strong": partial(MMRAgent, slate_penalty=0.7, history_penalty=3.0),
    "MMR, slate only": partial(MMRAgent, slate_penalty=0.7, history_penalty=0.0),
}
"""What is ranked: the same list for every world, chosen before any was measured."""

RANGES: dict[str, tuple[float, float, str]] = {
    "base_click_rate": (0.05, 0.3, "click rate of a random item that is noticed"),
    "popularity_share": (0.0, 1.0, "share of popularity that is attraction"),
    "examination_decay": (0.7, 1.0, "probability of going on to the next place"),
    "boredom": (2.0, 6.0, "how much likeness to what was just consumed puts off"),
    "boredom_memory": (0.7, 0.95, "how long people remember what bored them"),
    "boredom_scale": (0.75, 3.0, "how much likeness it takes to be bored"),
    "taste_rate": (0.0, 0.1, "how fast tastes move"),
    "satisfaction_rate": (0.15, 0.6, "how fast satisfaction follows the last slate"),
    "leave_base": (-6.0, -4.0, "how readily content people leave"),
    "leave_dissatisfaction": (2.0, 6.0, "how much dissatisfaction makes people leave"),
    "leave_boredom": (0.0, 3.0, "how much boredom makes people leave"),
    "frailty": (0.0, 1.0, "how much people differ in leaving"),
}
"""Low, high and what it is, of every assumption that is moved; where a log told the value, its interval is used instead."""

OPTIONS: dict[str, Any] = {"slate_size": 5, "num_candidates": 100, "horizon": 20, "history_length": 20}
FULL_USERS, QUICK_USERS = 200, 100
FEWEST_USERS = 8
QUICK_NAMES = ("base_click_rate", "popularity_share", "boredom", "boredom_memory", "leave_dissatisfaction")
LIKE_ENOUGH = 0.8
"""Kendall's tau from which a ranking counts as kept."""


@dataclass(frozen=True)
class Sensitivity:
    """Lines of the group, and what the plot needs: per assumption its two values, taus and winners."""

    lines: list[Line]
    table: list[dict[str, Any]]


@dataclass(frozen=True)
class Scores:
    """Returns by policy and user, (P, n)."""

    names: tuple[str, ...]
    value: Floats

    @property
    def winner(self) -> int:
        return int(self.value.mean(1).argmax())

    def tau(self, other: Scores) -> float:
        return _tau(self.value.mean(1), other.value.mean(1))


def _tau(first: Floats, second: Floats) -> float:
    value = float(kendalltau(first, second).statistic)
    return value if np.isfinite(value) else 0.0


def sensitivity(
    world: World, told: Mapping[str, tuple[float, float]], seed: int, quick: bool = False
) -> Sensitivity:
    """Return the lines.

    Args:
        world: the world as it will be used.
        told: intervals of what the log told, by setting.
        seed: of the users who play and of their luck.
        quick: fewer users, fewer assumptions.
    """
    chosen = _players(world, QUICK_USERS if quick else FULL_USERS, seed)
    if chosen is None:
        few = f"the world has fewer than {FEWEST_USERS} users"
        return Sensitivity([unknown(GROUP, "all", "Ranking of policies", few)], [])
    options = OPTIONS | {
        "num_candidates": min(OPTIONS["num_candidates"], max(world.num_items // 2, 1)),
        "slate_size": min(OPTIONS["slate_size"], max(world.num_items // 4, 1)),
    }
    names = [name for name in RANGES if not quick or name in QUICK_NAMES]
    names = [name for name in names if _matters(name, world)]
    jobs = [(name, end) for name in names for end in (0, 1)]
    with bar(len(jobs) + 2, "Sensitivity of policies", "worlds") as progress:

        def scores(values: dict[str, float], name: str) -> Scores:
            moved = chosen.with_dynamics(chosen.dynamics.model_copy(update=values))
            env, luck = episode_env(moved, options, users="players"), child_seed(seed, "sensitivity", name)
            rows = [
                evaluate_policy(make(env, seed=child_seed(seed, policy)), env, name=policy, seeds=[luck])
                for policy, make in POLICIES.items()
            ]
            progress.update(1)
            return Scores(tuple(POLICIES), np.stack([row.values["return"][0] for row in rows]))

        base, again = scores({}, "base"), scores({}, "again")
        ends = {name: _ends(name, told) for name in names}
        moved = {(name, end): scores({name: ends[name][end]}, "base") for name, end in jobs}
    noise = base.tau(again)
    lines = [
        _line(name, world, ends[name], base, [moved[name, 0], moved[name, 1]], noise, seed) for name in names
    ]
    table = [_row(name, ends[name], base, [moved[name, 0], moved[name, 1]]) for name in names]
    return Sensitivity([_overall(base, moved, noise), *lines], table)


def _players(world: World, most: int, seed: int) -> World | None:
    """Return the world with a split "players": test users, or all where these are few; at most `most`."""
    users = world.users("test") if len(world.splits.get("test", ())) >= most // 2 else world.users("all")
    if len(users) < FEWEST_USERS:
        return None
    rng = generator(seed, "players")
    users = np.sort(rng.permutation(users)[:most]).astype(np.int32)
    return replace(world, splits=world.splits | {"players": users})


def _matters(name: str, world: World) -> bool:
    """Tell whether an assumption is one at all in this world."""
    d = world.dynamics
    if name.startswith("leave_") or name in ("frailty", "satisfaction_rate"):
        return d.leaving
    return d.boredom > 0 if name.startswith("boredom_") else True


def _ends(name: str, told: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    return told[name] if name in told else RANGES[name][:2]


def default_of(name: str, world: World) -> float:
    """Return the value of an assumption in a world; where the fit decides (None), what it comes to, NaN if it is fitted."""
    share, rate = assumptions(world)
    given = getattr(world.dynamics, name)
    if name == "popularity_share":
        return float(share)
    if name == "base_click_rate":
        return float(rate) if rate is not None else (np.nan if world.attraction_known else ASSUMED_CLICK_RATE)
    return float(given)


def _lead(scores: Scores, winner: int, other: int) -> tuple[float, float]:
    """Return the interval, paired by user, of what one policy has over another."""
    interval = mean_interval(scores.value[winner] - scores.value[other])
    return interval.low, interval.high


def _overturned(base: Scores, moved: Scores) -> bool:
    """Tell whether another policy wins, beyond chance: its lead over the old winner leaves out 0."""
    return moved.winner != base.winner and _lead(moved, moved.winner, base.winner)[0] > 0


def _line(
    name: str, world: World, ends: tuple[float, float], base: Scores, moved: Sequence[Scores], noise: float, seed: int
) -> Line:  # fmt: skip
    taus = [base.tau(one) for one in moved]
    worst = int(np.argmin(taus))
    drawn = bootstrap_weights(base.value.shape[1], seed, 200)
    resampled = [_tau(a, b) for a, b in zip(drawn @ base.value.T, drawn @ moved[worst].value.T, strict=True)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    level, verdict = judge_ranking(ends, base, moved, taus, noise)
    default = default_of(name, world)
    came = f"from {shown(ends[0])} to {shown(ends[1])}" + (
        f" (here {shown(default)})" if np.isfinite(default) else " (here as fitted)"
    )
    return line_of(
        GROUP, name, name, f"The {RANGES[name][2]}, moved {came}: lowest Kendall tau of the ranking of "
        f"{len(POLICIES)} policies with the ranking as it stands. The floor is the tau between two seeds.",
        Measured(taus[worst], float(low), float(high), noise, noise), level, verdict,
        beside={f"at {shown(ends[0])}": taus[0], f"at {shown(ends[1])}": taus[1]},
    )  # fmt: skip


def judge_ranking(
    ends: tuple[float, float], base: Scores, moved: Sequence[Scores], taus: Sequence[float], noise: float
) -> tuple[Level, str]:
    turned = [
        f"{one.names[one.winner]} instead of {base.names[base.winner]} at {shown(end)}"
        for end, one in zip(ends, moved, strict=True)
        if _overturned(base, one)
    ]
    if turned:
        return "poor", f"the winner changes: {'; '.join(turned)}"
    if min(taus) >= min(LIKE_ENOUGH, noise):
        return "good", f"the same policy wins, the ranking holds (tau between two seeds: {noise:.2f})"
    return (
        "fair",
        f"the same policy wins (within chance), but others change places (tau between two seeds: {noise:.2f})",
    )


def _overall(base: Scores, moved: Mapping[tuple[str, int], Scores], noise: float) -> Line:
    turning = sorted({name for (name, _), one in moved.items() if _overturned(base, one)})
    best, means = base.names[base.winner], base.value.mean(1)
    second = int(np.argsort(-means)[1])
    low, high = _lead(base, base.winner, second)
    lead = float(means[base.winner] - means[second])
    level: Level = "fair" if turning else "good"
    verdict = (
        f"which policy wins depends on: {', '.join(turning)}"
        if turning
        else f"no assumption changes which policy wins ({best})"
    )
    return line_of(
        GROUP, "winner", "Which policy wins", f"Lead of the best policy ({best}) over the second ({base.names[second]}), in "
        f"clicks of a session, as the world stands. Two seeds rank the policies with tau {noise:.2f}.",
        Measured(lead, low, high), level, verdict, unit="clicks",
        beside={name: float(value) for name, value in zip(base.names, means, strict=True)},
    )  # fmt: skip


def _row(name: str, ends: tuple[float, float], base: Scores, moved: Sequence[Scores]) -> dict[str, Any]:
    return {
        "name": name,
        "values": [float(end) for end in ends],
        "tau": [base.tau(one) for one in moved],
        "winner": [one.names[one.winner] for one in moved],
        "changes": [_overturned(base, one) for one in moved],
    }
