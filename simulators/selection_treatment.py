"""The rating model with selection treated, as a world asks for it, and what is to be told of it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from recworld.logs.log import FloatArray, InteractionLog
from recworld.seeding import child_seed
from recworld.simulators.attraction import AttractionFit
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.rating import RatingFit, RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.selection import consumption_propensity, inverse_weights
from recworld.simulators.selection_correlation import as_rated, corrected, estimate_correlation, rated_clicks
from recworld.simulators.selection_report import selection_lines
from recworld.simulators.tables import ResponseTables

Treatment = Literal["none", "weights", "correlation"]
REPORT_KEY = "selection"


def fit_treated(
    log: InteractionLog, vectors: tuple[FloatArray, FloatArray], settings: RatingSettings,
    attraction: AttractionFit, attraction_settings: AttractionSettings, treatment: Treatment, members: int,
    seed: int,
) -> tuple[RatingFit, dict[str, Any]]:  # fmt: skip
    """Fit the rating model and treat selection.

    Args:
        log: a log with ratings.
        vectors: text vectors of users (U, D) and items (I, D).
        settings: settings of the rating model.
        attraction: the fitted attraction model.
        attraction_settings: its settings, for the propensities of logs with exposures.
        treatment: "none"; "weights", inverse propensities; "correlation", where exposures tell it.
        members: M.
        seed: seed of the rating model.

    Returns:
        The fit, and what a report tells: "treatment", "lines", and "correlation" where exposures tell of it.
    """
    if attraction.report.get("source") == "exposures":
        propensity = consumption_propensity(log.user, log.item, *vectors, attraction_settings, seed)
    else:
        propensity = np.clip(attraction.probability(log.user, log.item), 1e-6, 1.0)
    weight = inverse_weights(propensity) if treatment == "weights" else None
    rows = RatingRows(log.user, log.item, log.rating, weight)
    fit = treated = fit_rating(rows, *vectors, log.scale, settings, members, seed)
    found, told = None, dict[str, Any]()
    clicks = None if fit.outside is None else rated_clicks(log, fit.outside, attraction)
    if clicks is not None:
        found = estimate_correlation(
            clicks, fit.observation, log.num_users, log.num_items, child_seed(seed, "correlation")
        )
        told["correlation"] = found.to_json()
        if treatment == "correlation":
            treated = corrected(fit, found)
    lines = selection_lines(log, fit, treated, found, propensity, treatment, seed)
    return treated, {"treatment": treatment, "lines": lines, **told}


def correlation_used(told: dict[str, Any]) -> float:
    """Return the correlation that a world takes from what `fit_treated` told; 0 where it was not treated for."""
    found = told.get("correlation") if told.get("treatment") == "correlation" else None
    return 0.0 if found is None else float(found["used"])


def tables_as_rated(tables: ResponseTables, told: dict[str, Any]) -> ResponseTables:
    """Return a world's tables with ratings that stand for the log's own, which followed clicks; see `as_rated`."""
    used = correlation_used(told)
    return tables if used == 0 else as_rated(
        tables, used, told["correlation"]["narrowing"], told["correlation"]["lift"]
    )  # fmt: skip
