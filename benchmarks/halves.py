"""Does what was learnt in a world survive in one made from other data? Two worlds from two disjoint halves of a log.

    python benchmarks/halves.py                          # MovieLens-100K, PPO, 400,000 steps in half A, seed 0
    python benchmarks/halves.py --seeds 0 1 2            # and other halves, users and luck

Every user's rows are dealt into two halves at random, so both worlds know every user, by different rows. PPO is trained and
MMR tuned in world A; both are then scored on test users in A and in B. The recommender's own side (its estimate, histories,
popularity) stays that of A: only the users are those of B.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other on a busy machine cost more

import numpy as np

from recworld.agents import make_agent
from recworld.agents.tuning import cached_baselines
from recworld.encoders import EncoderSettings, encode_log
from recworld.envs import RecVectorEnv
from recworld.evaluation import compare
from recworld.logs import InteractionLog, load_log
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators.build import WorldSettings, cached_world
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.world import World

ENV: dict[str, Any] = {"slate_size": 5, "num_candidates": 100}
RESAMPLES = 2000


def half_worlds(log: InteractionLog, encoder: str, members: int, seed: int) -> tuple[World, World]:
    """Return the worlds of two disjoint halves of every user's rows; B has the recommender's side of A."""
    shuffled = generator(seed, "halves").permutation(len(log))
    by_user = shuffled[np.argsort(log.user[shuffled], kind="stable")]
    text = encode_log(log, EncoderSettings(kind=encoder))
    halves = []
    for part in (0, 1):
        rows = np.sort(by_user[part::2])
        known = log.select(rows)
        settings = WorldSettings(members=members)
        # The same seed for both: the same test users. What differs is the data.
        halves.append(
            cached_world(
                known, text.user, text.item, settings, dynamics_preset("strong"), seed, f"half {part}"
            )
        )
    a, b = halves
    return a, replace(b, agent=a.agent, splits=a.splits)


def trained_ppo(world: World, steps: int, seed: int) -> Any:
    """Return PPO trained on training users of a world."""
    env = RecVectorEnv(
        256, world=world, users="train", observation="ids", seed=child_seed(seed, "train"), **ENV
    )
    agent: Any = make_agent("ppo", env, child_seed(seed, "agent"))
    with bar(steps, "Training ppo in half A", "steps") as shown:

        def border(done: int, figures: dict[str, float]) -> bool:
            shown.update(max(0, min(done, steps) - int(shown.n)))
            return True

        agent.learn(env, steps, border)
    return agent


def leads(a: Any, b: Any, name: str, other: str) -> Any:
    """Return each user's lead of `name` over `other` in both worlds, (2, n)."""
    return np.stack(
        [(r.policy(name).values["return"] - r.policy(other).values["return"]).mean(0) for r in (a, b)]
    )


def ratio(lead: Any, seed: int) -> dict[str, Any]:
    """Return lead(B) / lead(A) of leads (2, n), with a bootstrap interval over users."""
    users = generator(seed, "bootstrap").integers(0, lead.shape[1], (RESAMPLES, lead.shape[1]))
    bottom, top = (part[users].mean(1) for part in lead)
    low, high = np.percentile(top / bottom, [2.5, 97.5])
    first, second = (float(part.mean()) for part in lead)
    return {
        "lead_a": round(first, 3),
        "lead_b": round(second, 3),
        "ratio": round(second / first, 3),
        "ratio_interval": [round(float(low), 3), round(float(high), 3)],
        # A ratio of leads says something only where the lead it is divided by is apart from nothing.
        "lead_a_is_apart_from_0": bool(np.percentile(bottom, 2.5) > 0 or np.percentile(bottom, 97.5) < 0),
    }


def main() -> None:
    """Print the table of both worlds, one JSON line per seed and baseline, and one for all seeds together."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--encoder", default="bert")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--members", type=int, default=2)
    options = parser.parse_args()
    log = load_log(options.dataset)
    found: dict[str, list[Any]] = {"mmr": [], "greedy": []}
    for seed in options.seeds:
        a, b = half_worlds(log, options.encoder, options.members, seed)
        tuned = cached_baselines(a, ENV, seed=seed)
        policies = {
            "ppo": trained_ppo(a, options.steps, seed),
            **{name: tuned.factory(name) for name in ("random", "popularity", "greedy", "mmr")},
        }
        board = compare(
            policies, {"half A, trained in": a, "half B": b}, ENV, episodes_per_user=2, seeds=[seed],
            trained=["ppo"], check_taste=False,
        )  # fmt: skip
        print(board.text())
        for other, so_far in found.items():
            so_far.append(leads(*board.results[:2], "ppo", other))
            print(json.dumps({"seed": seed, "lead over": other, **ratio(so_far[-1], seed)}), flush=True)
    for other, so_far in found.items():
        pooled = ratio(np.concatenate(so_far, axis=1), 0)
        print(json.dumps({"seeds": options.seeds, "lead over": other, **pooled}))


if __name__ == "__main__":
    main()
