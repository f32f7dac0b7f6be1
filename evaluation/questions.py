"""What a leaderboard is asked beyond its rows: who beats whom once many are compared, who is as good, how far one got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recworld.evaluation.intervals import LEVEL, Estimate, Interval
from recworld.evaluation.testing import Equivalence, equivalence, holm, share_of_distance

if TYPE_CHECKING:
    from recworld.evaluation.results import EvaluationResult

MARGIN_SHARE = 0.02
"""Without a stated margin, differences below this share of the reference's mean return count for nothing."""


@dataclass(frozen=True)
class Questions:
    """What is asked of every world.

    Attributes:
        references: policies that every row is compared with, corrected for the number of comparisons.
        twins: pairs (gamma = 0, gamma > 0) that are tested for equivalence.
        margin: of equivalence, in return; None: `MARGIN_SHARE` of the first reference's mean return.
        seed: of the bootstrap.
    """

    references: tuple[str, ...] = ("greedy", "mmr")
    twins: tuple[tuple[str, str], ...] = ()
    margin: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Compared:
    """One paired difference in return, among the family of all of its world.

    Attributes:
        policy: the row.
        reference: what is subtracted.
        difference: the estimate.
        p: two-sided.
        p_holm: corrected for the number of comparisons in this world.
    """

    policy: str
    reference: str
    difference: Estimate
    p: float
    p_holm: float

    @property
    def survives(self) -> bool:
        """Whether the difference is told from 0 among all that were tested."""
        return self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Twin:
    """An algorithm that looks ahead, and the same one that does not.

    Attributes:
        myopic: the row with gamma = 0.
        far: the row with gamma > 0.
        test: of far minus myopic.
        p_holm: of equivalence, corrected for the number of pairs in this world.
    """

    myopic: str
    far: str
    test: Equivalence
    p_holm: float

    @property
    def verdict(self) -> str:
        """In one word: equivalent, different, open."""
        return self.test.verdict(self.p_holm)


@dataclass(frozen=True)
class Answers:
    """Of one world.

    Attributes:
        compared: every row against every reference, by (policy, reference).
        twins: tests of equivalence.
        shares: share of the distance from the reference to an upper line, by (policy, upper line).
        overlap: mean pairwise overlap of first slates by policy, where measured.
        same: share of users with the most common first slate.
        margin: of equivalence.
    """

    compared: dict[tuple[str, str], Compared]
    twins: tuple[Twin, ...]
    shares: dict[tuple[str, str], Interval]
    overlap: dict[str, Interval]
    same: dict[str, float]
    margin: float

    def against(self, name: str, reference: str) -> Compared | None:
        """Return a row against a reference, None where it was not tested; a pair was tested once, whichever way round."""
        one, other = self.compared.get((name, reference)), self.compared.get((reference, name))
        if one is None and other is not None:
            turned = Estimate(-other.difference.mean, other.difference.error, other.difference.freedom)
            return Compared(name, reference, turned, other.p, other.p_holm)
        return one


def answer(result: EvaluationResult, upper: Sequence[str], questions: Questions) -> Answers:
    """Return the answers that one world gives.

    Args:
        result: of the world.
        upper: its upper lines, which do not compete.
        questions: what is asked.
    """
    references = [name for name in questions.references if name in result.policies]
    first = result.reference
    mean = abs(result.policies[first].summary["return"].mean) if first is not None else np.nan
    margin = questions.margin if questions.margin is not None else MARGIN_SHARE * mean
    rows = result.policies
    shares = {}
    if first is not None:
        tables = {name: row.values["return"] for name, row in rows.items()}
        shares = {
            (name, line): share_of_distance(tables[name], tables[first], tables[line], questions.seed)
            for name in rows
            for line in upper
            if name not in (first, *upper)
        }
    return Answers(
        _compared(result, [name for name in rows if name not in upper], references),
        _twins(result, questions.twins, margin),
        shares,
        {
            name: overlap_estimate(result, name).interval()
            for name, row in rows.items()
            if row.overlap is not None
        },
        {name: float(row.same.mean()) for name, row in rows.items() if row.same is not None},
        float(margin),
    )


def _compared(
    result: EvaluationResult, names: Sequence[str], references: Sequence[str]
) -> dict[tuple[str, str], Compared]:
    pairs: list[tuple[str, str]] = []
    for reference in references:
        pairs += [(n, reference) for n in names if n != reference and (reference, n) not in pairs]
    found = {pair: result.estimate(*pair) for pair in pairs}
    p = {pair: estimate.two_sided() for pair, estimate in found.items()}
    corrected = holm(list(p.values()))
    return {
        pair: Compared(*pair, found[pair], p[pair], one) for pair, one in zip(pairs, corrected, strict=True)
    }


def _twins(result: EvaluationResult, pairs: Sequence[tuple[str, str]], margin: float) -> tuple[Twin, ...]:
    there = [pair for pair in pairs if set(pair) <= set(result.policies)]
    if not margin > 0:
        return ()
    tests = [equivalence(result.estimate(far, myopic), margin) for myopic, far in there]
    corrected = holm([test.p for test in tests])
    return tuple(
        Twin(myopic, far, test, p) for (myopic, far), test, p in zip(there, tests, corrected, strict=True)
    )


def overlap_estimate(result: EvaluationResult, name: str, other: str | None = None) -> Estimate:
    """Return the mean pairwise overlap of first slates, or its difference to another policy's, paired by user.

    A pair has two users, so the error is twice that of a plain mean over users (a U-statistic of order two, Hoeffding 1948).

    Raises:
        InputError: a policy was not measured.
    """
    from recworld.evaluation.intervals import two_level

    first = result.policy(name).overlap
    second = None if other is None else result.policy(other).overlap
    if first is None or (other is not None and second is None):
        return Estimate(np.nan, np.nan, np.nan)
    found = two_level(first, second)
    return Estimate(found.mean, 2 * found.error, found.freedom)


def answers_json(answers: Answers) -> dict[str, Any]:
    """Return the answers, JSON-ready; NaN becomes None."""
    return {
        "compared": [
            {
                "policy": one.policy, "minus": one.reference, "return": one.difference.interval().as_json(),
                "p": number(one.p), "p_holm": number(one.p_holm), "survives": one.survives,
            }
            for one in answers.compared.values()
        ],
        "margin": number(answers.margin),
        "gamma": [
            {
                "myopic": twin.myopic, "far": twin.far, "far minus myopic": twin.test.difference.interval().as_json(),
                "interval_90": twin.test.interval.as_json(), "p": number(twin.test.p), "p_holm": number(twin.p_holm),
                "verdict": twin.verdict,
            }
            for twin in answers.twins
        ],
        "share_of_distance": [
            {"policy": name, "to": line, "share": share.as_json()} for (name, line), share in answers.shares.items()
        ],
        "first_slate": {
            name: {"overlap": overlap.as_json(), "same": number(answers.same[name])}
            for name, overlap in answers.overlap.items()
        },
    }  # fmt: skip


def number(value: float) -> float | None:
    """Return a number that JSON knows."""
    return float(value) if np.isfinite(value) else None
