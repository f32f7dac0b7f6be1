"""docs/agents.md is true: every algorithm has its row, every command is understood, every file and method is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from recworld.agents import AGENTS, base
from recworld.agents.checking import SIGNATURES
from recworld.cli.settings import peek, resolve_train
from recworld.envs import RecVectorEnv

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "agents.md").read_text()
TRAINED = {name for name in AGENTS.names() if hasattr(AGENTS.get(name), "settings_type")}


def rows(after: str) -> list[str]:
    table = TEXT[TEXT.index(after) :].split("\n\n", 1)[0]
    return re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)


def test_every_algorithm_has_its_row() -> None:
    trained, untrained = rows("| name | follows |"), rows("| name | what it does |")
    assert set(trained) == TRAINED
    assert set(untrained) == set(AGENTS.names()) - TRAINED
    upper = {name for name in untrained if getattr(AGENTS.get(name), "is_upper_line", False)}
    assert upper == {name for name in untrained if f"| `{name}` | upper line" in TEXT}


def test_every_example_has_its_row() -> None:
    assert set(rows("| file | what it shows |")) == {path.name for path in (ROOT / "examples").glob("*.py")}


def test_what_an_agent_sees_is_what_the_environment_gives() -> None:
    table = TEXT[TEXT.index("| key |") :].split("\n\n", 1)[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == set(RecVectorEnv(1).single_observation_space)


def test_every_optional_method_is_named_with_its_arguments() -> None:
    for name, arguments in SIGNATURES.items():
        if name != "act":
            assert re.search(rf"`{name}\({', '.join(arguments)}(=None)?\)`", TEXT), name
    assert {"Agent", "Learner", "Persistent", "Resumable"} <= set(vars(base))


@pytest.mark.parametrize("line", re.findall(r"^python train_agent\.py .*$", TEXT, re.MULTILINE))
def test_every_command_is_understood(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_agents.py").write_text(
        "class MyAgent:\n    def __init__(self, env, learning_rate=1.0): ...\n"
    )
    words = shlex.split(line)[2:]
    if peek(words, "--config") is not None:
        words = []
    resolve_train(words)
