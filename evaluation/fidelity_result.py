"""`FidelityReport`: the lines, what they come to, and how they are kept (JSON, PNG, TensorBoard, one HTML page)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from recworld.errors import CorruptError, InputError, did_you_mean
from recworld.evaluation.fidelity_lines import GROUPS, LEVELS, Level, Line, shown
from recworld.storage import atomic_path, write_json, write_text

FORMAT = 1
HEADLINES: dict[Level, str] = {
    "good": "Every required figure that the log allows is as near to the log as two halves of it, or near enough not to "
    "matter.",
    "fair": "No required figure is far off, but not all are as near to the log as two halves of it.",
    "poor": "Something required is further off than chance or usefulness allow.",
    "unknown": "The log allows none of the required figures: nothing is known of how far this world can be trusted.",
}


@dataclass(frozen=True)
class Summary:
    """What a report comes to.

    Attributes:
        level: the worst level of the required lines that could be measured; "unknown" where none could.
        headline: the same in a sentence.
        trusted: what can be trusted, a sentence each.
        near: what is required and only fair.
        off: what is off.
        assumed: what is assumed.
        unknown: what could not be measured, and why.
    """

    level: Level
    headline: str
    trusted: tuple[str, ...]
    near: tuple[str, ...]
    off: tuple[str, ...]
    assumed: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class FidelityReport:
    """How far a world can be trusted.

    Attributes:
        name: of the world.
        lines: everything measured, in the order of `GROUPS`.
        facts: sizes of log and world, what kind of report, JSON-ready.
        assumed: named assumptions in words.
        curves: what the plots are drawn from, JSON-ready.
        fit: the report of the fit (`World.report`), JSON-ready.
    """

    name: str
    lines: tuple[Line, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    curves: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)

    def group(self, name: str) -> list[Line]:
        """Return the lines of a group.

        Raises:
            InputError: no such group.
        """
        if name not in GROUPS:
            raise InputError(f"Unknown group {name!r}. {did_you_mean(name, GROUPS)}")
        return [line for line in self.lines if line.group == name]

    def __getitem__(self, name: str) -> Line:
        """Return a line by name, or by "group/name" where two groups have one of that name.

        Raises:
            InputError: no such line.
        """
        for line in self.lines:
            if name in (line.name, f"{line.group}/{line.name}"):
                return line
        raise InputError(f"Unknown line {name!r}. {did_you_mean(name, [line.name for line in self.lines])}")

    @cached_property
    def summary(self) -> Summary:
        """What the report comes to, in plain words."""
        required = [line for line in self.lines if line.required and line.level != "unknown"]
        level: Level = min((line.level for line in required), key=LEVELS.index, default="unknown")
        judged = [line for line in self.lines if line.group not in ("calibration", "selection")]
        return Summary(
            level=level,
            headline=HEADLINES[level],
            trusted=_sentences([line for line in judged if line.level == "good" and _main(line)]),
            near=_sentences([line for line in required if line.level == "fair"]) + self._otherwise(),
            off=_sentences([line for line in judged if line.level == "poor"]),
            assumed=self.assumed,
            unknown=_sentences([line for line in judged if line.level == "unknown"]),
        )

    def _otherwise(self) -> tuple[str, ...]:
        """Return what of the dynamics the log tells otherwise than this world has it."""
        names = [line.title for line in self.lines if line.group == "calibration" and line.level == "fair"]
        if not names:
            return ()
        return (
            f"The log tells otherwise of {', '.join(names)} than this world has it: --dynamics fitted takes the log's word",
        )

    def refusal(self, least: str) -> list[str]:
        """Return why the world is not at least "fair" or "good"; empty where it is.

        Fair: no required line is poor. Good: every required line that could be measured is good. A report in which no
        required line could be measured is neither.

        Raises:
            InputError: no such level.
        """
        if least not in ("fair", "good"):
            raise InputError(f"The least fidelity must be fair or good. Got {least!r}.")
        required = [line for line in self.lines if line.required]
        if all(line.level == "unknown" for line in required):
            return ["no required figure could be measured"]
        allowed = LEVELS[LEVELS.index(least) :]
        return [
            f"{line.title} is {line.level} ({line.verdict})"
            for line in required
            if line.level not in (*allowed, "unknown")
        ]

    def text(self) -> list[str]:
        """Return the report for a terminal: the summary, then one line each; what is assumed for one reason is one line."""
        found = self.summary
        out = [f"Fidelity of {self.name}: {found.level}. {found.headline}"]
        for title in GROUPS.items():
            lines = self.group(title[0])
            if lines:
                told = [line for line in lines if title[0] != "calibration" or line.level != "unknown"]
                same = _sentences([line for line in lines if line not in told])
                out += [
                    "",
                    title[1],
                    *(f"  {_terminal(line)}" for line in told),
                    *(f"  [assumed] {one}" for one in same),
                ]
        return out

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; the same measurements give the same text."""
        summary = self.summary
        return {
            "format": FORMAT,
            "name": self.name,
            "summary": {key: _listed(getattr(summary, key)) for key in Summary.__dataclass_fields__},
            "lines": [line.to_json() for line in self.lines],
            "facts": self.facts,
            "assumed": list(self.assumed),
            "curves": self.curves,
            "fit": self.fit,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FidelityReport:
        """Return what `to_json` gave.

        Raises:
            CorruptError: it is not that, or of another format.
        """
        try:
            if values["format"] != FORMAT:
                raise CorruptError(
                    f"The fidelity report has format {values['format']}, this version reads {FORMAT}."
                )
            lines = tuple(Line.from_json(one) for one in values["lines"])
            return cls(
                values["name"],
                lines,
                values["facts"],
                tuple(values["assumed"]),
                values["curves"],
                values["fit"],
            )
        except (KeyError, TypeError, InputError) as error:
            raise CorruptError(f"This is no fidelity report: {type(error).__name__} {error}.") from error

    def write(self, folder: Path) -> None:
        """Write report.json, report.html, plots/*.png and TensorBoard events into a folder, which is made.

        Raises:
            UnavailableError: it cannot be written.
        """
        from recworld.evaluation.fidelity_html import page
        from recworld.evaluation.fidelity_plots import draw

        write_json(folder / "report.json", self.to_json())
        plots = draw(self.curves)
        for name, png in plots.items():
            with atomic_path(folder / "plots" / f"{name}.png") as temporary:
                temporary.write_bytes(png)
        write_text(folder / "report.html", page(self, plots))
        self._tensorboard(folder / "tensorboard", plots)

    def _tensorboard(self, folder: Path, plots: Mapping[str, bytes]) -> None:
        """Write every figure with its interval and floor as scalars, and the plots as images."""
        from io import BytesIO

        from matplotlib.image import imread
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder)) as writer:
            for line in self.lines:
                for key in ("figure", "low", "high", "floor"):
                    value = getattr(line, key)
                    if value is not None:
                        tag = "" if key == "figure" else f"_{key}"
                        writer.add_scalar(f"fidelity_{line.group}/{line.name}{tag}", value, 0)
            for name, png in plots.items():
                writer.add_image(f"fidelity/{name}", imread(BytesIO(png))[:, :, :3], 0, dataformats="HWC")


def _main(line: Line) -> bool:
    """Tell whether a good line is worth a sentence on top: the required ones, and what the winner depends on."""
    return line.required or line.name == "winner" or line.group == "sessions"


def _sentences(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return a sentence a verdict: what has the same verdict is named together."""
    told: dict[str, list[str]] = {}
    for line in lines:
        told.setdefault(line.verdict, []).append(line.title)
    return tuple(f"{_joined(titles)}: {verdict}" for verdict, titles in told.items())


def _joined(titles: list[str]) -> str:
    first, *rest = titles
    return "; ".join(
        [first, *(title[:1].lower() + title[1:] for title in dict.fromkeys(rest) if title != first)]
    )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _terminal(line: Line) -> str:
    if line.figure is None:
        return f"[{line.level:^7}] {line.title}: {line.verdict}"
    spread = f" [{shown(line.low)}, {shown(line.high)}]" if line.low is not None else ""
    floor = f", floor {shown(line.floor)}" if line.floor is not None else ""
    beside = "; ".join(f"{name} {shown(value)}" for name, value in line.beside.items())
    words = f" ({beside})" if beside else ""
    unit = f" {line.unit}" if line.unit else ""
    return f"[{line.level:^7}] {line.title}: {shown(line.figure)}{unit}{spread}{floor}{words}: {line.verdict}"
