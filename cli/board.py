"""`recworld evaluate --algos ...`: algorithms x seeds x worlds, trained in processes side by side, in one leaderboard."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recworld.cli.board_measure import Measures, make_worlds
from recworld.cli.board_rows import Row, read_rows, settings_of
from recworld.cli.board_settings import BASELINES, BoardSettings, read_board
from recworld.cli.checks import check_parts, sized
from recworld.cli.comparison import check_names
from recworld.cli.jobs import Job, locked, side_by_side
from recworld.cli.main import show_help, use_threads, wants_help
from recworld.cli.prepare import prepare, stage
from recworld.cli.settings import TrainSettings, load_settings
from recworld.encoders.vectors import TextVectors
from recworld.errors import InputError, RecworldError
from recworld.evaluation.results import EvaluationResult
from recworld.progress import say
from recworld.runs import RunFolder, check_writable
from recworld.simulators.world import World
from recworld.storage import check_folder, read_json, write_folder, write_json

REFERENCE = "greedy"


@dataclass(frozen=True)
class Run:
    """One training of one row.

    Attributes:
        row: the row.
        block: name of the dynamics.
        settings: all settings.
        path: its folder.
    """

    row: Row
    block: str
    settings: TrainSettings
    path: Path

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.name}, seed {self.settings.seed}, dynamics {self.block}"

    @property
    def ended(self) -> bool:
        """Whether it was trained to its end and compared."""
        folder = RunFolder(self.path)
        try:
            check_folder(folder.agent)
        except RecworldError:
            return False
        return (folder.evaluation / "leaderboard.json").is_file()


def train_and_compare(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, or a folder that holds something else.
        SystemExit: code 1, after everything is written, where a run failed.
    """
    if wants_help(words):
        shown = BoardSettings(algos=["ppo"])
        show_help(
            BoardSettings, shown, f"{prog} --algos ALGO ...", inspect.cleandoc(str(BoardSettings.__doc__))
        )
        return
    options, training = read_board(words)
    rows = read_rows(options.algos, training, options.myopic == "yes", options.insiders == "yes")
    baselines = _baselines(options.baselines)
    use_threads(1)
    blocks = _blocks(options, training, rows)
    first = blocks[next(iter(blocks))][0]
    output = Path(options.output or f"boards/{Path(first.dataset).stem}").expanduser()
    check_writable(output)
    with locked(output / ".lock") as lock:
        _work(options, rows, baselines, blocks, output, lock)


def _blocks(options: BoardSettings, training: list[str], rows: list[Row]) -> dict[str, list[TrainSettings]]:
    """Return the settings of the rows in each block, with the seed of the world; wrong ones are refused here."""
    if options.presets is not None and any(word.partition("=")[0] == "--dynamics" for word in training):
        raise InputError("Either --presets or --dynamics: each preset is a block with its own training.")
    found: dict[str, list[TrainSettings]] = {}
    for preset in dict.fromkeys(options.presets or [None]):  # type: ignore[list-item]
        settings = [settings_of(row, training, preset=preset) for row in rows]
        for one in settings:
            for flag in ("run_dir", "resume", "tune"):
                if getattr(one, flag, None) is not None:
                    shown = "--" + flag.replace("_", "-")
                    raise InputError(
                        f"{shown} belongs to a single run, not to a leaderboard, which goes on by itself in its --output."
                    )
            check_parts(one)
        found[settings[0].dynamics.preset] = settings
    return found


def _baselines(names: list[str] | None) -> list[str]:
    from recworld.agents import AGENTS

    if names is None:
        return [n for n in BASELINES if n in AGENTS and not hasattr(AGENTS.get(n), "settings_type")]
    check_names(names, "--baselines")
    return list(dict.fromkeys([REFERENCE, *names]))


def _work(
    options: BoardSettings,
    rows: list[Row],
    baselines: list[str],
    blocks: dict[str, list[TrainSettings]],
    output: Path,
    lock: int | None,
) -> None:
    first = next(iter(blocks.values()))[0]
    world, vectors = _prepared(first, output)
    runs: list[Run] = []
    worlds: dict[str, World] = {}
    for block, settings in blocks.items():
        worlds[block] = settings[0].dynamics.applied(world)
        fitting = [sized(one, world) for one in settings]
        for number in range(
            options.seeds
        ):  # all rows of a seed before the next: a table early on has every row
            for row, one in zip(rows, fitting, strict=True):
                runs.append(_run(row, block, one, number, output / "runs" / block))
    measures = make_worlds(
        options, worlds, {run.block: run.settings for run in runs if not run.row.insider}, baselines, output
    )
    for run in runs:
        _lay(run, vectors, worlds[run.block])
    failed = _train(runs, options.jobs, output, lock)
    ended = [run for run in runs if run.name not in failed]
    if not ended:
        raise InputError(f"All {len(runs)} runs failed. {next(iter(failed.values()))}")
    _compare(options, rows, ended, measures, output, lock, failed)


def _prepared(settings: TrainSettings, output: Path) -> tuple[World, TextVectors]:
    """Return the fitted world and the text vectors, made once and kept in the folder of the leaderboard.

    Raises:
        InputError: the folder holds a leaderboard of another world.
    """
    source = {
        "seed": settings.seed if settings.world_seed is None else settings.world_seed,
        **settings.model_dump(mode="json", include={"dataset", "data", "encoder", "world"}),
    }
    folder = output / "prepared"
    if not folder.is_dir():

        def fill(path: Path) -> None:
            prepared = prepare(settings)
            for name, part in (("world", prepared.world), ("text", prepared.vectors)):
                write_folder(path / name, part.save)
            write_json(path / "source.json", source)

        write_folder(folder, fill)
    else:
        check_folder(folder)
        held = read_json(folder / "source.json")
        if held != source:
            difference = _first_difference(source, held)
            raise InputError(
                f"{output} holds a leaderboard of another world: {difference}. Name another --output."
            )
    return World.load(folder / "world"), TextVectors.load(folder / "text")


def _run(row: Row, block: str, settings: TrainSettings, number: int, folder: Path) -> Run:
    world_seed = settings.seed if settings.world_seed is None else settings.world_seed
    evaluation = settings.evaluation.model_copy(update={"baselines": [REFERENCE]})
    own = settings.model_copy(
        update={"seed": settings.seed + number, "world_seed": world_seed, "evaluation": evaluation}
    )
    return Run(row, block, own, folder / f"{row.stem}-{own.seed}")


def _lay(run: Run, vectors: TextVectors, world: World) -> None:
    """Make the run folder where there is none yet; the training command goes on with it.

    Raises:
        InputError: what is there was made with other settings or in another world.
    """
    wanted = run.settings.model_dump(mode="json")
    file = run.path / "settings.yaml"
    if file.is_file():
        held = load_settings(RunFolder.open(run.path).settings(), str(file)).model_dump(mode="json")
        if wanted != held:
            raise InputError(
                f"{run.path} was trained otherwise: {_first_difference(wanted, held)}: name another --output."
            )
        if World.load(run.path / "world").fingerprint != world.fingerprint:
            raise InputError(f"{run.path} was trained in another world: name another --output.")
        return

    def fill(path: Path) -> None:
        for name, part in (("world", world), ("text", vectors)):
            write_folder(path / name, part.save)

    RunFolder.create(wanted, fill, run.path)


def _first_difference(wanted: dict[str, Any], held: dict[str, Any], path: str = "") -> str:
    for name in sorted(wanted.keys() | held.keys()):
        one, two = wanted.get(name), held.get(name)
        if one == two:
            continue
        if isinstance(one, dict) and isinstance(two, dict):
            return _first_difference(one, two, f"{path}{name}.")
        return f"{path}{name} ({two}, now {one})"
    return "setting"


def _train(runs: list[Run], jobs: int, output: Path, lock: int | None) -> dict[str, str]:
    left = [run for run in runs if not run.ended]
    if len(left) < len(runs):
        say(f"{len(runs) - len(left)} of {len(runs)} runs have ended before.")
    if not left:
        return {}
    work = [
        Job(
            run.name,
            ("train", "--resume", str(run.path)),
            output / "log" / f"{run.block}-{run.path.name}.txt",
        )
        for run in left
    ]
    with stage(
        f"Training: {len(left)} runs, {min(jobs, len(left))} side by side; their words are in {output / 'log'}"
    ):
        return side_by_side(work, jobs, "Training", lock)


def _compare(
    options: BoardSettings,
    rows: list[Row],
    runs: list[Run],
    measures: dict[str, Measures],
    output: Path,
    lock: int | None,
    failed: dict[str, str],
) -> None:
    from recworld.cli.board_measure import measure_all
    from recworld.evaluation.blocks import Blocks
    from recworld.evaluation.leaderboard import Leaderboard
    from recworld.evaluation.learning_curves import read_curve, save_curves
    from recworld.evaluation.questions import Questions

    boards, curves = {}, {}
    with stage(f"Comparison: {options.users} users, on the same luck in every world"):
        trained = {block: _by_row(rows, runs, block) for block in measures}
        for block, label, name, run in measure_all(measures, trained, options.jobs, output, lock):
            trained[block][name] = [p for p in trained[block][name] if str(p) != run]
            failed[f"{name}, {Path(str(run)).name}, dynamics {block}"] = (
                f"could not be measured in the {label}"
            )
        for block in trained:
            trained[block] = {name: paths for name, paths in trained[block].items() if paths}
    for block, measure in measures.items():
        results, still = measure.results(trained[block])
        insiders = {row.name for row in rows if row.insider}
        results = [_as_upper(result, insiders) for result in results]
        twins = tuple((r.name, r.far) for r in rows if r.far is not None)
        questions = Questions(twins=twins, margin=options.margin, seed=measure.seed)
        remarks = [f"failed and left out: {name}: {why}" for name, why in failed.items()]
        competing = [name for name in trained[block] if name not in insiders]
        own = [remark for remark in remarks if f"dynamics {block}:" in remark]
        boards[block] = Leaderboard(results, competing, still, questions, own)
        curves[block] = [
            read_curve(name, [RunFolder(path).metrics for path in paths], REFERENCE)
            for name, paths in trained[block].items()
        ]
    blocks = Blocks(boards)
    print(blocks.text(differences=False))
    for path in [*blocks.save(output), *save_curves(curves, output, REFERENCE)]:
        say(f"Written: {path}")
    if failed:
        for name, why in failed.items():
            print(f"error: {name}: {why}", file=sys.stderr)
        say(f"{len(failed)} of the runs are left out; the same command tries them again.")
        raise SystemExit(1)


def _as_upper(result: EvaluationResult, names: set[str]) -> EvaluationResult:
    """Return a result in which these policies are upper lines."""
    policies = {
        name: replace(policy, is_upper_line=True) if name in names else policy
        for name, policy in result.policies.items()
    }
    return replace(result, policies=policies)


def _by_row(rows: list[Row], runs: list[Run], block: str) -> dict[str, list[Path]]:
    found = {row.name: [r.path for r in runs if r.row.name == row.name and r.block == block] for row in rows}
    return {name: paths for name, paths in found.items() if paths}
