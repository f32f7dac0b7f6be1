"""What each part of PPO is worth: the same training without it, in MovieLens-100K's world, on the same users and luck.

    python benchmarks/agent_parts.py --seeds 0 1 --jobs 2                     # all variants, validation users
    python benchmarks/agent_parts.py --variants default "gamma = 0" --seeds 0 1 2 --users test

The defaults of PPO were chosen by this script on validation users. A variant is trained on training users for as many user
steps as the default; printed are its return, its difference to the default and to tuned MMR, in the world of training and in
members of the ensemble that it never met (95 % intervals over users, seeds pooled), and the processor time of a training.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other on a busy machine cost more

import numpy as np

from recworld.agents import make_agent
from recworld.agents.episodes import episode_env, play
from recworld.agents.tuning import cached_baselines
from recworld.encoders import EncoderSettings, encode_log
from recworld.envs import RecVectorEnv
from recworld.logs import load_log
from recworld.simulators.build import WorldSettings, cached_world
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.world import World

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "warm start alone": {"warm_start": 0.9999},
    "no warm start": {"warm_start": 0.0},
    "gamma = 0": {"gamma": 0.0},
    "no memory of items": {"network": {"item_memory": False}},
    "no feedback: policy gradient alone": {"feedback_epochs": 0},
    "all weights as fast": {"slow_share": 1.0},
    "64 users, 32 steps": {"num_envs": 64, "n_steps": 32, "batch_size": 256, "n_epochs": 2},
}
ENV: dict[str, Any] = {"slate_size": 5, "num_candidates": 100}
WORLDS = {"training world": [0, 1], "evaluation world": [2, 3]}


def the_world(dataset: str, dynamics: str) -> World:
    """Return the world of `train_agent.py`, from the cache where it is there."""
    log = load_log(dataset)
    text = encode_log(log, EncoderSettings())
    return cached_world(log, text.user, text.item, WorldSettings(), dynamics_preset(dynamics), 0, dataset)


def measured(agent: Any, world: World, users: str, episodes: int) -> dict[str, np.ndarray]:
    """Return the mean return of every user, by world."""
    out = {}
    for name, members in WORLDS.items():
        env = episode_env(world.with_members(members), ENV, users=users)
        made = agent(env) if callable(agent) and not hasattr(agent, "act") else agent
        played = [play(made, env, world.users(users), seed=0, episode=e).returns() for e in range(episodes)]
        out[name] = np.mean(played, 0)
    return out


def run(job: tuple[str, int, int, str, str, str, int]) -> tuple[str, int, float, dict[str, np.ndarray]]:
    """Train one variant with one seed and measure it."""
    import torch

    name, seed, steps, users, dataset, dynamics, episodes = job
    torch.set_num_threads(1)
    world = the_world(dataset, dynamics)
    settings = VARIANTS[name]
    env = RecVectorEnv(
        int(settings.get("num_envs", 256)), world=world.with_members(WORLDS["training world"]), users="train",
        seed=100 + seed, **ENV,
    )  # fmt: skip
    agent: Any = make_agent("ppo", env, seed, settings)
    start = time.process_time()
    agent.learn(env, steps)
    return name, seed, time.process_time() - start, measured(agent, world, users, episodes)


def line(values: np.ndarray) -> str:
    """Return mean and half width of the 95 % interval over users of (seeds, users)."""
    by_user = values.mean(0)
    return f"{by_user.mean():+6.2f} ±{1.96 * by_user.std(ddof=1) / np.sqrt(len(by_user)):.2f}"


def main() -> None:
    """Train all variants and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--users", default="validation", choices=["validation", "test"])
    parser.add_argument("--episodes", type=int, default=4)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--dynamics", default="strong", choices=["strong", "static"])
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    world = the_world(options.dataset, options.dynamics)  # fills the cache before the processes start
    training = world.with_members(WORLDS["training world"])
    mmr = measured(
        cached_baselines(training, ENV, seed=0).factory("mmr"), world, options.users, options.episodes
    )
    jobs = [
        (name, seed, options.steps, options.users, options.dataset, options.dynamics, options.episodes)
        for seed in options.seeds
        for name in options.variants
    ]
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in options.variants}
    seconds: dict[str, list[float]] = {name: [] for name in options.variants}
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for name, seed, spent, values in pool.map(run, jobs):
            found[name].append(values)
            seconds[name].append(spent)
            print(
                f"{name}, seed {seed}: " + ", ".join(f"{w} {v.mean():.2f}" for w, v in values.items()),
                flush=True,
            )
    for label in WORLDS:
        print(f"\n{label}, {options.users} users; MMR {mmr[label].mean():.2f}")
        first = np.stack([one[label] for one in found[options.variants[0]]])
        for name in options.variants:
            own = np.stack([one[label] for one in found[name]])
            print(
                f"{name:36s} {own.mean():6.2f}   to {options.variants[0]} {line(own - first)}   "
                f"to MMR {line(own - mmr[label])}   {np.median(seconds[name]):4.0f} s of processor time"
            )


if __name__ == "__main__":
    main()
