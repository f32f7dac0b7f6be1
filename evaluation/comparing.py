"""Policies on the same users, seeds and streams: `evaluate_policy`, `evaluate_policies`, `compare` over several worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Agent
from recworld.agents.episodes import IGNORED_OPTIONS, episode_env, play
from recworld.errors import InputError
from recworld.evaluation.intervals import shown_matrix
from recworld.evaluation.metrics import PER_EPISODE, episode_metrics, first_slates
from recworld.evaluation.results import EvaluationResult, PolicyResult
from recworld.progress import bar
from recworld.seeding import child_seed

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv
    from recworld.evaluation.leaderboard import Leaderboard
    from recworld.simulators.world import World

AgentFactory = Callable[..., Agent]
Policy = Agent | AgentFactory | Sequence[Agent | AgentFactory]
"""An agent; ``factory(env, seed=...)``; or several of these: one algorithm trained with several seeds."""

REFERENCE = "greedy"


def evaluate_policy(
    agent: Agent,
    env: RecVectorEnv,
    *,
    name: str = "agent",
    users: npt.ArrayLike | None = None,
    seeds: Sequence[int] = (0,),
    episodes_per_user: int = 1,
) -> PolicyResult:
    """Let every user play the same number of whole episodes, on every seed, and measure them.

    Args:
        agent: anything with `act`.
        env: of `recworld.agents.episodes.episode_env`.
        name: the policy's name.
        users: (n,) user numbers; those of the environment's split by default.
        seeds: seeds of the environment.
        episodes_per_user: whole episodes on each seed.

    Raises:
        InputError: no seed, fewer than one episode, or an environment that resets itself.
    """
    return _evaluate([agent], env, name, users, seeds, episodes_per_user)


def _evaluate(
    agents: Sequence[Agent],
    env: RecVectorEnv,
    name: str,
    users: npt.ArrayLike | None,
    seeds: Sequence[int],
    episodes_per_user: int,
    progress: Callable[[int], Any] = lambda n: None,
) -> PolicyResult:
    if len(seeds) == 0 or episodes_per_user < 1:
        raise InputError(
            f"An evaluation needs a seed and an episode. Got seeds {list(seeds)}, {episodes_per_user} episodes."
        )
    number = env.world.users(env.users) if users is None else np.asarray(users)
    values, shown, overlap, same = [], [], [], []
    for agent in agents:
        found, items, first = [], [], []
        for seed in seeds:
            for episode in range(episodes_per_user):
                played = play(agent, env, number, seed=seed, episode=episode)
                found.append(episode_metrics(played, env.tables.item_vector))
                items.append(shown_matrix(played.item, env.world.num_items))
                first.append(first_slates(played.item[0], env.world.num_items))
                progress(1)
        values.append({metric: _mean_where_defined([one[metric] for one in found]) for metric in PER_EPISODE})
        union = items[0]
        for one in items[1:]:
            union = union.maximum(one)
        shown.append(union)
        overlap.append(np.mean([each for each, _ in first], axis=0))
        same.append(np.mean([share for _, share in first]))
    return PolicyResult(
        name=name,
        is_upper_line=bool(getattr(agents[0], "is_upper_line", False)),
        values={metric: np.stack([run[metric] for run in values]) for metric in PER_EPISODE},
        shown=shown,
        overlap=np.stack(overlap),
        same=np.array(same),
    )


def _mean_where_defined(episodes: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    table = np.stack(episodes)
    defined = np.isfinite(table)
    count = defined.sum(0)
    return np.where(count > 0, np.where(defined, table, 0.0).sum(0) / np.maximum(count, 1), np.nan)


def evaluate_policies(
    policies: Mapping[str, Policy],
    world: World,
    env_options: Mapping[str, Any] | None = None,
    *,
    episodes_per_user: int = 1,
    seeds: Sequence[int] = (0,),
    users: str = "test",
    reference: str = REFERENCE,
    label: str = "",
) -> EvaluationResult:
    """Measure policies on common random numbers: the same users, seeds, streams and episodes for each.

    Every user is pinned to a stream of their own number, so the episodes of a user do not depend on who else is measured.

    Args:
        policies: by name; an agent, ``factory(env, seed=...)`` (needed for agents that read the environment, such as
            the short-term oracle), or a list of either for an algorithm trained with several seeds.
        world: with the members that episodes draw from (`World.with_members`).
        env_options: arguments of `RecVectorEnv`; what an evaluation sets itself is passed over.
        episodes_per_user: whole episodes of each user on each seed.
        seeds: seeds of the environment.
        users: "train", "validation", "test" or "all".
        reference: the policy that all are compared with, where it is among them.
        label: name of the world in tables; its own by default.

    Raises:
        InputError: no policy, or as in `RecVectorEnv`.
    """
    if not policies:
        raise InputError("An evaluation needs at least one policy. Got none.")
    env = episode_env(world, env_options, users=users)
    results = {}
    with bar(
        sum(_count(policy) for policy in policies.values()) * len(seeds) * episodes_per_user,
        f"Evaluating in the {label}" if label else f"Evaluating in {world.name}",
        "rounds",
    ) as shown:
        for name, policy in policies.items():
            agents = _build(policy, env, name)
            results[name] = _evaluate(agents, env, name, None, seeds, episodes_per_user, shown.update)
    setting = {
        "world": world.name,
        "members": world.truth.num_members,
        "users": users,
        "num_users": len(world.users(users)),
        "seeds": [int(seed) for seed in seeds],
        "episodes_per_user": episodes_per_user,
        "env": {name: value for name, value in env.settings.items() if name not in IGNORED_OPTIONS},
    }
    return EvaluationResult(
        label or world.name, results, reference if reference in results else None, setting
    )


def _count(policy: Policy) -> int:
    return len(policy) if isinstance(policy, Sequence) else 1


def _build(policy: Policy, env: RecVectorEnv, name: str) -> list[Agent]:
    given = list(policy) if isinstance(policy, Sequence) else [policy]
    agents = []
    for run, one in enumerate(given):
        made = one
        if isinstance(one, type) or not hasattr(one, "act"):
            if not callable(one):
                raise InputError(f"Policy {name!r} must be an agent or a factory. Got {type(one).__name__}.")
            made = one(env, seed=child_seed(0, "evaluation", name, run))
        agents.append(made)
    if not agents:
        raise InputError(f"Policy {name!r} must hold at least one agent. Got none.")
    return agents  # type: ignore[return-value]


def split_members(
    world: World, training: Sequence[int] = (0, 1), evaluation: Sequence[int] | None = None
) -> dict[str, World]:
    """Return the worlds of a comparison by label: what training met and, where members are left, what it never met.

    Args:
        world: with all members.
        training: members that training meets.
        evaluation: members that it never met; all others by default.

    Raises:
        InputError: no such member, or a member that is in both.
    """
    rest = [m for m in range(world.truth.num_members) if m not in set(training)]
    chosen = rest if evaluation is None else list(evaluation)
    both = sorted(set(chosen) & set(training))
    if both:
        raise InputError(f"Members of the evaluation world must be unknown to training. {both} are in both.")
    worlds = {"training world": world.with_members(list(training))}
    if chosen:
        worlds["evaluation world"] = world.with_members(chosen)
    return worlds


def compare(
    policies: Mapping[str, Policy],
    worlds: Mapping[str, World],
    env_options: Mapping[str, Any] | None = None,
    *,
    episodes_per_user: int = 1,
    seeds: Sequence[int] = (0,),
    users: str = "test",
    reference: str = REFERENCE,
    trained: Sequence[str] | None = None,
    check_taste: bool = True,
) -> Leaderboard:
    """Measure policies in every world and return the leaderboard.

    Args:
        policies: as in `evaluate_policies`.
        worlds: by label, as `split_members` gives them; the first is the one that training met.
        env_options: arguments of `RecVectorEnv`.
        episodes_per_user: whole episodes of each user on each seed.
        seeds: seeds of the environment.
        users: "train", "validation", "test" or "all".
        reference: the policy that all are compared with.
        trained: the policies to give a verdict on; all but the registered baselines by default.
        check_taste: measure once more with tastes that stay, to tell whether a gain is one of shifted tastes only
            (skipped where tastes stay anyway).

    Raises:
        InputError: as in `evaluate_policies`, or no world.
    """
    from recworld.evaluation.leaderboard import Leaderboard

    if not worlds:
        raise InputError("A comparison needs at least one world. Got none.")
    results = [
        evaluate_policies(
            policies, world, env_options, episodes_per_user=episodes_per_user, seeds=seeds, users=users,
            reference=reference, label=label,
        )
        for label, world in worlds.items()
    ]  # fmt: skip
    still = None
    first = next(iter(worlds.values()))
    dynamics = episode_env(first, env_options, users=users, num_users=1).world.dynamics
    if check_taste and reference in policies and dynamics.taste_rate > 0:
        competing = {k: v for k, v in policies.items() if not results[0].policies[k].is_upper_line}
        still = evaluate_policies(
            competing, first, {**(env_options or {}), "dynamics": dynamics.model_copy(update={"taste_rate": 0.0})},
            episodes_per_user=episodes_per_user, seeds=seeds, users=users, reference=reference,
            label="training world, tastes that stay",
        )  # fmt: skip
    return Leaderboard(results, trained=trained, still=still)
