"""What an evaluation found: per user, so that any two policies can be compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recworld.errors import InputError, did_you_mean
from recworld.evaluation.intervals import (
    Coverage,
    Estimate,
    Interval,
    coverage_interval,
    mean_interval,
    two_level,
)
from recworld.evaluation.metrics import METRICS

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PolicyResult:
    """What one policy did with each of n users, in R runs (agents trained with different seeds; usually R = 1).

    Attributes:
        name: the policy.
        is_upper_line: whether it reads what no recommender can know.
        values: (R, n) float64 by metric, averaged over seeds and episodes; NaN where not defined.
        shown: R sparse matrices (n, I), which user was ever shown which item.
        overlap: (R, n) share of a user's first slate that others got too, averaged over them; None: not measured.
        same: (R,) share of users whose first slate is the most common one.
    """

    name: str
    is_upper_line: bool
    values: dict[str, FloatArray]
    shown: list[sparse.csr_matrix]
    overlap: FloatArray | None = None
    same: FloatArray | None = None

    @property
    def runs(self) -> int:
        """R, trained agents behind the row."""
        return len(self.shown)

    @cached_property
    def coverage(self) -> Coverage:
        """The coverage, and what each user adds to it."""
        return Coverage.of(self.shown)

    @cached_property
    def summary(self) -> dict[str, Interval]:
        """Every metric with its 95 % interval."""
        return {
            name: coverage_interval(self.coverage) if name == "coverage" else mean_interval(self.values[name])
            for name in METRICS
        }


@dataclass(frozen=True)
class EvaluationResult:
    """Policies measured on the same users, seeds and streams of one world.

    Attributes:
        label: the world, for people ("training world", "evaluation world").
        policies: by name, in the order given.
        reference: the policy that the others are compared with, None when it is not among them.
        setting: what was measured (K, C, horizon, users, members, seeds, ...), JSON-ready.
    """

    label: str
    policies: dict[str, PolicyResult]
    reference: str | None
    setting: dict[str, Any] = field(default_factory=dict)
    _differences: dict[tuple[str, str], dict[str, Interval]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def policy(self, name: str) -> PolicyResult:
        """Return a policy's result.

        Raises:
            InputError: it was not measured.
        """
        if name not in self.policies:
            raise InputError(f"No policy {name!r} was measured. {did_you_mean(name, self.policies)}")
        return self.policies[name]

    def difference(self, name: str, other: str) -> dict[str, Interval]:
        """Return policy minus other by metric, paired by user, each with its 95 % interval (coverage: jackknife).

        Where either has several runs, these are random too, and those of the one independent of those of the other.

        Raises:
            InputError: one of them was not measured.
        """
        if (name, other) not in self._differences:
            first, second = self.policy(name), self.policy(other)
            found = {
                metric: two_level(first.values[metric], second.values[metric]).interval()
                for metric in METRICS
                if metric != "coverage"
            }
            found["coverage"] = coverage_interval(first.coverage, second.coverage)
            self._differences[name, other] = {metric: found[metric] for metric in METRICS}
        return self._differences[name, other]

    def estimate(self, name: str, other: str, metric: str = "return") -> Estimate:
        """Return policy minus other in one metric of episodes, paired by user, with its standard error.

        Raises:
            InputError: one of them was not measured.
        """
        return two_level(self.policy(name).values[metric], self.policy(other).values[metric])

    def as_json(self) -> dict[str, Any]:
        """Return everything but the per-user values, JSON-ready; the same evaluation gives the same text."""
        rows = {}
        for name, result in self.policies.items():
            row: dict[str, Any] = {
                "upper_line": result.is_upper_line,
                "runs": len(result.shown),
                "metrics": _json(result.summary),
            }
            if self.reference is not None and name != self.reference:
                row[f"minus {self.reference}"] = _json(self.difference(name, self.reference))
            rows[name] = row
        return {"label": self.label, "reference": self.reference, "setting": self.setting, "policies": rows}


def _json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.as_json() for name, interval in intervals.items()}
