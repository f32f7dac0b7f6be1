"""Search of an algorithm's settings with Optuna: trials train on training users and are judged on validation users.

Test users, and the members of the world that are kept for evaluation, are never touched. Every trial trains with the same
seeds, in the same world, and is judged on the same episodes, so that trials differ by their settings alone. The first one
takes the settings as they are given: the best is at least as good as those. A tree-structured Parzen estimator (Bergstra et
al. 2011) proposes the others; one that is behind at an evaluation is given up (median rule, Golovin et al. 2017, or
Hyperband, Li et al. 2018).

The folder holds a JSON file per finished trial. The proposer is seeded anew for each trial by its number, and knows the
trials before it from those files: a search that was killed goes on as if it had never stopped.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recworld.agents import AGENTS, Learner, make_agent
from recworld.errors import CorruptError, InputError
from recworld.evaluation.curves import STREAMS, PeriodicEvaluation
from recworld.evaluation.search_space import nested, own_space, search_space, start_values
from recworld.evaluation.writers import MetricsFile
from recworld.progress import say
from recworld.seeding import child_seed
from recworld.settings import merge
from recworld.storage import read_json, write_json

if TYPE_CHECKING:
    from recworld.simulators.world import World

DRAWN = 8
"""Trials that are drawn at random before the estimator proposes any."""
PRUNERS = ("median", "hyperband", "none")
WHOLE, GIVEN_UP, FAILED = "whole", "given up", "failed"


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        number: from 0.
        state: "whole", "given up" (pruned) or "failed".
        value: mean return of validation users at the last evaluation; None where it failed.
        options: what was proposed, nested as the algorithm takes it.
        params: the same as the estimator knows it, by dotted name.
        distributions: of the parameters, in Optuna's JSON.
        curve: return by the number of the evaluation, so that trials whose updates end at other steps are compared.
        steps: user steps at the last evaluation.
        reason: why it failed.
        attributes: what the pruner noted at the trial.
    """

    number: int
    state: str
    value: float | None
    options: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, str] = field(default_factory=dict)
    curve: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    reason: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        trials: in the order in which they ran.
        importance: share of the variance between whole trials by parameter, largest first; empty where there are too few.
    """

    trials: list[Trial]
    importance: dict[str, float]

    @property
    def best(self) -> Trial:
        """Return the whole trial with the largest return.

        Raises:
            InputError: no trial came to its end.
        """
        whole = [trial for trial in self.trials if trial.state == WHOLE]
        if not whole:
            raise InputError("No trial came to its end: see the reasons in trials.csv.")
        return max(whole, key=lambda trial: (float(trial.value or 0.0), -trial.number))


@dataclass(frozen=True)
class Setup:
    """What all trials have in common.

    Attributes:
        algo: a registered name, ``module:Class``, or a class.
        world: the world of training and validation.
        options: settings of the algorithm that are not varied, and the start values of those that are; nested.
        env_options: arguments of `RecVectorEnv`.
        members: of the world, that training meets.
        total_steps: user steps of a trial.
        every: user steps between two evaluations.
        streams: validation episodes in each.
        seed: of everything.
        pruner: one of `PRUNERS`.
        only: names of the settings to vary; all with a known range when None.
    """

    algo: Any
    world: World
    options: Mapping[str, Any]
    env_options: Mapping[str, Any]
    members: Sequence[int] = (0,)
    total_steps: int = 100_000
    every: int = 10_000
    streams: int = STREAMS
    seed: int = 0
    pruner: str = "median"
    only: Sequence[str] | None = None


def require_optuna() -> None:
    """Check that Optuna is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError("A search of settings needs Optuna: python -m pip install 'recworld[tune]'.")


def search(setup: Setup, trials: int, folder: Path) -> SearchResult:
    """Run trials until `trials` are finished, going on with those that `folder` holds.

    Args:
        setup: what they have in common.
        trials: how many in all.
        folder: of the trials; made where it does not exist.

    Raises:
        InputError: no Optuna, nothing to vary, fewer than 1 trial, or the first trial fails.
        CorruptError: a file of a trial is broken.
    """
    require_optuna()
    if trials < 1:
        raise InputError(f"A search needs at least 1 trial. Got {trials}.")
    if setup.pruner not in PRUNERS:
        raise InputError(f"The pruner must be one of {', '.join(PRUNERS)}. Got {setup.pruner!r}.")
    space = search_space(setup.algo, setup.options, setup.only)
    own = own_space(AGENTS.get(setup.algo) if isinstance(setup.algo, str) else setup.algo)
    folder.mkdir(parents=True, exist_ok=True)
    done = stored_trials(folder)
    study = _study(setup, done)
    while len(done) < trials:
        number = len(done)
        study.sampler = _sampler(child_seed(setup.seed, "trial", number))
        if number == 0 and space:
            study.enqueue_trial(start_values(setup.algo, setup.options, space))
        asked = study.ask()
        if own is not None:
            proposed = _own_options(own, asked)
        else:
            proposed = nested({name: one.suggest(asked, name) for name, one in space.items()})
        finished = _run(setup, asked, proposed, folder, trials)
        study.tell(asked, finished.value if finished.state == WHOLE else None, state=_state(finished))
        finished = replace(finished, attributes=_noted(study))
        write_json(_file(folder, number), asdict(finished))
        done.append(finished)
        _say(finished, done)
        if number == 0 and finished.state == FAILED:
            raise InputError(f"The first trial failed, so none is likely to do better: {finished.reason}")
    return SearchResult(done, _importance(_study(setup, done), setup.seed))


def _own_options(own: Callable[[Any], Any], asked: Any) -> dict[str, Any]:
    options = own(asked)
    if not isinstance(options, Mapping):
        raise InputError(
            f"search_space(trial) must return a dict of options by name. Got {type(options).__name__}."
        )
    return dict(options)


class _Judged(PeriodicEvaluation):
    """Tells the trial every return, and ends the training of one that is given up."""

    def __init__(self, trial: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trial, self.behind, self.last = trial, False, 0
        self.curve: dict[str, float] = {}

    def __call__(self, steps_done: int, figures: dict[str, float]) -> bool:
        super().__call__(steps_done, figures)
        return not self.behind

    def evaluate(self, step: int) -> dict[str, float]:
        found = super().evaluate(step)
        value, number = found["eval/return"], step // self.every
        number += str(number) in self.curve  # the end, where it is not a multiple of `every`
        self.last = step
        self.curve[str(number)] = value
        if math.isfinite(value):
            self.trial.report(value, number)
            self.behind = self.trial.should_prune()
        return found

    def _say(self, step: int, found: Mapping[str, float]) -> None:
        say(f"  trial {self.trial.number}: return {found['eval/return']:.2f} after {step:,} steps")


def _run(setup: Setup, asked: Any, proposed: dict[str, Any], folder: Path, trials: int) -> Trial:
    """Train and judge one trial; whatever goes wrong in it is its result."""
    say(f"Trial {asked.number} of {trials}: {_listed(asked.params)}")
    facts: dict[str, Any] = {
        "number": asked.number,
        "options": proposed,
        "params": dict(sorted(asked.params.items())),
    }
    facts["distributions"] = _distributions(asked)
    try:
        judged = _train(setup, asked, proposed, folder)
    except InputError as error:
        return Trial(state=FAILED, value=None, reason=str(error), **facts)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Trial(state=FAILED, value=None, reason=reason, **facts)
    values = list(judged.curve.values())
    if not values or not all(map(math.isfinite, values)):
        return Trial(state=FAILED, value=None, reason="the return is not a number", **facts)
    state = GIVEN_UP if judged.behind and judged.last < setup.total_steps else WHOLE
    return Trial(state=state, value=values[-1], curve=judged.curve, steps=judged.last, **facts)


def _train(setup: Setup, asked: Any, proposed: Mapping[str, Any], folder: Path) -> _Judged:
    """Train with the same seeds as `recworld train`, so that a run with these settings ends where the trial did."""
    from recworld.envs import RecVectorEnv

    options = merge(dict(setup.options), dict(proposed))
    env = RecVectorEnv(
        int(options.get("num_envs", 64)),
        world=setup.world,
        users="train",
        members=list(setup.members),
        seed=child_seed(setup.seed, "train"),
        **setup.env_options,
    )
    agent: Any = make_agent(setup.algo, env, child_seed(setup.seed, "agent"), options)
    judged = _Judged(
        asked,
        agent,
        setup.world.with_members(list(setup.members)),
        setup.env_options,
        every=setup.every,
        metrics=MetricsFile.start(folder / f"{asked.number:04d}.jsonl"),
        streams=setup.streams,
        seed=setup.seed,
    )
    steps = 0

    def border(done: int, figures: dict[str, float]) -> bool:
        nonlocal steps
        steps = done
        return judged(done, figures)

    if isinstance(agent, Learner):
        agent.learn(env, setup.total_steps, border)
        steps = steps or setup.total_steps  # for one that never reports
    if judged.last < steps or not judged.curve:  # the end is always judged
        judged.start(steps)
    return judged


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.json"


def stored_trials(folder: Path) -> list[Trial]:
    """Return the finished trials that a folder holds, in order.

    Raises:
        CorruptError: a file is not one of a trial.
    """
    found: list[Trial] = []
    while (path := _file(folder, len(found))).is_file():
        try:
            found.append(Trial(**read_json(path)))
        except TypeError as error:
            raise CorruptError(f"{path} is not a trial: {error}.") from error
    return found


def _sampler(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=DRAWN)


def _study(setup: Setup, done: Sequence[Trial]) -> Any:
    """Return a study in memory that knows the finished trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    evaluations = -(-setup.total_steps // setup.every)
    pruners: dict[str, Callable[[], Any]] = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=evaluations // 4),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=1, max_resource=evaluations),
        "none": optuna.pruners.NopPruner,
    }
    study = optuna.create_study(
        study_name="search", direction="maximize", sampler=_sampler(0), pruner=pruners[setup.pruner]()
    )
    for trial in done:
        kinds = {
            name: optuna.distributions.json_to_distribution(text)
            for name, text in trial.distributions.items()
        }
        study.add_trial(
            optuna.trial.create_trial(
                state=_state(trial),
                value=trial.value,
                params=trial.params,
                distributions=kinds,
                system_attrs=trial.attributes,
                intermediate_values={int(number): value for number, value in trial.curve.items()},
            )
        )
    return study


def _state(trial: Trial) -> Any:
    from optuna.trial import TrialState

    return {WHOLE: TrialState.COMPLETE, GIVEN_UP: TrialState.PRUNED, FAILED: TrialState.FAIL}[trial.state]


def _noted(study: Any) -> dict[str, Any]:
    """Return what the pruner noted at the newest trial: Hyperband its rungs, by which it judges later ones."""
    return {
        name: value
        for name, value in study.trials[-1].system_attrs.items()
        if name.startswith("completed_rung")
    }


def _distributions(asked: Any) -> dict[str, str]:
    import optuna

    return {name: optuna.distributions.distribution_to_json(one) for name, one in asked.distributions.items()}


def _importance(study: Any, seed: int) -> dict[str, float]:
    """Return how much of the variance between whole trials each parameter explains (fANOVA, Hutter et al. 2014)."""
    import optuna

    whole = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(whole) < 4 or len({trial.value for trial in whole}) < 2:
        return {}
    judge = optuna.importance.FanovaImportanceEvaluator(seed=child_seed(seed, "importance") % 2**32)
    found = optuna.importance.get_param_importances(study, evaluator=judge)
    return {name: float(value) for name, value in sorted(found.items(), key=lambda pair: -pair[1])}


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in params.items()
    )


def _say(finished: Trial, done: Sequence[Trial]) -> None:
    if finished.state == FAILED:
        say(f"  failed: {finished.reason}")
        return
    values = [float(trial.value or 0.0) for trial in done if trial.state == WHOLE]
    best = f", best so far {max(values):.2f}" if values else ""
    say(f"  {finished.state}: return {finished.value:.2f} on validation users{best}")
