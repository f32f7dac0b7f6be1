"""What a leaderboard that trains can be told, beside all settings of training."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from recworld.cli.flags import FlagReader
from recworld.errors import InputError
from recworld.settings import Settings, validate

BASELINES = (
    "random", "popularity", "static", "greedy", "epsilon_greedy", "mmr", "informed", "filtering", "planner", "oracle",
)  # fmt: skip
"""Baselines and upper lines of a leaderboard, those of them that are registered."""


class BoardSettings(Settings):
    """Train algorithms with several seeds in one world and compare them with the baselines in several.

    All flags of training are taken too (--dataset, --total-steps, --reward ...): see recworld train -h.
    """

    algos: list[str] = Field(min_length=1)
    """Algorithms, with settings of their own where wanted: ppo dqn@gamma=0,learning_rate=1e-3 my_package.module:Agent."""
    seeds: int = Field(5, ge=1, le=1000)
    """Training seeds of each algorithm: --seed, --seed + 1, ..., all in the world of --seed."""
    jobs: int = Field(1, ge=1, le=1024)
    """Runs side by side, one thread each."""
    myopic: Literal["yes", "no"] = "yes"
    """Whether each algorithm that looks ahead gets a row with gamma = 0 beside it: what looking ahead is worth."""
    insiders: Literal["yes", "no"] = "no"
    """Whether each algorithm is also trained in the evaluation world itself, as an upper line: what was lost by not knowing
    it. Doubles the training."""
    baselines: list[str] | None = None
    """What rows are compared with; none: all registered baselines and upper lines (greedy is always among them)."""
    worlds: dict[str, str] = Field({})
    """More worlds to measure in, as NAME=FOLDER, over the same users and items: one fitted to the other half of the log."""
    presets: list[str] | None = None
    """Dynamics to repeat everything in, training included: --presets strong static; none: those of --dynamics."""
    margin: float | None = Field(None, gt=0)
    """Difference in return that counts for nothing when gamma = 0 is tested for it; none: 2 % of greedy's return."""
    users: Literal["train", "validation", "test"] = "test"
    """Whose episodes are played."""
    episodes: int = Field(2, ge=1)
    """Whole episodes of every user, in each world."""
    output: str | None = None
    """Folder of the leaderboard and its runs; none: boards/<dataset>."""


def read_board(words: list[str]) -> tuple[BoardSettings, list[str]]:
    """Return the settings of the leaderboard, and the words that are flags of training.

    Raises:
        InputError: a flag or a value is wrong.
    """
    reader = FlagReader(BoardSettings)
    own, training = reader.divide(words)
    flags, _ = reader.read(own)
    values: dict[str, Any] = dict(flags)
    for name in ("worlds",):
        if name in values and not isinstance(values[name], dict):
            raise InputError(f"--{name} takes NAME=FOLDER. Got {values[name]!r}.")
    settings = validate(BoardSettings, values, "flags", flags=True)
    if settings.margin is not None and not math.isfinite(settings.margin):
        raise InputError("--margin must be finite.")
    return settings, training
