"""`load_log`: a name, a file or a folder becomes an `InteractionLog`, and what was found is said aloud."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from recworld.errors import InputError, did_you_mean
from recworld.logs.assemble import assemble, stem
from recworld.logs.columns import TABLES, read_column_map
from recworld.logs.log import InteractionLog
from recworld.logs.redaction import redact_log
from recworld.logs.scales import redeclare
from recworld.logs.settings import LogSettings
from recworld.logs.tables import ENDINGS, Table, read_table
from recworld.progress import say
from recworld.registry import Registry

DATASETS = Registry("data set")
"""Data sets by name: callables ``(settings: LogSettings, seed: int) -> InteractionLog``."""
DATASETS.register("ml-100k", "recworld.logs.movielens:ml_100k")
DATASETS.register("coat", "recworld.logs.coat:coat")
DATASETS.register("foreign", "recworld.logs.foreign:foreign")
DATASETS.register("wellspecified", "recworld.simulators.truths:wellspecified")

READ_FROM_PATH = ("coat",)
"""Data sets that are read from the folder that the setting path names."""


def load_log(dataset: str, settings: LogSettings | None = None, seed: int = 0) -> InteractionLog:
    """Read or draw a log, and say what was found.

    Args:
        dataset: a registered name ("ml-100k", "foreign", ...), ``module:function``, a CSV, TSV or Parquet
            file with user_id, item_id, rating or click, timestamp, user_info, item_info (the last four
            optional), or a folder with such files named interactions, users, items, exposures (the last three
            optional).
        settings: how to read it; the defaults without.
        seed: seed of synthetic data sets; nothing else is random.

    Raises:
        InputError: there is no such data set, or something in its files is wrong.
        UnavailableError: it has to be fetched and no route answers.
    """
    settings = settings or LogSettings()
    if not dataset.strip():
        raise InputError(f"The data set must be a name, a file or a folder. Got {dataset!r}.")
    path = Path(dataset).expanduser()
    if dataset in DATASETS or (":" in dataset and not _exists(path) and os.sep not in dataset):
        if settings.columns is not None:
            raise InputError(
                f"The setting columns is for files and folders; data set {dataset!r} takes none."
            )
        if settings.path is not None and dataset in DATASETS and dataset not in READ_FROM_PATH:
            raise InputError(f"The setting path is for data set 'coat'; data set {dataset!r} takes none.")
        log = _called(dataset, settings, seed)
    else:
        if settings.path is not None:
            raise InputError(f"The setting path is for data set 'coat'; {dataset} is a path itself.")
        log = read_log(path, settings, dataset)
    for note in [summary(log), *log.notes]:
        say(f"{log.name}: {note}")
    return log


def _called(dataset: str, settings: LogSettings, seed: int) -> InteractionLog:
    loader: Callable[[LogSettings, int], object] = DATASETS.get(dataset)
    try:
        inspect.signature(loader).bind(settings, seed)
    except (TypeError, ValueError):
        raise InputError(f"The data set {dataset!r} must be a function of (settings, seed).") from None
    log = loader(settings, seed)
    if not isinstance(log, InteractionLog):
        raise InputError(f"The data set {dataset!r} must return an InteractionLog. Got {type(log).__name__}.")
    return _private(redeclare(log, settings), settings)


def _private(log: InteractionLog, settings: LogSettings) -> InteractionLog:
    if settings.user_keys == "number":
        log = replace(log, user_keys=np.arange(1, log.num_users + 1).astype(np.str_))
    return redact_log(log, settings.redact, settings.redact_items)


def summary(log: InteractionLog) -> str:
    """Return the size of a log in words."""
    return f"{len(log):,} interactions of {log.num_users:,} users with {log.num_items:,} items"


def read_log(path: Path, settings: LogSettings, given: str | None = None) -> InteractionLog:
    """Read a log from a file or a folder, silently.

    Args:
        path: the file or folder.
        settings: how to read it.
        given: the name as the user gave it, for the error when it is neither a path nor a data set.

    Raises:
        InputError: it does not exist, or something in it is wrong.
    """
    if not _exists(path):
        raise _unknown(path, given or str(path))
    columns = read_column_map(settings.columns)
    if path.is_dir():
        return _private(assemble(path.resolve().name, _folder(path), columns, settings), settings)
    if not path.name.lower().endswith(ENDINGS) and path.suffix.lower() in (
        ".xlsx",
        ".xls",
        ".json",
        ".zip",
        ".pkl",
    ):
        raise InputError(f"{path} is a {path.suffix} file; a CSV, TSV or Parquet file was expected.")
    return _private(assemble(stem(path), {"interactions": read_table(path)}, columns, settings), settings)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _unknown(path: Path, given: str) -> InputError:
    if len(given) > 300:
        return InputError(f"Unknown data set {given[:60]!r}... of {len(given)} characters.")
    if given.lower().endswith(ENDINGS) or os.sep in given or given.startswith((".", "~")):
        near = ""
        if path.parent.is_dir():
            hint = did_you_mean(path.name, (entry.name for entry in path.parent.iterdir()))
            near = f" {hint}" if hint.startswith("Did") else ""
        return InputError(f"The data set {given} does not exist.{near}")
    local = [
        entry.name for entry in Path().iterdir() if entry.is_dir() or entry.name.lower().endswith(ENDINGS)
    ]
    near = did_you_mean(given, [*DATASETS.names(), *local])
    if not near.startswith("Did"):
        near = did_you_mean(given, DATASETS.names())
    return InputError(f"Unknown data set {given!r}, and no file or folder of that name. {near}")


def _folder(path: Path) -> dict[str, Table]:
    try:
        files = sorted(entry for entry in path.iterdir() if entry.name.lower().endswith(ENDINGS))
    except OSError as error:
        raise InputError(f"The folder {path} cannot be read: {error.strerror}.") from None
    found: dict[str, Path] = {}
    for file in files:
        kind = stem(file)
        if kind in found:
            raise InputError(f"{path} has both {found[kind].name} and {file.name}; one of them was expected.")
        if kind in TABLES:
            found[kind] = file
    if "interactions" not in found:
        names = [file.name for file in files]
        near = (
            did_you_mean("interactions.csv", names) if names else "It has no CSV, TSV or Parquet file at all."
        )
        raise InputError(f"{path} has no interactions.csv or interactions.parquet. {near}")
    return {kind: read_table(found[kind]) for kind in TABLES if kind in found}
