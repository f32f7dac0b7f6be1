"""`recworld train`: from a log to a trained and compared ranking policy, in a run folder that stands alone."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from recworld.cli.checks import check_parts, check_tuning, short_name, sized
from recworld.cli.main import running, show_help, use_threads, wants_help
from recworld.cli.settings import TrainSettings, load_settings, peek, resolve_train, train_defaults
from recworld.errors import InputError
from recworld.logs.log import InteractionLog
from recworld.progress import say
from recworld.runs import RunFolder, check_writable
from recworld.simulators.world import World
from recworld.storage import write_folder


def train(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, something wrong with the log, or a folder that is not a run.
        UnavailableError: the data or the language model cannot be fetched, or the run cannot be written.
    """
    if wants_help(words):
        shown = train_defaults(peek(words, "--algo") or "ppo")
        show_help(type(shown), shown, prog, str(TrainSettings.__doc__))
        return
    start = time.perf_counter()
    resumed = peek(words, "--resume")
    if resumed is None:
        asked = resolve_train(words)
        if asked.tune is not None:
            from recworld.cli.tune import tune

            tune(asked, prog)
            return
        check_tuning(asked)
        run, settings, world = _started(asked)
    else:
        run, settings, world = _resumed(resumed, words)
    running(str(run.path))
    use_threads(settings.threads)
    _train(run, settings, world)
    say(f"\nAll in all {time.perf_counter() - start:.0f} s.")
    print(_next_commands(run, settings, prog))


def _started(settings: TrainSettings) -> tuple[RunFolder, TrainSettings, World]:
    folder = Path(settings.run_dir).expanduser() if settings.run_dir else None
    if folder is not None:
        RunFolder.check_free(folder)
    check_writable(folder.parent if folder else Path("runs"))
    check_parts(settings)
    from recworld.cli.prepare import prepare

    fitting = [settings]

    def check(log: InteractionLog) -> None:
        fitting[0] = sized(settings, log)

    prepared = prepare(settings, check)
    settings = fitting[0]

    def fill(path: Path) -> None:
        save_world = partial(prepared.world.save, user_text=settings.data.user_text == "keep")
        for name, save in (("world", save_world), ("text", prepared.vectors.save)):
            write_folder(path / name, save)  # with sums of its own, which loading checks

    stem = f"{Path(settings.dataset).stem}-{short_name(settings.algo)}"
    run = RunFolder.create(settings.model_dump(mode="json"), fill, folder, stem)
    say(f"\nRun: {run.path}")
    return run, settings, prepared.world


def _resumed(name: str, words: list[str]) -> tuple[RunFolder, TrainSettings, World]:
    from recworld.cli.flags import FlagReader

    if not name:
        raise InputError("--resume needs the folder of a run. Got nothing.")
    run = RunFolder.open(Path(name).expanduser())
    settings = load_settings(run.settings(), str(run.path / "settings.yaml"))
    flags, rest = FlagReader(type(settings)).read(words)
    other = sorted(set(flags) - {"resume", "total_steps"})
    if other or rest:
        what = f"--{other[0].replace('_', '-')}" if other else rest[0]
        raise InputError(
            f"--resume keeps the settings of the run; only --total-steps may be given. Got {what}."
        )
    if "total_steps" in flags:
        given = load_settings(run.settings() | {"total_steps": flags["total_steps"]}, "--total-steps")
        if given.total_steps < settings.total_steps:
            raise InputError(
                f"--total-steps must be at least the run's {settings.total_steps}. Got {given.total_steps}."
            )
        if given.total_steps > settings.total_steps:
            run.write_settings(given.model_dump(mode="json"))
        settings = given
    return run, settings, World.load(run.world)


def _train(run: RunFolder, settings: TrainSettings, world: World) -> None:
    from recworld.cli import comparison
    from recworld.cli.prepare import stage
    from recworld.cli.session import TrainingSession

    evaluation, members = (
        settings.evaluation,
        (settings.env.members or [0], settings.evaluation.members or []),
    )
    options: dict[str, Any] = settings.env.arguments()
    with stage("Baselines: tuned on validation users"):
        drawn = [name for name in evaluation.baselines if name != "oracle"]
        lines = comparison.baselines(drawn, world.with_members(list(members[0])), options, settings.seed)
    with stage(f"Training: {settings.algo}, {settings.total_steps:,} user steps"):
        session = TrainingSession(run, settings, world)
        session.train(lines)
    with stage("Comparison: test users, in the world of training and in one that training never met"):
        board = comparison.leaderboard(
            {short_name(settings.algo): session.agent}, evaluation.baselines, world, options, members,
            users="test", episodes=evaluation.episodes, seed=settings.seed,
        )  # fmt: skip
        board.save(run.evaluation)
    print(board.text())


def _next_commands(run: RunFolder, settings: TrainSettings, prog: str) -> str:
    """Return what to type next, as it was typed before: scripts of the repository, or the installed command."""
    import shlex

    script = prog.endswith(".py")
    train = f"python {prog}" if script else "recworld train"
    evaluate = "python evaluate_agents.py" if script else "recworld evaluate"
    recommend = "python recommend.py" if script else "recworld recommend"
    folder, user = shlex.quote(str(run.path)), shlex.quote(_some_user(run))
    lines = [
        (f"tensorboard --logdir {folder}/tensorboard", "the curves, with the baselines"),
        (f"{evaluate} {folder} greedy mmr", "compare again, with other runs"),
        (f"{recommend} {folder} --user {user}", "what it shows to somebody"),
        (f'{recommend} {folder} --text "35 year old woman, teacher"', "... to somebody new"),
    ]
    if run.latest_checkpoint() is not None:
        lines.append((f"{train} --resume {folder} --total-steps {2 * settings.total_steps}", "train on"))
    width = max(len(line) for line, _ in lines)
    return "\n".join(["", "Next:", *(f"  {line:<{width}}  # {what}" for line, what in lines)])


def _some_user(run: RunFolder) -> str:
    world = World.load(run.world)
    return world.user_keys[int(world.users("test")[0])]
