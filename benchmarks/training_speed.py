"""What the world costs a learner: its share of the training time, and throughput against an environment that does nothing.

    python benchmarks/training_speed.py --algos ppo dqn --steps 20480 --rounds 3

The same policy and algorithm trains (without its cheap warm start) in the world and in an environment that answers every
slate with one and the same
observation; both in turns, in one process on one thread. Printed are medians over rounds: user steps a second, their ratio,
and the share of the training time that is spent inside the environment's `step` and its Stable-Baselines3 adapter.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from recworld.agents import AGENTS, make_agent
from recworld.agents.registry import option_names
from recworld.envs import RecVectorEnv
from recworld.envs.sb3 import Sb3VecEnv


class Still(RecVectorEnv):
    """Answers every slate with the first observation; nothing is simulated and no episode ends."""

    answer: tuple[Any, ...] | None = None

    def step(self, actions: Any) -> Any:
        """Return the same as before."""
        if self.answer is None:
            observation, reward, terminated, _, info = super().step(actions)
            over = terminated & False
            info = {name: value for name, value in info.items() if "final" not in name}
            self.answer = (observation, reward, over, over, info)
        return self.answer


def train(kind: type[RecVectorEnv], world: str | None, algo: str, steps: int) -> tuple[float, float]:
    """Return user steps a second, and the share of the time inside the environment and its adapter."""
    env = kind(64, world=world, users="train", slate_size=5, num_candidates=100 if world else 40, seed=0)
    settings = {"warm_start": 0.0} if "warm_start" in option_names(AGENTS.get(algo))[0] else {}
    agent: Any = make_agent(algo, env, 0, settings)
    agent.learn(env, 64)  # compiles
    inside = [0.0]
    wait = Sb3VecEnv.step_wait

    def timed(self: Any) -> Any:
        start = time.perf_counter()
        result = wait(self)
        inside[0] += time.perf_counter() - start
        return result

    Sb3VecEnv.step_wait = timed  # type: ignore[method-assign]
    try:
        start = time.perf_counter()
        agent.learn(env, steps)
        total = time.perf_counter() - start
    finally:
        Sb3VecEnv.step_wait = wait  # type: ignore[method-assign]
    return steps / total, inside[0] / total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--algos", nargs="+", default=["ppo", "dqn"])
    parser.add_argument("--steps", type=int, default=20_480, help="user steps of each training")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--world", type=Path, help="folder of a world (of a run, or of fit); default: the bundled one"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    world = None if options.world is None else str(options.world)
    print(
        f"load {os.getloadavg()[0]:.1f}; {options.steps:,} user steps, N = 64, K = 5, {options.rounds} rounds"
    )
    for algo in options.algos:
        rates: dict[str, list[float]] = {"world": [], "still": []}
        shares = []
        for _ in range(options.rounds):
            for name, kind in (("world", RecVectorEnv), ("still", Still)):
                rate, share = train(kind, world, algo, options.steps)
                rates[name].append(rate)
                if name == "world":
                    shares.append(share)
        one, other = (statistics.median(rates[name]) for name in ("world", "still"))
        print(
            f"{algo}: {one:,.0f} user steps/s in the world, {other:,.0f} in an environment that does nothing: "
            f"ratio {one / other:.2f}; {100 * statistics.median(shares):.1f} % of the time in the world and its adapter",
            flush=True,
        )


if __name__ == "__main__":
    main()
