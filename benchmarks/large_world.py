"""A world of a million items and ten million users, 4,096 of them at a time: memory and speed.

    python benchmarks/large_world.py                          # some minutes, to invent the world; below 12 GiB
    python benchmarks/large_world.py --users 1000000          # smaller
    python benchmarks/large_world.py --half                   # text vectors of users in half precision
    python benchmarks/large_world.py --candidates retrieved --retrieval index

Everything is invented from a seed: one member, 16 factors of rating and 16 of attraction, text vectors of width 64, ten
early items a user (100 million early rows), keys of users as strings of their own. Printed are resident memory after each
stage, its peak, and user steps a second (K = 10, C = 100, `ids`, `strong`, random slates).
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from recworld.envs import RecVectorEnv
from recworld.logs import RatingScale
from recworld.simulators import World
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.tables import AgentTables, ResponseTables

FACTORS, WIDTH, EARLY, AT_ONCE = 16, 64, 10, 250_000
CANDIDATES, SLATE = 100, 10


def resident() -> float:
    """Return the memory of this process now, in GiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**30


def told(what: str, start: float) -> None:
    """Print a stage's time and the memory after it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{what:44} {time.process_time() - start:7.1f} s of CPU  {resident():6.2f} GiB now, {peak:6.2f} GiB at most",
        flush=True,
    )


def side(
    rng: np.random.Generator, rows: int, kind: Any, spread: np.ndarray, project: np.ndarray
) -> tuple[Any, Any, Any]:
    """Return text vectors of a side, its true factors, and the recommender's blurred ones; some rows at a time."""
    text = np.empty((rows, WIDTH), kind)
    true, seen = (np.empty((1, rows, 2 * FACTORS), np.float32) for _ in range(2))
    for first in range(0, rows, AT_ONCE):
        part = slice(first, min(first + AT_ONCE, rows))
        count = part.stop - first
        vector = rng.standard_normal((count, WIDTH), np.float32)
        vector /= np.linalg.norm(vector, axis=1, keepdims=True)
        text[part] = vector
        own = vector @ project + np.float32(0.4) * rng.standard_normal((count, 2 * FACTORS), np.float32)
        true[0, part] = own * spread
        seen[0, part] = true[0, part] + np.float32(0.5) * spread * rng.standard_normal(
            (count, 2 * FACTORS), np.float32
        )
    return text, true, seen


def invent(users: int, items: int, half: bool, seed: int = 0) -> World:
    """Return the world."""
    rng, start = np.random.default_rng(seed), time.process_time()
    project = (rng.normal(size=(WIDTH, 2 * FACTORS)) / np.sqrt(FACTORS)).astype(np.float32)
    ones = np.ones(FACTORS, np.float32)
    blocks = np.concatenate([ones * np.sqrt(2.0), ones * 1.2]).astype(np.float32) / np.float32(
        np.sqrt(FACTORS)
    )
    item_text, item, item_seen = side(rng, items, np.float32, blocks, project)
    user_text, taste, taste_seen = side(
        rng, users, np.float16 if half else np.float32, blocks * np.float32(0.6 * np.sqrt(FACTORS)), project
    )
    told("text vectors and factors", start)
    start = time.process_time()

    def normal(count: int, middle: float, spread: float) -> Any:
        return (middle + spread * rng.standard_normal((1, count), np.float32)).astype(np.float32)

    own = {
        "user_rating_bias": normal(users, 3.4, 0.4), "user_attraction_bias": normal(users, 0.0, 0.3),
        "user_shift": np.zeros((1, users), np.float32), "user_scale": np.full((1, users), 1.1, np.float32),
        "user_sigma": np.full((1, users), 0.9, np.float32),
        "thresholds": np.asarray([[1.65, 2.75, 3.85, 4.95]], np.float32),
    }  # fmt: skip
    bias = {"item_rating_bias": normal(items, 0.0, 0.5), "item_attraction_bias": normal(items, 0.0, 1.2)}
    truth = ResponseTables(taste=taste, item=item, rating_width=FACTORS, **own, **bias)
    blurred = {name: array + normal(items, 0.0, 0.3) for name, array in bias.items()}
    response = ResponseTables(taste=taste_seen, item=item_seen, rating_width=FACTORS, **own, **blurred)
    # Items near the head of a random order are met far oftener.
    order = rng.permutation(items).astype(np.int32)
    history = np.empty(users * EARLY, np.int32)
    for first in range(0, len(history), 10 * AT_ONCE):
        part = history[first : first + 10 * AT_ONCE]
        part[:] = order[
            (items * rng.random(len(part), np.float32) ** 2 * np.float32(0.999999)).astype(np.int32)
        ]
    feedback = np.resize(np.asarray([0.5, 0.0, 1.0, -0.5, 0.5, 1.0, -1.0], np.float32), len(history))
    agent = AgentTables(
        response=response,
        popularity=np.bincount(history, minlength=items).astype(np.float32),
        history_start=np.arange(0, len(history) + 1, EARLY, dtype=np.int64),
        history_item=history,
        history_feedback=feedback,
    )
    told("biases and early items", start)
    start = time.process_time()
    world = World(
        name="large", truth=truth, agent=agent, user_vector=user_text, item_vector=item_text,
        scale=RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0), dynamics=dynamics_preset("strong"),
        splits={"train": np.arange(users, dtype=np.int32)},
        user_keys=tuple(map(str, range(users))), item_keys=tuple(map(str, range(items))),
        user_text=("",) * users, item_text=("",) * items,
    )  # fmt: skip
    told("keys", start)
    return world


def main() -> None:
    """Invent, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=10_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--half", action="store_true", help="text vectors of users in half precision")
    parser.add_argument("--candidates", default="random", choices=["random", "popular", "retrieved"])
    parser.add_argument("--retrieval", default="exact", choices=["exact", "index"])
    options = parser.parse_args()
    print(
        f"U = {options.users:,}, I = {options.items:,}, N = {options.num_envs:,}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    world = invent(options.users, options.items, options.half)
    start = time.process_time()
    env = RecVectorEnv(
        options.num_envs, world=world, num_candidates=CANDIDATES, slate_size=SLATE, candidates=options.candidates,
        retrieval=options.retrieval,
    )  # fmt: skip
    told("environment", start)
    start = time.process_time()
    env.reset(seed=0)
    told("reset", start)
    rng = np.random.default_rng(0)
    slates = [
        np.argsort(rng.random((options.num_envs, CANDIDATES)), axis=1)[:, :SLATE].copy() for _ in range(4)
    ]
    clicks, ended = 0, 0
    start, start_cpu = time.perf_counter(), time.process_time()
    for t in range(options.steps):
        _, _, terminated, truncated, info = env.step(slates[t % 4])
        clicks += int(info.get("final_info", info)["click"].sum())
        ended += int((terminated | truncated).sum())
    done = options.steps * options.num_envs
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    told(f"{options.steps} steps", start_cpu)
    print(
        f"{done / wall:,.0f} user steps a second, {done / cpu:,.0f} per second of CPU time; "
        f"clicks of a step {clicks / done:.3f}, ended episodes {ended:,}"
    )


if __name__ == "__main__":
    main()
