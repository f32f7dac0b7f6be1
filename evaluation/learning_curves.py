"""Learning curves of many runs: the validation return against user steps, with a band over seeds; as CSV and PNG."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recworld.evaluation.intervals import Interval, mean_interval
from recworld.evaluation.writers import MetricsFile
from recworld.storage import atomic_path, write_text

TAG = "eval/return"


@dataclass(frozen=True)
class Curve:
    """The curve of one row.

    Attributes:
        name: the row.
        runs: how many runs it is the mean of.
        steps: user steps at which every run was measured.
        band: mean over runs with a 95 % t interval over seeds, pointwise; no interval for a single run.
        reference: mean validation return of the reference on the same episodes, NaN where it was not drawn.
    """

    name: str
    runs: int
    steps: tuple[int, ...]
    band: tuple[Interval, ...]
    reference: float


def read_curve(name: str, files: Sequence[Path], reference: str = "greedy") -> Curve:
    """Return the curve of the runs of one row, from their metrics files; steps that a run lacks are left out.

    Each seed is measured on validation episodes of its own. What was luck in them is taken off where every run drew the
    reference on the same episodes: return - reference + mean reference (a control variate, which leaves the mean alone).
    """
    runs: list[dict[int, float]] = []
    known: list[float] = []
    for file in files:
        records = [record for record in MetricsFile(file).records() if TAG in record]
        if records:
            runs.append({int(record["step"]): record[TAG] for record in records})
            known.append(records[-1].get(f"baselines/{reference}", math.nan))
    steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    line = float(np.mean(known)) if known else math.nan
    luck = [one - line for one in known] if math.isfinite(line) else [0.0] * len(known)
    band = [mean_interval([run[step] - off for run, off in zip(runs, luck, strict=True)]) for step in steps]
    return Curve(name, len(runs), tuple(steps), tuple(band), line)


def curves_csv(curves: Mapping[str, Sequence[Curve]]) -> str:
    """Return one line per block, row and step.

    Args:
        curves: by block.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["block", "policy", "step", "runs", "mean", "low", "high", "reference"])
    for block, rows in curves.items():
        for curve in rows:
            for step, at in zip(curve.steps, curve.band, strict=True):
                numbers = (at.mean, at.low, at.high, curve.reference)
                writer.writerow(
                    [
                        block,
                        curve.name,
                        step,
                        curve.runs,
                        *(f"{v:.6g}" if math.isfinite(v) else "" for v in numbers),
                    ]
                )
    return stream.getvalue()


def save_curves(
    curves: Mapping[str, Sequence[Curve]], folder: Path, reference: str = "greedy", stem: str = "curves"
) -> list[Path]:
    """Write ``<stem>.csv`` and ``<stem>.png``, one panel for each block; return the paths.

    Args:
        curves: by block.
        folder: for the files.
        reference: name of the dashed line.
        stem: of the files' names.
    """
    paths = [folder / f"{stem}.csv", folder / f"{stem}.png"]
    write_text(paths[0], curves_csv(curves))
    _plot(curves, reference, paths[1])
    return paths


def _plot(curves: Mapping[str, Sequence[Curve]], reference: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4 * len(curves), 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, (block, rows) in zip(axes, curves.items(), strict=True):
        for number, curve in enumerate(rows):
            if not curve.steps:
                continue
            colour, mean = f"C{number % 10}", [at.mean for at in curve.band]
            style = "--" if number >= 10 else "-"
            label = f"{curve.name} ({curve.runs} seed{'s' if curve.runs > 1 else ''})"
            axis.plot(curve.steps, mean, style, color=colour, label=label, linewidth=1.6)
            axis.fill_between(
                curve.steps, [at.low for at in curve.band], [at.high for at in curve.band], color=colour, alpha=0.15, lw=0
            )  # fmt: skip
        known = [curve.reference for curve in rows if math.isfinite(curve.reference)]
        if known:
            axis.axhline(float(np.mean(known)), color="#555555", linestyle=":", label=reference)
        axis.set_title(f"dynamics {block}", fontsize=9, loc="left")
        axis.set_xlabel("user steps of training", fontsize=9)
        axis.set_ylabel("return on validation users; band: 95 % over seeds", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        if axis.has_data():
            axis.legend(fontsize=8, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
