"""Measuring many runs and baselines in many worlds, in processes side by side; what is measured stays measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recworld.cli.board_settings import BoardSettings
from recworld.cli.comparison import baselines, trained_policy
from recworld.cli.jobs import Job, side_by_side
from recworld.cli.settings import TrainSettings
from recworld.errors import InputError, UnavailableError
from recworld.evaluation import EvaluationResult, split_members
from recworld.evaluation.comparing import REFERENCE
from recworld.evaluation.measuring import Measurer
from recworld.runs import RunFolder
from recworld.simulators.world import World
from recworld.storage import MANIFEST, content_hash, read_json, write_folder, write_json

STILL = "training world, tastes that stay"
START = "from recworld.cli.board_measure import main; main()"


@dataclass(frozen=True)
class Measures:
    """The worlds of one block, and who is measured in them.

    Attributes:
        worlds: by label; the first is the one of training, `STILL` is its form with tastes that stay, where tastes move.
        names: baselines and upper lines.
        env_options: arguments of `RecVectorEnv`.
        users: whose episodes are played.
        episodes: of each user.
        seed: of the episodes, and of the tuning of baselines.
        folder: of the results.
    """

    worlds: dict[str, World]
    names: list[str]
    env_options: dict[str, Any]
    users: str
    episodes: int
    seed: int
    folder: Path

    @cached_property
    def measurers(self) -> dict[str, Measurer]:
        """What measures in each world."""
        return {
            label: Measurer(self.folder, label, world, self.env_options, self.users, self.episodes, self.seed)
            for label, world in self.worlds.items()
        }

    def tasks(self, trained: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, str, str | None]]:
        """Yield (world, name, run folder) of everything that is measured; the folder of a baseline is None."""
        for label in self.worlds:
            for name in self.names:
                if label != STILL or not _is_upper(name):
                    yield label, name, None
            for name, paths in trained.items():
                for path in paths:
                    yield label, name, str(path)

    def identity(self, name: str, run: str | None) -> str:
        """Return what tells a policy from every other one."""
        if run is None:
            return f"baseline {name} {next(iter(self.worlds.values())).fingerprint} {self.seed}"
        folder = RunFolder(Path(run)).agent
        sums = json.dumps(read_json(folder / MANIFEST), sort_keys=True)
        return f"run {content_hash(sums)}"

    def results(
        self, trained: Mapping[str, Sequence[Path]]
    ) -> tuple[list[EvaluationResult], EvaluationResult | None]:
        """Return the rows of every world, and those where tastes stay, from what was measured."""
        found = {}
        for label in self.worlds:
            rows: dict[str, list[str]] = {}
            for where, name, run in self.tasks(trained):
                if where == label:
                    rows.setdefault(name, []).append(self.identity(name, run))
            found[label] = self.measurers[label].together(rows)
        still = found.pop(STILL, None)
        return list(found.values()), still

    def left(self, trained: Mapping[str, Sequence[Path]]) -> list[tuple[str, str, str | None]]:
        """Return the tasks that are not measured yet."""
        return [
            task
            for task in self.tasks(trained)
            if self.measurers[task[0]].known(self.identity(*task[1:])) is None
        ]


def _is_upper(name: str) -> bool:
    from recworld.agents import AGENTS

    return bool(getattr(AGENTS.get(name), "is_upper_line", False))


def make_worlds(
    options: BoardSettings,
    worlds: Mapping[str, World],
    settings: Mapping[str, TrainSettings],
    names: list[str],
    output: Path,
) -> dict[str, Measures]:
    """Return, by block, the worlds in which everything is measured.

    Args:
        options: of the leaderboard.
        worlds: with all members, by block.
        settings: of any run, by block.
        names: baselines and upper lines.
        output: folder of the leaderboard.

    Raises:
        InputError: a folder of ``--worlds`` is no world, or one of other users or items.
    """
    others = {name: _load(name, folder) for name, folder in options.worlds.items()}
    found = {}
    for block, world in worlds.items():
        one = settings[block]
        made = split_members(world, one.env.members or [0], one.evaluation.members or [])
        for name, other in others.items():
            if name in made:
                raise InputError(f"--worlds got the name {name!r}, which one of the worlds has already.")
            made[name] = _in_place_of_truth(world, other, name)
        first = next(iter(made.values()))
        if first.dynamics.taste_rate > 0:
            made[STILL] = first.with_dynamics(first.dynamics.model_copy(update={"taste_rate": 0.0}))
        seed = one.seed if one.world_seed is None else one.world_seed
        found[block] = Measures(
            made, list(names), one.env.arguments(), options.users, options.episodes, seed, output / "measured"
        )
    return found


def _load(name: str, folder: str) -> World:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"--worlds {name}={folder}: there is no such folder.")
    return World.load(path / "world" if (path / "world" / "world.json").is_file() else path)


def _in_place_of_truth(world: World, other: World, name: str) -> World:
    """Return the world with the truth of another: what a recommender knows, its users' splits and dynamics stay.

    Raises:
        InputError: the other one has other users, items or ratings.
    """
    for what in ("user_keys", "item_keys", "scale"):
        if getattr(world, what) != getattr(other, what):
            raise InputError(
                f"--worlds {name}: {what.replace('_keys', 's')} of that world are not those of {world.name}, in their order."
            )
    if not np.allclose(world.item_vector, other.item_vector, atol=1e-4):
        raise InputError(f"--worlds {name}: that world has other item vectors than {world.name}.")
    return replace(
        world, name=other.name, truth=other.truth, attraction_known=other.attraction_known, shown=other.shown,
        click_rating_correlation=other.click_rating_correlation,
    )  # fmt: skip


Task = tuple[str, str, str, str | None]
"""Block, world, policy, run folder."""


def measure_all(
    measures: Mapping[str, Measures],
    trained: Mapping[str, Mapping[str, Sequence[Path]]],
    jobs: int,
    output: Path,
    lock: int | None,
) -> list[Task]:
    """Measure what was not measured before; return what could not be, each of which was said in a line.

    Args:
        measures: by block.
        trained: run folders by block and row.
        jobs: processes side by side.
        output: folder of the leaderboard.
        lock: shared with the processes.

    Raises:
        UnavailableError: the reference could not be measured.
    """
    left = _left(measures, trained)
    if not left:
        return []
    spec: dict[str, Any] = {"blocks": {}}
    for block, one in measures.items():
        baselines(
            one.names, next(iter(one.worlds.values())), one.env_options, one.seed
        )  # tuned once, for all processes
        folders = []  # pairs: JSON with sorted keys would forget which world is the first
        for number, (label, world) in enumerate(one.worlds.items()):
            folders.append([label, str(output / "worlds" / block / str(number))])
            write_folder(Path(folders[-1][1]), world.save)
        spec["blocks"][block] = {
            "worlds": folders, "names": one.names, "env_options": one.env_options, "users": one.users,
            "episodes": one.episodes, "seed": one.seed, "folder": str(one.folder),
        }  # fmt: skip
    work = []
    for number in range(min(jobs, len(left))):
        file, log = (output / "log" / f"measuring-{number}.{suffix}" for suffix in ("json", "txt"))
        write_json(file, {**spec, "tasks": left[number::jobs]})
        work.append(Job(f"measuring {number}", (str(file),), log, START))
    paths = [
        measures[block].measurers[label].path(measures[block].identity(name, run))
        for block, label, name, run in left
    ]
    failed = side_by_side(
        work, jobs, "Measuring", lock, lambda: sum(path.is_dir() for path in paths), len(paths)
    )
    missing = _left(measures, trained)
    if any(name == REFERENCE and run is None for _, _, name, run in missing):
        words = next(iter(failed.values()), "no word")
        raise UnavailableError(f"{REFERENCE}, which all are compared with, could not be measured: {words}")
    return missing


def _left(
    measures: Mapping[str, Measures], trained: Mapping[str, Mapping[str, Sequence[Path]]]
) -> list[Task]:
    return [(block, *task) for block, one in measures.items() for task in one.left(trained[block])]


def main() -> None:
    """Measure the tasks of a file; what fails is said in a line each, and the others go on."""
    import sys

    from recworld.cli.main import use_threads

    use_threads(1)
    given = read_json(Path(sys.argv[1]))
    measures = {}
    for block, one in given["blocks"].items():
        worlds = {label: World.load(Path(folder)) for label, folder in one["worlds"]}
        measures[block] = Measures(**{**one, "worlds": worlds, "folder": Path(one["folder"])})
    failed = 0
    for block, label, name, run in given["tasks"]:
        measure = measures[block]
        try:
            identity = measure.identity(name, run)
            if run is None:
                first = next(iter(measure.worlds.values()))
                policy = baselines([name], first, measure.env_options, measure.seed)[name]
            else:
                policy = trained_policy(RunFolder.open(Path(run)))
            # An agent that draws does so by the name of its run: two seeds are not the same luck.
            measure.measurers[label].measure(name if run is None else Path(run).name, identity, policy)
        except Exception as error:
            failed += 1
            text = " ".join(str(error).split())[:300]
            print(
                f"error: {Path(run).name if run else name} in the {label}: {type(error).__name__}: {text}",
                flush=True,
            )
    sys.exit(1 if failed else 0)
