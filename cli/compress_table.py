"""The table of a smaller language model: for a terminal, as Markdown, as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from recworld.cli.compress_measure import CUTS, Row
from recworld.cli.compress_settings import CompressSettings
from recworld.evaluation.intervals import Interval, mean_interval

HEADS = (
    "encoder", "MB", "texts/s", "faster", "cosine", "RMSE", "loss %", "RMSE unmet", "loss %",
)  # fmt: skip
BLANK = "-"


def faster(row: Row, original: Row) -> float:
    """Return how many times faster than the original, the median over rounds."""
    return float(np.median(np.array(row.rates) / np.array(original.rates)))


def loss(row: Row, original: Row, part: str) -> Interval:
    """Return the relative rise of the held-out RMSE in %, over seeds, paired."""
    own, whole = np.array(row.errors[part]), np.array(original.errors[part])
    return mean_interval(100 * (own / whole - 1))


def _cells(row: Row, original: Row) -> list[str]:
    cells = [row.name, BLANK if row.megabytes is None else f"{row.megabytes:.1f}"]
    cells += [f"{np.median(row.rates):.0f}", f"{faster(row, original):.2f}x"] if row.rates else [BLANK, BLANK]
    cells.append(BLANK if row.cosine is None else f"{row.cosine[0]:.4f} ({row.cosine[1]:.3f})")
    for part in CUTS:
        if not row.errors.get(part):
            cells += [BLANK, BLANK]
            continue
        cells.append(f"{np.mean(row.errors[part]):.4f}")
        risen = loss(row, original, part)
        half = f" ±{risen.half:.2f}" if np.isfinite(risen.low) else ""
        cells.append(BLANK if row is original else f"{risen.mean:+.2f}{half}")
    return cells


def _caption(settings: CompressSettings) -> str:
    model = settings.encoder.model or "all-MiniLM-L6-v2"
    text = (
        f"{settings.dataset}, {model}; {settings.threads} threads, {settings.rounds} rounds of {settings.texts} texts; "
        "cosine to the original: mean (least)"
    )
    if settings.fits:
        text += (
            f"; RMSE of {settings.held} rows, known users and items, and items never met, over {settings.fits} cuts; "
            "loss: rise over the original"
        )
    return text + "."


def terminal(rows: Sequence[Row], settings: CompressSettings) -> str:
    """Return the table as aligned text."""
    lines = [list(HEADS), *(_cells(row, rows[0]) for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(HEADS))]
    shown = [
        "  ".join(
            [line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    ]
    return "\n".join([_caption(settings), "", *shown, ""])


def markdown(rows: Sequence[Row], settings: CompressSettings) -> str:
    """Return the table as Markdown."""
    lines = [
        _caption(settings),
        "",
        "| " + " | ".join(HEADS) + " |",
        "|---" + "|---:" * (len(HEADS) - 1) + "|",
    ]
    lines += ["| " + " | ".join(_cells(row, rows[0])) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row], settings: CompressSettings) -> dict[str, Any]:
    """Return everything that was measured."""
    return {
        "settings": settings.model_dump(mode="json"),
        "rows": [
            dataclasses.asdict(row)
            | ({"faster": faster(row, rows[0])} if row.rates else {})
            | {"loss_percent": {part: loss(row, rows[0], part).mean for part in CUTS if row.errors.get(part)}}
            for row in rows
        ],
    }
