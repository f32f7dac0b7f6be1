"""The whole way from a log to its answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray, InteractionLog
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators import calibration_checks as checks
from recworld.simulators.calibration import Calibration, Estimate
from recworld.simulators.calibration_chain import NAMES
from recworld.simulators.calibration_draws import Draws, effective_draws, run_joint
from recworld.simulators.calibration_leaving import LEAVING, Hazard, find_horizon, stays_of
from recworld.simulators.calibration_sessions import consumption_estimates, read_order, session_facts
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.calibration_table import SlateTable, chosen_units, slate_table
from recworld.simulators.calibration_verdicts import chain_verdict, leaving_verdict, settle_shapes, unknown

Floats = npt.NDArray[np.float64]

SHOWN_EFFECTS = ("examination_decay", "shown_click_rate", "base_click_rate")
"""What needs to know what was shown, but no order."""
CLICK_EFFECTS = ("boredom", "boredom_memory", "boredom_scale", "taste_rate")
"""What needs to know what was shown, in an order that means something."""
NOT_ASKED = {
    "boredom_rating": "what is rated was chosen, and a session holds too few ratings to tell boredom from choice",
    "taste_return": "within a session it is hardly told apart from a lower rate of drift",
    "satisfaction_start": "it is not told apart from the base of leaving",
}


def run(
    log: InteractionLog, item_vector: FloatArray, settings: CalibrationSettings, seed: int
) -> Calibration:
    """Return the answers of a log; see `calibrate`."""
    order = read_order(log, settings)
    facts = session_facts(log, order)
    shown = log.exposures
    if shown is None or not 0 < int(shown.clicked.sum()) < len(shown):
        missing = "the log does not say what was shown and not taken"
        estimates = [unknown(name, missing, shown=False) for name in SHOWN_EFFECTS]
        why = order.why or missing
        estimates += [unknown(name, why) for name in (*CLICK_EFFECTS, *LEAVING)]
        estimates += consumption_estimates(log, order, seed)
    else:
        try:
            estimates, more = _from_exposures(log, item_vector, settings, seed, order.why)
            facts |= more
        except np.linalg.LinAlgError:
            # A handful of slates can leave the posterior without a peak; a world does not fail for that.
            few = f"{len(shown)} shown rows are too few: the effects have no likeliest value"
            estimates = [unknown(name, few) for name in (*SHOWN_EFFECTS, *CLICK_EFFECTS, *LEAVING)]
    estimates += [unknown(name, why) for name, why in NOT_ASKED.items()]
    return Calibration(tuple(settle_shapes(estimates)), facts)


def _from_exposures(
    log: InteractionLog, item_vector: FloatArray, settings: CalibrationSettings, seed: int, why: str
) -> tuple[list[Estimate], dict[str, Any]]:
    """Return the estimates and facts of a log with exposures; `why` its order means nothing, or ""."""
    table = slate_table(log)
    table = _fewer_users(table, settings.most_rows, seed)
    facts: dict[str, Any] = {
        "rows_read": len(table),
        "slates": table.num_slates,
        "places": int(table.position.max()) + 1,
        "unrated_clicks": table.unrated,
        "click_rate": float(table.clicked.mean()),
    }
    fixed = {"boredom": 0.0, "taste_rate": 0.0} if why else {}
    if not item_vector.any() or table.num_slates == table.num_sessions:
        fixed = {"boredom": 0.0, "taste_rate": 0.0}
        why = why or ("no session has two slates" if item_vector.any() else "items have no text to bore by")
    question = checks.Question(table, item_vector, log.num_users, settings, fixed)
    with bar(5, "calibration", "part") as shown:
        chain = question.chain(table, seed)
        draws = run_joint(chain, settings.burn_in, settings.samples, settings.most_samples)
        shown.update(1)
        placebo, gains = None, {}
        if settings.checks:
            placebo = checks.placebo_draws(question, seed)
            shown.update(1)
            names = [n for n in checks.NOTHING if n not in fixed]
            if facts["places"] == 1:
                names.remove("examination_decay")
            gains = checks.held_out_gains(question, names, seed)
            shown.update(1)
        facts |= _shown_facts(log, table, draws)
        estimates = [
            chain_verdict(name, draws, placebo, gains, facts, why)
            for name in (*SHOWN_EFFECTS, *CLICK_EFFECTS)
        ]
        estimates += _leaving(table, draws.bored, settings, seed, why, facts)
        shown.update(2)
    return estimates, facts


def _leaving(
    table: SlateTable,
    bored: Floats,
    settings: CalibrationSettings,
    seed: int,
    why: str,
    facts: dict[str, Any],
) -> list[Estimate]:
    horizon = settings.horizon or find_horizon(table)
    stays = stays_of(table, bored, horizon)
    facts |= {
        "horizon": horizon,
        "sessions_left": stays.leaves,
        "sessions_cut": int(len(stays.ending) - stays.leaves),
        "censoring": "a user's last session and sessions of the horizon's length are cut, not left",
    }
    if not why and stays.leaves < 20:
        why = f"only {stays.leaves} sessions are seen to end before the log or the horizon ends them"
    if why:
        return [unknown(name, why) for name in LEAVING]
    draws = Hazard(stays).draws(child_seed(seed, "leaving"))
    facts["leaving_effective_draws"] = {n: effective_draws(draws[:, k]) for k, n in enumerate(LEAVING)}
    placebos, gains = {}, {}
    if settings.checks:
        placebos = checks.leaving_placebos(stays, seed)
        gains = checks.leaving_gains(stays, settings.held_out_share, seed)
    return [
        leaving_verdict(name, draws[:, place], placebos, gains, settings.checks)
        for place, name in enumerate(LEAVING)
    ]


def _shown_facts(log: InteractionLog, table: SlateTable, draws: Draws) -> dict[str, Any]:
    """Return what was shown, how well the chain moved, and how each position was noticed against the fitted decay."""
    pairs = len(np.unique(table.user.astype(np.int64) * log.num_items + table.item))
    beta, decay = (float(np.median(draws.column(n))) for n in ("boredom", "examination_decay"))
    chance = 1 / (1 + np.exp(-(draws.base - beta * draws.bored)))
    hits = np.bincount(table.position, table.clicked)
    wanted = np.bincount(table.position, chance)
    noticed = hits / np.maximum(wanted, 1e-9)
    return {
        "shown_share_of_pairs": pairs / (len(np.unique(table.user)) * log.num_items),
        "chain_acceptance": draws.accepted,
        "chain_effective_draws": {n: effective_draws(draws.column(n)) for n in NAMES},
        "noticed_by_position": [round(float(e), 4) for e in noticed],
        "noticed_by_position_error": [
            round(1.96 * math.sqrt(h) / max(w, 1e-9), 4) for h, w in zip(hits, wanted, strict=True)
        ],
        "noticed_by_decay": [round(decay**k, 4) for k in range(len(noticed))],
    }


def _fewer_users(table: SlateTable, most: int, seed: int) -> SlateTable:
    """Return the table with whole users left out at random until it has no more than `most` rows."""
    if len(table) <= most:
        return table
    kept = chosen_units(np.bincount(table.user), most, generator(seed, "users read"))
    return table.sessions(kept[table.session_user])
