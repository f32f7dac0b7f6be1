"""A search of settings finds what is known to be best, goes on after a kill as if unbroken, and meets no test user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from recworld.agents import AGENTS
from recworld.agents.dqn import DQNSettings
from recworld.agents.ppo import PPOSettings
from recworld.errors import CorruptError, InputError
from recworld.evaluation import search as search_module
from recworld.evaluation.search import FAILED, GIVEN_UP, WHOLE, Setup, search, stored_trials
from recworld.evaluation.search_space import RANGES, nested, search_space, start_values
from recworld.settings import merge, validate
from recworld.simulators.bundled import bundled_world

ENV = {"num_candidates": 12, "slate_size": 3, "horizon": 4, "observation": "ids"}


class Sided:
    """Shows the best candidates by the agent-side score, or the worst; ``epsilon`` is the share of worst ones."""

    seen: set[int] = set()  # noqa: RUF012

    def __init__(self, env: Any, seed: int = 0, epsilon: float = 0.1) -> None:
        self.size, self.epsilon = env.slate_size, epsilon

    def act(self, observation: Any, deterministic: bool = True) -> Any:
        Sided.seen.update(observation["user"].ravel().tolist())
        score = observation["candidate_score"] * (1 if self.epsilon < 0.08 else -1)
        order = np.argsort(-np.where(observation["action_mask"] == 1, score, -np.inf), axis=1, kind="stable")
        return order[:, : self.size]

    def learn(self, env: Any, total_steps: int, callback: Any = None) -> None:
        env.reset()
        for step in range(env.num_envs, total_steps + 1, env.num_envs):
            if not callback(step, {"loss/nothing": 0.0}):
                return


class OwnSpace(Sided):
    @staticmethod
    def search_space(trial: Any) -> dict[str, Any]:
        return {"epsilon": trial.suggest_categorical("side", [0.5, 0.0])}


class Breaks(Sided):
    def __init__(self, env: Any, seed: int = 0, epsilon: float = 0.1) -> None:
        if epsilon == 0.2:
            raise RuntimeError("no room")
        super().__init__(env, seed, epsilon)


class BreaksAtOnce(Sided):
    def __init__(self, env: Any, epsilon: float = 0.1) -> None:
        raise RuntimeError("no room at all")


def setup_of(algo: Any, **given: Any) -> Setup:
    chosen: dict[str, Any] = {
        "options": {},
        "env_options": ENV,
        "total_steps": 256,
        "every": 64,
        "streams": 24,
    }
    return Setup(algo, bundled_world(), **(chosen | given))


def ppo(**given: Any) -> Setup:
    options = PPOSettings(num_envs=16, n_steps=4, batch_size=64, n_epochs=1).model_dump()
    return setup_of("ppo", options=options, **given)


def test_it_finds_what_is_best_and_gives_up_what_is_behind(tmp_path: Path) -> None:
    found = search(setup_of(Sided), 12, tmp_path)
    assert found.trials[0].options == {"epsilon": 0.1}, "the first takes what is given"
    good = [trial for trial in found.trials if trial.options["epsilon"] < 0.08]
    bad = [trial for trial in found.trials if trial.options["epsilon"] >= 0.08]
    assert good
    assert min(trial.value or 0.0 for trial in good) > max(trial.value or 0.0 for trial in bad)
    assert found.best in good
    given_up = [trial for trial in found.trials if trial.state == GIVEN_UP]
    assert given_up
    assert all(trial in bad and trial.steps < 256 for trial in given_up)
    assert all(trial.steps == 256 for trial in found.trials if trial.state == WHOLE)
    assert found.importance == {"epsilon": 1.0}


def test_nobody_of_the_test_users_is_met(tmp_path: Path) -> None:
    setup = setup_of(Sided)
    Sided.seen.clear()
    search(setup, 2, tmp_path)
    assert Sided.seen
    assert Sided.seen <= set(setup.world.users("validation").tolist()), "its learn acts with nobody"
    assert not Sided.seen & set(setup.world.users("test").tolist())


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_killed_search_goes_on_as_if_unbroken(tmp_path: Path, pruner: str) -> None:
    unbroken = search(setup_of(Sided, pruner=pruner), 10, tmp_path / "unbroken")
    for trials in (1, 4):
        search(setup_of(Sided, pruner=pruner), trials, tmp_path / "killed")
    (tmp_path / "killed" / "0004.jsonl").write_text(
        '{"step": 64, "eval/return": 1.0}\n'
    )  # killed within a trial
    resumed = search(setup_of(Sided, pruner=pruner), 10, tmp_path / "killed")
    assert resumed == unbroken
    for path in sorted((tmp_path / "unbroken").iterdir()):
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()


def test_a_trained_agent_is_searched_the_same_way_twice(tmp_path: Path) -> None:
    setup = ppo(only=["learning_rate", "network.hidden", "gamma"])
    first = search(setup, 3, tmp_path / "a")
    assert first == search(setup, 3, tmp_path / "b")
    assert first.trials[0].options == {"learning_rate": 3e-3, "network": {"hidden": 32}, "gamma": 0.95}
    assert len({str(trial.options) for trial in first.trials}) == 3
    assert list(stored_trials(tmp_path / "a")[1].params) == list(first.trials[1].params), (
        "tables keep their columns"
    )
    assert all(set(trial.curve) <= {"1", "2", "3", "4"} for trial in first.trials)


def test_a_class_may_say_what_is_searched(tmp_path: Path) -> None:
    found = search(setup_of(OwnSpace), 6, tmp_path)
    assert found.best.options == {"epsilon": 0.0}
    assert found.best.params == {"side": 0.0}
    with pytest.raises(InputError, match="search_space of its own"):
        search(setup_of(OwnSpace, only=["epsilon"]), 1, tmp_path / "x")


def test_a_trial_that_fails_is_told_and_passed_over(tmp_path: Path) -> None:
    found = search(setup_of(Breaks), 12, tmp_path)
    failed = [trial for trial in found.trials if trial.state == FAILED]
    assert {trial.reason for trial in failed} == {"RuntimeError: no room"}
    assert all(trial.options == {"epsilon": 0.2} for trial in failed)
    assert search(setup_of(Breaks), 12, tmp_path) == found
    with pytest.raises(InputError, match=r"The first trial failed.*no room at all"):
        search(setup_of(BreaksAtOnce), 3, tmp_path / "x")


def test_only_settings_that_there_are_and_the_given_value_in_their_range() -> None:
    dqn = DQNSettings(gamma=0.77, tau=0.5, network={"hidden": 48}).model_dump()
    space = search_space("dqn", dqn)
    assert "gae_lambda" not in space
    assert {"tau", "epsilon_end", "network.projection"} <= set(space)
    assert 0.77 in space["gamma"].values  # type: ignore[union-attr]
    assert 48 in space["network.hidden"].values  # type: ignore[union-attr]
    assert space["tau"].high == 1.0, "within the bounds of the setting"  # type: ignore[union-attr]
    assert set(space) <= set(RANGES)
    assert nested({"network.hidden": 48}) == {"network": {"hidden": 48}}


@pytest.mark.parametrize(
    "name", [name for name in AGENTS.names() if hasattr(AGENTS.get(name), "settings_type")]
)
def test_whatever_is_proposed_is_valid(name: str) -> None:
    kind = AGENTS.get(name).settings_type
    options = kind().model_dump()
    space = search_space(name, options)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        proposed = nested({setting: one.suggest(trial, setting) for setting, one in space.items()})
        validate(kind, merge(options, proposed), name)
    start = start_values(name, options, space)
    assert validate(kind, merge(options, nested(start)), name) == kind()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"only": ["gama"]}, "Did you mean 'gamma'"),
        ({"algo": "random"}, "no setting with a known range"),
        ({"pruner": "best"}, "median, hyperband, none"),
    ],
)
def test_bad_input(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        search(replace(ppo(), **change), 1, tmp_path)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0000.json").write_text('{"what": 1}')
    with pytest.raises(CorruptError, match=r"0000\.json is not a trial"):
        stored_trials(tmp_path)


def test_without_optuna_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'recworld\[tune\]'"):
        search(ppo(), 1, tmp_path)
