"""A small world for evaluation, and results made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from recworld.evaluation.metrics import PER_EPISODE
from recworld.evaluation.results import EvaluationResult, PolicyResult
from recworld.simulators.bundled import bundled_world

OPTIONS: dict[str, Any] = {"num_candidates": 20, "slate_size": 3, "horizon": 8}


@pytest.fixture(scope="session")
def world():
    return bundled_world(users=60, items=80, width=8, members=3)


@pytest.fixture(scope="session")
def options():
    return dict(OPTIONS)


@pytest.fixture(scope="session")
def by_hand():
    """Return a maker of results: per policy a shift of the return, of the taste shift, and a share of items shown."""

    def make(label="training world", users=200, upper=(), seed=0, **policies):
        rng = np.random.default_rng(seed)
        base = {name: rng.normal(5, 1, users) for name in PER_EPISODE}
        rows = {}
        for name, (gain, shift, share) in policies.items():
            values = {metric: (base[metric] + rng.normal(0, 0.2, users))[None] for metric in PER_EPISODE}
            values["return"] = values["return"] + gain
            values["taste_shift"] = values["taste_shift"] + shift
            shown = sparse.csr_matrix((rng.random((users, 300)) < 0.1) & (np.arange(300) < 300 * share))
            rows[name] = PolicyResult(name, name in upper, values, [shown])
        reference = "greedy" if "greedy" in rows else None
        return EvaluationResult(label, rows, reference)

    return make
