"""From a log and its vectors to a `World`: the truth fitted on everything, the agent side on the early parts only."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from recworld.errors import InputError, UnavailableError
from recworld.logs.log import Exposures, FloatArray, InteractionLog
from recworld.logs.splits import check_log, split_early_late, split_users
from recworld.progress import say
from recworld.seeding import child_seed
from recworld.settings import Settings
from recworld.simulators import selection_treatment
from recworld.simulators.anchor import sampled_slates
from recworld.simulators.attraction import AttractionFit, fit_attraction
from recworld.simulators.attraction_rows import consumption_rows, exposure_rows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.calibration import REPORT_KEY, calibrate
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.novelty import fit_novelty
from recworld.simulators.rating import RatingFit
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.tables import AgentTables, ResponseTables
from recworld.simulators.world import World
from recworld.storage import cache_root, cached_folder, content_hash, write_folder

FIT_FORMAT = 12
"""Raised whenever a fit gives other numbers for the same input, so that old cache entries are not taken."""


class WorldSettings(Settings):
    """How a world is made from a log."""

    rating: RatingSettings = RatingSettings()
    """The rating model."""
    attraction: AttractionSettings = AttractionSettings()
    """The attraction model."""
    calibration: CalibrationSettings = CalibrationSettings()
    """What the log is asked about how its users change."""
    selection: selection_treatment.Treatment = "correlation"
    """What is done about people rating what they chose. none; weights: inverse propensities; correlation: what moved a click
    and lifted the rating after it, as far as logged exposures tell, is taken out (without exposures it does nothing)."""
    members: int = Field(4, ge=1, le=32)
    """M: members of the truth; policies train in some and are evaluated in others."""
    novelty: bool = True
    """Whether the world stands for the end of its log: items that appeared late, where exposures and times tell, lose (or
    gain) what age takes from them."""
    early_share: float = Field(0.5, gt=0, lt=1)
    """Share of each user's interactions, in time, that the agent side knows."""
    user_shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Shares of the users for training, validation and test."""
    agent_samples: int = Field(32, ge=1, le=256)
    """Posterior samples averaged in the agent-side rating estimate: it wants accuracy, not diversity."""


def build_world(
    log: InteractionLog, user_vector: FloatArray, item_vector: FloatArray, settings: WorldSettings,
    dynamics: DynamicsSettings, seed: int, name: str | None = None,
) -> World:  # fmt: skip
    """Fit a world: M members of the truth on the whole log, one agent-side estimate on the early parts.

    Args:
        log: the log.
        user_vector: (U, D) unit text vectors.
        item_vector: (I, D) unit text vectors.
        settings: how the world is made.
        dynamics: how its users change.
        seed: the same seed gives the same arrays, bit for bit.
        name: name of the world; the log's by default.

    Raises:
        InputError: the log is too small, or the vectors do not fit it.
    """
    _check_vectors(log, user_vector, item_vector)
    check_log(log)
    early, late = split_early_late(log, settings.early_share)
    vectors = (user_vector, item_vector)
    truth, truth_report = fit_response(
        log, vectors, settings, settings.members, child_seed(seed, "truth"), settings.novelty
    )
    known = replace(log.select(early), exposures=_early_exposures(log, early, late, settings.early_share))
    finer = {"samples_per_member": settings.agent_samples, "thinning": max(settings.rating.thinning // 2, 1)}
    rating = settings.rating.model_copy(update=finer)
    agent_settings = settings.model_copy(update={"rating": rating})
    response, agent_report = fit_response(known, vectors, agent_settings, 1, child_seed(seed, "agent"))
    report = {"log": _log_report(log, len(early)), "truth": truth_report, "agent": agent_report}
    selection = report[selection_treatment.REPORT_KEY] = truth_report.pop(selection_treatment.REPORT_KEY, {})
    if settings.calibration.enabled:
        told = calibrate(log, item_vector, settings.calibration, child_seed(seed, "calibration"))
        report[REPORT_KEY] = told.to_json()
    return World(
        name=log.name if name is None else name,
        truth=truth,
        agent=_agent_tables(known, response),
        user_vector=np.ascontiguousarray(user_vector, np.float32),
        item_vector=np.ascontiguousarray(item_vector, np.float32),
        scale=log.scale,
        dynamics=dynamics,
        splits=split_users(log, settings.user_shares, child_seed(seed, "users")),
        user_keys=tuple(str(k) for k in log.user_keys),
        item_keys=tuple(str(k) for k in log.item_keys),
        user_text=log.user_text,
        item_text=log.item_text,
        attraction_known=usable_exposures(log),
        shown=sampled_slates(log, child_seed(seed, "shown")) if usable_exposures(log) else None,
        click_rating_correlation=selection_treatment.correlation_used(selection),
        report=report,
    )


def cached_world(
    log: InteractionLog, user_vector: FloatArray, item_vector: FloatArray, settings: WorldSettings,
    dynamics: DynamicsSettings, seed: int, name: str | None = None,
) -> World:  # fmt: skip
    """Return `build_world` of the same arguments, from the cache where it was built before.

    The entry's name is a hash of the log's content, the vectors, the settings, the seed and `FIT_FORMAT`. The
    dynamics are not part of the fit, so changing them costs nothing. The entry holds no text of a user: the world
    returned has those of the log.

    Raises:
        InputError: as in `build_world`.
    """
    key = content_hash(
        f"world {FIT_FORMAT}", log.fingerprint, np.asarray(user_vector, np.float32),
        np.asarray(item_vector, np.float32), settings.fingerprint_text(), str(seed),
    )  # fmt: skip

    def fill(folder: Path) -> None:
        say(f"Fitting a world to {log.name}: {len(log)} interactions, {settings.members} members.")
        build_world(log, user_vector, item_vector, settings, dynamics, seed, name).save(folder)

    entry = cached_folder(cache_root() / "worlds" / key, fill)
    world = World.load(entry)
    if any(world.user_text):  # written by a version that kept them
        with contextlib.suppress(UnavailableError):
            write_folder(entry, world.save)
    return replace(world, dynamics=dynamics, name=log.name if name is None else name, user_text=log.user_text)


def fit_response(
    log: InteractionLog,
    vectors: tuple[FloatArray, FloatArray],
    settings: WorldSettings,
    members: int,
    seed: int,
    as_of_its_end: bool = False,
) -> tuple[ResponseTables, dict[str, Any]]:
    """Fit both parts of the response to all rows of a log.

    Args:
        log: the log.
        vectors: text vectors of users (U, D) and items (I, D).
        settings: how the world is made.
        members: M.
        seed: of the fit.
        as_of_its_end: let items that appeared late be as attractive as they are at the end of the log.

    Returns:
        The tables of M members, and the reports of both fits.
    """
    shown = log.exposures
    if shown is not None and usable_exposures(log):
        source = exposure_rows(shown, settings.attraction.largest_weight)
    else:
        source = consumption_rows(log.user, log.item)
    attraction = fit_attraction(
        source, *vectors, settings.attraction, members, child_seed(seed, "attraction")
    )
    report: dict[str, Any] = {"attraction": attraction.report}
    rating: RatingFit | None = None
    if log.scale.kind != "click":
        rating, report[selection_treatment.REPORT_KEY] = selection_treatment.fit_treated(
            log, vectors, settings.rating, attraction, settings.attraction, settings.selection, members,
            child_seed(seed, "rating"),
        )  # fmt: skip
        report["rating"] = rating.report
    novelty = fit_novelty(log, attraction) if as_of_its_end and source.shown else None
    if novelty is not None:
        attraction = novelty.apply(attraction)
        report["attraction"] = attraction.report
    return response_tables(rating, attraction), report


def usable_exposures(log: InteractionLog) -> bool:
    """Return whether the log tells what was shown and not taken, as well as what was taken."""
    shown = log.exposures
    return (
        shown is not None and len(shown) > 1 and bool(shown.clicked.any()) and not bool(shown.clicked.all())
    )


def response_tables(rating: RatingFit | None, attraction: AttractionFit) -> ResponseTables:
    """Put the rating part and the attraction part side by side; without ratings Fr = 0 and the rest is neutral."""
    clicks = attraction.tables()
    members, users = clicks["user_attraction_bias"].shape
    items = clicks["item_attraction_bias"].shape[1]
    if rating is not None:
        stars = rating.tables()
    else:
        none, one = np.zeros((members, users), np.float32), np.ones((members, users), np.float32)
        stars = {
            "taste": np.zeros((members, users, 0), np.float32),
            "item": np.zeros((members, items, 0), np.float32),
            "user_rating_bias": none,
            "item_rating_bias": np.zeros((members, items), np.float32),
            "thresholds": np.zeros((members, 0), np.float32),
            "user_shift": none,
            "user_scale": one,
            "user_sigma": one,
        }
    width = stars["taste"].shape[2]
    side_by_side = {k: np.concatenate([stars.pop(k), clicks.pop(k)], axis=2) for k in ("taste", "item")}
    return ResponseTables(**side_by_side, **stars, **clicks, rating_width=width)


def _agent_tables(known: InteractionLog, response: ResponseTables) -> AgentTables:
    order = known.order_in_time
    counts = np.bincount(known.user, minlength=known.num_users)
    return AgentTables(
        response=response,
        popularity=np.bincount(known.item, minlength=known.num_items).astype(np.float32),
        history_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        history_item=known.item[order].astype(np.int32),
        history_feedback=_feedback(known, order),
    )


def _feedback(known: InteractionLog, order: npt.NDArray[np.int64]) -> FloatArray:
    """Return the normalised ratings of rows; where the scale has one level, it says nothing: 0."""
    if known.scale.kind != "click" and known.scale.high <= known.scale.low:
        return np.zeros(len(order), np.float32)
    return known.scale.normalise(known.rating[order])


def _early_exposures(
    log: InteractionLog, early: npt.NDArray[np.int64], late: npt.NDArray[np.int64], share: float
) -> Exposures | None:
    """Return what was shown before the cut of each user.

    Exposures carry no time. A user's slates, in order, are taken up to the first with a click on an item that
    the user has in the late part only; where no click tells, the first `share` of them.
    """
    shown = log.exposures
    if shown is None:
        return None
    pair = shown.user.astype(np.int64) * log.num_items + shown.item

    def pairs(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return log.user[rows].astype(np.int64) * log.num_items + log.item[rows]

    order = np.lexsort((shown.slate, shown.session, shown.user))
    # The k-th click on an item is early when the early part holds the item k times.
    clicks = order[shown.clicked[order]]
    known, times = np.unique(pairs(early), return_counts=True)
    by_pair = np.argsort(pair[clicks], kind="stable")
    sorted_pair = pair[clicks][by_pair]
    rank = np.arange(len(clicks)) - np.searchsorted(sorted_pair, sorted_pair)
    place_known = np.minimum(np.searchsorted(known, sorted_pair), len(known) - 1)
    allowed = np.where(known[place_known] == sorted_pair, times[place_known], 0)
    telling = np.zeros(len(shown), np.bool_)
    telling[clicks[by_pair]] = (rank >= allowed) & np.isin(sorted_pair, pairs(late))
    user, slate = shown.user[order], shown.slate[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(user) != 0) | (np.diff(slate) != 0)
    place = np.cumsum(new) - 1  # number of the slate in this order
    first = np.full(log.num_users, np.iinfo(np.int64).max)
    np.minimum.at(first, user, place)
    count = np.bincount(user[new], minlength=log.num_users)
    cut = np.full(log.num_users, np.iinfo(np.int64).max)
    hit = telling[order]
    np.minimum.at(cut, user[hit], place[hit])
    silent = cut == np.iinfo(np.int64).max
    cut[silent] = first[silent] + np.round(count[silent] * share).astype(np.int64)
    keep = np.sort(order[place < cut[user]])
    return Exposures(**{name: getattr(shown, name)[keep] for name in Exposures.__annotations__})


def _log_report(log: InteractionLog, early: int) -> dict[str, Any]:
    return {
        "rows": len(log),
        "early_rows": early,
        "users": log.num_users,
        "items": log.num_items,
        "scale": log.scale.describe(),
        "notes": list(log.notes),
    }


def _check_vectors(log: InteractionLog, user_vector: FloatArray, item_vector: FloatArray) -> None:
    for what, vector, size in (("user", user_vector, log.num_users), ("item", item_vector, log.num_items)):
        if vector.ndim != 2 or len(vector) != size:
            raise InputError(f"The {what} vectors must have shape ({size}, D). Got {vector.shape}.")
        if not np.isfinite(vector).all():
            raise InputError(f"The {what} vectors must be finite. Got NaN or infinity.")
