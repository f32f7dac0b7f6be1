"""Flags become nested values; a wrong one is answered with the nearest right one."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from recworld.cli.flags import FlagReader
from recworld.errors import InputError
from recworld.settings import Settings, validate


class Env(Settings):
    """Env."""

    slate_size: int = Field(5, ge=1)
    """K."""
    reward: str | dict[str, float] = "click"
    """Reward."""
    members: list[int] = Field([0])
    """Members."""
    repeats: bool = False
    """Repeats."""
    seed: int = 0
    """Seed."""


class Dynamics(Settings):
    """Dynamics."""

    preset: str = "strong"
    """Preset."""
    boredom: float = 1.0
    """Boredom."""
    leaving: bool = True
    """Leaving."""


class Command(Settings):
    """Command."""

    total_steps: int = 10
    """Steps."""
    kind: Literal["a", "b"] = "a"
    """Kind."""
    limit: float | None = 1.0
    """Limit."""
    names: list[str] = Field([])
    """Names."""
    encoder_seed: int = 0
    """Seed."""
    env: Env = Env()
    """Env."""
    dynamics: Dynamics = Dynamics()
    """Dynamics."""
    other: Env = Env()
    """Other."""


READER = FlagReader(Command)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--total-steps 5", {"total_steps": "5"}),
        ("--total_steps=5", {"total_steps": "5"}),
        ("--env.slate-size 3 --env.slate_size 4", {"env": {"slate_size": "4"}}),
        ("--boredom 2", {"dynamics": {"boredom": "2"}}),
        ("--boredom -0.5", {"dynamics": {"boredom": "-0.5"}}),
        ("--dynamics static", {"dynamics": "static"}),
        ("--dynamics static --dynamics.boredom 2", {"dynamics": {"preset": "static", "boredom": "2"}}),
        ("--dynamics.boredom 2 --dynamics static", {"dynamics": {"preset": "static", "boredom": "2"}}),
        ("--env.members 0 1 2", {"env": {"members": ["0", "1", "2"]}}),
        ("--env.members 0,1 --names x", {"env": {"members": ["0", "1"]}, "names": ["x"]}),
        ("--env.reward rating", {"env": {"reward": "rating"}}),
        ("--env.reward click=1 rating=0.5", {"env": {"reward": {"click": "1", "rating": "0.5"}}}),
        ("--limit none", {"limit": None}),
        ("--env.repeats", {"env": {"repeats": True}}),
        ("--env.repeats false", {"env": {"repeats": False}}),
        ("--no-leaving", {"dynamics": {"leaving": False}}),
        ("--dynamics.no-leaving", {"dynamics": {"leaving": False}}),
        ("--no-dynamics.leaving", {"dynamics": {"leaving": False}}),
    ],
)
def test_flags_become_nested_values(line: str, expected: dict[str, Any]) -> None:
    assert READER.read(line.split()) == (expected, [])


def test_words_that_belong_to_no_flag_come_back() -> None:
    assert READER.read(["runs/a", "--kind", "b", "greedy", "--env.repeats", "mmr"]) == (
        {"kind": "b", "env": {"repeats": True}},
        ["runs/a", "greedy", "mmr"],
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--total-step 5", "Unknown flag --total-step. Did you mean --total-steps?"),
        ("--env.slate-sise 5", "Unknown flag --env.slate-sise. Did you mean --env.slate-size?"),
        ("--boredm 5", "Unknown flag --boredm. Did you mean --dynamics.boredom?"),
        ("--xyzzy 5", "Unknown flag --xyzzy. See --help for all flags."),
        ("--slate-size 5", "--slate-size could be any of --env.slate-size, --other.slate-size: write one."),
        ("--kind", "--kind needs a value."),
        ("--kind --limit 3", "--kind needs a value."),
        ("-k 5", "Unknown flag -k. Flags start with two dashes; see --help."),
        ("--env 5", "Unknown flag --env. "),
        ("--env.repeats=maybe", "--env.repeats takes true or false. Got 'maybe'."),
    ],
)
def test_wrong_flags_are_answered(line: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        READER.read(line.split())
    assert str(caught.value).startswith(expected)


@given(
    st.integers(1, 10**6),
    st.floats(0, 1e6),
    st.booleans(),
    st.lists(st.integers(0, 99), min_size=1, max_size=4),
)
def test_what_is_written_is_read(size: int, boredom: float, repeats: bool, members: list[int]) -> None:
    line = ["--env.slate-size", str(size), "--boredom", repr(boredom), "--env.repeats", str(repeats).lower()]
    values, words = READER.read([*line, "--env.members", *map(str, members)])
    settings = validate(Command, values, "flags")
    assert words == []
    assert settings.env == Env(slate_size=size, repeats=repeats, members=members)
    assert settings.dynamics.boredom == boredom


@given(st.lists(st.text("abc-.=_ 01", max_size=10), max_size=5))
def test_any_words_are_read_or_refused_in_one_line(words: list[str]) -> None:
    refused = ""
    try:
        READER.read(words)
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
