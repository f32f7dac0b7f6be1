"""One self-contained page: no script, nothing from elsewhere, readable on a telephone and on paper."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

from recworld.evaluation.fidelity_lines import GROUPS, Line, shown
from recworld.evaluation.fidelity_plots import TITLES
from recworld.evaluation.fidelity_sensitivity import RANGES

if TYPE_CHECKING:
    from recworld.evaluation.fidelity_result import FidelityReport

PLOT_OF = {
    "accuracy": ("accuracy", "reliability"),
    "marginals": ("marginals",),
    "exposures": ("exposures",),
    "sessions": ("transitions",),
    "sensitivity": ("sensitivity",),
}
NARROW = ("sensitivity", "transitions", "exposures")
NAMES = {"good": "good", "fair": "fair", "poor": "poor", "unknown": "not known"}

STYLE = """
:root { --ink: #22303c; --soft: #5d6b78; --line: #e3e7eb; --good: #2f7d4f; --fair: #a3700b; --poor: #b3372c;
  --unknown: #75808a; --paper: #ffffff; --wash: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .4rem; padding-top: .9rem; border-top: 2px solid var(--line); }
h3 { font-size: 1rem; margin: 1.1rem 0 .2rem; }
p { margin: .3rem 0; }
.soft { color: var(--soft); font-size: .9rem; }
.head { border-left: .5rem solid var(--unknown); background: var(--wash); padding: .9rem 1.1rem; margin: 1rem 0; }
.head.good { border-color: var(--good); } .head.fair { border-color: var(--fair); } .head.poor { border-color: var(--poor); }
.head strong { font-size: 1.15rem; }
.columns { columns: 18rem; column-gap: 2.2rem; }
.columns section { break-inside: avoid; padding-top: .1rem; } .columns h3 { margin-top: .6rem; }
ul { margin: .2rem 0 .6rem; padding-left: 1.1rem; }
li { margin: .15rem 0; font-size: .92rem; }
.badge { display: inline-block; min-width: 4.6rem; text-align: center; padding: .05rem .5rem; border-radius: .8rem;
  color: #fff; background: var(--unknown); font-size: .78rem; font-weight: 600; white-space: nowrap; }
.badge.good { background: var(--good); } .badge.fair { background: var(--fair); } .badge.poor { background: var(--poor); }
.row { display: grid; grid-template-columns: 5.4rem minmax(0, 1fr) 9.5rem; gap: .2rem .9rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line); break-inside: avoid; }
.row .name { font-weight: 600; } .row .name small { font-weight: 400; color: var(--soft); }
.row .verdict { font-size: .94rem; } .row .meaning, .row .beside { font-size: .84rem; color: var(--soft); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.number b { font-size: 1.05rem; } .number div { font-size: .8rem; color: var(--soft); }
svg.scale { width: 100%; height: 1.1rem; display: block; margin-top: .15rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .8rem; }
td, th { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td small { color: var(--soft); }
figure { margin: 1rem 0; break-inside: avoid; } figure img { width: 100%; height: auto; }
figure.narrow img { max-width: 36rem; display: block; }
figcaption { font-size: .84rem; color: var(--soft); }
b.good { color: var(--good); } b.fair { color: var(--fair); } b.poor { color: var(--poor); }
.key { font-size: .84rem; color: var(--soft); background: var(--wash); padding: .6rem .9rem; }
@media (max-width: 40rem) {
  body { font-size: 15px; padding-top: 1rem; }
  .row { grid-template-columns: 5.4rem minmax(0, 1fr); } .row .number { grid-column: 1 / -1; text-align: left; }
  .row .number > * { display: inline-block; margin-right: .8rem; } svg.scale { max-width: 14rem; }
  figure { overflow-x: auto; } figure img { min-width: 44rem; } figure.narrow img { min-width: 0; }
}
@media print { body { max-width: none; font-size: 10pt; } .badge, .head { print-color-adjust: exact;
  -webkit-print-color-adjust: exact; } h2 { break-after: avoid; } }
"""


def page(report: FidelityReport, plots: Mapping[str, bytes]) -> str:
    """Return the page.

    Args:
        report: what it tells.
        plots: PNG bytes by name, as `recworld.evaluation.fidelity_plots.draw` gives them.
    """
    name = html.escape(report.name)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Fidelity of {name}</title><style>{STYLE}</style></head><body>",
        f"<h1>How far can the world “{name}” be trusted?</h1>",
        f'<p class="soft">{html.escape(_sizes(report))}</p>',
        *_summary(report),
        KEY,
    ]
    for key, title in GROUPS.items():
        lines = report.group(key)
        if lines:
            parts += [f'<section id="{key}"><h2>{html.escape(title)}</h2>']
            parts += [_figure(plot, plots[plot]) for plot in PLOT_OF.get(key, ()) if plot in plots]
            parts += [BODIES.get(key, _rows)(lines), "</section>"]
    return "\n".join([*parts, "</body></html>", ""])


KEY = (
    '<p class="key">Each line gives the figure, its 95 % interval in brackets, and its <i>noise floor</i>: the same figure '
    "between two halves of the real log. Nothing can be shown to be nearer to these people than they are to each other. "
    '<b class="good">good</b>: as near as two halves, or off by too little to matter; <b class="fair">fair</b>: within '
    'twice the floor, or moderately off; <b class="poor">poor</b>: further off. Accuracy is judged by its lead over models '
    "that know nothing of tastes. In the small bars the dot is the figure, the line its interval, grey the floor. Lines "
    "with ● are those that --min-fidelity looks at.</p>"
)


def _sizes(report: FidelityReport) -> str:
    f = report.facts
    if "users" not in f:
        return ""
    text = f"{f['interactions']:,} interactions of {f['users']:,} users with {f['items']:,} items; {f['scale']}; "
    text += f"{f['exposures']:,} logged exposures; " if f["exposures"] else "no logged exposures; "
    text += f"{f['members']} members; {f['kind']} report"
    if f["interactions_used"] < f["interactions"]:
        text += f" on {f['interactions_used']:,} interactions of users drawn at random"
    return text + "."


def _summary(report: FidelityReport) -> list[str]:
    found = report.summary
    parts = [
        f'<div class="head {found.level}"><p><strong>Overall: {NAMES[found.level]}</strong></p>',
        f"<p>{html.escape(found.headline)}</p></div>",
        '<div class="columns">',
    ]
    for title, sentences in (
        ("What can be trusted", found.trusted),
        ("What is nearly right", found.near),
        ("What is off", found.off),
        ("What is assumed, not learnt from this log", found.assumed),
        ("What could not be measured", found.unknown),
    ):
        if sentences:
            items = "".join(f"<li>{html.escape(one)}</li>" for one in sentences)
            parts.append(f"<section><h3>{title}</h3><ul>{items}</ul></section>")
    return [*parts, "</div>"]


def _rows(lines: list[Line]) -> str:
    return "".join(map(_row, lines))


def _accuracy(lines: list[Line]) -> str:
    """Return the lines of the first split in full, the same figures on the other splits as one table each."""
    full = [line for line in lines if line.name.endswith("_random")]
    parts = ["<h3>Random rows held out</h3>" if full else "", *map(_row, full)]
    rest = [line for line in lines if line not in full]
    for split, title in TABLES.items():
        rows = [line for line in rest if line.name.endswith(split) and line.figure is not None]
        if rows:
            parts.append(f"<h3>{title}</h3>")
            parts.append('<div class="wide"><table><tr><th></th><th>figure</th><th>one member [95 %]</th><th>ensemble</th>'
                         "<th>simple model</th><th>floor</th></tr>")  # fmt: skip
            parts += [_cells(line) for line in rows]
            parts.append("</table></div>")
    return "".join([*parts, *(_row(line) for line in rest if line.figure is None)])


TABLES = {
    "_temporal": "The latest rows held out",
    "_cold_users": "Users never met",
    "_cold_items": "Items never met",
}


def _cells(line: Line) -> str:
    title = html.escape(line.title.split(",")[0])
    simple = [f"{shown(value)} <small>({html.escape(name)})</small>" for name, value in line.beside.items() if
              name != "ensemble"]  # fmt: skip
    ensemble = shown(line.beside.get("ensemble"))
    return (
        f'<tr title="{html.escape(line.verdict)}"><td><span class="badge {line.level}">{NAMES[line.level]}</span></td>'
        f"<td>{title}</td><td><b>{shown(line.figure)}</b> [{shown(line.low)}, {shown(line.high)}]</td><td>{ensemble}</td>"
        f"<td>{'; '.join(simple) or '-'}</td><td>{shown(line.floor)}</td></tr>"
    )


def _sensitivity(lines: list[Line]) -> str:
    """Return the winner in full, then one table of the assumptions."""
    full = [line for line in lines if line.name not in RANGES]
    rows = [
        f'<tr><td><span class="badge {line.level}">{NAMES[line.level]}</span></td><td><b>{html.escape(line.title)}</b><br>'
        f"<small>{html.escape(RANGES[line.name][2])}</small></td><td>"
        + "<br>".join(f"{html.escape(name)}: {shown(value)}" for name, value in line.beside.items())
        + f"</td><td>{html.escape(line.verdict.split(' (tau')[0])}</td></tr>"
        for line in lines
        if line.name in RANGES
    ]
    head = "<tr><th></th><th>assumption</th><th>moved to: Kendall tau</th><th>verdict</th></tr>"
    return _rows(full) + (f'<div class="wide"><table>{head}{"".join(rows)}</table></div>' if rows else "")


def _calibration(lines: list[Line]) -> str:
    """Return one table: what the log told, and what is assumed."""
    rows = []
    for line in lines:
        told = line.level in ("good", "fair")
        spread = f" [{shown(line.low)}, {shown(line.high)}]" if line.low is not None else ""
        beside = "; ".join(f"{html.escape(name)} {shown(value)}" for name, value in line.beside.items())
        mark = "told" if told else ("assumed" if line.figure is not None else "not known")
        rows.append(
            f'<tr><td><span class="badge {line.level}">{mark}</span></td>'
            f"<td><b>{html.escape(line.title)}</b></td><td>{shown(line.figure)}{spread}</td>"
            f"<td>{html.escape(line.verdict)}{f'<br><small>{beside}</small>' if beside else ''}</td></tr>"
        )
    head = "<tr><th></th><th>setting</th><th>value [95 %]</th><th>how it is known</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


BODIES = {"accuracy": _accuracy, "sensitivity": _sensitivity, "calibration": _calibration}


def _row(line: Line) -> str:
    mark = " <small>●</small>" if line.required else ""
    beside = "; ".join(f"{html.escape(name)} {shown(value)}" for name, value in line.beside.items())
    parts = [
        f'<div class="row"><div><span class="badge {line.level}">{NAMES[line.level]}</span></div><div>',
        f'<div class="name">{html.escape(line.title)}{mark}</div>',
        f'<div class="verdict">{html.escape(line.verdict)}</div>',
        f'<div class="meaning">{html.escape(line.meaning)}</div>' if line.meaning else "",
        f'<div class="beside">Beside it: {beside}</div>' if beside else "",
        "</div>",
        _number(line),
        "</div>",
    ]
    return "".join(parts)


def _number(line: Line) -> str:
    if line.figure is None:
        return '<div class="number">-</div>'
    unit = f" <small>{html.escape(line.unit)}</small>" if line.unit else ""
    parts = [f'<div class="number"><span><b>{shown(line.figure)}</b>{unit}</span>']
    if line.low is not None:
        parts.append(f"<div>[{shown(line.low)}, {shown(line.high)}]</div>")
    if line.floor is not None:
        parts.append(f"<div>floor {shown(line.floor)}</div>")
    return "".join([*parts, _scale(line), "</div>"])


def _scale(line: Line) -> str:
    """Return a small drawing: the floor as a grey bar from 0, the interval as a line, the figure as a dot."""
    figure, floor = line.figure, line.floor
    if (
        figure is None
        or floor is None
        or line.group in ("accuracy", "sensitivity", "classifier", "calibration")
    ):
        return ""
    top = 1.08 * max(value for value in (figure, floor, line.high or 0.0, 1e-12))

    def x(value: float) -> float:
        return round(4 + 112 * max(value, 0.0) / top, 1)

    interval = "" if line.low is None or line.high is None else (
        f'<line x1="{x(line.low)}" x2="{x(line.high)}" y1="8" y2="8" stroke="#22303c" stroke-width="2"/>'
    )  # fmt: skip
    return (
        '<svg class="scale" viewBox="0 0 120 16" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect x="4" y="3" width="{round(x(floor) - 4, 1)}" height="10" fill="#cfd6dc"/>{interval}'
        f'<circle cx="{x(figure)}" cy="8" r="4" fill="#c8553d"/></svg>'
    )


def _figure(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    title = html.escape(TITLES[name])
    kind = ' class="narrow"' if name in NARROW else ""
    return f'<figure{kind}><img alt="{title}" src="data:image/png;base64,{data}"><figcaption>{title}</figcaption></figure>'
