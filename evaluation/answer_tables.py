"""The answers of a world as tables: what survives the number of comparisons, how far a row got, gamma = 0 or not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from recworld.evaluation.intervals import Interval

if TYPE_CHECKING:
    from recworld.evaluation.leaderboard import Leaderboard
    from recworld.evaluation.questions import Answers
    from recworld.evaluation.results import EvaluationResult

Block = tuple[str, list[str], list[list[str]]]


def answer_blocks(board: Leaderboard, result: EvaluationResult) -> list[Block]:
    """Return (caption, headings, rows) of each table of answers."""
    answers = board.answers(result)
    blocks = [_against(board, result, answers), _how_far(board, result, answers)]
    if answers.twins:
        blocks.append(_gamma(answers))
    return [block for block in blocks if block[2] and len(block[1]) > 1]


def _against(board: Leaderboard, result: EvaluationResult, answers: Answers) -> Block:
    references = list(dict.fromkeys(reference for _, reference in answers.compared))
    heads = ["policy", "runs"]
    for reference in references:
        heads += [f"- {reference}", "p", "p Holm"]
    rows = []
    for name in board.rows(result):
        cells = [name, str(result.policies[name].runs)]
        for reference in references:
            one = answers.against(name, reference)
            if one is None:
                cells += ["", "", ""]
                continue
            star = "*" if one.survives else " "
            cells += [_plus(one.difference.interval()) + star, p_text(one.p), p_text(one.p_holm)]
        rows.append(cells)
    what = f"Return against {' and '.join(references)}, paired by user; "
    what += f"* = survives Holm's correction for {len(answers.compared)} comparisons"
    return what, heads, rows if references else []


def _how_far(board: Leaderboard, result: EvaluationResult, answers: Answers) -> Block:
    lines = [line for line in board.upper if any(key[1] == line for key in answers.shares)]
    heads = ["policy", *(f"% of the way to {line}" for line in lines)]
    heads += ["alike %", "same %"] if answers.overlap else []
    rows = []
    for name in board.rows(result):
        cells = [name, *(_percent(answers.shares.get((name, line))) for line in lines)]
        if name in answers.overlap:
            cells += [f"{100 * answers.overlap[name].mean:.1f}", f"{100 * answers.same[name]:.1f}"]
        rows.append(cells + [""] * (len(heads) - len(cells)))
    what = f"From {result.reference} to an upper line, with 95 % intervals" if lines else ""
    if answers.overlap:
        what += "; " if what else ""
        what += "alike: what two users share of their first slates; same: users with the most common one"
    return what, heads, rows


def _gamma(answers: Answers) -> Block:
    heads = ["gamma = 0 in ...", "gamma > 0 minus it", "90 %", "p of equivalence", "p Holm", "so they are"]
    words = {"equivalent": "equivalent", "different": "different", "open": "not told apart"}
    rows = []
    for twin in answers.twins:
        inner = twin.test.interval
        span = f"{inner.low:+.2f} {inner.high:+.2f}" if math.isfinite(inner.low) else "-"
        lead = _plus(twin.test.difference.interval())
        rows.append([twin.far, lead, span, p_text(twin.test.p), p_text(twin.p_holm), words[twin.verdict]])
    return (
        f"Does looking ahead pay? Two one-sided tests of equivalence within ±{answers.margin:.3g} in return",
        heads,
        rows,
    )


def _plus(interval: Interval) -> str:
    if not math.isfinite(interval.mean):
        return "-"
    return f"{interval.mean:+.2f}" + (f" ±{interval.half:.2f}" if math.isfinite(interval.low) else "")


def _percent(interval: Interval | None) -> str:
    if interval is None or not math.isfinite(interval.mean):
        return "-"
    return f"{100 * interval.mean:.0f} ({100 * interval.low:.0f} to {100 * interval.high:.0f})"


def p_text(p: float) -> str:
    """Return a p-value for people."""
    if not math.isfinite(p):
        return "-"
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0") if p < 1 else "1"
