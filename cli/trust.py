"""How far the models of a world can be trusted, in words: held-out figures beside those of simple baselines."""

from __future__ import annotations

from typing import Any

import numpy as np

from recworld.logs.log import InteractionLog
from recworld.seeding import generator
from recworld.simulators.calibration import REPORT_KEY, Calibration

FOLDS = 4
DAMPING = 5.0
"""Ratings at the mean that are added to each item's and each user's own, so that a single rating does not decide."""


def bias_rmse(log: InteractionLog, seed: int) -> float | None:
    """Return the out-of-fold error of mean + item bias + user bias, the model that knows nothing of tastes.

    Args:
        log: with ratings; None is returned for a log of clicks.
        seed: of the folds.
    """
    if log.scale.kind == "click":
        return None
    fold = generator(seed, "bias folds").permutation(len(log)) % FOLDS
    error = np.zeros(len(log))
    for number in range(FOLDS):
        known, out = fold != number, fold == number
        rest = log.rating[known].astype(np.float64)
        mean = rest.mean()
        item = _damped(log.item[known], rest - mean, log.num_items)
        user = _damped(log.user[known], rest - mean - item[log.item[known]], log.num_users)
        predicted = mean + item[log.item[out]] + user[log.user[out]]
        error[out] = np.clip(predicted, log.scale.low, log.scale.high) - log.rating[out]
    return float(np.sqrt(np.mean(error**2)))


def _damped(owner: Any, residual: Any, size: int) -> Any:
    count = np.bincount(owner, minlength=size)
    return np.bincount(owner, residual, minlength=size) / (count + DAMPING)


def trust_lines(report: dict[str, Any], bias: float | None = None) -> list[str]:
    """Return what a world's report says about its models, one line each.

    Args:
        report: `World.report`.
        bias: the error of `bias_rmse`, where it is known.
    """
    lines = []
    for part, who in (("truth", "simulated users"), ("agent", "the recommender's own estimate")):
        rating = report.get(part, {}).get("rating", {}).get("out_of_fold_member", {})
        clicks = report.get(part, {}).get("attraction", {})
        told = []
        if "rmse" in rating:
            beside = f" (user and item means: {bias:.3f})" if bias is not None and part == "truth" else ""
            told.append(f"ratings: RMSE {rating['rmse']:.3f}{beside}, liked-AUC {rating['liked_auc']:.3f}")
        if "auc" in clicks:
            beside = f" (popularity: {clicks['popularity_auc']:.3f})" if "popularity_auc" in clicks else ""
            told.append(f"what is taken up: AUC {clicks['auc']:.3f}{beside}")
        if told:
            lines.append(f"{who}, held out: {'; '.join(told)}")
    if REPORT_KEY in report:
        lines.append(f"how users change: {Calibration.from_json(report[REPORT_KEY]).summary()}")
    return lines
