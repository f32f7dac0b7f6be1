"""How far to trust a world: a baseline with a known answer, and words for every report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recworld.cli.trust import bias_rmse, trust_lines
from recworld.logs.log import InteractionLog, RatingScale


def a_log(noise: float, taste: float = 0.0) -> InteractionLog:
    rng = np.random.default_rng(0)
    user, item = (grid.ravel().astype(np.int32) for grid in np.meshgrid(range(80), range(100), indexing="ij"))
    biases = rng.normal(0, 0.5, 80)[user] + rng.normal(0, 0.5, 100)[item]
    tastes = taste * np.where((user % 2) == (item % 2), 1, -1)
    rating = (3 + biases + tastes + noise * rng.normal(size=len(user))).astype(np.float32)
    keys = [np.array([str(n) for n in range(size)]) for size in (80, 100)]
    scale = RatingScale("continuous", (), -9.0, 9.0)
    return InteractionLog("grid", user, item, rating, None, *keys, ("",) * 80, ("",) * 100, scale)


def test_biases_explain_all_but_noise_and_taste() -> None:
    assert bias_rmse(a_log(0.0), 0) == pytest.approx(0.0, abs=0.1)
    assert bias_rmse(a_log(0.7), 0) == pytest.approx(0.7, abs=0.03)
    assert bias_rmse(a_log(0.7, taste=1.0), 0) == pytest.approx(np.hypot(0.7, 1.0), abs=0.05)
    assert bias_rmse(replace(a_log(0.0), scale=RatingScale("click")), 0) is None


def test_a_report_in_words() -> None:
    rating = {"out_of_fold_member": {"rmse": 0.8783, "liked_auc": 0.811}}
    report = {"truth": {"rating": rating, "attraction": {"auc": 0.93, "popularity_auc": 0.85}}, "agent": {}}
    assert trust_lines(report, 0.9443) == [
        "simulated users, held out: ratings: RMSE 0.878 (user and item means: 0.944), liked-AUC 0.811; "
        "what is taken up: AUC 0.930 (popularity: 0.850)"
    ]
    assert trust_lines({}) == []
