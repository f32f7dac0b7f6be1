"""Which scale ratings are on: declared, or detected and said aloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recworld.errors import InputError
from recworld.logs.cells import Float64
from recworld.logs.log import InteractionLog, RatingScale
from recworld.logs.settings import LogSettings

MOST_LEVELS = 25
"""More distinct values than this are a continuous scale, unless levels are declared."""


def find_scale(
    rating: Float64 | None, settings: LogSettings, where: str, row: Callable[[int], str] | None = None
) -> tuple[RatingScale, str]:
    """Return the scale of ratings, and a note that says it.

    Levels are kept as the nearest float32, as the log's ratings are, so that the two compare equal.

    Args:
        rating: (n,) float64 ratings, or None where the log has none.
        settings: what is declared.
        where: the file, as it reads in an error.
        row: gives "FILE, row N" of the n-th rating; without it errors name the file only.

    Raises:
        InputError: ratings outside the declared range, too large, or all the same without a declared range.
    """
    if rating is None or settings.scale == "click":
        if settings.scale in ("discrete", "continuous"):
            raise InputError(
                f"{where} has no ratings, so scale must be auto or click. Got {settings.scale!r}."
            )
        note = (
            "no rating column: read as clicks"
            if rating is None
            else "ratings ignored: read as clicks, as declared"
        )
        return RatingScale("click", (), 0.0, 1.0), note
    _refuse_outside(rating, settings, row or (lambda _: where))
    values = np.unique(rating.astype(np.float32)).astype(np.float64)
    low = float(values[0]) if settings.low is None else float(np.float32(settings.low))
    high = float(values[-1]) if settings.high is None else float(np.float32(settings.high))
    if low == high:
        if settings.scale == "auto" and values[0] == 1 and settings.low is None and settings.high is None:
            return RatingScale("click", (), 0.0, 1.0), "every rating is 1: read as clicks"
        advice = "Set low and high, or scale to click."
        raise InputError(f"{where}: every rating is {values[0]:g}, which tells no scale. {advice}")
    kind, how = settings.scale, "declared"
    if kind == "auto":
        kind, how = ("discrete" if _looks_discrete(rating, values) else "continuous"), "detected"
    if kind == "continuous":
        scale = RatingScale("continuous", (), low, high)
    else:
        if len(values) > 1000:
            raise InputError(
                f"{where} has {len(values)} distinct ratings, too many for scale discrete; use continuous."
            )
        scale = RatingScale("discrete", _levels(values, low, high), low, high)
    return scale, f"{scale.describe()} ({how})"


def redeclare(log: InteractionLog, settings: LogSettings) -> InteractionLog:
    """Return a log on the scale that the settings declare; without a declaration, the log as it is.

    Raises:
        InputError: ratings outside the declared range.
    """
    if settings.scale == "auto" and settings.low is None and settings.high is None:
        return log
    scale, note = find_scale(log.rating.astype(np.float64), settings, log.name)
    rating = np.ones_like(log.rating) if scale.kind == "click" else log.rating
    return replace(log, rating=rating, scale=scale, notes=(note, *log.notes))


def _refuse_outside(rating: Float64, settings: LogSettings, row: Callable[[int], str]) -> None:
    most = float(np.finfo(np.float32).max)
    low = -most if settings.low is None else settings.low
    high = most if settings.high is None else settings.high
    if low > high:
        raise InputError(f"The setting low must be below high. Got low {low:g}, high {high:g}.")
    wrong = np.flatnonzero((rating < low) | (rating > high))
    if len(wrong) == 0:
        return
    value, place = rating[wrong[0]], row(int(wrong[0]))
    if abs(value) > most:
        raise InputError(f"{place}: rating {value:g} is too large for a 32-bit float.")
    bound = f"at least {low:g}" if value < low else f"at most {high:g}"
    raise InputError(f"{place}: rating {value:g} is outside the declared scale; {bound} was expected.")


def _looks_discrete(rating: Float64, values: Float64) -> bool:
    """Few values, and either a grid of halves or values that come again and again."""
    if len(values) > MOST_LEVELS:
        return False
    return bool(np.all(values * 2 == np.round(values * 2))) or len(rating) >= 10 * len(values)


def _levels(values: Float64, low: float, high: float) -> tuple[float, ...]:
    """The values seen; with a declared range that they do not fill, also the missing steps of their grid."""
    seen = sorted({*values.tolist(), low, high})
    step = min(np.diff(seen), default=0.0) if len(values) > 1 else 1.0
    if (values[0], values[-1]) == (low, high) or step <= 0:
        return tuple(seen)
    grid = np.arange(round((high - low) / step) + 1) * step + low
    whole = len(grid) <= 2 * MOST_LEVELS and all(
        np.isclose(grid, value, atol=1e-4 * step).any() for value in seen
    )
    if not whole:
        return tuple(seen)
    near = [next((v for v in seen if np.isclose(v, g, atol=1e-4 * step)), float(np.float32(g))) for g in grid]
    return tuple(near)
