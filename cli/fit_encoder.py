"""`recworld fit-encoder`: a language model learns from a log; the result is a folder that `--encoder.model` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from recworld.cli.flags import FlagReader
from recworld.cli.main import running, show_help, use_threads, wants_help
from recworld.cli.prepare import stage
from recworld.cli.settings import layered, peek
from recworld.encoders.settings import EncoderSettings
from recworld.encoders.tuning_settings import TuningSettings, learnt_kind
from recworld.errors import InputError
from recworld.logs.loading import load_log
from recworld.logs.log import InteractionLog
from recworld.logs.settings import LogSettings
from recworld.progress import say
from recworld.runs import RunFolder, check_writable
from recworld.settings import Settings, validate
from recworld.storage import write_arrays, write_folder, write_json

MODEL = "encoder"
"""Folder of the model in the run's folder."""
EARLY = 0.5
"""Share of a user's interactions that a profile may tell of, as in `WorldSettings`."""


class FitEncoderSettings(Settings):
    """Fine-tune the language model on the ratings or clicks of a log.

    Two towers read the texts of users and items, a head predicts ratings from both; the folder of the model that comes of it
    goes to --encoder.model. Held-out errors of the frozen model and of each epoch are printed and drawn in TensorBoard.
    """

    dataset: str = "ml-100k"
    """Log: ml-100k, coat (with data.path), wellspecified, foreign, a CSV or Parquet file, or a folder of such files."""
    run_dir: str | None = None
    """Folder of the run, which must not exist; none: runs/<dataset>-encoder-<number>."""
    resume: str | None = Field(None, exclude=True)
    """Run folder of a run to go on with; it keeps its settings, --epochs alone may be raised."""
    seed: int = Field(0, ge=0, lt=2**31)
    """The one seed of everything random."""
    threads: int = Field(2, ge=1, le=1024)
    """Threads of torch; the same number gives the same bits."""
    device: str | None = None
    """Where the model learns: cpu, cuda, auto; sets encoder.device."""
    config: str | None = Field(None, exclude=True)
    """YAML file of settings, nested as they are here; flags win over it."""
    data: LogSettings = LogSettings()
    encoder: EncoderSettings = EncoderSettings()
    tuning: TuningSettings = TuningSettings()


def fit_encoder(words: list[str], prog: str) -> None:
    """Run the command.

    Raises:
        InputError: a wrong flag or setting, a model that cannot learn so, or the folder exists.
        UnavailableError: the data or the language model cannot be fetched, or the run cannot be written.
    """
    if wants_help(words):
        show_help(FitEncoderSettings, FitEncoderSettings(), prog, str(FitEncoderSettings.__doc__))
        return
    resumed = peek(words, "--resume")
    run, settings, log = _started(words) if resumed is None else _resumed(resumed, words)
    running(str(run.path))
    use_threads(settings.threads)
    _train(run, settings, log)


Started = tuple[RunFolder, FitEncoderSettings, InteractionLog]


def _started(words: list[str]) -> Started:
    settings = layered(FitEncoderSettings, words)
    if settings.encoder.kind != "bert" or settings.encoder.backend != "torch":
        raise InputError("Fine-tuning needs --encoder.kind bert and --encoder.backend torch.")
    if settings.device is not None:
        encoder = settings.encoder.model_copy(update={"device": settings.device})
        settings = settings.model_copy(update={"encoder": encoder})
    folder = Path(settings.run_dir).expanduser() if settings.run_dir else None
    if folder is not None:
        RunFolder.check_free(folder)
    check_writable(folder.parent if folder else Path("runs"))
    stem = f"{Path(settings.dataset).stem}-encoder"
    from recworld.encoders.tuning_tower import frozen_layers
    from recworld.encoders.weights import find_model

    # A wrong name or number shows before there is a folder.
    frozen_layers(find_model(settings.encoder.model), settings.tuning.layers)
    log = load_log(settings.dataset, settings.data, settings.seed)
    learnt_kind(log.scale, settings.tuning)
    run = RunFolder.create(settings.model_dump(mode="json"), lambda path: None, folder, stem)
    say(f"\nRun: {run.path}")
    return run, settings, log


def _resumed(name: str, words: list[str]) -> Started:
    run = RunFolder.open(Path(name).expanduser())
    held = run.settings()
    if "tuning" not in held:
        raise InputError(f"--resume {run.path} is not a run of fit_encoder.py.")
    settings = validate(FitEncoderSettings, held, str(run.path / "settings.yaml"))
    flags, _ = FlagReader(FitEncoderSettings).read(words)
    asked = {key: value for key, value in flags.items() if key != "resume"}
    epochs = asked.pop("tuning", {}) if set(asked) <= {"tuning"} else asked
    if asked or set(epochs) - {"epochs"}:
        raise InputError("--resume keeps the settings of the run: only --epochs may be given beside it.")
    if epochs:
        tuning = validate(TuningSettings, {**settings.tuning.model_dump(), **epochs}, "flags", flags=True)
        if tuning.epochs < settings.tuning.epochs:
            raise InputError(
                f"--epochs {tuning.epochs} is less than the {settings.tuning.epochs} of the run; it may only be raised."
            )
        settings = settings.model_copy(update={"tuning": tuning})
        run.write_settings(settings.model_dump(mode="json"))
    return run, settings, load_log(settings.dataset, settings.data, settings.seed)


def _train(run: RunFolder, settings: FitEncoderSettings, log: InteractionLog) -> None:
    from recworld.encoders.profiles import user_texts
    from recworld.encoders.pruning import Student, write_model
    from recworld.encoders.tuning import Tuner
    from recworld.encoders.tuning_data import tuning_data
    from recworld.encoders.weights import find_model
    from recworld.evaluation import MetricsFile, TensorBoardWriter
    from recworld.logs.splits import split_early_late

    folder = find_model(settings.encoder.model)
    users = user_texts(log, settings.encoder, EARLY)
    # A profile tells of early rows: what it gives away is neither learnt from nor held out.
    rows = None if users == tuple(log.user_text) else split_early_late(log, EARLY)[1]
    data = tuning_data(log, users, settings.tuning, settings.seed, rows)
    say(
        f"{len(data.train):,} pairs to learn from, {len(data.held):,} held out ({settings.tuning.validation}); "
        f"{len(data.texts['user']):,} and {len(data.texts['item']):,} distinct texts"
    )
    with stage(f"Fine-tuning: {settings.tuning.method}, {settings.tuning.objective}"):
        tuner = Tuner(data, folder, settings.tuning, settings.encoder.device, settings.seed)
        found = run.latest_checkpoint()
        if found is not None:
            tuner.resume(found[1])
        fresh = found is None
        metrics = MetricsFile.start(run.metrics) if fresh else MetricsFile.resume(run.metrics, tuner.done)
        writer = TensorBoardWriter(run.tensorboard, None if fresh else tuner.done)

        def tell(epoch: int, figures: Mapping[str, float]) -> None:
            metrics.write(epoch, figures)
            writer.write(epoch, figures)
            writer.flush()
            name = "frozen" if epoch == 0 else f"epoch {epoch}"
            say(f"  {name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))

        def done(epoch: int, figures: Mapping[str, float]) -> None:
            tell(epoch, figures)
            run.save_checkpoint(epoch, tuner.checkpoint)

        if fresh:
            tell(0, tuner.history[0])
        tuned = tuner.run(done)
        writer.close()

    def fill(path: Path) -> None:
        own = len({id(model) for model in tuned.towers.values()}) > 1
        for side, model in tuned.towers.items():
            place = path / side if own else path
            if own or side == next(iter(tuned.towers)):
                place.mkdir(exist_ok=True)
                write_model(Student(folder, model), place)
        if tuned.head is not None:
            arrays = {name: value.cpu().numpy() for name, value in tuned.head.state_dict().items()}
            (path / "head").mkdir()
            write_arrays(
                path / "head" / "head.safetensors",
                {n: v.reshape(-1) if v.ndim == 0 else v for n, v in arrays.items()},
            )
            write_json(path / "head" / "head.json", {"loss": tuner.kind, "epoch": tuned.best})

    write_folder(run.path / MODEL, fill)
    first, last = tuned.history[0]["held/error"], tuned.history[tuned.best]["held/error"]
    print(
        f"Held-out error ({settings.tuning.validation}): {first:.4f} frozen, {last:.4f} after epoch {tuned.best} "
        f"({100 * (1 - last / max(first, 1e-12)):+.2f} % better on the rows that the epoch was chosen by)"
    )
    place = run.path / MODEL
    flag = f"--encoder.model {place}"
    if (place / "user").is_dir():
        flag = f"--encoder.model {place / 'item'} --encoder.user-model {place / 'user'}"
    print(f"Kept in {place}. Use it: python train_agent.py --dataset {settings.dataset} {flag}")
