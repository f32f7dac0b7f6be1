"""User steps a second through the Gymnasium API, random slates, resets, masks, rating draws, rewards and infos included.

    python benchmarks/speed.py                                       # ours, one process
    python benchmarks/speed.py --peers-python ../peers/bin/python    # and the peers, see speed_peers.py
    python benchmarks/speed.py --items 1000 100000 1000000           # large catalogues: the last takes a minute to invent

Prints medians over rounds, per second of wall clock and of CPU time (the second is what a busy machine leaves comparable),
the spread of the rounds, and the best round. N = 1 goes through `gymnasium.make`, N > 1 through `RecVectorEnv`, the adapter
through `Sb3VecEnv` without a learner. Two floors of the machine are measured in the same run: copying the bytes of an
observation in `features` form, and reading as many random rows of tables of the catalogue's size as a step does.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
from numba import njit
from speed_peers import PEERS, line, peer_rows

from recworld.envs import RecVectorEnv, Sb3VecEnv
from recworld.simulators import bundled_world
from recworld.simulators.lanes import ahead, dots, pointer
from recworld.simulators.world import World

ROUNDS = 7
CANDIDATES = 100


def slates(n: int, slate: int) -> list[np.ndarray]:
    """Return a few random slates of positions, drawn beforehand so that drawing them is not measured."""
    rng = np.random.default_rng(0)
    return [np.argsort(rng.random((n, CANDIDATES)), axis=1)[:, :slate].copy() for _ in range(16)]


def rates(step: Callable[[int], Any], n: int, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Return user steps per wall second and per CPU second of each round."""
    wall, cpu = [], []
    for t in range(20):
        step(t)
    for _ in range(ROUNDS):
        start, start_cpu = time.perf_counter(), time.process_time()
        for t in range(calls):
            step(t)
        wall.append(n * calls / (time.perf_counter() - start))
        cpu.append(n * calls / (time.process_time() - start_cpu))
    return np.asarray(wall), np.asarray(cpu)


def environment(world: World, n: int, slate: int, **arguments: Any) -> RecVectorEnv:
    """Return the environment that is measured."""
    env = RecVectorEnv(
        n,
        world=world,
        num_candidates=CANDIDATES,
        slate_size=slate,
        dynamics="strong",
        users="all",
        **arguments,
    )
    env.reset(seed=0)
    return env


def stepping(env: Any, n: int, slate: int) -> Callable[[int], Any]:
    """Return a function that makes the t-th step."""
    actions = slates(n, slate)
    return lambda t: env.step(actions[t % 16])


def single(world: World, slate: int) -> Callable[[int], None]:
    """Return a step of `gymnasium.make`'s environment; episodes are reset as they end."""
    env = gym.make(
        "recworld:recworld/Slate-v0", world=world, num_candidates=CANDIDATES, slate_size=slate, observation="ids",
        dynamics="strong", users="all", disable_env_checker=True,
    )  # fmt: skip
    env.reset(seed=0)
    actions = [a[0] for a in slates(1, slate)]

    def step(t: int) -> None:
        _, _, terminated, truncated, _ = env.step(actions[t % 16])
        if terminated or truncated:
            env.reset()

    return step


def copied(env: RecVectorEnv, n: int, slate: int) -> Callable[[int], Any]:
    """Return a function that copies the bytes of an observation into fresh arrays, the last two of which stay alive."""
    observation, kept = env.step(slates(n, slate)[0])[0], []

    def copy(t: int) -> None:
        kept.append([array.copy() for array in observation.values()])
        if len(kept) > 2:
            kept.pop(0)

    return copy


@njit(nogil=True)
def read_rows(own: Any, table: Any, rows: Any, out: Any) -> None:
    """Read rows of a table, (N, C) numbers, as fast as they come: one product with each."""
    for n in range(len(rows)):
        at, width = ahead(pointer(rows), n * rows.shape[1]), table.shape[1]
        dots(pointer(out), pointer(own), pointer(table), width, width, at, rows.shape[1])


def reading(items: int, n: int, slate: int) -> Callable[[int], Any]:
    """Return a function that reads the random rows of a step: of candidates (16 floats and a bias), and of slates (64)."""
    rng = np.random.default_rng(0)
    sizes = ((CANDIDATES, 16), (CANDIDATES, 8), (slate, 64), (slate, 16))
    tables = [np.ones((items, width), np.float32) for _, width in sizes]
    counts = [-(-count // 4) * 4 for count, _ in sizes]  # rows are read by four
    rows = [[rng.integers(0, items, (n, count)).astype(np.int32) for count in counts] for _ in range(8)]
    out, own = np.zeros(CANDIDATES + 8, np.float32), np.ones(64, np.float32)

    def read(t: int) -> None:
        for table, numbers in zip(tables, rows[t % 8], strict=True):
            read_rows(own, table, numbers, out)

    return read


def show(name: str, wall: np.ndarray, cpu: np.ndarray, note: str = "") -> float:
    """Print one row; return the median per CPU second."""
    spread = (cpu.max() - cpu.min()) / np.median(cpu)
    middle = float(np.median(cpu))
    print(
        f"{name:52} {np.median(wall):12,.0f} {middle:12,.0f} {cpu.max():12,.0f} {spread:6.0%}  {note}",
        flush=True,
    )
    return middle


def ours(world: World) -> None:
    """Print the rows of one world."""
    for n, slate, threads, calls in (
        (1024, 10, 1, 60),
        (1024, 10, 2, 60),
        (1024, 5, 1, 60),
        (256, 5, 1, 200),
    ):
        env = environment(world, n, slate, threads=threads)
        name = f"N = {n}, K = {slate}, ids" + (f", {threads} threads" if threads > 1 else "")
        show(name, *rates(stepping(env, n, slate), n, calls))
    env = environment(world, 1024, 5, observation="features")
    whole, floor = (
        rates(make(env, 1024, 5), 1024, 12)
        for make in (lambda e, n, k: stepping(e, n, k), lambda e, n, k: copied(e, n, k))
    )
    ratio = np.median(floor[0]) / np.median(whole[0])
    show("N = 1024, K = 5, features", *whole, note=f"{ratio:.2f} times the copying of its bytes")
    adapter = Sb3VecEnv(environment(world, 256, 5))
    adapter.reset()
    show("N = 256, K = 5, ids, Stable-Baselines3 adapter", *rates(stepping(adapter, 256, 5), 256, 200))
    show("N = 1 by gymnasium.make, K = 10, ids", *rates(single(world, 10), 1, 4000))


def catalogues(sizes: list[int]) -> None:
    """Print how a step grows with the catalogue, beside what reading its random rows costs."""
    for items in sizes:
        world = bundled_world(1000, items, width=64, factors=16, members=1)
        step = rates(stepping(environment(world, 1024, 10), 1024, 10), 1024, 20)
        floor = rates(reading(items, 1024, 10), 1024, 20)
        ratio = np.median(floor[1]) / np.median(step[1])
        show(
            f"N = 1024, K = 10, I = {items:,}",
            *step,
            note=f"{ratio:.1f} times the reading of its random rows",
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--world", help="folder of a world; by default an invented one of MovieLens-100K's size"
    )
    parser.add_argument(
        "--items", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="catalogue sizes"
    )
    parser.add_argument("--peers-python", help="interpreter that holds the peers; none: they are left out")
    arguments = parser.parse_args()
    if arguments.world:
        world = World.load(Path(arguments.world))
    else:
        world = bundled_world(943, 1682, width=64, factors=16, members=2)
    print(
        f"world: {world.name}, U = {world.num_users}, I = {world.num_items}, D = {world.vector_width}, C = {CANDIDATES}"
    )
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    print(f"{'user steps a second':52} {'wall':>12} {'CPU':>12} {'best (CPU)':>12} {'spread':>6}")
    ours(world)
    catalogues(arguments.items)
    if arguments.peers_python:
        for peer in PEERS:
            for row in peer_rows(arguments.peers_python, peer, 3):
                print(line(row), flush=True)


if __name__ == "__main__":
    main()
