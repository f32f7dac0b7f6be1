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

TITLE_WIDTH = 58
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

    count, names = len(board.results), list(board.results[0].policies)
    width = 4.4 + 0.075 * max(map(len, names))  # room for the longest name beside the bars
    figure = Figure(figsize=(width * count, 1.9 + 0.42 * len(names)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, sharex=True, squeeze=False)[0]
    for axis, result in zip(axes, board.results, strict=True):
        _panel(axis, board, result)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _panel(axis: object, board: Leaderboard, result: EvaluationResult) -> None:
    names = [
        *board.rows(result)[::-1],
        *board.upper,
    ]  # from the bottom up: the best above, upper lines on top
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
    runs = " and runs" if any(result.policies[name].runs > 1 for name in names) else ""
    labels = [
        f"{name} (upper line)" if kind == "upper" else name for name, kind in zip(names, kinds, strict=True)
    ]
    axis.set_yticks(range(len(names)), labels, fontsize=9)  # type: ignore[attr-defined]
    axis.set_xlabel(f"mean return of an episode, 95 % interval over users{runs}", fontsize=9)  # type: ignore[attr-defined]
    axis.set_title("\n".join(textwrap.wrap(describe(result), TITLE_WIDTH)), fontsize=8, loc="left")  # type: ignore[attr-defined]
    axis.bar_label(bars, [f" {mean:.2f}" for mean in means], fontsize=8, padding=4)  # type: ignore[attr-defined]
    axis.margins(x=0.14)  # type: ignore[attr-defined]
    axis.spines[["top", "right"]].set_visible(False)  # type: ignore[attr-defined]
