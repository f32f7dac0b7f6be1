"""What `check_agent` tries of `learn`, `save` and `load`."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recworld.agents.checking_state import GlobalRandomness
from recworld.agents.registry import make_agent

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

STEPS = 60
"""Steps of every user that learning is tried for."""
RUNAWAY = 50
"""Learning that takes so many times the steps it was told is stopped. Whole rollouts round up, so less is no fault."""
UNSAFE = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".zip"}


class _TooLong(Exception):
    """Learning goes on and on."""


class _Counted:
    """Counts the user steps that learning takes in an environment, while it is entered."""

    def __init__(self, env: Any, limit: int) -> None:
        self.env, self.limit, self.steps = env, limit, 0

    def __enter__(self) -> _Counted:
        step = self.env.step

        def counted(action: Any) -> Any:
            if self.steps >= self.limit:
                raise _TooLong
            self.steps += self.env.num_envs
            return step(action)

        self.env.step = counted  # an attribute of the object hides the method of the class
        return self

    def __exit__(self, *_: object) -> None:
        del self.env.step


def learning_faults(agent: Any, build: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with learn: failure, its callback, its number of steps, global randomness.

    Args:
        agent: it learns.
        build: what makes such an agent anew, None where nothing does.
        env: it learns in.
    """
    told = STEPS * env.num_envs
    calls: list[tuple[Any, Any, int]] = []
    with _Counted(env, RUNAWAY * told) as count:

        def callback(steps: int, figures: dict[str, float]) -> bool:
            calls.append((steps, figures, count.steps))
            return True

        try:
            agent.learn(env, told, callback)
        except _TooLong:
            return [
                f"learn was told total_steps={told} and took more than {RUNAWAY * told} user steps. Stop at total_steps: "
                "for step in range(total_steps // env.num_envs)."
            ]
        except Exception as error:
            return [
                f"learn(env, total_steps, callback) failed: {type(error).__name__}: {error}. It gets a RecVectorEnv with "
                "autoreset: step it with (N, K) positions, and reset it once at the start."
            ]
    found = _reported(calls, count.steps, env.num_envs)
    if not found and 0 < count.steps < told - env.num_envs:
        found.append(
            f"learn was told total_steps={told} and took {count.steps} user steps. Count the steps of all users: every "
            "env.step is env.num_envs of them."
        )
    return found or _stopping(agent, build, env, bool(calls)) + _without_callback(agent, build, env)


def _reported(calls: list[tuple[Any, Any, int]], taken: int, num_envs: int) -> list[str]:
    """Return what is wrong with the calls of the callback."""
    if not calls and taken > 100 * num_envs:
        return [
            "learn never called its callback. After every update of the weights: "
            "if callback is not None and not callback(steps_done, figures): return."
        ]
    for steps, figures, counted in calls:
        scalars = isinstance(figures, dict) and all(isinstance(v, (int, float)) for v in figures.values())
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not scalars:
            return [
                "learn must call callback(steps_done, figures) with an int and a dict of numbers: "
                "callback(int(steps), {'loss/policy': float(loss)})."
            ]
        if counted and abs(int(steps) - counted) > max(num_envs, counted // 10):
            return [
                f"learn told the callback {int(steps)} steps after {counted} user steps. Count the steps of all users: "
                "steps_done += env.num_envs after every env.step."
            ]
    return []


def _stopping(agent: Any, build: Any, env: RecVectorEnv, reports: bool) -> list[str]:
    """Return what is wrong where the callback asks learning to stop."""
    if not reports:
        return []
    after: list[int] = []
    with _Counted(env, RUNAWAY * STEPS * env.num_envs) as count:

        def callback(steps: int, figures: dict[str, float]) -> bool:
            after.append(count.steps)
            return False

        learner: Any = make_agent(build, env) if build is not None else agent
        learner.learn(env, STEPS * env.num_envs, callback)
    if after and count.steps > after[0] + env.num_envs:
        return [
            "learn went on after its callback had returned False. Leave then: "
            "if callback is not None and not callback(steps_done, figures): return."
        ]
    return []


def _without_callback(agent: Any, build: Any, env: RecVectorEnv) -> list[str]:
    learner: Any = make_agent(build, env) if build is not None else agent
    random = (
        GlobalRandomness()
    )  # of this second time: what the first one imports may have drawn is not the agent's
    try:
        learner.learn(env, STEPS * env.num_envs, None)
    except Exception as error:
        return [
            f"learn failed without a callback: {type(error).__name__}: {error}. Give it the default None and ask first: "
            "if callback is not None."
        ]
    return random.faults("learn")


def storing_faults(agent: Any, build: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with save and load: failure, a file that cannot be loaded safely, other actions after.

    Args:
        agent: it is saved.
        build: what makes another agent that loads it; it loads itself when None.
        env: both act in.
    """
    observation, _ = env.reset(seed=1)
    before = agent.act(copy.deepcopy(observation), deterministic=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            agent.save(folder)
        except Exception as error:
            return [
                f"save(folder) failed: {type(error).__name__}: {error}. It gets a pathlib.Path of an empty folder: "
                "write_arrays(folder / 'weights.safetensors', {'weights': self.weights})."
            ]
        unsafe = [f.name for f in folder.rglob("*") if f.suffix in UNSAFE]
        if unsafe:
            return [
                f"save wrote {unsafe[0]!r}: loading such a file can execute code. Use recworld.storage.write_arrays and "
                "read_arrays, with module.state_dict() as arrays."
            ]
        try:
            loaded: Any = make_agent(build, env, seed=1) if build is not None else agent
            loaded.load(folder, env)
        except Exception as error:
            return [
                f"load(folder, env) failed on what save wrote: {type(error).__name__}: {error}. Read the same names back: "
                "self.weights = read_arrays(folder / 'weights.safetensors')['weights']."
            ]
    if not np.array_equal(before, loaded.act(copy.deepcopy(observation), deterministic=True)):
        return [
            "After save and load the agent acts otherwise. Store everything that act depends on: whatever __init__ draws "
            "from the seed and learn changes."
        ]
    return []
