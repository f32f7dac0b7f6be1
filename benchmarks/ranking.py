"""Does a world rank policies as the truth does? Twenty policies in `foreign` truths and in worlds fitted to their logs.

    python benchmarks/ranking.py                               # seeds 0..9, all worlds: 7 minutes of processor time each
    python benchmarks/ranking.py --seeds 100 101 --worlds fitted strong
    python benchmarks/ranking.py --keep measured --seeds 0 1 2        # resumable, and several at once into one folder

The truth lies outside the simulator's family (`recworld.logs.foreign`). Each log (400 users, 500 items, about 110,000
shown items logged by a biased policy) gives a world; every policy plays with every user in both, with the same agent side,
the same candidates and its own luck. Policies and rules: `ranking_policies.py`, written down before the first run.

Worlds, all from the same log:

* fitted: `build_world`, with what its log told of the dynamics in the place of the preset `strong`: what a user gets;
* not as of the end: the same, but items as attractive as on the average of the log (`novelty` off);
* strong, static: the fit with the preset's assumptions, and with none;
* matrix factorisation: ids alone (no text, no implicit sets), positions unknown, nothing changes a user;
* popularity: the item biases of the same, no user differs from another, nothing changes a user.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ranking_policies import LAYOUT, LEVEL, POLICIES, REPORTED_SEEDS

from recworld.agents.episodes import MAX_ENVS, episode_env
from recworld.encoders import EncoderSettings, encode_log
from recworld.evaluation.outside import ForeignPeople, OutsideEnv
from recworld.evaluation.ranking import MEASURES, PolicyValues, bootstrap_interval, ranking_agreement
from recworld.logs.foreign import foreign, foreign_truth
from recworld.logs.log import InteractionLog
from recworld.logs.settings import LogSettings
from recworld.progress import say, track
from recworld.seeding import child_seed
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.build import FIT_FORMAT, WorldSettings, cached_world, fit_response
from recworld.simulators.calibration import fitted_dynamics
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.dynamics import DynamicsSettings, dynamics_preset
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.tables import ResponseTables
from recworld.simulators.world import World

WORLDS = ("fitted", "not as of the end", "strong", "static", "matrix factorisation", "popularity")
VALUES = ("clicks", "liking")
"""Of a session: number of clicks; sum of the normalised ratings of what was clicked."""
PLAIN = DynamicsSettings.model_validate({**dynamics_preset("static").model_dump(), "examination_decay": 1.0})
Tables = dict[str, dict[str, Any]]


def build(log: InteractionLog, encoder: str, seed: int, kinds: Sequence[str]) -> dict[str, World]:
    """Return the worlds of a log by name; their agent sides are one and the same."""
    text = encode_log(log, EncoderSettings(kind=encoder))
    settings = WorldSettings(rating=RatingSettings(threads=1), attraction=AttractionSettings(threads=1))
    ours = cached_world(log, text.user, text.item, settings, dynamics_preset("strong"), seed)
    told = fitted_dynamics(ours)
    worlds = {}
    for kind in kinds:
        if kind == "fitted":
            worlds[kind] = ours.with_dynamics(told)
        elif kind == "not as of the end":
            still = settings.model_copy(
                update={"novelty": False, "calibration": CalibrationSettings(enabled=False)}
            )
            other = cached_world(log, text.user, text.item, still, told, seed)
            worlds[kind] = replace(ours, truth=other.truth, dynamics=told)
        elif kind in ("strong", "static"):
            worlds[kind] = ours.with_dynamics(dynamics_preset(kind))
    if rest := [kind for kind in kinds if kind not in worlds]:
        plain = factorised(log, settings, seed)
        for kind in rest:
            truth = plain if kind == "matrix factorisation" else without_people(plain)
            worlds[kind] = replace(ours, truth=truth, dynamics=PLAIN)
    return {kind: worlds[kind] for kind in kinds}


def without_people(truth: ResponseTables) -> ResponseTables:
    """Return the tables with every user at the mean: an item is as popular as it is, for everybody."""
    mean = {
        name: np.broadcast_to(getattr(truth, name).mean(1, keepdims=True), getattr(truth, name).shape).copy()
        for name in ("user_rating_bias", "user_attraction_bias", "user_shift", "user_scale", "user_sigma")
    }
    return replace(truth, taste=np.zeros_like(truth.taste), **mean)


def factorised(log: InteractionLog, settings: WorldSettings, seed: int) -> ResponseTables:
    """Return response tables of matrix factorisation on ids: no text, no implicit sets, all positions alike."""
    shown = log.exposures
    plain = replace(log, exposures=replace(shown, position=np.zeros_like(shown.position)) if shown else None)
    nothing = (np.zeros((log.num_users, 1), np.float32), np.zeros((log.num_items, 1), np.float32))
    chosen = settings.model_copy(
        update={
            "rating": settings.rating.model_copy(update={"text_rank": 0, "implicit_rank": 0}),
            "attraction": settings.attraction.model_copy(update={"text_rank": 0}),
            "selection": "none",
        }
    )
    return fit_response(plain, nothing, chosen, settings.members, child_seed(seed, "factorised"))[0]


def measure(env: Any, rounds: int, seed: int, policies: Mapping[str, Any], label: str) -> Tables:
    """Return per value and policy each user's mean over `rounds` sessions, (U,)."""
    users = env.world.num_users
    found: Tables = {name: {} for name in (*VALUES, "steps")}
    for name, make in track(list(policies.items()), f"Playing in {label}", unit="policies"):
        agent, parts = make(env, seed=0), []
        for start in range(0, users * rounds, env.num_envs):
            stream = np.arange(start, start + env.num_envs)
            parts.append(sessions(agent, env, stream, stream % users, seed))
        table = np.concatenate(parts, 1)[:, : users * rounds].reshape(3, rounds, users).mean(1)
        for value, row in zip(found, table, strict=True):
            found[value][name] = row
    return found


def sessions(agent: Any, env: Any, stream: Any, user: Any, seed: int) -> Any:
    """Return clicks, liking and steps of one session of each row, (3, N); agents are asked about those who are there."""
    observation, _ = env.reset(seed=seed, options={"stream": stream, "user": user, "episode": 0})
    total, active = np.zeros((3, env.num_envs)), np.ones(env.num_envs, np.bool_)
    while active.any():
        action = np.zeros((env.num_envs, env.slate_size), np.int64)
        action[active] = agent.act({name: array[active] for name, array in observation.items()})
        observation, reward, terminated, truncated, info = env.step(action)
        liking = (env.world.scale.normalise(info["rating"]) * info["has_rating"]).sum(1)
        total += np.stack([reward, liking, np.ones(env.num_envs)]) * active
        active &= ~(terminated | truncated)
    return total


def one_truth(seed: int, encoder: str, kinds: Sequence[str], rounds: tuple[int, int]) -> dict[str, Tables]:
    """Return the values of all policies in the truth of a seed and in its worlds."""
    settings = LogSettings()
    log, truth = foreign(settings, seed), foreign_truth(settings.synthetic, seed)
    worlds = build(log, encoder, seed, kinds)
    rows = min(MAX_ENVS, log.num_users * min(rounds))
    some = next(iter(worlds.values()))
    end = float(np.max(log.time))  # type: ignore[arg-type]
    outside = OutsideEnv(rows, world=some, users="all", people=ForeignPeople(truth, end), **LAYOUT)
    found = {"truth": measure(outside, rounds[0], child_seed(seed, "truth"), POLICIES, f"truth {seed}")}
    for kind, world in worlds.items():
        env = episode_env(world, LAYOUT, users="all", num_users=rows)
        found[kind] = measure(env, rounds[1], child_seed(seed, "world"), POLICIES, f"{kind} {seed}")
    return found


def kept_truth(seed: int, options: argparse.Namespace) -> dict[str, Tables]:
    """Return `one_truth` of a seed, from the folder --keep where it holds all worlds that were asked for."""
    rounds = tuple(options.rounds)
    if options.keep is None:
        return one_truth(seed, options.encoder, options.worlds, rounds)
    path = options.keep / f"{options.encoder}-{seed}-rounds{rounds[0]}x{rounds[1]}-fit{FIT_FORMAT}.npz"
    found: dict[str, Tables] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                kind, value, policy = name.split("|")
                found.setdefault(kind, {}).setdefault(value, {})[policy] = arrays[name]
    except (OSError, ValueError, zipfile.BadZipFile):
        found = {}
    if missing := [kind for kind in options.worlds if kind not in found]:
        found |= one_truth(seed, options.encoder, missing, rounds)
        options.keep.mkdir(parents=True, exist_ok=True)
        flat = {f"{k}|{v}|{p}": x for k, t in found.items() for v, rows in t.items() for p, x in rows.items()}
        part = path.with_name(f"{path.name}.{os.getpid()}.part.npz")
        np.savez(part, **flat)
        part.replace(path)
    return {kind: found[kind] for kind in ("truth", *options.worlds)}


def table(found: Sequence[dict[str, Tables]], value: str) -> dict[str, Any]:
    """Return the agreement of every kind of world with the truths, and what the first is ahead of the others."""
    kinds = [kind for kind in found[0] if kind != "truth"]
    truths = [PolicyValues.of_users(one["truth"][value]) for one in found]
    by_kind = {
        k: ranking_agreement([PolicyValues.of_users(one[k][value]) for one in found], truths, LEVEL)
        for k in kinds
    }
    rows = {kind: result.as_json() for kind, result in by_kind.items()}
    for kind in kinds[1:]:
        ahead = {
            m: [
                getattr(a, m) - getattr(b, m)
                for a, b in zip(by_kind[kinds[0]].truths, by_kind[kind].truths, strict=True)
            ]
            for m in MEASURES
        }
        rows[kind][f"{kinds[0]} minus this"] = {
            m: bootstrap_interval(column, LEVEL).as_json() for m, column in ahead.items()
        }
    return rows


def show(rows: dict[str, Any], value: str) -> None:
    """Print one line a world, and one line for each lead of the first."""
    print(f"\n{value} of a session; mean over truths [95 % bootstrap interval over truths]")
    print(f"{'world':38}" + "".join(f"{name:>22}" for name in MEASURES))
    for kind, row in rows.items():
        print(f"{kind:38}" + "".join(f"{_words(row['mean'][m]):>22}" for m in MEASURES))
    for kind, row in rows.items():
        for title, ahead in row.items():
            if title.endswith("minus this"):
                print(
                    f"{title.replace('this', kind):38}" + "".join(f"{_words(ahead[m]):>22}" for m in MEASURES)
                )


def _words(interval: dict[str, float | None]) -> str:
    mean, low, high = (interval[k] for k in ("mean", "low", "high"))
    if mean is None:
        return "-"
    return f"{mean:.3f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None and high is not None else "")


def show_values(found: Sequence[dict[str, Tables]], value: str) -> None:
    """Print the mean value of each policy, in the truths and in the worlds."""
    print(f"\nmean {value} of a session over {len(found)} truths")
    print(f"{'policy':24}" + "".join(f"{kind:>22}" for kind in found[0]))
    names = sorted(POLICIES, key=lambda n: -float(np.mean([one["truth"][value][n].mean() for one in found])))
    for name in names:
        cells = [np.mean([one[kind][value][name].mean() for one in found]) for kind in found[0]]
        print(f"{name:24}" + "".join(f"{cell:22.3f}" for cell in cells))


def main() -> None:
    """Print the tables; keep them, and every policy's mean, where --output says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(REPORTED_SEEDS))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--encoder", default="bert", choices=("bert", "tfidf"))
    parser.add_argument(
        "--rounds",
        type=int,
        nargs=2,
        default=[40, 20],
        metavar=("TRUTH", "WORLD"),
        help="sessions of each user in the truth, and in each world",
    )
    parser.add_argument(
        "--keep", type=Path, help="a folder for what was measured; what is there is not run again"
    )
    parser.add_argument("--output", help="a JSON file to write")
    options = parser.parse_args()
    began, found = time.perf_counter(), []
    for seed in options.seeds:
        found.append(kept_truth(seed, options))
        say(f"Seed {seed} done after {time.perf_counter() - began:.0f} s.")
    tables = {value: table(found, value) for value in VALUES}
    for value in (*VALUES, "steps"):
        show_values(found, value)
    for value, rows in tables.items():
        show(rows, value)
    if options.output:
        means = [
            {
                k: {v: {p: float(x.mean()) for p, x in rows.items()} for v, rows in t.items()}
                for k, t in one.items()
            }
            for one in found
        ]
        kept = {
            "seeds": options.seeds,
            "encoder": options.encoder,
            "rounds": options.rounds,
            "agreement": tables,
            "values": means,
        }
        Path(options.output).write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
