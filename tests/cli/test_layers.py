"""Settings are laid over each other: code, the package's YAML, --config, flags; what is saved says everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from recworld.agents import AGENTS
from recworld.agents.ppo import PPOSettings
from recworld.cli.settings import TrainSettings, load_settings, resolve_fit, resolve_train
from recworld.configs import config_names, config_text
from recworld.logs.loading import DATASETS
from recworld.settings import parse_yaml


@pytest.mark.parametrize("name", config_names())
def test_the_packages_yaml_is_valid_and_belongs_to_something(name: str) -> None:
    assert name in AGENTS or name in DATASETS
    settings = resolve_train(["--algo", name] if name in AGENTS else ["--dataset", name])
    given = parse_yaml(config_text(name), name)
    assert given
    assert all(getattr(settings, key) == value for key, value in given.items() if not isinstance(value, dict))


def test_every_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "total_steps: 7\nenv: {horizon: 9, slate_size: 2}\ndynamics: static\nagent: {gamma: 0.5}\n"
    )
    code = TrainSettings.model_fields["total_steps"].default
    package = resolve_train([]).total_steps
    assert package != code
    from_file = resolve_train(["--config", str(file)])
    assert (from_file.total_steps, from_file.env.horizon, from_file.agent.gamma) == (7, 9, 0.5)
    flags = resolve_train(["--config", str(file), "--horizon", "3", "--dynamics.boredom", "2", "--gamma=0.7"])
    assert (flags.total_steps, flags.env.horizon, flags.env.slate_size) == (7, 3, 2)
    assert flags.agent == PPOSettings(gamma=0.7)
    assert (flags.dynamics.preset, flags.dynamics.boredom, flags.dynamics.leaving) == ("static", 2.0, False)


def test_the_algorithm_may_stand_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("algo: dqn\n")
    assert hasattr(resolve_train(["--config", str(file)]).agent, "buffer_size")
    assert resolve_train(["--config", str(file), "--algo", "a2c"]).agent.n_steps == 8


def test_saved_settings_come_back_as_they_were() -> None:
    settings = resolve_train(
        ["--dynamics", "static", "--boredom", "1", "--env.reward", "click=1", "rating=0.5"]
    )
    again = load_settings(settings.model_dump(mode="json"), "settings.yaml")
    assert again.model_dump() == settings.model_dump()
    assert again.env.reward == {"click": 1.0, "rating": 0.5}
    assert again.evaluation.every == settings.total_steps // 10


def test_members_are_divided() -> None:
    both = resolve_train(["--world.members", "3"])
    assert (both.env.members, both.evaluation.members) == ([0], [1, 2])
    alone = resolve_train(["--world.members", "1"])
    assert (alone.env.members, alone.evaluation.members) == ([0], [])


def test_one_device_for_all() -> None:
    settings = resolve_train(["--device", "cuda:1"])
    assert (settings.encoder.device, settings.agent.device) == ("cuda:1", "cuda:1")
    assert resolve_fit(["--device", "cpu"]).encoder.device == "cpu"
