"""Figures of merit for predicted ratings and clicks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]


def rmse(predicted: Floats, actual: Floats) -> float:
    """Return the root mean squared error."""
    return float(np.sqrt(np.mean((predicted - actual) ** 2)))


def mae(predicted: Floats, actual: Floats) -> float:
    """Return the mean absolute error."""
    return float(np.mean(np.abs(predicted - actual)))


def auc(score: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, ties counted half; 0.5 where one class is absent."""
    hits = int(positive.sum())
    misses = len(positive) - hits
    if hits == 0 or misses == 0:
        return 0.5
    ranks = rankdata(score)
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))


def log_loss(probability: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Return the mean of -log P of what happened, with probabilities kept 1e-7 away from 0 and 1."""
    chance = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(positive, np.log(chance), np.log1p(-chance))))


def calibration_error(probability: Floats, positive: npt.NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error over equal-mass bins."""
    parts = np.array_split(np.argsort(probability, kind="stable"), min(bins, max(len(probability), 1)))
    gaps = [abs(probability[p].mean() - positive[p].mean()) * len(p) for p in parts if len(p)]
    return float(np.sum(gaps) / max(len(probability), 1))
