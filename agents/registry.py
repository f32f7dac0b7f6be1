"""Agents by name: ``ppo``, ``dqn``, ..., or ``package.module:Class`` for a class of anybody's; building, storing, loading.

A class of somebody else's may take ``(env)``, ``(env, seed)`` or ``(env, seed, **options)``: what it takes is read off its
signature. `save_agent` writes ``agent.json`` (name, options, seed, versions) beside the agent's own files; `load_agent`
builds the same class again and lets it load them. Nothing that is loaded is executed, except the named class itself.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recworld.agents.base import Agent, Persistent
from recworld.errors import CorruptError, InputError, did_you_mean
from recworld.registry import Registry
from recworld.storage import read_json, write_json

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

FORMAT = 1
FOLDER = "agent"
"""Name of the agent's folder inside a run folder."""

AGENTS = Registry("algorithm")
for _name, _target in {
    "ppo": "recworld.agents.ppo:PPOAgent",
    "a2c": "recworld.agents.ppo:A2CAgent",
    "dqn": "recworld.agents.dqn:DQNAgent",
    "trpo": "recworld.agents.trpo:TRPOAgent",
    "recurrent_ppo": "recworld.agents.recurrent:RecurrentPPOAgent",
    "qrdqn": "recworld.agents.quantiles:QRDQNAgent",
    "wolpertinger": "recworld.agents.wolpertinger:WolpertingerAgent",
    "sac": "recworld.agents.wishing:SACAgent",
    "td3": "recworld.agents.wishing:TD3Agent",
    "random": "recworld.agents.baselines:RandomAgent",
    "popularity": "recworld.agents.baselines:PopularityAgent",
    "static": "recworld.agents.baselines:StaticAgent",
    "greedy": "recworld.agents.baselines:GreedyAgent",
    "mmr": "recworld.agents.baselines:MMRAgent",
    "clone": "recworld.agents.cloning:CloneAgent",
    "reinforce": "recworld.agents.reinforce:ReinforceAgent",
    "epsilon_greedy": "recworld.agents.baselines:EpsilonGreedyAgent",
    "linucb": "recworld.agents.bandits:LinUCBAgent",
    "thompson": "recworld.agents.bandits:ThompsonAgent",
    "epsilon_greedy_bandit": "recworld.agents.bandits:EpsilonGreedyBanditAgent",
    "ucb": "recworld.agents.bandit_items:UCBAgent",
    "oracle": "recworld.agents.upper:ShortTermOracle",
    "planner": "recworld.agents.upper:Planner",
    "informed": "recworld.agents.upper:InformedGreedy",
    "filtering": "recworld.agents.filtering:Filtering",
}.items():
    AGENTS.register(_name, _target)


def option_names(target: Any) -> tuple[list[str], bool]:
    """Return the options that an agent's constructor takes by name, and whether it takes any name.

    A class with a ``settings_type`` (a `Settings` subclass) takes that class's fields.
    """
    settings = getattr(target, "settings_type", None)
    if settings is not None:
        return list(settings.model_fields), False
    parameters = _parameters(target)[1:]
    free = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [
        p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "seed"
    ]
    return named, free


def _parameters(target: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter("env", inspect.Parameter.POSITIONAL_OR_KEYWORD)]


def make_agent(
    spec: Any, env: RecVectorEnv, seed: int = 0, options: Mapping[str, Any] | None = None
) -> Agent:
    """Build an agent.

    Args:
        spec: a registered name, ``package.module:Class``, or the class itself.
        env: what the agent is built for.
        seed: passed on where the constructor takes one.
        options: settings by name.

    Raises:
        InputError: no such agent, an option it does not take, or a constructor that takes no environment.
    """
    target = AGENTS.get(spec) if isinstance(spec, str) else spec
    name = spec if isinstance(spec, str) else getattr(spec, "__name__", repr(spec))
    if not callable(target):
        raise InputError(f"algorithm {name!r} must be a class or a function. Got {type(target).__name__}.")
    options = dict(options or {})
    known, free = option_names(target)
    if not free:
        for option in options:
            if option not in known:
                tail = did_you_mean(option, known) if known else "It takes none."
                raise InputError(f"algorithm {name!r} has no option {option!r}. {tail}")
    parameters = _parameters(target)
    if not parameters:
        raise InputError(
            f"algorithm {name!r} must take the environment: {name}(env), (env, seed) or (env, seed, **options)."
        )
    missing = [
        p.name
        for p in parameters[1:]
        if p.default is p.empty
        and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.name not in {"seed", *options}
    ]
    if missing:
        raise InputError(f"algorithm {name!r} needs the option {missing[0]!r}, which has no default.")
    if free or any(p.name == "seed" for p in parameters[1:]):
        options["seed"] = seed
    agent: Agent = target(env, **options)
    if not callable(getattr(agent, "act", None)):
        raise InputError(
            f"algorithm {name!r} has no method act(observation, deterministic). Try check_agent on it."
        )
    return agent


def agent_options(agent: Any) -> dict[str, Any]:
    """Return the resolved settings of an agent that has them (JSON-ready), else nothing."""
    settings: Any = getattr(agent, "settings", None)
    return dict(settings.model_dump(mode="json")) if hasattr(settings, "model_dump") else {}


def save_agent(
    agent: Agent, folder: Path, spec: str, seed: int = 0, options: Mapping[str, Any] | None = None
) -> None:
    """Write ``agent.json`` and the agent's own files into an existing folder.

    Args:
        agent: with or without `save`.
        folder: of its own, usually ``run/agent``.
        spec: the name under which `make_agent` finds the class again.
        seed: it was built with.
        options: it was built with; the agent's resolved settings when None.
    """
    versions = {
        name: importlib.metadata.version(name) for name in ("recworld", "torch", "stable-baselines3", "numpy")
    }
    meta = {
        "format": FORMAT,
        "spec": spec,
        "seed": seed,
        "options": dict(agent_options(agent) if options is None else options),
        "saved": isinstance(agent, Persistent),
        "versions": versions,
    }
    write_json(folder / "agent.json", meta)
    if isinstance(agent, Persistent):
        agent.save(folder)


def load_agent(run: Path, env: RecVectorEnv, device: str | None = None) -> Agent:
    """Return the agent of a run folder (or of its ``agent`` folder), ready to act in `env`.

    Args:
        run: the folder.
        env: what it shall act in.
        device: for agents with that setting; as trained when None.

    Raises:
        InputError: the folder holds no agent, or its class is not to be found.
        CorruptError: it is broken.
    """
    run = Path(run)
    folder = run / FOLDER if (run / FOLDER).is_dir() else run
    if not (folder / "agent.json").is_file():
        raise InputError(f"{run} is not a run with an agent: there is no {FOLDER}/agent.json in it.")
    meta = read_json(folder / "agent.json")
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("spec"), str):
        raise CorruptError(f"{folder / 'agent.json'} is not of format {FORMAT}.")
    options = dict(meta.get("options") or {})
    if device is not None and "device" in options:
        options["device"] = device
    agent = make_agent(meta["spec"], env, int(meta.get("seed", 0)), options)
    if meta.get("saved") and isinstance(agent, Persistent):
        agent.load(folder, env)
    return agent
