"""What selection into rating does to a log, and what its treatment buys, as lines of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import IntArray, InteractionLog
from recworld.seeding import generator
from recworld.simulators.rating import RatingFit
from recworld.simulators.selection import effective_share, inverse_weights
from recworld.simulators.selection_correlation import Correlation

Floats = npt.NDArray[np.float64]

PAIRS = 20_000
"""Random pairs whose ratings are predicted."""
RESAMPLES = 200
_MISSING = "not identified: the log has no exposures with ratings, so 0 is used"


def selection_lines(
    log: InteractionLog, fit: RatingFit, treated: RatingFit, found: Correlation | None, propensity: Floats,
    treatment: str, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the lines of a report on selection, JSON-ready.

    Each has a "name", a "title", a "meaning", "words" and a "level", and where there is a figure its "value", "low", "high"
    (95 % over users) and "unit".

    Args:
        log: the log.
        fit: the rating model as fitted to the log's rows.
        treated: the same after the treatment.
        found: the correlation of the errors of click and rating, where exposures tell it.
        propensity: (n,) probability that each row's pair is rated, estimated from the log.
        treatment: "none", "weights" or "correlation".
        seed: of the random pairs and the bootstrap.
    """
    random = generator(seed, "selection report")
    user = random.integers(0, log.num_users, PAIRS).astype(np.int32)
    item = random.integers(0, log.num_items, PAIRS).astype(np.int32)
    plain, after = fit.predict(user, item), treated.predict(user, item)
    lines = [_lift(log, user, after, random)]
    if fit.outside is not None:
        lines.append(_reweighted(log, fit, fit.outside, propensity, random))
    lines += [_correlation(found), _gain(plain, after, treatment, found, random)]
    return lines


def _lift(log: InteractionLog, user: IntArray, guess: Floats, random: np.random.Generator) -> dict[str, Any]:
    chosen, asked = _by_user(log.user, log.rating, log.num_users), _by_user(user, guess, log.num_users)

    def difference(pick: npt.NDArray[np.int64]) -> float:
        return float(
            chosen[0][pick].sum() / chosen[1][pick].sum()
            - asked[0][pick].sum() / max(asked[1][pick].sum(), 1)
        )

    value, low, high = _interval(difference, log.num_users, random)
    words = "people rate what they like" if low > 0 else "no difference that the log shows" if high > 0 else (
        "what is rated is liked less than the rest"
    )  # fmt: skip
    return {
        "name": "rated_above_random", "title": "rated above random", "unit": "rating",
        "meaning": "mean rating of the log less the predicted mean of random pairs of its users and items",
        "value": value, "low": low, "high": high, "words": words, "level": "unknown",
    }  # fmt: skip


def _reweighted(
    log: InteractionLog, fit: RatingFit, outside: Floats, propensity: Floats, random: np.random.Generator
) -> dict[str, Any]:
    weight = inverse_weights(propensity).astype(np.float64)
    gap = fit.observation.mean(outside, log.user) - log.rating
    parts = [np.bincount(log.user, values, log.num_users) for values in (weight * gap**2, weight, gap**2)]
    count = np.bincount(log.user, minlength=log.num_users)

    def difference(pick: npt.NDArray[np.int64]) -> float:
        weighted = np.sqrt(parts[0][pick].sum() / parts[1][pick].sum())
        return float(weighted - np.sqrt(parts[2][pick].sum() / count[pick].sum()))

    value, low, high = _interval(difference, log.num_users, random)
    share = effective_share(weight)
    return {
        "name": "reweighted_error", "title": "error, reweighted to the catalogue", "unit": "rating",
        "meaning": "out-of-fold RMSE with inverse-propensity weights less that without: how much worse the model is on "
        "pairs that are seldom rated; propensities are estimated from the log",
        "value": value, "low": low, "high": high, "level": "unknown",
        "words": f"the weighted rows are worth {100 * share:.0f} % of their number",
    }  # fmt: skip


def _correlation(found: Correlation | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "name": "click_rating_correlation", "title": "click and rating", "level": "unknown", "words": _MISSING,
        "meaning": "correlation of what moves a click and the rating after it beyond the models, by the position in the "
        "slate as an instrument",
    }  # fmt: skip
    if found is None:
        return line
    words = "identified" if found.identified else "not identified: too few rated clicks, so 0 is used"
    line |= {"value": found.rho, "low": found.low, "high": found.high, "beside": {"placebo": found.placebo}}
    return line | {
        "words": f"{words}; {found.used:.2f} is used",
        "level": "good" if found.identified else "unknown",
    }


def _gain(
    plain: Floats, after: Floats, treatment: str, found: Correlation | None, random: np.random.Generator
) -> dict[str, Any]:
    def difference(pick: npt.NDArray[np.int64]) -> float:
        return float((plain - after)[pick].mean())

    value, low, high = _interval(difference, len(plain), random)
    if treatment == "none" or (treatment == "correlation" and (found is None or found.used == 0)):
        words = "no treatment: nothing in the log calls for one, or none was wanted"
    else:
        words = f"treatment {treatment}: predicted ratings of random pairs fall by this"
    return {
        "name": "treatment", "title": "what the treatment changes", "unit": "rating", "value": value, "low": low,
        "high": high, "meaning": "predicted mean of random pairs without less with the treatment", "words": words,
        "level": "unknown",
    }  # fmt: skip


def _by_user(user: IntArray, value: npt.NDArray[np.floating], count: int) -> tuple[Floats, Floats]:
    """Return (U,) sums and numbers."""
    sums = np.bincount(user, value.astype(np.float64), count)
    return np.asarray(sums), np.bincount(user, minlength=count).astype(np.float64)


def _interval(difference: Any, count: int, random: np.random.Generator) -> tuple[float, float, float]:
    """Return a figure and the ends of its bootstrap interval, rounded."""
    drawn = [difference(random.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return round(difference(np.arange(count)), 5), round(float(low), 5), round(float(high), 5)
