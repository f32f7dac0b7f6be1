"""The logged slates replayed: clicks by position, how deep people click, how they rate, how long they stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.evaluation.distances import wasserstein
from recworld.evaluation.fidelity_lines import Line, Tolerance, judge, line_of, unknown
from recworld.evaluation.fidelity_replay import Replayed, Sessions, replay
from recworld.evaluation.resampling import (
    Measured,
    Statistic,
    compact,
    measure_distance,
    measure_gap,
    profile_gap,
    ratio,
)
from recworld.logs.log import InteractionLog
from recworld.seeding import child_seed
from recworld.simulators.world import World

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GROUP = "exposures"
DRAWS = 8
"""Replays of every session whose clicks are averaged."""
STAYS = 32
"""Replays of every session in which people may leave: how many are still there is counted."""
FEWEST_CLICKS = 30
AT_RISK = 30
"""Logged sessions that must reach a slate before the chance of leaving after it is compared."""
RATE = Tolerance(0.05, 0.15, " of the logged value")


@dataclass(frozen=True)
class Exposed:
    """Lines of the group, and what its plots need.

    Attributes:
        lines: the lines.
        positions: logged and simulated click rate by position.
        survival: share still there after 0, 1, ... slates, logged and simulated.
        replayed: one replay without leaving; None where there is nothing to replay.
    """

    lines: list[Line]
    positions: dict[str, list[float]]
    survival: dict[str, list[float]]
    replayed: Replayed | None


def why_no_replay(log: InteractionLog, usable: bool) -> str:
    """Return why the slates of a log cannot be replayed; empty where they can."""
    if log.exposures is None:
        return "the log has no exposures (it does not say what was shown)"
    return "" if usable else "the log's exposures are all clicked, or none of them is"


def exposed(world: World, sessions: Sessions | None, why: str, unit: str, seed: int) -> Exposed:
    """Return the lines.

    Args:
        world: with a truth that did not see the held-out slates.
        sessions: logged sessions with held-out slates; None where slates cannot be replayed.
        why: the reason then.
        unit: what was held out, "session" or "slate".
        seed: of the simulated users.
    """
    titles = {
        "click_rate": "Click rate",
        "clicks_by_position": "Clicks by position",
        "session_length": "Session length",
    }
    if sessions is None:
        return Exposed([unknown(GROUP, key, title, why, True) for key, title in titles.items()], {}, {}, None)
    seed = child_seed(seed, "exposures")
    drawn = [
        replay(world, sessions.user, sessions.item, child_seed(seed, "draw", n), leaving=False)
        for n in range(DRAWS)
    ]
    lines, positions = _clicks(world, sessions, drawn, seed)
    staying, survival = _staying(world, sessions, unit, seed)
    return Exposed([*lines, *staying], positions, survival, drawn[0])


def _clicks(
    world: World, sessions: Sessions, drawn: list[Replayed], seed: int
) -> tuple[list[Line], dict[str, list[float]]]:
    shown = (sessions.item < world.num_items) & sessions.scored[:, :, None]
    real = sessions.click & shown
    simulated = np.mean([one.click for one in drawn], axis=0) * shown  # (S, L, K)
    who = compact(sessions.user)
    users, places = int(who.max()) + 1, shown.shape[2]

    def by_user(values: Any) -> Floats:
        """Sum (S, L, K) over sessions and slates: (users, K)."""
        out = np.zeros((users, places))
        np.add.at(out, who, values.sum(1))
        return out

    count, clicks, ours = by_user(shown), by_user(real), by_user(simulated)
    overall = clicks.sum() / max(count.sum(), 1)
    if clicks.sum() < FEWEST_CLICKS:
        few = f"{int(clicks.sum())} held-out clicks are too few"
        return [unknown(GROUP, "click_rate", "Click rate", few, True)], {}
    lines = []

    def gap(name: str, title: str, meaning: str, first: Statistic, second: Statistic, tolerance: Tolerance = RATE,
            required: bool = False, beside: dict[str, float] | None = None) -> None:  # fmt: skip
        found = measure_gap(first, second, users, seed)
        level, verdict = judge(found, tolerance)
        lines.append(
            line_of(GROUP, name, title, meaning, found, level, verdict, required=required, beside=beside)
        )

    gap("click_rate", "Click rate", "Gap between the simulated and the logged share of shown items that were clicked, as a "
        "share of the logged one.", ratio(clicks.sum(1), count.sum(1), overall), ratio(ours.sum(1), count.sum(1), overall),
        required=True, beside={"logged": overall, "simulated": ours.sum() / count.sum()})  # fmt: skip
    filled = np.flatnonzero(count.sum(0) >= FEWEST_CLICKS)
    weight = count[:, filled].sum(0) / count[:, filled].sum()
    rates = {
        "logged": (clicks.sum(0) / np.maximum(count.sum(0), 1))[filled].tolist(),
        "simulated": (ours.sum(0) / np.maximum(count.sum(0), 1))[filled].tolist(),
        "position": (filled + 1.0).tolist(),
    }
    if len(filled) > 1:
        found = profile_gap(clicks[:, filled], ours[:, filled], count[:, filled], weight, overall, seed)
        level, verdict = judge(found, Tolerance(0.1, 0.25, " of the logged click rate"))
        lines.append(
            line_of(GROUP, "clicks_by_position", "Clicks by position", "Mean gap of the click rate over positions, as a "
                    "share of the logged click rate.", found, level, verdict, required=True)
        )  # fmt: skip
        depth = (filled + 1.0)[None, :]
        mean_depth = float((clicks[:, filled] * depth).sum() / clicks[:, filled].sum())
        gap("click_depth", "Click depth", "Gap of the mean position of clicks (1 is the first place), as a share of the "
            "logged one.", ratio((clicks[:, filled] * depth).sum(1), clicks[:, filled].sum(1), mean_depth),
            ratio((ours[:, filled] * depth).sum(1), ours[:, filled].sum(1), mean_depth),
            beside={"logged": mean_depth,
                    "simulated": float((ours[:, filled] * depth).sum() / ours[:, filled].sum())})  # fmt: skip
    else:
        lines.append(unknown(GROUP, "clicks_by_position", "Clicks by position", "every slate has one place"))
    lines += _spreads(sessions, drawn[0], shown, who, seed)
    lines += _rating(sessions, drawn, shown, who, world, seed)
    return lines, rates


def _spreads(sessions: Sessions, drawn: Replayed, shown: Any, who: Ints, seed: int) -> list[Line]:
    """Return the line of how click rates differ between users."""
    users = int(who.max()) + 1

    def by_user(values: Any) -> Floats:
        return np.bincount(who, values.sum((1, 2)), users).astype(np.float64)

    count = by_user(shown)
    kept = count >= 10
    if kept.sum() < 10:
        return [
            unknown(
                GROUP, "user_click_rates", "Click rates of users", "fewer than 10 users have 10 held-out rows"
            )
        ]
    real, ours = (
        by_user(sessions.click & shown)[kept] / count[kept],
        by_user(drawn.click & shown)[kept] / count[kept],
    )
    found = measure_distance(wasserstein, real, ours, np.arange(len(real)), seed)
    level, verdict = judge(found, Tolerance(0.02, 0.05))
    return [
        line_of(GROUP, "user_click_rates", "Click rates of users", "Wasserstein distance between the users' simulated and "
                "logged click rates: do people differ as much as they should?", found, level, verdict)
    ]  # fmt: skip


def _rating(
    sessions: Sessions, drawn: list[Replayed], shown: Any, who: Ints, world: World, seed: int
) -> list[Line]:
    """Return the line of the mean rating of what was clicked."""
    name, title = "clicked_rating", "Ratings of what is clicked"
    span = world.scale.high - world.scale.low
    rated = sessions.click & shown & np.isfinite(sessions.rating)
    if world.scale.kind == "click" or span <= 0 or rated.sum() < FEWEST_CLICKS:
        return [unknown(GROUP, name, title, "the logged clicks carry no ratings")]
    users = int(who.max()) + 1

    def by_user(values: Any) -> Floats:
        return np.bincount(who, values.sum((1, 2)), users).astype(np.float64)

    real = by_user(np.where(rated, sessions.rating, 0.0)), by_user(rated)
    taken = np.mean([one.click & shown for one in drawn], axis=0)
    ours = by_user(np.mean([one.rating * (one.click & shown) for one in drawn], axis=0)), by_user(taken)
    found = measure_gap(ratio(*real, span), ratio(*ours, span), users, seed)
    level, verdict = judge(found, Tolerance(0.02, 0.05, " of the scale"))
    return [
        line_of(GROUP, name, title, "Gap of the mean rating of clicked items, as a share of the scale.", found, level,
                verdict,
                beside={"logged": real[0].sum() / real[1].sum(), "simulated": ours[0].sum() / max(ours[1].sum(), 1e-9)})
    ]  # fmt: skip


def _staying(
    world: World, sessions: Sessions, unit: str, seed: int
) -> tuple[list[Line], dict[str, list[float]]]:
    """Compare how long people stay, slate by slate, on the slates that were logged.

    What a simulated user would do after the last logged slate is unknown (censored), so chances of leaving are compared
    among the sessions that reached each slate: the logged share that ended there, and the simulated chance of ending there
    of those still there, each session weighing the same in both. Products of the chances of staying are the survival curves.
    The last session of each user ends with the log and is censored there; so is a session as long as the longest.
    """
    name, title = "session_length", "Session length"
    if int(sessions.length.max()) < 2:
        return [unknown(GROUP, name, title, "every logged session is one slate", True)], {}
    if not sessions.last.any() and sessions.item.shape[2] == 1:
        why = "sessions are not logged (each user's rows are one)"
        return [unknown(GROUP, name, title, why, True)], {}
    if not world.dynamics.leaving:
        return [unknown(GROUP, name, title, "leaving is switched off in this world", True)], {}
    ended, at_risk = _logged_ends(sessions)
    risk = at_risk.sum(0)
    steps = int((risk >= min(AT_RISK, max(len(sessions) // 4, 5))).sum())
    if steps < 2:
        return [unknown(GROUP, name, title, "too few sessions reach a second slate", True)], {}
    died, stood = np.zeros(at_risk.shape), np.zeros(at_risk.shape)
    for n in range(STAYS):
        one = replay(world, sessions.user, sessions.item, child_seed(seed, "stay", n), leaving=True)
        died, stood = died + one.left, stood + one.there
    chance = np.where(stood > 0, died / np.maximum(stood, 1), np.nan)[:, :steps]
    known = at_risk[:, :steps] & np.isfinite(chance)
    who = np.arange(len(sessions))
    real = _mean_stay(np.where(known, ended[:, :steps], 0.0), known)
    ours = _mean_stay(np.where(known, chance, 0.0), known)
    found = measure_gap(real, ours, len(who), seed)
    everyone = np.ones((1, len(who)))
    logged, simulated = float(real(everyone)[0]), float(ours(everyone)[0])
    relative = Measured(
        *(value / logged for value in (found.value, found.low, found.high, found.floor, found.floor_high))
    )
    level, verdict = judge(relative, Tolerance(0.1, 0.25, " of the logged length"))
    seen = "" if unit == "session" else " The fit saw other slates of the same sessions."
    line = line_of(
        GROUP, name, title, f"Gap of the mean number of slates until people leave (of {steps} at most), as a share of the "
        f"logged one. Each chance of leaving is compared among the sessions that reached the slate.{seen}", relative, level,
        verdict, required=True, beside={"logged": logged, "simulated": simulated},
    )  # fmt: skip
    curves = {"logged": _survival(np.where(known, ended[:, :steps], 0.0), known),
              "simulated": _survival(np.where(known, chance, 0.0), known)}  # fmt: skip
    return [line], curves


def _logged_ends(sessions: Sessions) -> tuple[Any, Any]:
    """Return (S, L) whether a session ended after a slate, and whether it counts there."""
    steps = np.arange(sessions.item.shape[1])[None, :]
    last = sessions.length[:, None] - 1
    ended, at_risk = steps == last, steps <= last
    longest = sessions.length == sessions.length.max()
    censored = sessions.last | (longest & (longest.sum() > 1))
    at_risk &= ~(censored[:, None] & (steps == last))
    return ended & at_risk, at_risk


def _survival(events: Floats, known: Any) -> list[float]:
    hazard = events.sum(0) / np.maximum(known.sum(0), 1)
    return [1.0, *np.cumprod(1 - hazard).tolist()]


def _mean_stay(events: Floats, known: Any) -> Statistic:
    """Return the mean stay: the sum of the survival curve, from the first slate on."""
    weightless = known.astype(np.float64)

    def statistic(weight: Floats) -> Floats:
        hazard = (weight @ events) / np.maximum(weight @ weightless, 1e-12)
        alive = np.cumprod(1 - hazard, axis=1)
        return np.asarray(1 + alive[:, :-1].sum(1))

    return statistic
