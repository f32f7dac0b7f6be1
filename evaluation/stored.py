"""Results of single runs as files, so that a comparison of many goes on where it was stopped; and runs pooled to a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from recworld.errors import CorruptError, InputError
from recworld.evaluation.metrics import PER_EPISODE
from recworld.evaluation.results import PolicyResult
from recworld.storage import check_folder, read_arrays, read_json, write_arrays, write_folder, write_json

FORMAT = 1


def save_result(result: PolicyResult, setting: dict[str, Any], folder: Path) -> None:
    """Write a result (safetensors and JSON) as a folder that is whole or absent."""
    arrays: dict[str, npt.NDArray[Any]] = {f"values.{name}": table for name, table in result.values.items()}
    for run, shown in enumerate(result.shown):
        arrays |= {f"shown.{run}.start": shown.indptr, f"shown.{run}.item": shown.indices}
    for name, table in (("overlap", result.overlap), ("same", result.same)):
        if table is not None:
            arrays[name] = table
    meta = {
        "format": FORMAT, "name": result.name, "upper_line": result.is_upper_line, "runs": result.runs,
        "items": int(result.shown[0].shape[1]), "setting": setting,
    }  # fmt: skip

    def fill(path: Path) -> None:
        write_arrays(path / "result.safetensors", arrays)
        write_json(path / "result.json", meta)

    write_folder(folder, fill)


def load_result(folder: Path) -> tuple[PolicyResult, dict[str, Any]]:
    """Return what `save_result` wrote: the result and its setting.

    Raises:
        CorruptError: a file is missing, broken or of another format.
    """
    check_folder(folder)
    meta, arrays = read_json(folder / "result.json"), read_arrays(folder / "result.safetensors")
    try:
        if meta["format"] != FORMAT:
            raise CorruptError(f"{folder} has result format {meta['format']}, this version reads {FORMAT}.")
        values = {name: arrays[f"values.{name}"] for name in PER_EPISODE}
        shown = []
        for run in range(meta["runs"]):
            start, item = arrays[f"shown.{run}.start"], arrays[f"shown.{run}.item"]
            shape = (len(start) - 1, int(meta["items"]))
            shown.append(sparse.csr_matrix((np.ones(len(item), bool), item, start), shape=shape))
        found = PolicyResult(
            meta["name"], bool(meta["upper_line"]), values, shown, arrays.get("overlap"), arrays.get("same")
        )
        return found, dict(meta["setting"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CorruptError(f"{folder} is not a whole result: {type(error).__name__} {error}.") from error


def pool(name: str, results: Sequence[PolicyResult]) -> PolicyResult:
    """Return one row of results of the same users: their runs under each other.

    Raises:
        InputError: no result, or results of different numbers of users.
    """
    if not results:
        raise InputError(f"{name!r} needs at least one result. Got none.")
    sizes = {one.values["return"].shape[1] for one in results}
    if len(sizes) > 1:
        raise InputError(f"The runs of {name!r} must be measured on the same users. Got {sorted(sizes)}.")
    overlaps = [one.overlap for one in results if one.overlap is not None]
    same = [one.same for one in results if one.same is not None]
    return PolicyResult(
        name,
        results[0].is_upper_line,
        {metric: np.concatenate([one.values[metric] for one in results]) for metric in PER_EPISODE},
        [shown for one in results for shown in one.shown],
        np.concatenate(overlaps) if len(overlaps) == len(results) else None,
        np.concatenate(same) if len(same) == len(results) else None,
    )
