"""Candidates retrieved from a large catalogue by an index, against the scan of all items: recall and cost of a step.

    python -m pip install "recworld[index]"
    python benchmarks/retrieval.py                    # 10,000 items, 100,000, and a million (a minute to invent)

For each catalogue: seconds and memory of building the index; recall at C = 100 against the scan for users at the start of an
episode, and for the same users later in it, whose estimate has moved and who have consumed items; then user steps a second
and milliseconds of CPU time a user step, both ways (N = 256 and 1024 by index, fewer users by scan), random slates, K = 10.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from recworld.envs import RecVectorEnv
from recworld.simulators import bundled_world
from recworld.simulators.world import World

CANDIDATES, SLATE, USERS = 100, 10, 200


def environment(world: World, n: int, retrieval: str) -> RecVectorEnv:
    """Return the environment that is measured."""
    env = RecVectorEnv(
        n, world=world, candidates="retrieved", retrieval=retrieval, num_candidates=CANDIDATES, slate_size=SLATE,
        dynamics="strong", users="all",
    )  # fmt: skip
    env.reset(seed=0)
    return env


def recall(steps: int, retrieval: RecVectorEnv) -> float:
    """Return the share of the scan's candidates that the index finds for users `steps` slates into an episode."""
    retrieval.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        retrieval.step(np.argsort(rng.random((USERS, CANDIDATES)), axis=1)[:, :SLATE])
    found = retrieval.candidate_items()
    best = np.stack([scan(retrieval.simulator, n) for n in range(USERS)])
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)]))


def scan(simulator: Any, n: int) -> np.ndarray:
    """Return the best items of user n that were not consumed, by plain NumPy."""
    world, row = simulator.world, simulator.int_rows[n]
    response = world.agent.response
    at = simulator.layout.agent_at + -(-response.rating_width // 8) * 8
    taste = simulator.float_rows[n, at : at + simulator.layout.agent_factors[1]]
    share = world.dynamics.popularity_share
    score = response.item[0][:, response.rating_width :] @ taste
    score = score + np.float32(0.5 if share is None else share) * response.item_attraction_bias[0]
    start, end = world.agent.history_start[row[0] : row[0] + 2]
    consumed = simulator.layout.consumed_at
    score[world.agent.history_item[start:end]] = -np.inf
    score[row[consumed : consumed + row[6]]] = -np.inf
    return np.argpartition(-score, CANDIDATES - 1)[:CANDIDATES]


def rate(env: RecVectorEnv, calls: int, rounds: int = 3) -> tuple[float, float]:
    """Return user steps per second of wall clock, and milliseconds of CPU time of a user step: medians over rounds."""
    rng, n = np.random.default_rng(0), env.num_envs
    slates = [np.argsort(rng.random((n, CANDIDATES)), axis=1)[:, :SLATE].copy() for _ in range(4)]
    wall, cpu = [], []
    env.step(slates[0])
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.process_time()
        for t in range(calls):
            env.step(slates[t % 4])
        wall.append(n * calls / (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - start_cpu) / (n * calls))
    return float(np.median(wall)), float(np.median(cpu))


def measure(items: int) -> None:
    """Print the figures of one catalogue."""
    world = bundled_world(300, items, width=64, factors=16, members=1)
    start = time.process_time()
    env = environment(world, USERS, "index")
    built, index = time.process_time() - start, env.simulator.index  # type: ignore[attr-defined]
    print(
        f"I = {items:,}: index built in {built:.1f} s of CPU time, {index.size / 2**20:.0f} MiB, {index.cells:,} cells, "
        f"{index.probes} gone through; recall at {CANDIDATES}: {recall(0, env):.4f} at the start of an episode, "
        f"{recall(5, env):.4f} five slates later",
        flush=True,
    )
    calls = max(1, min(20, 2_000_000 // items))
    scan_rate, scan_cost = rate(environment(world, 64, "exact"), calls, 1 if items > 500_000 else 3)
    print(
        f"  scan,  N =   64: {scan_rate:10,.0f} user steps/s, {scan_cost:8.3f} ms of CPU a user step",
        flush=True,
    )
    for n in (256, 1024):
        found, cost = rate(environment(world, n, "index"), 5)
        print(
            f"  index, N = {n:4}: {found:10,.0f} user steps/s, {cost:8.3f} ms of CPU a user step: "
            f"{scan_cost / cost:.0f} times as fast",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; one thread; C = {CANDIDATES}, K = {SLATE}, 16 factors, `strong`")
    for items in options.items:
        measure(items)


if __name__ == "__main__":
    main()
