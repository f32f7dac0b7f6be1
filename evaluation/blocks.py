"""Leaderboards of several dynamics as files: JSON, Markdown, text, CSV, bars; each block has its own training."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recworld.errors import InputError
from recworld.evaluation.intervals import Interval
from recworld.evaluation.metrics import METRICS
from recworld.storage import write_json, write_text

if TYPE_CHECKING:
    from recworld.evaluation.leaderboard import Leaderboard
    from recworld.evaluation.results import EvaluationResult

FORMAT = 1


class Blocks:
    """Leaderboards by the name of their dynamics.

    Args:
        boards: by name, in order.

    Raises:
        InputError: none was given.
    """

    def __init__(self, boards: Mapping[str, Leaderboard]) -> None:
        if not boards:
            raise InputError("At least one leaderboard is needed. Got none.")
        self.boards = dict(boards)

    def as_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready, without wall-clock."""
        return {"format": FORMAT, "blocks": {name: board.as_json() for name, board in self.boards.items()}}

    def text(self, differences: bool = True) -> str:
        """Return the tables for a terminal of 110 columns."""
        parts = [board.text(differences) for board in self.boards.values()]
        if len(parts) == 1:
            return parts[0]
        return "\n".join(
            f"== dynamics {name} ==\n\n{part}" for name, part in zip(self.boards, parts, strict=True)
        )

    def markdown(self) -> str:
        """Return the tables as Markdown."""
        parts = [board.markdown() for board in self.boards.values()]
        if len(parts) == 1:
            return parts[0]
        return "\n".join(
            f"## dynamics {name}\n\n{part}" for name, part in zip(self.boards, parts, strict=True)
        )

    def csv_text(self) -> str:
        """Return one line per block, world, policy and metric, with intervals and differences to the references."""
        stream = io.StringIO()
        references = list(
            dict.fromkeys(
                name for board in self.boards.values() for name in (board.questions.references if board.questions else ())
            )
        )  # fmt: skip
        heads = ["block", "world", "policy", "upper_line", "runs", "metric", "mean", "low", "high"]
        for name in references:
            heads += [
                f"minus_{name}",
                f"minus_{name}_low",
                f"minus_{name}_high",
                f"p_{name}",
                f"p_holm_{name}",
            ]
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(heads)
        for block, board in self.boards.items():
            for result in board.results:
                for row in _lines(board, result, references):
                    writer.writerow([block, *row])
        return stream.getvalue()

    def save(self, folder: Path, stem: str = "leaderboard") -> list[Path]:
        """Write ``<stem>.json``, ``.md``, ``.txt``, ``.csv`` and ``.png`` (one for each block), each whole or absent.

        Returns:
            The paths written.
        """
        paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".md", ".txt", ".csv")]
        write_json(paths[0], self.as_json())
        write_text(paths[1], self.markdown())
        write_text(paths[2], self.text())
        write_text(paths[3], self.csv_text())
        for name, board in self.boards.items():
            paths.append(folder / (f"{stem}.png" if len(self.boards) == 1 else f"{stem}-{name}.png"))
            board.plot(paths[-1])
        return paths


def _lines(board: Leaderboard, result: EvaluationResult, references: list[str]) -> Iterator[list[str]]:
    answers = board.answers(result)
    for name, row in result.policies.items():
        head = [result.label, name, str(name in board.upper).lower(), str(row.runs)]
        for metric in METRICS:
            cells = [*head, metric, *_cells(row.summary[metric])]
            for reference in references:
                if reference == name or reference not in result.policies:
                    cells += [""] * 5
                    continue
                cells += _cells(result.difference(name, reference)[metric])
                one = answers.against(name, reference) if metric == "return" else None
                cells += [_cell(one.p), _cell(one.p_holm)] if one is not None else ["", ""]
            yield cells
        if name in answers.overlap:
            overlap = [*head, "first_slate_overlap", *_cells(answers.overlap[name])]
            same = [*head, "first_slate_same", _cell(answers.same[name]), "", ""]
            yield from (line + [""] * (5 * len(references)) for line in (overlap, same))
        for line in board.upper:
            if (name, line) in answers.shares:
                share = [*head, f"share_of_distance_to_{line}", *_cells(answers.shares[name, line])]
                yield share + [""] * (5 * len(references))


def _cells(interval: Interval) -> list[str]:
    return [_cell(value) for value in (interval.mean, interval.low, interval.high)]


def _cell(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
