"""`check_agent`: tells what an agent gets wrong, and how to mend it.

Here is what concerns building and acting; `recworld.agents.checking_learning` holds learning and storing.
"""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Learner, Observation, Persistent
from recworld.agents.checking_learning import learning_faults, storing_faults
from recworld.agents.checking_state import GlobalRandomness, views_of
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
            f"Building it with (env, seed) failed: {_said(error)}. Take env first, then seed: "
            "def __init__(self, env, seed=0)."
        )
    else:
        findings += _signatures(built)
        if callable(getattr(built, "act", None)):
            findings += _acting(built, env)
        if not findings and build is not None:
            findings += _seeding(build, env) + _elsewhere(build, env)
        if not findings and isinstance(built, Learner):
            findings += learning_faults(built, build, env)
        if not findings and isinstance(built, Persistent):
            findings += storing_faults(built, build, env)
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
            found.append(
                f"{name} cannot be called as {wanted}: {error}. Use these argument names, in this order."
            )
        except ValueError:
            continue
    for one, other in (("save", "load"), ("checkpoint", "resume")):
        if callable(getattr(agent, one, None)) != callable(getattr(agent, other, None)):
            missing = f"{other}(self, {', '.join(SIGNATURES[other])})"
            if not callable(getattr(agent, one, None)):
                missing = f"{one}(self, {', '.join(SIGNATURES[one])})"
            found.append(f"{one} and {other} belong together: add the missing {missing}, or leave both out.")
    return found


def _acting(agent: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with its actions, over some steps and for other N."""
    found: list[str] = []
    observation, _ = env.reset(seed=0)
    random = None
    for _ in range(4):
        for deterministic in (True, False):
            action, wrong = _one_action(agent, observation, deterministic, env)
            found += [text for text in wrong if text not in found]
            if action is None:
                return found
        found += _repeating(agent, observation, env)
        if found:
            return found
        found += _batching(agent, observation, env)
        if found:
            return found
        observation = env.step(np.asarray(action))[0]
        random = random or GlobalRandomness()  # what the first call imports may have drawn is not the agent's
    _, wrong = _one_action(agent, _with_masks(observation, np.asarray(action), env), True, env)
    return found + wrong + (random.faults("act") if random else [])


def _repeating(agent: Any, observation: Observation, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with asking twice: another answer, or the first answer overwritten by the second."""
    first, _ = _one_action(agent, observation, True, env)
    kept = np.array(first)
    again, _ = _one_action(agent, observation, True, env)
    if again is None or not np.array_equal(again, kept):
        return [
            "act(observation, deterministic=True) gave two answers to one observation. Draw only when not deterministic, "
            "and let act change nothing that the next answer depends on."
        ]
    last = {name: array[::-1].copy() for name, array in observation.items()}
    _one_action(agent, last, True, env)
    if first is None or not np.array_equal(first, kept):
        return [
            "act changed the array that it had returned before. Return a new array: return slates.copy()."
        ]
    return []


def _batching(agent: Any, observation: Observation, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with another number of users: failure, or slates that depend on who else is asked for."""
    whole, _ = _one_action(agent, observation, True, env)
    found: list[str] = []
    for rows in (1, env.num_envs + 2):
        other = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in observation.items()}
        action, wrong = _one_action(agent, other, True, env)
        found += [f"With N = {rows} instead of {env.num_envs}: {text}" for text in wrong]
        if action is None or wrong or whole is None:
            continue
        if not np.array_equal(action, np.resize(whole, action.shape)):
            found.append(
                f"With N = {rows} instead of {env.num_envs} a user got another slate for the same observation. Compute each "
                "row from itself: reduce over axis 1 and up, as in scores.mean(1, keepdims=True), never over all users."
            )
    return found


def _seeding(build: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong with two agents of one seed."""
    observation, _ = env.reset(seed=0)
    random = GlobalRandomness()  # what the first building imports may have drawn is not the agent's
    one, two = (make_agent(build, env, seed=1) for _ in range(2))
    found = random.faults("Building it")
    same = True
    for best in (True, False):
        slates = [agent.act(copy.deepcopy(observation), deterministic=best) for agent in (one, two)]
        same = same and np.array_equal(slates[0], slates[1])
    if same:
        return found
    return [
        *found,
        "Two agents that were built with the same seed act differently. Draw everything from a generator of the agent: "
        "self.random = recworld.seeding.generator(seed, 'my agent').",
    ]


def _elsewhere(build: Any, env: RecVectorEnv) -> list[str]:
    """Return what is wrong in other environments: the other form of observation, K = 1, as few candidates as places."""
    from recworld.envs import RecVectorEnv

    other = "features" if env.observation_form == "ids" else "ids"
    hints = {
        "features": "Take candidates and history as vectors (N, C, D) where candidates.ndim is 3.",
        "ids": "Look the numbers up where candidates.ndim is 2: vectors = env.tables.item_vector[candidates].",
    }
    few = max(2, env.slate_size)
    cases: list[tuple[str, dict[str, Any], str]] = [
        (f"With observation={other!r}", {"observation": other}, hints[other]),
        ("With K = 1", {"slate_size": 1}, "Keep the axis of places: the shape is (N, 1)."),
        (
            f"With C = {few}, K = {few}",
            {"candidates": "random", "num_candidates": few, "slate_size": few},
            "Read C off observation['action_mask'].shape[1] and K off env.slate_size; a slate may take every candidate.",
        ),
    ]
    found = []
    for case, change, hint in cases:
        varied = RecVectorEnv(2, world=env.world, **{**env.settings, **change}, seed=0)
        observation, _ = varied.reset(seed=0)
        try:
            built: Any = make_agent(build, varied)
        except Exception as error:
            found.append(f"{case}: building it failed: {_said(error)}. {hint}")
            continue
        _, wrong = _one_action(built, observation, True, varied)
        found += [f"{case}: {text} {hint}" for text in wrong]
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
        return None, [
            f"act failed: {_said(error)}. It must answer for any N, and for every C of the observation."
        ]
    wrong = []
    for name, array in observation.items():
        if name not in given or not np.array_equal(given[name], array):
            wrong.append(
                f"act changed observation[{name!r}] in place. Copy what you change: x = observation[{name!r}].copy()."
            )
    for place, name in views_of(agent, given):
        wrong.append(
            f"act kept observation[{name!r}] itself in {place}, where others may change it. "
            f"Keep a copy: {place} = observation[{name!r}].copy()."
        )
    return _judge(action, observation["action_mask"], int(env.slate_size), wrong)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"


def _judge(
    action: Any, mask: npt.NDArray[Any], size: int, wrong: list[str]
) -> tuple[npt.NDArray[Any] | None, list[str]]:
    """Return the action as an array, None where it has no use, and `wrong` with what is wrong with it."""
    rows, candidates = mask.shape
    if not isinstance(action, np.ndarray):
        return None, [
            *wrong,
            f"act must return a numpy array. Got {type(action).__name__}. Use return np.asarray(slates, np.int64).",
        ]
    if action.shape != (rows, size):
        hint = "Return one row per user and one column per place: np.argsort(-scores, axis=1)[:, : env.slate_size]."
        return None, [*wrong, f"act must return shape (N, K) = {(rows, size)}. Got {action.shape}. {hint}"]
    if action.dtype != np.int64:
        if action.dtype.kind not in "iu":
            return None, [
                *wrong,
                f"act must return int64 positions. Got {action.dtype}. Return positions, not scores: "
                "np.argsort(-scores, axis=1)[:, : env.slate_size].",
            ]
        wrong.append(f"act must return dtype int64. Got {action.dtype}. Add .astype(np.int64).")
    if action.min() < 0 or action.max() >= candidates:
        text = f"act must return positions from 0 to C - 1 = {candidates - 1}. Got {action.min()} to {action.max()}."
        return action, [*wrong, text + " Return places in the candidate list, not item numbers."]
    enough = mask.sum(1) >= size
    if np.any(np.diff(np.sort(action[enough], axis=1), axis=1) == 0):
        wrong.append(
            "act chose a candidate twice in one slate. Choose without replacement: np.argsort(-scores, axis=1)[:, :K], or "
            "random.permutation per row."
        )
    if np.any(np.take_along_axis(mask, action, 1)[enough] == 0):
        wrong.append(
            "act chose a masked candidate. Leave out positions where observation['action_mask'] is 0: "
            "scores = np.where(observation['action_mask'] == 1, scores, -np.inf)."
        )
    return action, wrong
