"""`check_agent`: tells what an agent gets wrong, and how to mend it."""

from __future__ import annotations

import copy
import inspect
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Learner, Observation, Persistent
from recworld.agents.registry import make_agent
from recworld.errors import InputError, RecworldError

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

SIGNATURES = {
    "act": ("observation", "deterministic"),
    "learn": ("env", "total_steps", "callback"),
    "save": ("folder",),
    "load": ("folder", "env"),
    "checkpoint": ("folder",),
    "resume": ("folder", "env"),
}
"""Names of the arguments of each method, in order."""


def check_agent(agent: Any, env: RecVectorEnv | None = None, raise_errors: bool = True) -> list[str]:
    """Try an agent out and tell all that breaks the contract of `recworld.agents.base`.

    Args:
        agent: a class, a name as `make_agent` takes it, or an agent that was built for `env`.
        env: to try it in; a small environment over the bundled world when None. Its episodes are reset.
        raise_errors: whether findings are raised; otherwise they are returned.

    Returns:
        The findings, each with what to do; empty when all is well.

    Raises:
        InputError: the findings, when there are any and `raise_errors`.
    """
    findings: list[str] = []
    if env is None:
        env = _small_env()
    build = agent if isinstance(agent, (str, type)) else None
    try:
        built = make_agent(build, env) if build is not None else agent
    except RecworldError as error:
        findings.append(str(error))
    except Exception as error:
        findings.append(
            f"Building it with (env, seed) failed: {type(error).__name__}: {error}. Take env first, then seed."
        )
    else:
        findings += _signatures(built)
        if callable(getattr(built, "act", None)):
            findings += _acting(built, env)
        if not findings and isinstance(built, Learner):
            findings += _learning(built, env)
        if not findings and isinstance(built, Persistent):
            findings += _storing(built, build, env)
    if findings and raise_errors:
        name = build if isinstance(build, str) else getattr(build or type(agent), "__name__", "the agent")
        listed = " ".join(f"({number}) {finding}" for number, finding in enumerate(findings, 1))
        raise InputError(f"{name} breaks the agent contract: {listed}")
    return findings


def _small_env(num_envs: int = 3) -> RecVectorEnv:
    from recworld.envs import RecVectorEnv

    return RecVectorEnv(num_envs, num_candidates=12, slate_size=3, horizon=6, seed=0)


def _signatures(agent: Any) -> list[str]:
    """Return what is wrong with the methods' arguments."""
    found = []
    if not callable(getattr(agent, "act", None)):
        found.append(
            "There is no method act. Add act(self, observation, deterministic=True) that returns (N, K) positions."
        )
    for name, arguments in SIGNATURES.items():
        method = getattr(agent, name, None)
        if not callable(method):
            continue
        wanted = f"{name}(self, {', '.join(arguments)})"
        try:
            inspect.signature(method).bind(*arguments)
            inspect.signature(method).bind(**dict.fromkeys(arguments))
        except TypeError as error:
            found.append(f"{name} cannot be called as {wanted}: {error}. Use these argument names.")
        except ValueError:
            continue
    for one, other in (("save", "load"), ("checkpoint", "resume")):
        if callable(getattr(agent, one, None)) != callable(getattr(agent, other, None)):
            found.append(f"{one} and {other} belong together: add the missing one, or leave both out.")
    return found


def _acting(agent: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with its actions, over some steps and for other N."""
    found: list[str] = []
    observation, _ = env.reset(seed=0)
    for _ in range(4):
        for deterministic in (True, False):
            action, wrong = _one_action(agent, observation, deterministic, env)
            found += [text for text in wrong if text not in found]
            if action is None:
                return found
        again, _ = _one_action(agent, observation, True, env)
        first, _ = _one_action(agent, observation, True, env)
        if again is None or first is None or not np.array_equal(again, first):
            found.append(
                "act(observation, deterministic=True) gave two answers to one observation. Draw only when not deterministic."
            )
            return found
        if found:
            return found
        observation = env.step(np.asarray(action))[0]
    _, wrong = _one_action(agent, _with_masks(observation, np.asarray(action), env), True, env)
    found += [text for text in wrong if text not in found]
    for rows in (1, env.num_envs + 2):
        other = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in observation.items()}
        _, wrong = _one_action(agent, other, True, env)
        found += [f"With N = {rows} instead of {env.num_envs}: {text}" for text in wrong]
    return found


def _with_masks(observation: Observation, action: npt.NDArray[Any], env: RecVectorEnv) -> Observation:
    """Return the observation with what the agent has just chosen masked, as the environment masks what is used up."""
    out = {name: array.copy() for name, array in observation.items()}
    if out["action_mask"].shape[1] < 2 * action.shape[1]:
        return out
    rows = np.arange(len(action))[:, None]
    out["action_mask"][rows, action] = 0
    out["candidate_score"][rows, action] = 0
    out["candidates"][rows, action] = 0 if out["candidates"].ndim == 3 else len(env.tables.item_vector) - 1
    return out


def _one_action(
    agent: Any, observation: Observation, deterministic: bool, env: RecVectorEnv
) -> tuple[npt.NDArray[Any] | None, list[str]]:
    """Return the action for an observation, None when there is none of use, and what is wrong with it."""
    given = copy.deepcopy(observation)
    try:
        action = agent.act(given, deterministic=deterministic)
    except Exception as error:
        return None, [f"act failed: {type(error).__name__}: {error}."]
    wrong = []
    for name, array in observation.items():
        if name not in given or not np.array_equal(given[name], array):
            wrong.append(f"act changed observation[{name!r}] in place. Copy what you change.")
    return _judge(action, observation["action_mask"], int(env.slate_size), wrong)


def _judge(
    action: Any, mask: npt.NDArray[Any], size: int, wrong: list[str]
) -> tuple[npt.NDArray[Any] | None, list[str]]:
    """Return the action as an array, None where it has no use, and `wrong` with what is wrong with it."""
    rows, candidates = mask.shape
    if not isinstance(action, np.ndarray):
        return None, [
            *wrong,
            f"act must return a numpy array. Got {type(action).__name__}. Use numpy.asarray(..., numpy.int64).",
        ]
    if action.shape != (rows, size):
        return None, [*wrong, f"act must return shape (N, K) = {(rows, size)}. Got {action.shape}."]
    if action.dtype != np.int64:
        if action.dtype.kind not in "iu":
            return None, [
                *wrong,
                f"act must return int64 positions. Got {action.dtype}. Return positions, not scores.",
            ]
        wrong.append(f"act must return dtype int64. Got {action.dtype}. Add .astype(numpy.int64).")
    if action.min() < 0 or action.max() >= candidates:
        text = f"act must return positions from 0 to C - 1 = {candidates - 1}. Got {action.min()} to {action.max()}."
        return action, [*wrong, text + " Return places in the candidate list, not item numbers."]
    enough = mask.sum(1) >= size
    if np.any(np.diff(np.sort(action[enough], axis=1), axis=1) == 0):
        wrong.append("act chose a candidate twice in one slate. Choose without replacement.")
    if np.any(np.take_along_axis(mask, action, 1)[enough] == 0):
        wrong.append(
            "act chose a masked candidate. Leave out positions where observation['action_mask'] is 0."
        )
    return action, wrong


def _learning(agent: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with learn: failure, and a callback without steps or figures."""
    calls: list[tuple[Any, Any]] = []

    def callback(steps: int, figures: dict[str, float]) -> bool:
        calls.append((steps, figures))
        return True

    try:
        agent.learn(env, 2 * env.num_envs, callback)
    except Exception as error:
        return [f"learn(env, total_steps, callback) failed: {type(error).__name__}: {error}."]
    for steps, figures in calls:
        scalars = isinstance(figures, dict) and all(isinstance(v, (int, float)) for v in figures.values())
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or not scalars:
            return ["learn must call callback(steps_done, figures) with an int and a dict of numbers."]
    return []


def _storing(agent: Any, build: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with save and load: failure, a file that cannot be loaded safely, other actions after."""
    observation, _ = env.reset(seed=1)
    before = agent.act(copy.deepcopy(observation), deterministic=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            agent.save(folder)
        except Exception as error:
            return [f"save(folder) failed: {type(error).__name__}: {error}. The folder exists and is empty."]
        unsafe = [
            f.name
            for f in folder.rglob("*")
            if f.suffix in {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".zip"}
        ]
        if unsafe:
            return [
                f"save wrote {unsafe[0]!r}: loading such a file can execute code. Use recworld.storage.write_arrays."
            ]
        try:
            loaded: Any = make_agent(build, env, seed=1) if build is not None else agent
            loaded.load(folder, env)
        except Exception as error:
            return [f"load(folder, env) failed on what save wrote: {type(error).__name__}: {error}."]
    if not np.array_equal(before, loaded.act(copy.deepcopy(observation), deterministic=True)):
        return ["After save and load the agent acts otherwise. Store everything that act depends on."]
    return []
