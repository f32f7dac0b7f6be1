"""A leaderboard as text: aligned for a terminal of 110 columns, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from recworld.evaluation.intervals import Interval
from recworld.evaluation.metrics import METRICS, Metric

if TYPE_CHECKING:
    from recworld.evaluation.leaderboard import Leaderboard
    from recworld.evaluation.results import EvaluationResult

WIDTH = 110
NAME_WIDTH = 16
COLUMNS = tuple(name for name in METRICS if name != "invalid")
"""Columns of the tables; "invalid" is shown only where somebody chose what is not allowed."""

Cell = Callable[[str], list[str]]


def number(interval: Interval, metric: Metric, signed: bool = False) -> str:
    """Return "mean ±half"; differences carry a sign, and a star when the interval excludes 0."""
    if not math.isfinite(interval.mean):
        return "-"
    sign = "+" if signed else ""
    text = f"{interval.mean * metric.scale:{sign}.{metric.digits}f}"
    if math.isfinite(interval.low):
        text += f" ±{interval.half * metric.scale:.{metric.digits}f}"
    if signed:
        text += "*" if interval.sign else " "  # the blank keeps decimals under each other
    return text


def describe(result: EvaluationResult) -> str:
    """Return what was measured, in one line: every published number names its K, C, horizon, users and world."""
    setting, env = result.setting, result.setting.get("env", {})
    if not env:
        return result.label
    candidates = (
        "the whole catalogue"
        if env["candidates"] == "all"
        else f"C = {env['num_candidates']} {env['candidates']}"
    )
    episodes = len(setting["seeds"]) * setting["episodes_per_user"]
    return (
        f"{setting['world']}, {result.label} (members: {setting['members']}), dynamics {preset_name(env['dynamics'])}; "
        f"K = {env['slate_size']}, {candidates}, horizon {env['horizon']}, reward {env['reward']}; "
        f"{setting['num_users']} {setting['users']} users x {episodes} whole episodes"
    )


def preset_name(dynamics: Mapping[str, object]) -> str:
    """Return the name of the preset with these settings, "custom" when there is none."""
    from recworld.simulators.dynamics import PRESETS, dynamics_preset

    for name in PRESETS:
        if dynamics_preset(name).model_dump(mode="json") == dynamics:
            return name
    return "custom"


def _columns(result: EvaluationResult) -> list[str]:
    anybody = any(row.summary["invalid"].mean > 0 for row in result.policies.values())
    return [*COLUMNS, "invalid"] if anybody else list(COLUMNS)


def _blocks(
    board: Leaderboard, result: EvaluationResult, differences: bool
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return (caption, headings, rows) of each table of a world; a row of dashes sets upper lines apart."""
    columns, reference = _columns(result), result.reference

    def table(cells: Cell, competing: list[str], upper: list[str]) -> list[list[str]]:
        rows = [[name, *cells(name)] for name in competing]
        if upper:
            rows += [[], *([f"({name})", *cells(name)] for name in upper)]
        return rows

    def lead(name: str, other: str) -> str:
        text = number(result.difference(name, other)["return"], METRICS["return"], signed=True)
        if board.questions is None:
            return text
        one = board.answers(result).against(
            name, other
        )  # the star is one for all comparisons, as in the next table
        return text[:-1] + ("*" if one is not None and one.survives else " ")

    def values(name: str) -> list[str]:
        summary = result.policies[name].summary
        cells = [number(summary[metric], METRICS[metric]) for metric in columns]
        if reference is not None:
            cells.insert(1, "" if name == reference else lead(name, reference))
        return cells

    titles = [METRICS[metric].title for metric in columns]
    names, upper = board.rows(result), board.upper
    heads = ["policy", titles[0], *([f"- {reference}"] if reference else []), *titles[1:]]
    blocks = [("", heads, table(values, names, upper))]
    if differences and reference is not None and len(result.policies) > 1:

        def minus(name: str) -> list[str]:
            found = result.difference(name, str(reference))
            return [number(found[metric], METRICS[metric], signed=True) for metric in columns]

        rows = table(minus, [name for name in names if name != reference], upper)
        blocks.append(
            (
                f"Paired differences to {reference}; * = the 95 % interval excludes 0",
                ["policy", *titles],
                rows,
            )
        )
    if board.questions is not None:
        from recworld.evaluation.answer_tables import answer_blocks

        blocks += answer_blocks(board, result)
    return blocks


def _notes(board: Leaderboard) -> list[str]:
    notes = []
    if board.upper:
        notes.append(
            "In brackets: upper lines, which read what no recommender can know; they do not compete."
        )
    if board.questions is None:
        notes += [verdict.sentence() for verdict in board.verdicts()]
    elif any(board.results[0].policies[name].runs == 1 for name in board.trained):
        notes.append(
            "One training run does not tell how runs differ: its intervals are over users alone, and too narrow."
        )
    notes += [f"Warning: {flag}" for flag in board.flags()]
    return notes


def terminal(board: Leaderboard, differences: bool = True) -> str:
    """Return the leaderboard as plain text, no line longer than 110 characters."""
    lines: list[str] = []
    for result in board.results:
        lines += [*_wrap(describe(result)), ""]
        for caption, heads, rows in _blocks(board, result, differences):
            lines += [*_wrap(caption), *_aligned(heads, rows), ""]
    for note in _notes(board):
        lines += _wrap(note)
    return "\n".join(lines).rstrip() + "\n"


def _aligned(heads: list[str], rows: list[list[str]]) -> list[str]:
    rows = [[_short(row[0]), *row[1:]] if row else [] for row in rows]
    widths = [max(len(line[i]) for line in [heads, *filter(None, rows)]) for i in range(len(heads))]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    total = sum(widths) + gap * (len(widths) - 1)
    out = []
    for line in [heads, ["="], *rows]:
        if len(line) < 2:
            out.append(("-" if not line else line[0]) * min(total, WIDTH))
            continue
        cells = [
            line[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
        ]
        out.append((" " * gap).join(cells).rstrip()[:WIDTH])
    return out


def _short(name: str) -> str:
    if len(name) <= NAME_WIDTH:
        return name
    end = NAME_WIDTH // 2  # ppo@gamma=0,learning_rate=1e-3: what tells two rows apart is often at the end
    return name[: NAME_WIDTH - 1 - end] + "…" + name[-end:]


def _wrap(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False)


def markdown(board: Leaderboard) -> str:
    """Return the leaderboard as Markdown tables, verdicts and flags."""
    lines: list[str] = []
    for result in board.results:
        lines += [f"### {result.label}", "", describe(result) + ".", ""]
        for caption, heads, rows in _blocks(board, result, differences=True):
            if caption:
                lines += [caption.replace("* =", r"\* =") + ".", ""]
            lines += ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
            for row in filter(None, rows):
                cells = [f"*{row[0]}*" if row[0].startswith("(") else row[0], *row[1:]]
                lines.append(
                    "| "
                    + " | ".join(
                        [cells[0].replace("|", r"\|"), *(c.strip().replace("*", r"\*") for c in cells[1:])]
                    )
                    + " |"
                )
            lines.append("")
    lines += [f"* {note}" for note in _notes(board)]
    return "\n".join(lines).rstrip() + "\n"
