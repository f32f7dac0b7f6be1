"""Where training by Stable-Baselines3 spends its time: the world, the adapter, the networks, its buffer and its loop.

    python benchmarks/sb3_profile.py                 # half a minute on one thread

PPO with 256 users side by side, K = 5, C = 100, three times: its own `MultiInputPolicy` on `ids` (as numbers, which says
nothing but costs least), the same on `features` (the text vectors in one long row), and our `ppo`, whose policy, buffer and
collection stand on Stable-Baselines3. Calls are timed from outside, no profiler runs; what is called inside another timed
call is taken off it; one rollout beforehand is not counted. *The rest* is what Stable-Baselines3 does between them:
conversion to tensors, losses, logs. Times are of the processor, so that other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from recworld.agents import make_agent
from recworld.agents.facts import FactReader
from recworld.agents.networks import SlatePolicyNetwork
from recworld.agents.on_policy import RolloutBuffer, SlatePolicy
from recworld.envs import RecVectorEnv
from recworld.envs.sb3 import Sb3VecEnv
from recworld.simulators import bundled_world

USERS, SLATE, CANDIDATES, ROLLOUT = 256, 5, 100, 16
WORLD, ADAPTER, BUFFER, REST = "world", "adapter", "rollout buffer", "the rest of its loop"
ACT, LEARN, BACK, MOVE = "networks: acting", "networks: learning, forward", "networks: backward", "optimiser"
PARTS = (WORLD, ADAPTER, BUFFER, ACT, LEARN, BACK, MOVE, REST)


class Clock:
    """Seconds by part; time inside an inner part is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Count what is done inside as `part`."""
        self._inner.append(0.0)
        start = time.process_time()
        try:
            yield
        finally:
            spent = time.process_time() - start
            self.seconds[part] += spent - self._inner.pop()
            if self._inner:
                self._inner[-1] += spent

    def call(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function that is timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            with self.running(part):
                return function(*arguments, **named)

        return timed

    def batches(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a generator function whose making of each item is timed."""

        def timed(*arguments: Any, **named: Any) -> Iterator[Any]:
            source = function(*arguments, **named)
            while True:
                with self.running(part):
                    item = next(source, None)
                if item is None:
                    return
                yield item

        return timed


def timed(clock: Clock) -> ExitStack:
    """Put the clock around every part."""
    stack = ExitStack()
    calls: list[tuple[Any, str, str]] = [
        (RecVectorEnv, "step", WORLD),
        (Sb3VecEnv, "step_wait", ADAPTER),
        (torch.Tensor, "backward", BACK),
        (torch.nn.utils, "clip_grad_norm_", MOVE),
        (torch.optim.Adam, "step", MOVE),
        (FactReader, "forward", ACT),
        (SlatePolicyNetwork, "feedback_loss", LEARN),
        *[(SlatePolicyNetwork, name, ACT) for name in ("shortlisted", "standard_estimate")],
        *[(policy, "forward", ACT) for policy in (MultiInputActorCriticPolicy, SlatePolicy)],
        *[(policy, "predict_values", ACT) for policy in (MultiInputActorCriticPolicy, SlatePolicy)],
        *[(policy, "evaluate_actions", LEARN) for policy in (MultiInputActorCriticPolicy, SlatePolicy)],
        *[(DictRolloutBuffer, name, BUFFER) for name in ("reset", "add", "compute_returns_and_advantage")],
        *[(RolloutBuffer, name, BUFFER) for name in ("reset", "add_feedback", "add_known")],
    ]
    for owner, name, part in calls:
        stack.enter_context(patch.object(owner, name, clock.call(getattr(owner, name), part)))
    for buffer, name in ((DictRolloutBuffer, "get"), (RolloutBuffer, "get"), (RolloutBuffer, "feedback")):
        stack.enter_context(patch.object(buffer, name, clock.batches(getattr(buffer, name), BUFFER)))
    return stack


def environment(form: str) -> RecVectorEnv:
    """Return the environment that is learnt in."""
    world = bundled_world(943, 1682, width=64, factors=16, members=1)
    return RecVectorEnv(
        USERS, world=world, observation=form, slate_size=SLATE, num_candidates=CANDIDATES, dynamics="strong", seed=0
    )  # fmt: skip


def stock(form: str) -> Callable[[int], Any]:
    """Return the training of Stable-Baselines3's own policy."""
    env: Any = Sb3VecEnv(environment(form))
    agent = PPO("MultiInputPolicy", env, n_steps=ROLLOUT, batch_size=512, n_epochs=4, seed=0, device="cpu")
    agent.learn(USERS * ROLLOUT)
    return agent.learn


def ours() -> Callable[[int], Any]:
    """Return the training of our policy, its warm start left out."""
    env = environment("ids")
    agent: Any = make_agent("ppo", env, 0, {"warm_start": 0.0, "n_steps": ROLLOUT})
    return lambda steps: agent.learn(env, steps)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12_288, help="user steps of each training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"load {os.getloadavg()[0]:.1f}; {options.steps:,} user steps, N = {USERS}, K = {SLATE}, C = {CANDIDATES}"
    )
    rows = []
    for make in (lambda: stock("ids"), lambda: stock("features"), ours):
        learn, clock = make(), Clock()
        with timed(clock):
            start = time.process_time()
            with clock.running(REST):
                learn(options.steps)
            rows.append((clock.seconds, time.process_time() - start))
    print(f"{'share of the time':28} {'its policy, ids':>16} {'its policy, features':>22} {'our ppo':>10}")
    for part in PARTS:
        shares = [seconds[part] / total for seconds, total in rows]
        print(f"{part:28} {shares[0]:16.1%} {shares[1]:22.1%} {shares[2]:10.1%}")
    rates = [options.steps / total for _, total in rows]
    print(f"{'user steps per CPU second':28} {rates[0]:16,.0f} {rates[1]:22,.0f} {rates[2]:10,.0f}")


if __name__ == "__main__":
    main()
