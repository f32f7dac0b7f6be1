"""The deletion check: do the words that an explanation names move a score more than words drawn at random?

As "comprehensiveness" in DeYoung et al. (2020), "ERASER: a benchmark to evaluate rationalized NLP models", against random
words of the same texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from recworld.evaluation.robustness_result import bootstrap_mean

if TYPE_CHECKING:
    from recworld.evaluation.explaining import Explainer
    from recworld.evaluation.intervals import Interval


def deletion_check(
    explainer: Explainer, pairs: Iterable[tuple[int, int]], seed: int = 0
) -> dict[str, dict[str, Interval]]:
    """Return what scores lose when words of items' texts go, by score ("estimate", "agent") and by which words go.

    Args:
        explainer: of the scores.
        pairs: user and item numbers; items with too few words are passed over.
        seed: of the bootstrap over pairs.

    Returns:
        For each score "top", "random" and "lead", the difference of both, with intervals.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for user, item in pairs:
        for name, check in explainer.explain(user, item, near=0).check.items():
            found.setdefault(name, []).append((check.top, check.random))
    return {
        name: {
            "top": bootstrap_mean([top for top, _ in rows], seed),
            "random": bootstrap_mean([random for _, random in rows], seed),
            "lead": bootstrap_mean([top - random for top, random in rows], seed),
        }
        for name, rows in found.items()
    }
