"""Placebos and held-out checks of the joint chain, and of the hazard of leaving."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray
from recworld.seeding import child_seed, generator
from recworld.simulators.calibration_chain import JointChain
from recworld.simulators.calibration_draws import Draws, run_joint
from recworld.simulators.calibration_leaving import LEAVING, Hazard, Stays, exchanged_stays, shuffled_stays
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.calibration_table import (
    SlateTable,
    centred_vectors,
    exchanged_slates,
    make_pairs,
    shuffled_positions,
    shuffled_slates,
)

Floats = npt.NDArray[np.float64]

NOTHING = {"boredom": 0.0, "taste_rate": 0.0, "examination_decay": 1 - 1e-9}
"""What an effect of the chain is held at to leave it out."""
WARM, BURN_IN, SAMPLES = 150, 30, 90
"""Lengths of the held-out chains: together, apart until they have settled, and read."""
PLACEBO_BURN_IN, PLACEBO_SAMPLES = 60, 120


@dataclass(frozen=True)
class Question:
    """What the joint chain is asked about.

    Attributes:
        table: shown rows, in order.
        vector: (I, D) unit text vectors.
        num_users: U.
        settings: lengths and rank.
        fixed: effects that the log cannot tell, at nothing.
    """

    table: SlateTable
    vector: FloatArray
    num_users: int
    settings: CalibrationSettings
    fixed: dict[str, float]

    def chain(self, table: SlateTable, seed: int, fixed: dict[str, float] | None = None) -> JointChain:
        """Return a chain over a table of the same users and items."""
        held = {**self.fixed, **(fixed or {})}
        return JointChain(table, self.vector, self.num_users, self.settings.rank, seed, fixed=held)


def summary(draws: Floats) -> dict[str, float]:
    """Return median and 95 % interval of draws."""
    low, middle, high = np.quantile(draws, [0.025, 0.5, 0.975])
    return {"value": float(middle), "low": float(low), "high": float(high)}


def placebo_draws(question: Question, seed: int) -> dict[str, Draws]:
    """Return the draws of the chain over two placebos, with positions shuffled within slates in both.

    "within": slates shuffled within their sessions. Boredom and drift are nearly symmetric in time (two like items of a
    session are seldom both taken, whichever comes first), so that much of them survives. "between": slates dealt anew to the
    sessions of their user; nothing that happens within a session survives, tastes do.
    """
    found = {}
    for name, deal in (("within", shuffled_slates), ("between", exchanged_slates)):
        random = generator(seed, "placebo", name)
        table = shuffled_positions(deal(question.table, random), random)
        chain = question.chain(table, child_seed(seed, "placebo", name))
        found[name] = run_joint(chain, PLACEBO_BURN_IN, PLACEBO_SAMPLES)
    return found


def held_out_gains(question: Question, names: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """Return for each effect what it adds to the prediction of sessions that no chain was fitted on."""
    if not names:
        return {}
    table = question.table
    keep = generator(seed, "held out").random(table.num_sessions) >= question.settings.held_out_share
    fit, rest = table.sessions(keep), table.sessions(~keep)
    if len(rest) == 0 or len(fit) == 0 or not fit.clicked.any():
        return {}
    pairs = make_pairs(rest, centred_vectors(question.vector))

    first = question.chain(fit, child_seed(seed, "held out"))
    for step in range(WARM):
        first.step(search=step < WARM // 3)
        if step >= WARM // 3:
            first.reference = first.reference + 0.05 * (first.theta - first.reference)

    def loss(name: str | None) -> Floats:
        # All go on from one state with the same luck: what is left of the difference is the effect.
        chain, total, count = copy.deepcopy(first), np.zeros(len(rest)), 0
        if name is not None:
            chain.hold(name, NOTHING[name])
        for step in range(BURN_IN + SAMPLES):
            chain.step()
            if step >= BURN_IN and step % 3 == 0:
                total += np.exp(chain.row_chances(rest, pairs))
                count += 1
        return np.asarray(-np.log(total / count + 1e-300))

    whole = loss(None)
    return {name: gain_figures(whole, loss(name), rest.row_session, len(rest)) for name in names}


def gain_figures(loss: Floats, without: Floats, group: npt.NDArray[np.int64], rows: int) -> dict[str, Any]:
    """Return losses per row, their difference and its 95 % interval over groups (sessions)."""
    gain = np.bincount(group, without - loss)
    error = 1.96 * gain.std(ddof=1) * np.sqrt(len(gain)) / rows if len(gain) > 1 else float("inf")
    mean = float(gain.sum() / rows)
    return {
        "log_loss": float(loss.sum() / rows),
        "without": float(without.sum() / rows),
        "gain": mean,
        "gain_interval": [float(mean - error), float(mean + error)],
    }


def leaving_gains(stays: Stays, share: float, seed: int) -> dict[str, dict[str, Any]]:
    """Return for each effect on leaving what it adds to the prediction of the length of other sessions."""
    out = generator(seed, "sessions out").random(len(stays.ending)) < share
    fit, rest = stays.sessions(~out), stays.sessions(out)
    if fit.leaves < 20 or rest.leaves < 5:
        return {}

    def loss(free: npt.NDArray[np.bool_]) -> Floats:
        hazard, other = Hazard(fit, free), Hazard(rest, free)
        return -other.sessions(hazard.whole(hazard.mode()))

    group, rows = np.arange(len(rest.ending)), len(rest.liked)
    whole = loss(np.ones(len(LEAVING), np.bool_))
    return {
        name: gain_figures(whole, loss(stays.without(name)), group, rows)
        for name in ("leave_dissatisfaction", "leave_boredom", "leave_step", "frailty")
    }


def leaving_placebos(stays: Stays, seed: int) -> dict[str, dict[str, Any]]:
    """Return the effects of liking and boredom with what happened exchanged between sessions, and shuffled within them."""
    random = generator(seed, "leaving placebo")
    exchanged = Hazard(exchanged_stays(stays, random)).draws(child_seed(seed, "exchanged"), 2000)
    within = Hazard(shuffled_stays(stays, random)).draws(child_seed(seed, "within"), 2000)
    found: dict[str, dict[str, Any]] = {}
    for name in ("leave_dissatisfaction", "leave_boredom"):
        place = LEAVING.index(name)
        found[name] = {
            **summary(exchanged[:, place]),
            "kind": "what happened at a step exchanged between the sessions that reached it",
            "shuffled_within_sessions": summary(within[:, place]),
        }
    return found
