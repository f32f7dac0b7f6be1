"""Where the figures of a training run go: a metrics file without a clock in it, and TensorBoard.

Nothing in the metrics file depends on the clock, so the same seed writes the same bytes, and a resumed run ends with the
file of an unbroken one: `MetricsFile.resume` cuts off what was written after the checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recworld.errors import CorruptError
from recworld.storage import write_text

CLOCK = "time/"
"""Figures whose tag starts so depend on the clock: TensorBoard gets them, the metrics file does not."""


class MetricsFile:
    """Figures by step as JSON lines, deterministic: sorted keys, no clock; what is not finite is left out.

    Args:
        path: the file; it is appended to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def start(cls, path: Path) -> MetricsFile:
        """Return an empty file at `path`, whatever stood there."""
        write_text(path, "")
        return cls(path)

    @classmethod
    def resume(cls, path: Path, step: int) -> MetricsFile:
        """Return the file with only what was written up to and with `step`, the checkpoint's.

        A last line that was cut by a kill is dropped with the rest. The file is replaced whole.

        Raises:
            CorruptError: a line before the end is not a record.
        """
        kept = [
            json.dumps(record, sort_keys=True) for record in cls(path).records() if record["step"] <= step
        ]
        write_text(path, "".join(line + "\n" for line in kept))
        return cls(path)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append one line: the step and every finite figure that does not depend on the clock."""
        kept = {k: float(v) for k, v in figures.items() if not k.startswith(CLOCK) and math.isfinite(v)}
        if not kept:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": int(step), **kept}, sort_keys=True) + "\n")

    def records(self) -> list[dict[str, float]]:
        """Return all lines as dictionaries with "step"; an incomplete last line is passed over.

        Raises:
            CorruptError: a line before the end is not a record.
        """
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")
        found: list[dict[str, float]] = []
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line end was cut by a kill
            try:
                record = json.loads(line)
                int(record["step"])
            except (ValueError, KeyError, TypeError) as error:
                raise CorruptError(f"{self.path}, line {number}, is not a record of figures.") from error
            found.append(record)
        return found


class TensorBoardWriter:
    """TensorBoard events of a run: the agent's own, and one sub-run for each baseline, under the same tags.

    So the chart ``eval/return`` of the Scalars page shows the agent and every baseline as lines of their own.

    Args:
        folder: of the events.
        resume_step: the checkpoint's step on a resume: later events of the killed process are hidden.
    """

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        self.folder = folder
        self._purge = None if resume_step is None else resume_step + 1
        self._writers: dict[str, Any] = {}

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            folder = self.folder / name if name else self.folder
            self._writers[name] = SummaryWriter(str(folder), purge_step=self._purge)
        return self._writers[name]

    def write(self, step: int, figures: Mapping[str, float], run: str = "") -> None:
        """Write finite figures at a step.

        Args:
            step: user steps.
            figures: by tag.
            run: name of a sub-run ("baseline_greedy"), the agent's own run by default.
        """
        for tag in sorted(figures):
            if math.isfinite(figures[tag]):
                self._writer(run).add_scalar(tag, figures[tag], step)

    def layout(self, baselines: Sequence[str]) -> None:
        """Lay out the Custom Scalars page: one chart of the agent and the baselines, one of the lead."""
        tags = ["eval/return", *(f"baselines/{name}" for name in baselines)]
        charts = {
            "return on validation users: agent and baselines": ["Multiline", tags],
            "lead over the reference, with its 95 % interval": [
                "Margin",
                ["eval/lead", "eval/lead_low", "eval/lead_high"],
            ],
        }
        self._writer("").add_custom_scalars({"Does the agent win?": charts})

    def flush(self) -> None:
        """Bring everything to disk."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
