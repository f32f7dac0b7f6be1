"""`Leaderboard`: policies in rows, metrics in columns, one block per world; verdicts and warnings in plain words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recworld.errors import InputError
from recworld.evaluation.intervals import Interval
from recworld.evaluation.questions import Answers, Questions, answer, answers_json, overlap_estimate
from recworld.evaluation.results import EvaluationResult
from recworld.storage import write_json, write_text

FORMAT = 1
BASELINES = ("random", "popularity", "static", "greedy", "epsilon_greedy", "mmr")
"""Names that are not taken for trained agents unless asked to."""
COLLAPSE = 0.5
"""A policy that shows less than this share of what the reference covers is flagged."""
IMPERSONAL = ("static", "popularity")
"""Policies that rank alike for everybody: what slates that are alike look like under these candidates."""
ALIKE = 0.5
"""A policy whose first slates are this far on the way from the reference's overlap to the impersonal ones' is flagged."""
ALIKE_TIMES = 3.0
"""Without an impersonal policy in the table: so many times the reference's overlap."""
KEPT = 0.5
"""A policy that keeps less than this share of its gain where tastes stay, or in another world, is flagged."""


@dataclass(frozen=True)
class Verdict:
    """How a trained agent stands against the others in one world.

    Attributes:
        policy: the agent.
        world: label of the world.
        beats: others whose paired difference in return is above 0 beyond its 95 % interval.
        level: others from whom it cannot be told apart.
        loses: others who are better beyond the interval.
        leads: the paired difference in return, by other.
    """

    policy: str
    world: str
    beats: tuple[str, ...]
    level: tuple[str, ...]
    loses: tuple[str, ...]
    leads: dict[str, Interval]

    def sentence(self) -> str:
        """Return the verdict in plain words, one line."""
        parts = []
        if self.beats:
            parts.append("beats " + ", ".join(map(self._with_lead, self.beats)))
        if self.level:
            parts.append("cannot be told from " + ", ".join(map(self._with_lead, self.level)))
        if self.loses:
            parts.append("loses to " + ", ".join(map(self._with_lead, self.loses)))
        text = "; ".join(parts) if parts else "has no baseline to be compared with"
        return f"{self.policy} in the {self.world}: {text} (paired difference in return, 95 % interval)."

    def _with_lead(self, other: str) -> str:
        lead = self.leads[other]
        if math.isnan(lead.half):
            return f"{other} ({lead.mean:+.2f}, too few users for an interval)"
        return f"{other} ({lead.mean:+.2f} ±{lead.half:.2f})"


class Leaderboard:
    """Results of `compare`, and ways to show them.

    Args:
        results: one per world; the first is the world that training met.
        trained: the policies to give a verdict on; all but upper lines and the known baselines by default.
        still: the first world with tastes that stay, to tell gains that are shifted tastes only.
        questions: what every world is asked beyond its rows; None: nothing.
        remarks: lines to be shown with the warnings (runs that failed).

    Raises:
        InputError: no result, or a trained policy that was not measured.
    """

    def __init__(
        self,
        results: Sequence[EvaluationResult],
        trained: Sequence[str] | None = None,
        still: EvaluationResult | None = None,
        questions: Questions | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        if not results:
            raise InputError("A leaderboard needs at least one result. Got none.")
        self.results = list(results)
        first = self.results[0]
        upper = {name for name, row in first.policies.items() if row.is_upper_line}
        if trained is None:
            trained = [name for name in first.policies if name not in BASELINES and name not in upper]
        for name in trained:
            first.policy(name)
        self.trained = list(trained)
        self.still = still
        self.questions = questions
        self.remarks = list(remarks)
        self._answers: dict[str, Answers] = {}
        self.upper = [name for name in first.policies if name in upper]

    def rows(self, result: EvaluationResult) -> list[str]:
        """Return the competing policies of a result, best mean return first; upper lines are not among them."""
        names = [name for name in result.policies if name not in self.upper]
        return sorted(names, key=lambda name: -result.policies[name].summary["return"].mean)

    def answers(self, result: EvaluationResult) -> Answers:
        """Return what a world answers to the questions (to the default ones where none were asked)."""
        if result.label not in self._answers:
            self._answers[result.label] = answer(result, self.upper, self.questions or Questions())
        return self._answers[result.label]

    def verdicts(self) -> list[Verdict]:
        """Return a verdict on every trained policy in every world."""
        found = []
        for name in self.trained:
            for result in self.results:
                others = [other for other in self.rows(result) if other != name]
                leads = {other: result.difference(name, other)["return"] for other in others}
                by_sign = {sign: tuple(o for o in others if leads[o].sign == sign) for sign in (1, 0, -1)}
                found.append(Verdict(name, result.label, by_sign[1], by_sign[0], by_sign[-1], leads))
        return found

    def flags(self) -> list[str]:
        """Return warnings: gains that vanish in another world or with tastes that stay, collapsed coverage, slates alike."""
        first, reference = self.results[0], self.results[0].reference
        if reference is None:
            return list(self.remarks)
        found = []
        for name in self.rows(first):
            if name == reference:
                continue
            own = first.difference(name, reference)
            found += [
                self._vanished(name, reference, other) for other in self.results[1:] if own["return"].sign > 0
            ]
            found += self._by_shift(name, reference, own)
            covered = first.policies[reference].summary["coverage"].mean
            limit = first.policies[name].summary["coverage"]
            if limit.mean < COLLAPSE * covered and own["coverage"].sign < 0:
                found.append(
                    f"{name}: it shows {100 * limit.mean:.1f} % of the catalogue, less than half of the "
                    f"{100 * covered:.1f} % of {reference}."
                )
            found += self._alike(first, name, reference)
        return [*filter(None, found), *self.remarks]

    def _vanished(self, name: str, reference: str, other: EvaluationResult) -> str:
        first = self.results[0]
        own, there = (result.difference(name, reference)["return"] for result in (first, other))
        if there.sign > 0:
            return ""
        if there.mean < KEPT * own.mean:
            return f"{name}: its gain over {reference} in the {first.label} vanishes in the {other.label}."
        return (
            f"{name}: its gain over {reference} in the {first.label} ({own.mean:+.2f} ±{own.half:.2f}) cannot be told from "
            f"none in the {other.label} ({there.mean:+.2f} ±{there.half:.2f})."
        )

    def _by_shift(self, name: str, reference: str, own: dict[str, Interval]) -> list[str]:
        if self.still is None or own["return"].sign <= 0 or own["taste_shift"].sign <= 0:
            return []
        kept = self.still.difference(name, reference)["return"]
        if kept.mean >= KEPT * own["return"].mean:
            return []
        if kept.sign <= 0:
            return [
                f"{name}: it gains on {reference} only by shifting tastes: where tastes stay, the gain is gone."
            ]
        return [
            f"{name}: it gains on {reference} mostly by shifting tastes: {own['return'].mean:+.2f}, of which "
            f"{kept.mean:+.2f} is left where tastes stay."
        ]

    def _alike(self, result: EvaluationResult, name: str, reference: str) -> list[str]:
        if name in IMPERSONAL:
            return []
        overlap, known = (overlap_estimate(result, one).mean for one in (name, reference))
        others = {one: overlap_estimate(result, one).mean for one in IMPERSONAL if one in result.policies}
        limit, words = ALIKE_TIMES * known, f"{100 * known:.1f} % with {reference}"
        if others:
            most = max(others, key=lambda one: others[one])
            limit = known + ALIKE * (others[most] - known)
            words += f", {100 * others[most]:.1f} % with {most}, which is the same for all"
        if not overlap > max(limit, known) or overlap_estimate(result, name, reference).interval().sign <= 0:
            return []
        return [
            f"{name}: it shows much the same to everybody: two users share {100 * overlap:.1f} % of their first slates "
            f"({words})."
        ]

    def as_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready, without wall-clock: the same evaluation gives the same text."""
        worlds = [result.as_json() for result in self.results]
        if self.questions is not None:
            for world, result in zip(worlds, self.results, strict=True):
                world["answers"] = answers_json(self.answers(result))
        return {
            "format": FORMAT,
            "worlds": worlds,
            "tastes_that_stay": None if self.still is None else self.still.as_json(),
            "trained": self.trained,
            "upper_lines": self.upper,
            "verdicts": [
                {
                    "policy": v.policy,
                    "world": v.world,
                    "beats": list(v.beats),
                    "cannot_be_told_from": list(v.level),
                    "loses_to": list(v.loses),
                    "leads": {other: lead.as_json() for other, lead in v.leads.items()},
                }
                for v in self.verdicts()
            ],
            "flags": self.flags(),
        }

    def json_text(self) -> str:
        """Return `as_json` as text with sorted keys."""
        return json.dumps(self.as_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def text(self, differences: bool = True) -> str:
        """Return aligned tables for a terminal of 110 columns, verdicts and flags.

        Args:
            differences: whether paired differences of all metrics are shown too.
        """
        from recworld.evaluation.tables import terminal

        return terminal(self, differences)

    def markdown(self) -> str:
        """Return the same as Markdown."""
        from recworld.evaluation.tables import markdown

        return markdown(self)

    def plot(self, path: Path) -> None:
        """Write bars of the returns with intervals as PNG."""
        from recworld.evaluation.plots import plot_returns

        plot_returns(self, path)

    def save(self, folder: Path, stem: str = "leaderboard") -> list[Path]:
        """Write ``<stem>.json``, ``.md``, ``.txt`` and ``.png`` into a folder, each whole or absent.

        Returns:
            The paths written.
        """
        paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".md", ".txt", ".png")]
        write_json(paths[0], self.as_json())
        write_text(paths[1], self.markdown())
        write_text(paths[2], self.text())
        self.plot(paths[3])
        return paths
