"""Rows of a leaderboard that trains: ``ppo``, ``dqn@gamma=0,learning_rate=1e-3``; each with the settings of its runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from recworld.cli.settings import TrainSettings, resolve_train, train_settings_type
from recworld.errors import InputError
from recworld.settings import Settings

GAMMA = "gamma"
INSIDER = " trained in the evaluation world"


@dataclass(frozen=True)
class Row:
    """One algorithm with its settings, to be trained with several seeds.

    Attributes:
        name: as it reads in tables.
        algo: the algorithm.
        options: settings of the algorithm, as text by name.
        far: the row that this one is the gamma = 0 form of.
        insider: whether it is trained in the world that the others are checked in: an upper line, which does not compete.
    """

    name: str
    algo: str
    options: tuple[tuple[str, str], ...] = ()
    far: str | None = None
    insider: bool = False

    @property
    def stem(self) -> str:
        """The name as it can stand in a file's name."""
        return re.sub(r"[^\w.@=,+-]", "_", self.name)

    def words(self) -> list[str]:
        """Return the row as flags of the training command."""
        agent = train_settings_type(self.algo).model_fields["agent"].annotation
        if isinstance(agent, type) and issubclass(agent, Settings):
            return ["--algo", self.algo, *(f"--agent.{name}={value}" for name, value in self.options)]
        pairs = [f"{name}={value}" for name, value in self.options]
        return ["--algo", self.algo, *(["--agent", *pairs] if pairs else [])]


def read_row(text: str) -> Row:
    """Read ``algorithm`` or ``algorithm@name=value,name=value``; a part without = belongs to the value before it.

    Raises:
        InputError: it is not of that form, or there is no such algorithm.
    """
    algo, at, rest = text.partition("@")
    parts: list[list[str]] = []
    for part in rest.split(",") if at else []:
        name, equals, value = part.partition("=")
        if equals and name:
            parts.append([name.strip(), value.strip()])
        elif parts and not equals:
            parts[-1][1] += f",{part}"
        else:
            raise InputError(f"--algos got {text!r}: settings are written ppo@gamma=0,learning_rate=1e-3.")
    if at and not parts:
        raise InputError(f"--algos got {text!r}: settings are written ppo@gamma=0,learning_rate=1e-3.")
    train_settings_type(algo)
    short = algo.rpartition(":")[2]
    name = short + (at + ",".join("=".join(part) for part in parts) if at else "")
    return Row(name, algo, tuple((name, value) for name, value in parts))


def read_rows(texts: Sequence[str], words: Sequence[str], myopic: bool, insiders: bool = False) -> list[Row]:
    """Return the rows, each once, with the gamma = 0 form of each that looks ahead.

    Args:
        texts: as typed after ``--algos``.
        words: flags of training, for all rows.
        myopic: whether a gamma = 0 row is added to each row that has that setting above 0.
        insiders: whether each row that was asked for is trained in the evaluation world too.

    Raises:
        InputError: a row is wrong, two are called the same, or there is no evaluation world to train in.
    """
    named: dict[str, Row] = {}
    for text in texts:
        row = read_row(text)
        if named.get(row.name, row) != row:
            raise InputError(f"--algos got two rows called {row.name!r}.")
        named[row.name] = row
    rows: dict[str, Row] = {}
    for row in named.values():
        rows.setdefault(row.name, row)
        gamma = getattr(settings_of(row, words).agent, GAMMA, None)
        if not isinstance(gamma, int | float) or gamma == 0:
            continue
        others = tuple(pair for pair in row.options if pair[0] != GAMMA)
        options = ((GAMMA, "0"), *others)
        known = [one for one in named.values() if one.algo == row.algo and _nears(one, others)]
        if known:
            rows[known[0].name] = Row(known[0].name, row.algo, known[0].options, row.name)
        elif myopic:
            name = row.name.partition("@")[0] + "@" + ",".join("=".join(pair) for pair in options)
            rows[name] = Row(name, row.algo, options, row.name)
    if insiders:
        for row in named.values():
            name = row.name + INSIDER
            rows[name] = Row(name, row.algo, row.options, None, True)
    return list(rows.values())


def _nears(row: Row, others: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether a row is gamma = 0 with these other settings."""
    gamma = dict(row.options).get(GAMMA)
    try:
        zero = gamma is not None and float(gamma) == 0
    except ValueError:
        return False
    return zero and sorted(pair for pair in row.options if pair[0] != GAMMA) == sorted(others)


def settings_of(
    row: Row, words: Sequence[str], seed: int | None = None, preset: str | None = None
) -> TrainSettings:
    """Return the settings of a run.

    Args:
        row: the row.
        words: flags of training, for all rows.
        seed: of training; the world keeps the seed of the words.
        preset: of the dynamics; the words' when None.

    Raises:
        InputError: a flag or a setting of the row is wrong.
    """
    try:
        first = ["--dynamics", preset] if preset is not None else []
        settings = resolve_train([*first, *words, *row.words()])
    except InputError as error:
        if row.options:
            raise InputError(f"--algos {row.name}: {error}") from None
        raise
    if row.insider:
        inside = settings.evaluation.members
        if not inside:
            raise InputError(
                "--insiders yes needs members that training never meets: --world.members 2 or more."
            )
        settings = settings.model_copy(
            update={
                "env": settings.env.model_copy(update={"members": inside}),
                "evaluation": settings.evaluation.model_copy(update={"members": settings.env.members}),
            }
        )
    if seed is None:
        return settings
    world_seed = settings.seed if settings.world_seed is None else settings.world_seed
    return settings.model_copy(update={"seed": seed, "world_seed": world_seed})
