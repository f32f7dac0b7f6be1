"""User steps a CPU-second of peers' environments, in an interpreter of their own: one process and one thread each.

    python benchmarks/speed_peers.py --peers-python ../peers/bin/python

Most peers want NumPy 1 and an old Gym, so they get a virtual environment beside this project's (Python 3.11, 2 GB; the
second command leaves out what their simulators never import: PyTorch, JAX, Jupyter, pygame):

    python3.11 -m venv ../peers && ../peers/bin/pip install -r benchmarks/peers.txt
    ../peers/bin/pip install --no-deps recsim==0.2.4 recsim-ng==0.1.2 recogym==0.1.3.0 edward2==0.0.2 dopamine-rl==4.0.9

SARDINE alone also lives in this project's environment: `python -m pip install -e ".[bench]"`. A peer that is missing, or
that fails, is a row that says why.

A user step is one recommendation to one user and the user's answer. Every figure is CPU time by `time.process_time`, the
start and the ends of sessions included, random actions drawn beforehand, as in `benchmarks/speed.py`. What a step does
differs from peer to peer: the settings say what, and no row is a like-for-like comparison of models.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS, SECONDS = 3, 1.0
"""Least number of rounds, and the CPU-seconds of each."""
LIMIT = 600
"""Wall-clock seconds after which a peer is given up."""
SLATE, CANDIDATES, USERS, HORIZON = 10, 100, 1024, 50
ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


class Row(NamedTuple):
    """One peer in one setting: steps a CPU-second, median of the rounds, and (highest - lowest) / median.

    Where `skipped` is not empty it says why there is no figure.
    """

    name: str
    setting: str = ""
    rate: float = float("nan")
    spread: float = float("nan")
    version: str = ""
    skipped: str = ""


def rates(block: Callable[[], int], rounds: int) -> tuple[float, float]:
    """Return the median and the spread; `block` makes some steps, enough to hide the clock, and returns how many."""
    block()
    found = []
    for _ in range(max(rounds, ROUNDS)):
        steps, start = 0, time.process_time()
        while (spent := time.process_time() - start) < SECONDS:
            steps += block()
        found.append(steps / spent)
    middle = statistics.median(found)
    return middle, (max(found) - min(found)) / middle


def single(env: Any, actions: list[Any]) -> Callable[[], int]:
    """Return a block of steps of a Gymnasium environment, reset as its episodes end."""
    env.reset(seed=0)

    def block() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return len(actions)

    return block


def side_by_side(env: Any, actions: list[Any]) -> Callable[[], int]:
    """Return a block of steps of a Gymnasium vector environment, which resets its own parts."""
    env.reset(seed=0)

    def block() -> int:
        for action in actions:
            env.step(action)
        return len(actions) * int(env.num_envs)

    return block


def slates(items: int, n: int = 1) -> list[Any]:
    """Return random slates without repeats, each an int64 array (n, SLATE)."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [np.argsort(rng.random((n, items)), axis=1)[:, :SLATE].copy() for _ in range(16)]


def recsim(rounds: int) -> Iterator[Row]:
    """Measure RecSim's interest evolution: one user, and its own environment of many users."""
    from recsim import choice_model
    from recsim.environments import interest_evolution as story
    from recsim.simulator import environment, recsim_gym

    config = {"num_candidates": CANDIDATES, "slate_size": SLATE, "resample_documents": True, "seed": 0}
    one = story.create_environment(config)
    one.reset()
    actions = [a[0].tolist() for a in slates(CANDIDATES)]

    def block() -> int:
        for action in actions:
            *_, done, _ = one.step(action)
            if done:
                one.reset()
        return len(actions)

    version = metadata.version("recsim")
    setting = f"interest evolution, slate {SLATE} of {CANDIDATES} fresh candidates"
    yield Row("RecSim", f"{setting}, one user", *rates(block, rounds), version)

    # RecSim loops over users in Python and draws one set of candidates for all of them. It ends when the last user has
    # left; here every user who leaves is replaced at once, so that each call is USERS live steps.
    users = [
        story.IEvUserModel(
            SLATE, choice_model.MultinomialProportionalChoiceModel, story.IEvResponse, story.IEvUserState, seed=seed
        )
        for seed in range(USERS)
    ]  # fmt: skip
    sampler = story.UtilityModelVideoSampler(doc_ctor=story.IEvVideo, seed=0)
    raw = environment.MultiUserEnvironment(users, sampler, CANDIDATES, SLATE, resample_documents=True)
    many = recsim_gym.RecSimGymEnv(raw, lambda answers: [story.clicked_watchtime_reward(a) for a in answers])
    many.reset()
    choices = [a.tolist() for a in slates(CANDIDATES, USERS)]
    turn = iter(range(sys.maxsize))

    def many_block() -> int:
        many.step(choices[next(turn) % len(choices)])
        for user in users:
            if user.is_terminal():
                user.reset()
        return USERS

    setting += f" that all users share, {USERS:,} users in its MultiUserEnvironment (a Python loop)"
    yield Row("RecSim", setting, *rates(many_block, rounds), version)


def recsim_ng_graph(users: int, topics: int, own: bool) -> Any:
    """Return RecSim NG's interest evolution story as a compiled graph.

    `own` keeps its stock recommender, an untrained network over histories that draws a slate one document after another;
    otherwise slates are drawn beforehand, as for every other peer.
    """
    import tensorflow as tf
    from recsim_ng.applications.recsys_partially_observable_rl import corpus, metrics, recommender, user
    from recsim_ng.core import network, value
    from recsim_ng.lib.tensorflow import entity, runtime
    from recsim_ng.stories import recommendation_simulation

    table = tf.constant(slates(CANDIDATES, users), tf.int32)

    class RandomSlates(recommender.CollabFilteringRecommender):  # type: ignore[misc]
        """Shows the slates of the table in turn."""

        def initial_state(self) -> Any:
            return value.Value(turn=tf.constant(0))

        def next_state(self, previous_state: Any, user_response: Any, slate_docs: Any) -> Any:
            return value.Value(turn=previous_state.get("turn") + 1)

        def slate_docs(self, previous_state: Any, user_obs: Any, available_docs: Any) -> Any:
            shown = table[previous_state.get("turn") % len(table)]
            slate = available_docs.map(lambda field: tf.gather(field, shown))
            return slate.union(value.Value(doc_ranks=shown))

        def specs(self) -> Any:
            turn = recommender.Space(recommender.spaces.Box(low=0.0, high=float("inf"), shape=()))
            kept = super().specs().get("slate").prefixed_with("slate")
            return value.ValueSpec(turn=turn).prefixed_with("state").union(kept)

    # The values of its simulation_config, whose function fixes the slate at two documents.
    config = {
        "num_users": users, "num_topics": topics, "num_docs": CANDIDATES, "slate_size": SLATE, "history_length": 15,
    }  # fmt: skip
    documents = corpus.CorpusWithTopicAndQuality(config).initial_state()
    parts, _ = entity.story_with_trainable_variables(
        lambda: recommendation_simulation.recs_story(
            config,
            user.InterestEvolutionUser,
            lambda c: corpus.StaticCorpus(c, documents),
            recommender.CollabFilteringRecommender if own else RandomSlates,
            metrics.ConsumedTimeAsRewardMetrics,
        )
    )
    return runtime.TFRuntime(network.Network(variables=parts))


def recsim_ng(rounds: int) -> Iterator[Row]:
    """Measure RecSim NG: rollouts of its interest evolution story inside one graph.

    Nobody leaves in that story, and all users are offered the same documents at every step; two topics are its default,
    20 are RecSim's.
    """
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for users, topics, own in ((1, 2, False), (USERS, 2, False), (USERS, 20, False), (USERS, 2, True)):
        graph = recsim_ng_graph(users, topics, own)

        def block(graph: Any = graph, users: int = users) -> int:
            # The initial state holds the first slate and answer, so HORIZON of them take one step less.
            last = graph.execute(num_steps=HORIZON - 1)
            last["metrics state"].get("cumulative_reward").numpy()
            return HORIZON * users

        setting = f"interest evolution story, slate {SLATE} of the same {CANDIDATES}, {topics} topics, {users:,} user"
        setting += f"{'s' * (users > 1)}, {HORIZON}-step rollouts in the graph"
        setting += ", its own recommender in the loop" * own
        yield Row("RecSim NG", setting, *rates(block, rounds), metadata.version("recsim-ng"))


def sardine(rounds: int) -> Iterator[Row]:
    """Measure SARDINE's SlateTopK-Bored: one user, and 64 in a synchronous vector."""
    import gymnasium as gym
    import sardine  # noqa: F401  # registers its environments

    name, version = "sardine/SlateTopK-Bored-v0", metadata.version("sardine-rec")
    setting = f"slate {SLATE} of 1,000 items, boredom"
    block = single(gym.make(name, disable_env_checker=True), [a[0] for a in slates(1000)])
    yield Row("SARDINE", f"{setting}, one user", *rates(block, rounds), version)
    resets = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
    vector = gym.make_vec(name, num_envs=64, vectorization_mode="sync", vector_kwargs=resets)
    block = side_by_side(vector, slates(1000, 64))
    yield Row("SARDINE", f"{setting}, 64 users in a sync vector", *rates(block, rounds), version)


def recogym(rounds: int) -> Iterator[Row]:
    """Measure RecoGym v1: one recommended product a step; the organic views between two of them are not counted."""
    import types

    import numpy as np

    try:
        import torch  # noqa: F401
    except ImportError:
        # RecoGym's package imports its PyTorch agents, which nothing here uses: names to inherit from will do.
        for name in ("torch", "torch.nn", "torch.nn.functional", "torch.optim", "torch.sparse"):
            module: Any = types.ModuleType(name)
            module.__getattr__ = lambda attribute: type(attribute, (), {})
            module.__path__ = []
            sys.modules[name] = module
            above, _, leaf = name.rpartition(".")
            if above:
                setattr(sys.modules[above], leaf, module)
    from recogym import env_1_args
    from recogym.envs import RecoEnv1

    # Made directly: the wrappers of gym.make check for an interface that is younger than RecoGym's.
    env = RecoEnv1()
    env.init_gym({**env_1_args, "num_products": CANDIDATES, "random_seed": 0})
    actions = np.random.default_rng(0).integers(CANDIDATES, size=1024).tolist()
    turn = iter(range(sys.maxsize))

    def block() -> int:
        shown = 0
        for _ in range(4):
            env.reset(next(turn))
            *_, done, _ = env.step(None)
            while not done:
                *_, done, _ = env.step(actions[shown % 1024])
                shown += 1
        return shown

    setting = f"v1, one of {CANDIDATES} products, one user"
    yield Row("RecoGym", setting, *rates(block, rounds), metadata.version("recogym"))


def cartpole(rounds: int) -> Iterator[Row]:
    """Measure CartPole, for scale: no recommender, and hardly any arithmetic."""
    import gymnasium as gym
    import numpy as np

    rng, version = np.random.default_rng(0), metadata.version("gymnasium")
    block = single(gym.make("CartPole-v1", disable_env_checker=True), rng.integers(2, size=1000).tolist())
    yield Row("CartPole-v1", "for scale, one", *rates(block, rounds), version)
    env = gym.make_vec("CartPole-v1", num_envs=USERS, vectorization_mode="vector_entry_point")
    block = side_by_side(env, list(rng.integers(2, size=(16, USERS))))
    yield Row("CartPole-v1", f"for scale, {USERS:,} in its own vector form", *rates(block, rounds), version)


PEERS: dict[str, tuple[str, Callable[[int], Iterator[Row]]]] = {
    "recsim": ("RecSim", recsim),
    "recsim_ng": ("RecSim NG", recsim_ng),
    "sardine": ("SARDINE", sardine),
    "recogym": ("RecoGym", recogym),
    "cartpole": ("CartPole-v1", cartpole),
}


def last_line(text: str) -> str:
    """Return the last line that is not empty, at most 200 characters of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"


def measure(peer: str, rounds: int) -> None:
    """Print the rows of one peer as JSON lines: what runs in the peers' interpreter."""
    # Peers import packages that share a name with a module of this folder, such as `coverage`.
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    name, function = PEERS[peer]
    try:
        for row in function(rounds):
            print(json.dumps(row._asdict()), flush=True)
    except ImportError as missing:
        print(json.dumps(Row(name, skipped=last_line(str(missing)))._asdict()))
    except Exception as error:
        why = f"{type(error).__name__}: {last_line(str(error))}"
        print(json.dumps(Row(name, skipped=why)._asdict()))


def read_rows(name: str, output: str) -> list[Row]:
    """Return the rows among the lines that a peer's process printed, its own chatter left out."""
    rows = []
    for line in output.splitlines():
        try:
            fields = json.loads(line)
            rows.append(Row(**{**fields, "name": name}))
        except (ValueError, TypeError):
            continue
    return rows


def peer_rows(python: str, peer: str, rounds: int) -> list[Row]:
    """Return the rows of one peer, measured by the interpreter `python`; never raises for what that process does."""
    name = PEERS[peer][0]
    script = str(Path(__file__).resolve())
    command = [python, "-W", "ignore", script, "--measure", peer, "--rounds", str(rounds)]
    try:
        done = subprocess.run(
            command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, timeout=LIMIT, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [Row(name, skipped=f"not done after {LIMIT} s")]
    except OSError as error:
        return [Row(name, skipped=f"no interpreter at {python} ({error.strerror})")]
    rows = read_rows(name, done.stdout)
    if done.returncode:
        rows.append(Row(name, skipped=f"exit status {done.returncode}: {last_line(done.stderr)}"))
    return rows or [Row(name, skipped="no rows")]


def peers(python: str | None, rounds: int) -> list[Row]:
    """Return the rows of all peers, one process after another; `python` None is the current interpreter."""
    return [row for peer in PEERS for row in peer_rows(python or sys.executable, peer, rounds)]


def line(row: Row) -> str:
    """Return a row as a line of text."""
    if row.skipped:
        return f"{row.name}: skipped: {row.skipped}"
    return f"{row.rate:14,.0f} {row.spread:6.0%}  {row.name} {row.version}: {row.setting}"


def main() -> None:
    """Print the table, or one peer's JSON lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peers-python", metavar="PATH", help="interpreter that holds the peers; by default this one"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help=f"rounds of {SECONDS:g} CPU-second a figure, at least {ROUNDS}"
    )
    parser.add_argument("--measure", choices=PEERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.rounds)
        return
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    print(f"{'steps/CPU-s':>14} {'spread':>6}")
    for peer in PEERS:
        for row in peer_rows(arguments.peers_python or sys.executable, peer, arguments.rounds):
            print(line(row), flush=True)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
