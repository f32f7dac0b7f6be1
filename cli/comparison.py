"""What a comparison is made of: policies by name, the two worlds, tuned baselines. Used after training and by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recworld.agents import AGENTS, load_agent, make_agent
from recworld.agents.filtering import Filtering
from recworld.agents.tuning import TunedBaselines, cached_baselines
from recworld.agents.upper import Planner, cached_planner
from recworld.errors import InputError, did_you_mean
from recworld.evaluation import Leaderboard, compare, split_members
from recworld.evaluation.comparing import Policy
from recworld.runs import RunFolder
from recworld.simulators.world import World

TUNED = ("mmr", "static")


def check_names(names: Sequence[str], flag: str) -> None:
    """Check, before the long work, that each name is a policy that needs no training.

    Raises:
        InputError: it is not.
    """
    for name in names:
        if name not in AGENTS and ":" not in name:
            raise InputError(f"{flag} got {name!r}, which is no policy. {did_you_mean(name, AGENTS.names())}")
        if hasattr(AGENTS.get(name), "settings_type"):
            raise InputError(
                f"{flag} got {name!r}, which has to be trained first: give the folder of its run."
            )


def baselines(
    names: Sequence[str], world: World, env_options: Mapping[str, Any], seed: int
) -> dict[str, Policy]:
    """Return baselines by name; those with something to tune are tuned on validation users (once, then cached).

    Args:
        names: registered names, or ``module:Class``.
        world: with the members that training met.
        env_options: arguments of `RecVectorEnv`.
        seed: of the tuning.
    """
    tuned = TunedBaselines({}, _nothing())
    if set(names) & set(TUNED):
        tuned = cached_baselines(world, env_options, seed=seed)
    found: dict[str, Policy] = {
        name: tuned.factory(name) if name in AGENTS else partial(_own, name) for name in names
    }
    planners = {"planner": Planner, "filtering": Filtering}
    if set(names) & set(planners):
        costs = cached_planner(world, env_options, seed=seed)
        found |= {name: partial(planners[name], **costs) for name in names if name in planners}
    return found


def _nothing() -> Any:
    import numpy as np

    return np.zeros(0)


def _own(name: str, env: Any, seed: int = 0) -> Any:
    return make_agent(name, env, seed)


def trained_policy(run: RunFolder) -> Policy:
    """Return the policy of a run, to be loaded for the environment it is measured in."""
    folder = run.trained()
    return partial(_load, folder)


def _load(folder: Path, env: Any, seed: int = 0) -> Any:
    return load_agent(folder, env)


def leaderboard(
    trained: Mapping[str, Policy],
    names: Sequence[str],
    world: World,
    env_options: Mapping[str, Any],
    members: tuple[Sequence[int], Sequence[int]],
    *,
    users: str,
    episodes: int,
    seed: int,
) -> Leaderboard:
    """Measure trained policies and baselines in the training world and in the evaluation world.

    Args:
        trained: policies by name.
        names: baselines.
        world: with all members.
        env_options: arguments of `RecVectorEnv`.
        members: of the training world, and of the evaluation world.
        users: "train", "validation" or "test".
        episodes: whole episodes of each user.
        seed: of the episodes.
    """
    worlds = split_members(world, members[0], members[1])
    others = baselines(names, worlds["training world"], env_options, seed)
    policies = {**trained, **others}
    return compare(
        policies,
        worlds,
        env_options,
        episodes_per_user=episodes,
        seeds=[seed],
        users=users,
        trained=list(trained),
    )
