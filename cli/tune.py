"""`recworld train --tune N`: a search of the algorithm's settings, in a folder from which the same command goes on.

search.yaml    what is searched: settings, pruner, steps     trials.csv     every trial, with its settings
world/         the simulated users                           best.yaml      for --config: the best settings
trials/        a JSON file and a curve per trial             result.json    the best trial, what mattered
"""

from __future__ import annotations

import contextlib
import csv
import io
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recworld.cli.checks import check_parts, short_name, sized
from recworld.cli.main import use_threads
from recworld.cli.settings import TrainSettings, load_settings
from recworld.errors import InputError
from recworld.evaluation.search import SearchResult, Setup, Trial, require_optuna, search
from recworld.evaluation.search_space import search_space
from recworld.logs.log import InteractionLog
from recworld.progress import say
from recworld.runs import check_writable, versions
from recworld.settings import Settings, merge, read_yaml, write_yaml
from recworld.simulators.world import World
from recworld.storage import MANIFEST, write_folder, write_json, write_text

SHOWN = 10
"""Trials in the table of the terminal; the file holds all."""
WIDTH = 110
Row = list[str]


def tune(asked: TrainSettings, prog: str) -> None:
    """Search, and write and print what was found.

    Args:
        asked: the settings, with `tune` trials.
        prog: how the command was typed.

    Raises:
        InputError: no Optuna, nothing to search, or a folder that holds something else.
        UnavailableError: the data or the language model cannot be fetched, or the folder cannot be written.
    """
    require_optuna()
    start = time.perf_counter()
    use_threads(asked.threads)
    folder = _folder(asked)
    kept = _kept(asked)
    if (folder / "search.yaml").is_file():
        _check_same(folder, kept)
        settings = load_settings(read_yaml(folder / "search.yaml")["settings"], str(folder / "search.yaml"))
        world = World.load(folder / "world")
        say(f"Going on with the search in {folder}.")
    else:
        settings, world = _begun(asked, kept, folder)
    with _alone(folder):
        found = search(_setup(settings, asked, world), int(asked.tune or 1), folder / "trials")
        _write(folder, found, settings)
    say(f"\nAll in all {time.perf_counter() - start:.0f} s.")
    print(table(found))
    print(_next(folder, found, settings, prog))


def _folder(asked: TrainSettings) -> Path:
    """Return the search's folder; without --run-dir one that the same command finds again."""
    if asked.run_dir:
        return Path(asked.run_dir).expanduser()
    return Path("runs") / f"{Path(asked.dataset).stem}-{short_name(asked.algo)}-tune"


def _kept(asked: TrainSettings) -> dict[str, Any]:
    """Return what makes the search the one it is: everything but the number of trials and the folder's name."""
    return {
        "asked": asked.model_dump(mode="json", exclude={"run_dir", "checkpoint_seconds"}),
        "steps": asked.tune_steps or asked.total_steps,
        "pruner": asked.tune_pruner,
        "fields": asked.tune_fields,
    }


def _check_same(folder: Path, kept: dict[str, Any]) -> None:
    held = read_yaml(folder / "search.yaml")
    for name, value in kept.items():
        if held.get(name) != value:
            where = _first_difference(held.get(name), value, "" if name == "asked" else name)
            raise InputError(
                f"{folder} holds a search with other settings ({where}): name another --run-dir, or remove it."
            )


def _first_difference(one: Any, two: Any, path: str) -> str:
    if isinstance(one, dict) and isinstance(two, dict):
        for name in {**one, **two}:
            if one.get(name) != two.get(name):
                return _first_difference(one.get(name), two.get(name), f"{path}.{name}".lstrip("."))
    return f"{path}: {one} there, {two} here"


def _begun(asked: TrainSettings, kept: dict[str, Any], folder: Path) -> tuple[TrainSettings, World]:
    """Make the world and the folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already and holds no search: name another --run-dir.")
    check_writable(folder.parent)
    check_parts(asked)
    search_space(asked.algo, _options(asked), asked.tune_fields)
    from recworld.cli.prepare import prepare

    fitting = [asked]

    def check(log: InteractionLog) -> None:
        fitting[0] = sized(asked, log)

    world = prepare(asked, check).world
    settings = fitting[0]

    def fill(path: Path) -> None:
        write_folder(path / "world", world.save)
        write_yaml(path / "search.yaml", {**kept, "settings": settings.model_dump(mode="json")})
        write_json(path / "versions.json", versions())

    write_folder(folder, fill)
    (folder / MANIFEST).unlink(
        missing_ok=True
    )  # the sums hold for what was written, not for a search that goes on
    say(f"\nSearch: {folder}")
    return settings, world


def _options(settings: TrainSettings) -> dict[str, Any]:
    agent = settings.agent
    return agent.model_dump() if isinstance(agent, Settings) else dict(agent or {})


def _setup(settings: TrainSettings, asked: TrainSettings, world: World) -> Setup:
    steps = asked.tune_steps or settings.total_steps
    share = steps / settings.total_steps
    return Setup(
        algo=settings.algo,
        world=world,
        options=_options(settings),
        env_options=settings.env.arguments(),
        members=settings.env.members or [0],
        total_steps=steps,
        every=max(1, round(int(settings.evaluation.every or settings.total_steps) * share)),
        streams=settings.evaluation.streams,
        seed=settings.seed,
        pruner=asked.tune_pruner,
        only=asked.tune_fields,
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder: two commands at once would write the same trials.

    Raises:
        InputError: another command is at work in it.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"Another search is at work in {folder}.") from None
        yield


def _write(folder: Path, found: SearchResult, settings: TrainSettings) -> None:
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.params))
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(["trial", "state", "return", "steps", *names, "reason"])
    for trial in found.trials:
        values = [trial.params.get(name, "") for name in names]
        value = "" if trial.value is None else trial.value
        rows.writerow([trial.number, trial.state, value, trial.steps, *values, trial.reason])
    write_text(folder / "trials.csv", stream.getvalue())
    best = settings.model_dump(mode="json", exclude={"run_dir"})
    best["agent"] = merge(best.get("agent") or {}, found.best.options)
    write_yaml(folder / "best.yaml", best)
    summary = {
        "best": found.best.number,
        "return": found.best.value,
        "options": found.best.options,
        "importance": found.importance,
    }
    write_json(folder / "result.json", summary)


def table(found: SearchResult) -> str:
    """Return the best trials as a table of at most 110 columns, and what mattered.

    Args:
        found: the result of a search.
    """
    names = list(found.importance) or list(found.trials[0].params)
    ranked = sorted(found.trials, key=_rank)[:SHOWN]
    columns = [["trial", "return", "state", "steps"], *([_cell(t, name) for name in _FIXED] for t in ranked)]
    for name in names:  # the settings that mattered most, as many as there is room for
        wider = [[*row, text] for row, text in zip(columns, _column(ranked, name), strict=True)]
        if len(_lines(wider)[0]) > WIDTH:
            break
        columns = wider
    counts = {
        state: sum(trial.state == state for trial in found.trials)
        for state in ("whole", "given up", "failed")
    }
    lines = [
        "",
        f"Trials, by the mean return of validation users ({', '.join(f'{n} {state}' for state, n in counts.items())}):",
        *_lines(columns),
    ]
    if found.importance:
        told = ", ".join(f"{name} {share:.0%}" for name, share in list(found.importance.items())[:6])
        lines.append(f"Share of the variance between the {counts['whole']} whole trials: {told}.")
        if counts["whole"] < 20:
            lines.append("  (a rough guess: fewer than 20 whole trials)")
    return "\n".join(lines)


_FIXED = ("number", "value", "state", "steps")


def _rank(trial: Trial) -> tuple[int, float, int]:
    order = ("whole", "given up", "failed").index(trial.state)
    return order, -float(trial.value or 0.0), trial.number


def _cell(trial: Trial, name: str) -> str:
    value = getattr(trial, name)
    if value is None:
        return "-"
    if name == "value":
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _column(ranked: list[Trial], name: str) -> list[str]:
    values = [trial.params.get(name, "-") for trial in ranked]
    return [name, *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)]


def _lines(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{text:>{width}}" for text, width in zip(row, widths, strict=True)) for row in rows
    ]


def _next(folder: Path, found: SearchResult, settings: TrainSettings, prog: str) -> str:
    train = f"python {prog}" if prog.endswith(".py") else "recworld train"
    best = shlex.quote(str(folder / "best.yaml"))
    first = found.trials[0]
    gain = float(found.best.value or 0.0) - float(first.value or 0.0)
    own = "" if found.best.number == 0 or first.state != "whole" else f", {gain:+.2f} against trial 0"
    return "\n".join(
        [
            "",
            f"Best: trial {found.best.number}, return {found.best.value:.3f}{own}.",
            "It was chosen on validation users; what it is worth, test users tell in the comparison after training.",
            "",
            "Next:",
            f"  {train} --config {best}",
        ]
    )
