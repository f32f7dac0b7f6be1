"""A hundred million user steps: does memory grow, do the statistics drift?

    python benchmarks/soak.py                 # 1e8 steps, N = 1024, some two minutes on one core
    python benchmarks/soak.py --steps 1e9

Random slates in an invented world, `strong`. Printed for every tenth of the way: the peak of resident memory so far (on
Linux), clicks a step with their standard error, the share of steps that end an episode, mean satisfaction and boredom.
Tenths that differ by much more than the error would be a drift.
"""

from __future__ import annotations

import argparse
import os
import resource

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from recworld.envs import RecVectorEnv
from recworld.simulators import bundled_world

USERS, SLATE, CANDIDATES = 1024, 10, 100


def main() -> None:
    """Print a row for every tenth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=float, default=1e8, help="user steps")
    calls = int(parser.parse_args().steps / USERS / 10)
    env = RecVectorEnv(
        USERS,
        world=bundled_world(943, 1682, width=64, factors=16, members=2),
        num_candidates=CANDIDATES,
        slate_size=SLATE,
        dynamics="strong",
        users="all",
    )
    env.reset(seed=0)
    random = np.random.default_rng(0)
    print(f"{'steps':>12} {'MiB':>8} {'clicks':>8} {'+-':>7} {'ended':>8} {'satisfied':>10} {'bored':>7}")
    for tenth in range(10):
        clicks, ended, satisfaction, boredom = (np.zeros(calls) for _ in range(4))
        for t in range(calls):
            first = random.integers(0, CANDIDATES)
            action = (first + np.arange(SLATE) * 7) % CANDIDATES
            _, _, terminated, truncated, info = env.step(np.broadcast_to(action, (USERS, SLATE)))
            happened = info.get("final_info", info)
            clicks[t], ended[t] = happened["click"].sum() / USERS, (terminated | truncated).mean()
            satisfaction[t], boredom[t] = happened["satisfaction"].mean(), happened["boredom"].mean()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        row = f"{(tenth + 1) * calls * USERS:12,d} {peak:8.1f} {clicks.mean():8.4f} {clicks.std() / np.sqrt(calls):7.4f} "
        print(row + f"{ended.mean():8.4f} {satisfaction.mean():10.4f} {boredom.mean():7.4f}", flush=True)


if __name__ == "__main__":
    main()
