"""What a training run can be told: all settings in one tree, and how the layers are laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic
from pydantic import Field

from recworld.cli.flags import FlagReader
from recworld.configs import config_text
from recworld.encoders.settings import EncoderSettings
from recworld.envs.settings import EnvSettings
from recworld.errors import InputError
from recworld.logs.settings import LogSettings
from recworld.settings import Settings, merge, parse_yaml, read_yaml, validate
from recworld.simulators.build import WorldSettings
from recworld.simulators.calibration import fitted_dynamics
from recworld.simulators.dynamics import FITTED, PRESETS, DynamicsSettings, dynamics_preset
from recworld.simulators.world import World

S = TypeVar("S", bound=Settings)
W = TypeVar("W", bound="WorldSource")


class DynamicsChoice(DynamicsSettings):
    """How simulated users change: a preset (`--dynamics static`), and single effects on top."""

    preset: str = "strong"
    """static: nothing changes a user; strong: boredom, drifting taste and leaving, as named assumptions; fitted: strong,
    with what the world's log identified in its place."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        values = {"preset": given} if isinstance(given, str) else given
        if not isinstance(values, dict):
            return values
        preset = values.get("preset", "strong")
        if preset != FITTED:
            dynamics_preset(str(preset))
        return {**PRESETS.get(preset, {}), **values}

    def settings(self) -> DynamicsSettings:
        """Return the effects without the preset's name; of ``fitted`` those that no world has told yet."""
        return DynamicsSettings.model_validate(self.model_dump(exclude={"preset"}))

    def applied(self, world: World) -> World:
        """Return the world with these dynamics; of ``fitted``, single effects that differ from ``strong`` win over the log.

        Raises:
            InputError: ``fitted``, and the world has no calibration.
        """
        chosen = self.settings()
        if self.preset == FITTED:
            own = chosen.model_dump()
            own = {
                name: own[name]
                for name, value in DynamicsSettings().model_dump().items()
                if own[name] != value
            }
            chosen = DynamicsSettings.model_validate({**fitted_dynamics(world).model_dump(), **own})
        return world.with_dynamics(chosen)


class TrainEnvSettings(EnvSettings):
    """The environment that agents train and are measured in."""

    members: list[int] | None = Field(None, min_length=1)
    """Members of the world's ensemble that training meets (an episode draws one); none: the first half."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `RecVectorEnv` that are the same in training and in evaluation."""
        return self.model_dump(exclude={"members"})


class EvaluationSettings(Settings):
    """How policies are measured: whole episodes on common random numbers, with 95 % intervals."""

    members: list[int] | None = None
    """Members of the ensemble that training never meets: the evaluation world; none: all that training leaves."""
    episodes: int = Field(2, ge=1)
    """Whole episodes of every test user, in each world."""
    streams: int = Field(128, ge=1)
    """Whole episodes of validation users in each evaluation during training."""
    every: int | None = Field(None, ge=1)
    """User steps between two evaluations during training; none: a tenth of all steps."""
    baselines: list[str] = Field(["random", "popularity", "static", "greedy", "mmr", "oracle"])
    """What agents are compared with; mmr is tuned; oracle, an upper line, knows the world."""


class WorldSource(Settings):
    """What a world is made from."""

    dataset: str = "ml-100k"
    """Log: ml-100k, coat (with data.path), wellspecified, foreign, a CSV or Parquet file, or a folder of such files."""
    seed: int = Field(0, ge=0, lt=2**31)
    """The one seed of everything random."""
    device: str | None = None
    """Where networks compute: cpu, cuda, auto; sets encoder.device and agent.device."""
    config: str | None = Field(None, exclude=True)
    """YAML file of settings, nested as they are here; flags win over it."""
    dynamics: DynamicsChoice = DynamicsChoice()
    data: LogSettings = LogSettings()
    encoder: EncoderSettings = EncoderSettings()
    world: WorldSettings = WorldSettings()


class FitSettings(WorldSource):
    """Fit a world of simulated users to a log, and keep it as a folder."""

    output: str | None = None
    """Folder of the world, which must not exist; none: worlds/<dataset>."""
    report: Literal["full", "quick", "none"] = "full"
    """Fidelity report beside the world: full (fits the model four times more), quick (once more, one member), none."""
    min_fidelity: Literal["fair", "good"] | None = None
    """Refuse a world (exit code 2, the report is kept): fair: if a required figure is poor; good: if one is not good."""


class TrainSettings(WorldSource):
    """Train a ranking policy on simulated users learnt from a log, and compare it with the baselines."""

    algo: str = "ppo"
    """Algorithm: ppo, dqn, a2c, or a class of your own as module:Class."""
    total_steps: int = Field(200_000, ge=1)
    """User steps of training, the sum over all simulated users."""
    world_seed: int | None = Field(None, ge=0, lt=2**31)
    """Seed of the log and of the fitted world, so that several seeds train in the same world; none: seed."""
    threads: int = Field(1, ge=1)
    """Threads of torch; the same number gives the same bits. More pays for large networks on an idle machine only."""
    checkpoint_seconds: float = Field(15.0, ge=0)
    """Least time between two checkpoints, in seconds; 0: one after every update of the weights."""
    run_dir: str | None = None
    """Folder of the run, which must not exist; none: runs/<dataset>-<algo>-<number>."""
    resume: str | None = Field(None, exclude=True)
    """Run folder of a run to go on with; it keeps its settings, --total-steps alone may be raised."""
    tune: int | None = Field(None, ge=1, exclude=True)
    """Search the algorithm's settings with so many trials instead of training; the best are written as a --config file."""
    tune_steps: int | None = Field(None, ge=1, exclude=True)
    """User steps of each trial; none: total_steps, what the training afterwards takes."""
    tune_pruner: Literal["median", "hyperband", "none"] = Field("median", exclude=True)
    """How a trial that is behind on validation users is given up early."""
    tune_fields: list[str] | None = Field(None, min_length=1, exclude=True)
    """Settings to search, as learning_rate network.hidden; none: all with a known range."""
    env: TrainEnvSettings = TrainEnvSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    agent: Any = None
    """Settings of the algorithm."""


def train_settings_type(algo: str) -> type[TrainSettings]:
    """Return the settings class for an algorithm: `agent` has the type of that algorithm's settings.

    Raises:
        InputError: no such algorithm.
    """
    from recworld.agents import AGENTS

    kind = getattr(AGENTS.get(algo), "settings_type", None)
    fields: dict[str, Any]
    if isinstance(kind, type) and issubclass(kind, Settings):
        fields = {"agent": (kind, kind())}
    else:
        fields = {"agent": (dict[str, Any], Field({}, description="Options of your class: name=value ..."))}
    made: type[TrainSettings] = pydantic.create_model(
        "TrainSettings", __base__=TrainSettings, __doc__=TrainSettings.__doc__, **fields
    )
    return made


def train_defaults(algo: str) -> TrainSettings:
    """Return the settings of a run without flags, as `--help` shows them: code, then the package's YAML of the algorithm.

    Raises:
        InputError: no such algorithm.
    """
    model = train_settings_type(algo)
    return validate(model, parse_yaml(config_text(algo), f"configs/{algo}.yaml"), f"configs/{algo}.yaml")


def peek(tokens: Sequence[str], flag: str) -> str | None:
    """Return the value of a flag before the others are understood; the last one where it is given twice."""
    found = None
    for n, token in enumerate(tokens):
        if token == flag and n + 1 < len(tokens):
            found = tokens[n + 1]
        elif token.startswith(flag + "="):
            found = token.partition("=")[2]
    return found


def resolve_train(tokens: Sequence[str]) -> TrainSettings:
    """Return the settings of a run: code, then the YAML files of the package, then --config, then the flags.

    Raises:
        InputError: a file, a name or a value is wrong.
    """
    file = _config_file(tokens)
    algo = str(peek(tokens, "--algo") or file.get("algo", TrainSettings.model_fields["algo"].default))
    model = train_settings_type(algo)
    return _complete(layered(model, tokens, [algo]), model)


def resolve_fit(tokens: Sequence[str]) -> FitSettings:
    """Return the settings of a fit, laid over each other as in `resolve_train`.

    Raises:
        InputError: a file, a name or a value is wrong.
    """
    return _complete(layered(FitSettings, tokens), FitSettings)


def _config_file(tokens: Sequence[str]) -> dict[str, Any]:
    name = peek(tokens, "--config")
    return read_yaml(Path(name).expanduser()) if name else {}


def _dataset(tokens: Sequence[str], file: dict[str, Any]) -> str:
    return str(peek(tokens, "--dataset") or file.get("dataset", WorldSource.model_fields["dataset"].default))


def layered(model: type[S], tokens: Sequence[str], packaged: Sequence[str] = ()) -> S:
    """Return settings: code, then the package's YAML of the data set and of `packaged`, then --config, then the flags.

    Raises:
        InputError: a file, a name or a value is wrong.
    """
    values: dict[str, Any] = {}
    for name in (_dataset(tokens, _config_file(tokens)), *packaged):
        values = merge(values, parse_yaml(config_text(name), f"configs/{name}.yaml"))
        validate(model, values, f"configs/{name}.yaml")
    file = _config_file(tokens)
    if file:
        values = merge(values, file)
        validate(model, values, str(peek(tokens, "--config")))
    flags, words = FlagReader(model).read(tokens)
    if words:
        raise InputError(f"{words[0]!r} is not a flag. Flags start with two dashes; see --help.")
    options = flags.get("agent")
    if isinstance(options, dict) and model.model_fields["agent"].annotation == dict[str, Any]:
        flags["agent"] = {name: _plain(value) for name, value in options.items()}
    return validate(model, merge(values, flags), "flags", flags=True)


def load_settings(values: dict[str, Any], where: str) -> TrainSettings:
    """Return the settings that a run was made with.

    Raises:
        InputError: they are not whole, do not fit this version, or the algorithm is not there.
    """
    if not isinstance(values.get("algo"), str):
        raise InputError(f"{where} is not whole: it names no algo.")
    return validate(train_settings_type(values["algo"]), values, where)


def _complete(settings: W, model: type[W]) -> W:
    """Fill in what depends on other settings or on the machine, so that a saved run says it."""
    values = settings.model_dump()
    if settings.device is not None:
        values["encoder"]["device"] = settings.device
        if "device" in (values.get("agent") or {}):
            values["agent"]["device"] = settings.device
    if isinstance(settings, TrainSettings):
        if "num_candidates" not in settings.env.model_fields_set:
            # Left unset, so that a catalogue smaller than the default can be met with fewer.
            del values["env"]["num_candidates"]
        _choose_members(settings, values)
        if settings.evaluation.every is None:
            values["evaluation"]["every"] = max(1, settings.total_steps // 10)
    # What belongs to the command and not to the run is not part of what is saved.
    unsaved = {name: getattr(settings, name) for name, field in model.model_fields.items() if field.exclude}
    return validate(model, values | unsaved, "flags", flags=True)


def _choose_members(settings: TrainSettings, values: dict[str, Any]) -> None:
    """Divide the members of the ensemble between training and evaluation, where the settings leave it open."""
    members = settings.world.members
    training = settings.env.members or list(range(max(1, members // 2)))
    rest = [member for member in range(members) if member not in training]
    evaluation = rest if settings.evaluation.members is None else settings.evaluation.members
    for name, chosen in (("--env.members", training), ("--evaluation.members", evaluation)):
        wrong = [member for member in chosen if not 0 <= member < members]
        if wrong:
            raise InputError(f"{name} got {wrong[0]}: members are numbers from 0 to {members - 1}.")
    both = sorted(set(training) & set(evaluation))
    if both:
        raise InputError(
            f"--evaluation.members got {both[0]}, which is one of --env.members: training has met it."
        )
    values["env"]["members"], values["evaluation"]["members"] = training, evaluation


def _plain(text: str) -> Any:
    """Read one option's value as YAML does: 3 is a number, true a truth value, anything else text."""
    return parse_yaml(f"value: {text}", "--agent")["value"]
