"""Settings of the baselines, chosen on validation users: a policy that beats an untuned heuristic has shown nothing.

`tune` is a coordinate search on common random numbers, so that two settings differ by what they do and not by luck.
`tune_baselines` tunes MMR and picks the strongest static ranking; `cached_baselines` keeps the result by content hash.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode

from recworld.agents.base import Agent
from recworld.agents.baselines import MMRAgent, StaticAgent
from recworld.agents.baselines_common import FloatArray
from recworld.agents.episodes import episode_env, play
from recworld.errors import CorruptError, InputError
from recworld.progress import track
from recworld.seeding import child_seed
from recworld.storage import (
    cache_root,
    cached_folder,
    content_hash,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv
    from recworld.simulators.world import World

FORMAT = 1
"""Raised whenever tuning gives other numbers for the same input, so that old cache entries are not taken."""

MMR_GRID: dict[str, Sequence[Any]] = {
    "history_penalty": (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0),
    "slate_penalty": (0.0, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5),
    "decay": (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0),
    "slate_similarity": ("max", "mean"),
}
MMR_START: dict[str, Any] = {
    "history_penalty": 1.0,
    "slate_penalty": 0.2,
    "decay": 0.85,
    "slate_similarity": "max",
}

STATIC_STEPS = 100_000
"""User steps in which the rewards of items are measured; half a million shown items for K = 5."""
LEARNING_USERS = 128
"""Training users side by side while rewards are measured."""


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes:
        options: the best setting.
        value: its mean return on the validation users.
        trials: every setting tried with its mean return, in order.
    """

    options: dict[str, Any]
    value: float
    trials: tuple[tuple[dict[str, Any], float], ...]


def tune(
    agent_class: Callable[..., Agent],
    env_factory: Callable[[], RecVectorEnv],
    grid: Mapping[str, Sequence[Any]],
    start: Mapping[str, Any],
    *,
    seed: int = 0,
    episodes: int = 4,
    passes: int = 2,
) -> TuneResult:
    """Search settings one coordinate at a time for the highest mean return, all on the same episodes.

    Args:
        agent_class: built as ``agent_class(env, seed=seed, **options)``.
        env_factory: makes an environment of `episode_env` over validation users.
        grid: values to try, by option; ties go to the earlier value.
        start: the setting to start from.
        seed: of the episodes.
        episodes: whole episodes of every user, per setting.
        passes: sweeps over all coordinates; a sweep that changes nothing ends the search.

    Raises:
        InputError: an option of `grid` is not in `start`.
    """
    missing = [name for name in grid if name not in start]
    if missing:
        raise InputError(f"The start of a search must give every option. It lacks {missing[0]}.")
    env = env_factory()
    users = env.world.users(env.users)
    seen: dict[str, float] = {}
    trials: list[tuple[dict[str, Any], float]] = []

    def value(options: dict[str, Any]) -> float:
        key = json.dumps(options, sort_keys=True)
        if key not in seen:
            agent = agent_class(env, seed=seed, **options)
            runs = [
                play(agent, env, users, seed=child_seed(seed, "tune"), episode=e) for e in range(episodes)
            ]
            seen[key] = float(np.mean([run.returns().mean() for run in runs]))
            trials.append((dict(options), seen[key]))
        return seen[key]

    best = dict(start)
    value(best)
    sweeps = [(number, name) for number in range(passes) for name in grid]
    changed = True
    for number, name in track(
        sweeps, f"Tuning {getattr(agent_class, '__name__', 'agent')}", unit="coordinates"
    ):
        if name == next(iter(grid)):
            if number and not changed:
                break
            changed = False
        for candidate in grid[name]:
            trial = best | {name: candidate}
            if value(trial) > value(best):
                best, changed = trial, True
    return TuneResult(best, value(best), tuple(trials))


@dataclass(frozen=True)
class TunedBaselines:
    """Options of the baselines for one world and environment.

    Attributes:
        options: constructor options by agent name, JSON-ready.
        static_values: (I,) float64, the chosen static ranking.
        report: mean returns on validation users, by agent and setting.
    """

    options: dict[str, dict[str, Any]]
    static_values: FloatArray
    report: dict[str, Any] = field(default_factory=dict)

    def factory(self, name: str) -> Callable[..., Agent]:
        """Return ``factory(env, seed=...)`` of a registered agent with its tuned options.

        Raises:
            InputError: no such agent.
        """
        if name == "static":
            return partial(StaticAgent, values=self.static_values)
        if name == "mmr":
            return partial(MMRAgent, **self.options.get("mmr", {}))
        from recworld.agents.registry import AGENTS

        return partial(AGENTS.get(name), **self.options.get(name, {}))

    def save(self, folder: Path) -> None:
        """Write ``baselines.json`` and ``baselines.safetensors`` into an existing folder."""
        write_json(
            folder / "baselines.json", {"format": FORMAT, "options": self.options, "report": self.report}
        )
        write_arrays(folder / "baselines.safetensors", {"static_values": self.static_values})

    @classmethod
    def load(cls, folder: Path) -> TunedBaselines:
        """Read what `save` wrote.

        Raises:
            CorruptError: a file is missing, broken or of another format.
        """
        meta, arrays = read_json(folder / "baselines.json"), read_arrays(folder / "baselines.safetensors")
        if not isinstance(meta, dict) or meta.get("format") != FORMAT or "static_values" not in arrays:
            raise CorruptError(f"{folder} does not hold tuned baselines of format {FORMAT}.")
        return cls(meta["options"], arrays["static_values"], meta["report"])


def tune_baselines(
    world: World,
    env_options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    episodes: int = 4,
    static_steps: int | None = None,
) -> TunedBaselines:
    """Tune MMR, and choose the strongest static ranking, on the validation users of a training world.

    The static ranking is the best of: mean agent-side expected click over training users, early popularity, and rewards
    measured on training users (`StaticAgent.learn`).

    Args:
        world: with the members that training meets.
        env_options: arguments of `RecVectorEnv`.
        seed: of the search.
        episodes: whole episodes of every validation user, per setting.
        static_steps: user steps to measure rewards in; `STATIC_STEPS` by default.
    """

    def validation() -> RecVectorEnv:
        return episode_env(world, env_options, users="validation")

    mmr = tune(MMRAgent, validation, MMR_GRID, MMR_START, seed=seed, episodes=episodes)
    env = validation()
    rankings = {
        "expected click": StaticAgent(env).values,
        "popularity": env.tables.popularity[:-1].astype(np.float64),
    }
    learner = StaticAgent(env, child_seed(seed, "static"))
    training = episode_env(
        world, env_options, users="train", num_users=LEARNING_USERS, autoreset_mode=AutoresetMode.SAME_STEP
    )
    learner.learn(training, static_steps or STATIC_STEPS)
    rankings["measured reward"] = learner.values
    values = {
        name: tune(
            partial(StaticAgent, values=ranking), validation, {}, {}, seed=seed, episodes=episodes
        ).value
        for name, ranking in rankings.items()
    }
    best = max(values, key=lambda name: values[name])
    report = {
        "mmr": {"value": mmr.value, "trials": [[options, value] for options, value in mmr.trials]},
        "static": {"chosen": best, "values": values},
    }
    return TunedBaselines({"mmr": mmr.options}, rankings[best], report)


def cached_baselines(
    world: World, env_options: Mapping[str, Any] | None = None, *, seed: int = 0
) -> TunedBaselines:
    """Return `tune_baselines` of the same arguments, from the cache where it was computed before.

    A reward that is a function (not a name) cannot be hashed: it is tuned anew each time.
    """
    env = episode_env(world, env_options, users="validation", num_users=1)
    if callable((env_options or {}).get("reward")):
        return tune_baselines(world, env_options, seed=seed)
    settings = {**env.settings, "members": None}
    key = content_hash(
        f"baselines {FORMAT}", world.fingerprint, json.dumps(settings, sort_keys=True), str(seed)
    )

    def fill(folder: Path) -> None:
        tune_baselines(world, env_options, seed=seed).save(folder)

    return TunedBaselines.load(cached_folder(cache_root() / "baselines" / key, fill))
