"""User steps a second through the Gymnasium API, random slates, resets, masks, rating draws, rewards and infos included.

    python benchmarks/speed.py

One process, one thread. Prints the median over repetitions and their spread, in steps per second of wall clock and of
CPU time (the second is what a busy machine leaves comparable), and the world it ran on. N = 1 goes through
`gymnasium.make`, N > 1 through `RecVectorEnv`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np

from recworld.envs import RecVectorEnv
from recworld.simulators import bundled_world
from recworld.simulators.world import World

ROUNDS = 7


def slates(rng: np.random.Generator, n: int, candidates: int, slate: int) -> list[np.ndarray]:
    """Return a few random slates of positions, drawn beforehand so that drawing them is not measured."""
    return [np.argsort(rng.random((n, candidates)), axis=1)[:, :slate].copy() for _ in range(16)]


def rates(step: object, n: int, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps per wall second and per CPU second of each round."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        start, start_cpu = time.perf_counter(), time.process_time()
        for t in range(calls):
            step(t)  # type: ignore[operator]
        wall.append(n * calls / (time.perf_counter() - start))
        cpu.append(n * calls / (time.process_time() - start_cpu))
    return np.asarray(wall), np.asarray(cpu)


def vector(
    world: World, n: int, candidates: int, slate: int, form: str, calls: int
) -> tuple[np.ndarray, np.ndarray]:
    """Measure `RecVectorEnv`."""
    env = RecVectorEnv(
        n,
        world=world,
        num_candidates=candidates,
        slate_size=slate,
        observation=form,
        dynamics="strong",
        users="all",
    )
    env.reset(seed=0)
    actions = slates(np.random.default_rng(0), n, candidates, slate)
    for t in range(20):
        env.step(actions[t % 16])
    return rates(lambda t: env.step(actions[t % 16]), n, calls)


def single(world: World, candidates: int, slate: int, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Measure `gymnasium.make`, episodes reset as they end."""
    env = gym.make(
        "recworld:recworld/Slate-v0", world=world, num_candidates=candidates, slate_size=slate, observation="ids",
        dynamics="strong", users="all", disable_env_checker=True,
    )  # fmt: skip
    env.reset(seed=0)
    actions = [a[0] for a in slates(np.random.default_rng(0), 1, candidates, slate)]

    def step(t: int) -> None:
        _, _, terminated, truncated, _ = env.step(actions[t % 16])
        if terminated or truncated:
            env.reset()

    for t in range(100):
        step(t)
    return rates(step, 1, calls)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--world", help="folder of a world; by default a synthetic one of MovieLens-100K's size"
    )
    arguments = parser.parse_args()
    if arguments.world:
        world = World.load(Path(arguments.world))
    else:
        world = bundled_world(943, 1682, width=64, factors=16, members=2)
    print(f"world: {world.name}, U = {world.num_users}, I = {world.num_items}, D = {world.vector_width}")
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    print(f"{'setting':44} {'steps/s (wall)':>16} {'steps/CPU-s':>14} {'spread':>9}")
    for n, candidates, slate, form, calls in (
        (1024, 100, 10, "ids", 60),
        (1024, 100, 5, "ids", 60),
        (256, 100, 5, "ids", 200),
        (256, 100, 5, "features", 30),
    ):
        show(
            f"N = {n}, K = {slate}, C = {candidates}, {form}",
            *vector(world, n, candidates, slate, form, calls),
        )
    show("N = 1 by gymnasium.make, K = 10, C = 100, ids", *single(world, 100, 10, 4000))


def show(name: str, wall: np.ndarray, cpu: np.ndarray) -> None:
    """Print one row: medians, and the spread of the CPU figure over the rounds."""
    spread = (cpu.max() - cpu.min()) / np.median(cpu)
    print(f"{name:44} {np.median(wall):16,.0f} {np.median(cpu):14,.0f} {spread:8.0%}", flush=True)


if __name__ == "__main__":
    main()
