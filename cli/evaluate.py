"""`recworld evaluate`: any number of runs and baselines in one table, measured on the same users and luck."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from recworld.cli.flags import FlagReader
from recworld.cli.main import show_help, use_threads, wants_help
from recworld.cli.settings import DynamicsChoice, TrainEnvSettings, TrainSettings, load_settings
from recworld.errors import InputError, did_you_mean
from recworld.progress import say
from recworld.runs import RunFolder
from recworld.settings import Settings, merge, validate
from recworld.simulators.world import World

TASK = ("slate_size", "num_candidates", "candidates", "reward", "horizon", "repeats")
"""Settings of the environment that a policy is trained for."""


class EvaluateSettings(Settings):
    """Compare trained runs and baselines on the same users and luck, in the world of the first run.

    With --algos ALGO ... it trains them first, with several seeds each: see --algos ppo --help.
    """

    world: str | None = None
    """Folder of a world to compare in, of `recworld fit` or of a run; none: the world of the first run."""
    users: Literal["train", "validation", "test"] = "test"
    """Whose episodes are played."""
    episodes: int = Field(2, ge=1)
    """Whole episodes of every user, in each world."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Seed of the episodes."""
    evaluation_members: list[int] | None = None
    """Members of the ensemble that no run was trained in; none: all that the training world leaves."""
    pool: bool = False
    """Whether runs of the same algorithm make one row: one algorithm trained with several seeds."""
    output: str | None = None
    """Folder for the table (JSON, Markdown) and the plot; none: evaluation/comparison in the first run."""
    env: TrainEnvSettings = TrainEnvSettings()
    dynamics: DynamicsChoice = DynamicsChoice()


def evaluate(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, a folder that is not a run, an unknown policy.
    """
    if any(word.partition("=")[0] == "--algos" for word in words):
        from recworld.cli.board import train_and_compare

        train_and_compare(words, prog)
        return
    if wants_help(words):
        show_help(
            EvaluateSettings,
            EvaluateSettings(),
            f"{prog} RUN|POLICY ...",
            cleandoc(str(EvaluateSettings.__doc__)),
        )
        return
    flags, names = FlagReader(EvaluateSettings).read(words)
    options = validate(EvaluateSettings, flags, "flags", flags=True)
    runs, others = split_names(names)
    if not runs and options.world is None:
        raise InputError(
            f"A run folder, or --world FOLDER, is expected: {prog} runs/ml-100k-ppo-1 greedy mmr."
        )
    from recworld.cli.comparison import check_names, leaderboard, trained_policy

    check_names(others, "policy")
    use_threads(1)
    made = {run: load_settings(run.settings(), str(run.path / "settings.yaml")) for run in runs}
    first = made[runs[0]] if runs else None
    world, env = _world(options, runs, flags), _env(first, flags)
    for run in runs[1:]:
        if World.load(run.world).fingerprint != world.fingerprint:
            say(
                f"{run.path} was trained in another world; all are measured in {world.name} as {runs[0].path} has it."
            )
    _say_differences(made, env)
    members = env.members or list(range(max(1, world.truth.num_members // 2)))
    rest = [m for m in range(world.truth.num_members) if m not in members]
    chosen = options.evaluation_members
    if chosen is None:
        chosen = rest if first is None else (first.evaluation.members or [])
    trained: dict[str, Any] = {}
    for run, settings in made.items():
        name = settings.algo if options.pool else run.name
        trained.setdefault(name, []).append(trained_policy(run))
    board = leaderboard(
        trained, others, world, env.arguments(), (members, chosen),
        users=options.users, episodes=options.episodes, seed=options.seed,
    )  # fmt: skip
    print(board.text())
    output = Path(options.output) if options.output else _default_output(runs)
    for path in board.save(output):
        say(f"Written: {path}")


def _say_differences(made: dict[RunFolder, TrainSettings], env: TrainEnvSettings) -> None:
    """Say which runs were trained for another task than the one that all are measured in."""
    for run, settings in made.items():
        trained, measured = settings.env.model_dump(), env.model_dump()
        other = [f"{name} {trained[name]}" for name in TASK if trained[name] != measured[name]]
        if other:
            here = ", ".join(f"{name} {measured[name]}" for name in TASK if trained[name] != measured[name])
            say(f"{run.path} was trained with {', '.join(other)}; it is measured with {here}.")


def split_names(names: list[str]) -> tuple[list[RunFolder], list[str]]:
    """Return the run folders and the policies among the words of the command, each once.

    Raises:
        InputError: a word is neither, or there is none.
    """
    from recworld.agents import AGENTS

    runs: list[RunFolder] = []
    others: list[str] = []
    for name in dict.fromkeys(names):
        path = Path(name).expanduser()
        if name in AGENTS or (":" in name and not path.exists()):
            others.append(name)
        elif path.exists() or "/" in name or "\\" in name:
            runs.append(RunFolder.open(path))
        else:
            raise InputError(
                f"{name!r} is neither a run folder nor a policy. {did_you_mean(name, AGENTS.names())}"
            )
    if not runs and not others:
        raise InputError(
            "What shall be compared? Name run folders and policies: runs/ml-100k-ppo-1 greedy mmr."
        )
    same = {run.name: run for run in runs}
    if len(same) < len(runs):
        raise InputError("Two run folders have the same name, which would be one row: rename one of them.")
    return runs, others


def _world(options: EvaluateSettings, runs: list[RunFolder], flags: dict[str, Any]) -> World:
    folder = Path(options.world).expanduser() if options.world else runs[0].world
    world = World.load(folder / "world" if (folder / "world" / "world.json").is_file() else folder)
    return options.dynamics.applied(world) if "dynamics" in flags else world


def _env(first: TrainSettings | None, flags: dict[str, Any]) -> TrainEnvSettings:
    base = first.env.model_dump() if first else {}
    return validate(TrainEnvSettings, merge(base, flags.get("env", {})), "--env", flags=True)


def _default_output(runs: list[RunFolder]) -> Path:
    return runs[0].evaluation / "comparison" if runs else Path("evaluation")
