"""Plots of the fidelity report as PNG; drawn from the report's own curves, so an old report draws the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np

REAL, OURS, GREY = "#33475b", "#c8553d", "#9aa5b1"
WIDTH, HEIGHT = 3.3, 2.9

TITLES = {
    "reliability": "Reliability: promised against observed",
    "accuracy": "Held-out error beside simple models",
    "marginals": "Ratings of the log's own consumptions: real and simulated",
    "exposures": "Logged slates replayed",
    "transitions": "Which kind of item follows which",
    "sensitivity": "Ranking of policies under each assumption moved low and high",
}


def draw(curves: Mapping[str, Any]) -> dict[str, bytes]:
    """Return every plot that the curves allow, PNG bytes by name.

    Args:
        curves: `FidelityReport.curves`.
    """
    makers: dict[str, Callable[[Any], Any]] = {
        "reliability": _reliability,
        "accuracy": _accuracy,
        "marginals": _marginals,
        "exposures": _exposures,
        "transitions": _transitions,
        "sensitivity": _sensitivity,
    }
    return {name: _png(make(curves[name])) for name, make in makers.items() if curves.get(name)}


def _figure(columns: int, rows: int = 1, width: float = WIDTH, height: float = HEIGHT) -> tuple[Any, Any]:
    # The object-oriented interface with the Agg canvas: no pyplot, so no global state and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _title(axis: Any, text: str, x: str = "", y: str = "") -> None:
    axis.set_title(text, fontsize=9, loc="left")
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)


def _reliability(curves: list[dict[str, Any]]) -> Any:
    figure, axes = _figure(min(len(curves), 4), -(-len(curves) // 4), 2.6, 2.6)
    for axis in axes.ravel()[len(curves) :]:
        axis.set_visible(False)
    for axis, curve in zip(axes.ravel(), curves, strict=False):
        chance, seen, rows = (np.asarray(curve[key]) for key in ("chance", "observed", "rows"))
        error = 1.96 * np.sqrt(np.maximum(seen * (1 - seen), 1e-9) / rows)
        top = min(1.0, 1.15 * max(chance.max(), seen.max()))
        axis.plot([0, top], [0, top], color=GREY, linewidth=1)
        axis.errorbar(chance, seen, error, fmt="o-", color=OURS, markersize=3, linewidth=1, elinewidth=1)
        axis.set_xlim(0, top)
        axis.set_ylim(0, top)
        _title(axis, curve["title"], "promised", "observed")
    return figure


def _accuracy(table: list[dict[str, Any]]) -> Any:
    """Draw one panel a figure, one row a split: the member, the ensemble and the simple models as dots."""
    figure, axes = _figure(len(table), 1, 4.4, 0.9 + 0.42 * max(len(panel["rows"]) for panel in table))
    colours = {"one member": OURS, "ensemble": "#e0a458"}
    for axis, panel in zip(axes[0], table, strict=True):
        rows = panel["rows"]
        for place, row in enumerate(rows[::-1]):
            for name, value in row["values"].items():
                axis.plot(value, place, "o" if name in colours else "|", color=colours.get(name, REAL), markersize=6 if
                          name in colours else 13, markeredgewidth=2, zorder=3 if name in colours else 2)  # fmt: skip
            low, high = row["low"], row["high"]
            if low is not None and high is not None:
                axis.plot([low, high], [place, place], color=OURS, linewidth=1.5)
        axis.set_yticks(range(len(rows)), [row["split"] for row in rows[::-1]], fontsize=8)
        axis.margins(x=0.08, y=0.15)
        axis.grid(axis="x", color="#e8e8e8")
        _title(axis, panel["title"])
    handles = [
        _dot(OURS, "o", "one member"),
        _dot("#e0a458", "o", "ensemble"),
        _dot(REAL, "|", "simple model"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _dot(colour: str, marker: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label, markeredgewidth=2)


def _marginals(curves: Mapping[str, Any]) -> Any:
    panels = [name for name in ("histogram", "user_means", "item_means", "user_spreads") if name in curves]
    figure, axes = _figure(len(panels), 1, 2.7, 2.6)
    titles = {
        "histogram": "ratings",
        "user_means": "means of users",
        "item_means": "means of items",
        "user_spreads": "spreads of users",
    }
    for axis, name in zip(axes[0], panels, strict=True):
        curve = curves[name]
        if name == "histogram":
            place = np.arange(len(curve["real"]))
            axis.bar(place - 0.2, curve["real"], 0.4, color=REAL, label="real")
            axis.bar(place + 0.2, curve["simulated"], 0.4, color=OURS, label="simulated")
            step = max(1, len(place) // 6)
            axis.set_xticks(place[::step], curve["labels"][::step])
            axis.legend(fontsize=7, frameon=False)
            _title(axis, titles[name], "rating", "share")
        else:
            share = np.linspace(0, 1, len(curve["real"]))
            axis.plot(curve["real"], share, color=REAL)
            axis.plot(curve["simulated"], share, color=OURS)
            _title(axis, titles[name], "rating", "share below")
    return figure


def _exposures(curves: Mapping[str, Any]) -> Any:
    panels = [name for name in ("positions", "survival") if curves.get(name)]
    figure, axes = _figure(len(panels), 1, 3.6, 2.7)
    for axis, name in zip(axes[0], panels, strict=True):
        curve = curves[name]
        place = curve["position"] if name == "positions" else range(len(curve["logged"]))
        axis.plot(place, curve["logged"], "o-", color=REAL, markersize=3, label="logged")
        axis.plot(place, curve["simulated"], "o-", color=OURS, markersize=3, label="simulated")
        axis.set_ylim(0)
        axis.legend(fontsize=7, frameon=False)
        words = (
            ("click rate by position", "position", "clicked")
            if name == "positions"
            else ("who stays", "slates", "still there")
        )
        _title(axis, *words)
    return figure


def _transitions(tables: Mapping[str, Any]) -> Any:
    figure, axes = _figure(2, 1, 3.0, 2.7)
    top = max(np.max(tables["real"]), np.max(tables["simulated"]))
    for axis, name in zip(axes[0], ("real", "simulated"), strict=True):
        image = axis.imshow(tables[name], vmin=0, vmax=top, cmap="Blues")
        _title(axis, name, "to cluster", "from cluster")
    figure.colorbar(image, ax=axes[0].tolist(), shrink=0.8)
    return figure


def _sensitivity(rows: list[dict[str, Any]]) -> Any:
    figure, axes = _figure(1, 1, 7.0, 0.9 + 0.24 * len(rows))
    axis = axes[0][0]
    for place, row in enumerate(rows[::-1]):
        for tau, changes, marker in zip(row["tau"], row["changes"], "<>", strict=True):
            axis.plot(tau, place, marker, color=OURS if changes else REAL, markersize=7)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows[::-1]], fontsize=8)
    axis.set_xlim(min(0.0, *(min(row["tau"]) for row in rows)) - 0.05, 1.05)
    axis.grid(axis="x", color="#e8e8e8")
    handles = [
        _dot(REAL, "<", "moved low"),
        _dot(REAL, ">", "moved high"),
        _dot(OURS, "o", "another policy wins"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    _title(axis, "Kendall tau with the ranking as it stands")
    return figure
