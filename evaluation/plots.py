"""Bars of the returns with 95 % intervals, one panel per world, as PNG; no display is needed."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recworld.evaluation.tables import describe
from recworld.storage import atomic_path

if TYPE_CHECKING:
    from recworld.evaluation.leaderboard import Leaderboard
    from recworld.evaluation.results import EvaluationResult

COLOURS = {"trained": "#c8553d", "baseline": "#7a8ba3", "upper": "#d9d9d9"}


def plot_returns(board: Leaderboard, path: Path) -> None:
    """Draw the mean return of every policy in every world.

    Args:
        board: the leaderboard.
        path: the PNG file, whole or absent.
    """
    # The object-oriented interface with the Agg canvas: no pyplot, so no global state and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count, rows = len(board.results), max(len(result.policies) for result in board.results)
    figure = Figure(figsize=(5.2 * count + 0.8, 1.9 + 0.42 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, sharex=True, squeeze=False)[0]
    for axis, result in zip(axes, board.results, strict=True):
        _panel(axis, board, result)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _panel(axis: object, board: Leaderboard, result: EvaluationResult) -> None:
    names = [*board.upper, *board.rows(result)][
        ::-1
    ]  # the best competitor above its rivals, upper lines on top
    names = [name for name in names if name not in board.upper] + board.upper[::-1]
    intervals = [result.policies[name].summary["return"] for name in names]
    kinds = ["upper" if n in board.upper else "trained" if n in board.trained else "baseline" for n in names]
    means = [interval.mean for interval in intervals]
    halves = np.nan_to_num([interval.half for interval in intervals])
    bars = axis.barh(  # type: ignore[attr-defined]
        range(len(names)), means, xerr=halves, height=0.7, color=[COLOURS[kind] for kind in kinds],
        error_kw={"elinewidth": 1.2, "capsize": 3, "ecolor": "#333333"},
    )  # fmt: skip
    for bar, kind in zip(bars, kinds, strict=True):
        if kind == "upper":
            bar.set_hatch("///")
            bar.set_edgecolor("#999999")
    labels = [
        f"{name} (upper line)" if kind == "upper" else name for name, kind in zip(names, kinds, strict=True)
    ]
    axis.set_yticks(range(len(names)), labels, fontsize=9)  # type: ignore[attr-defined]
    axis.set_xlabel("mean return of an episode, 95 % interval over users", fontsize=9)  # type: ignore[attr-defined]
    axis.set_title("\n".join(textwrap.wrap(describe(result), 62)), fontsize=8)  # type: ignore[attr-defined]
    axis.bar_label(bars, [f" {mean:.2f}" for mean in means], fontsize=8, padding=4)  # type: ignore[attr-defined]
    axis.margins(x=0.14)  # type: ignore[attr-defined]
    axis.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]
