"""A log of eighty people and sixty films, settings that make a run take seconds, and ways to run a command."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from recworld.cli.main import run_command

KINDS = ("comedy", "drama", "space opera", "western")
JOBS = ("teacher", "nurse", "farmer", "pilot")
ROOT = Path(__file__).resolve().parents[2]

FAST = """
# everything small: this is about the command line
encoder: {kind: tfidf, width: 8}
world:
  members: 2
  rating: {rank: 2, width: 4, burn_in: 4, samples_per_member: 2, thinning: 1, max_iterations: 12, folds: 2, threads: 1}
  agent_samples: 2
env: {slate_size: 3, num_candidates: 12, horizon: 5, history_length: 4}
evaluation: {baselines: [random, greedy], episodes: 1, streams: 8, every: 256}
total_steps: 768
threads: 1
"""
PPO = "agent: {num_envs: 8, n_steps: 8, batch_size: 32, n_epochs: 1}\n"


def write_log(path: Path, users: int = 80, items: int = 60, each: int = 15) -> Path:
    """Write a CSV log in which people like the kind of film that goes with their job."""
    rng = np.random.default_rng(0)
    kind, job = rng.integers(0, 4, items), rng.integers(0, 4, users)
    lines = ["user_id,item_id,rating,timestamp,user_info,item_info"]
    for u in range(users):
        for t, i in enumerate(rng.choice(items, each, replace=False)):
            rating = int(np.clip(round(2.5 + 1.5 * (kind[i] == job[u]) + rng.normal(0, 0.8)), 1, 5))
            who, what = f"{20 + u % 50} year old {JOBS[job[u]]}", f"Film {i} ({KINDS[kind[i]]})"
            lines.append(f"u{u},i{i},{rating},{1000 + 100 * t},{who},{what}")
    path.write_text("\n".join(lines) + "\n")
    return path


class Bench(NamedTuple):
    """Where commands are tried: a folder, a log in it, and quick settings."""

    folder: Path
    log: Path
    fast: Path

    @property
    def training(self) -> list[str]:
        """The words of a quick training command."""
        return ["--dataset", str(self.log), "--config", str(self.fast)]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The log and the settings, made once."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "fast.yaml").write_text(FAST + PPO)
    return Bench(folder, write_log(folder / "small.csv"), folder / "fast.yaml")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT of the tests of encoders: two layers."""
    file = ROOT / "tests" / "encoders" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tests_of_encoders", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(module._write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny"))


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command in this process: ``command("train", "--algo", "ppo")``."""

    def run(name: str, *words: str) -> Done:
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                run_command(name, list(words), prog=f"{name}.py")
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        return Done(int(str(ended.value.code)), out, err)

    return run


@pytest.fixture(scope="session")
def start(bench: Bench) -> Callable[..., subprocess.Popen[str]]:
    """Start a script of the repository's root as a process of its own: ``start("train_agent.py", "--help")``."""

    def begin(script: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(ROOT / script), *words],
            cwd=bench.folder,
            env=os.environ | {"RECWORLD_QUIET": "1", "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background of a shell, Ctrl-C is ignored, and children would inherit that.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    return begin


@pytest.fixture(scope="session")
def trained(bench: Bench, start: Callable[..., subprocess.Popen[str]]) -> tuple[Path, str]:
    """A run that trained to its end, and what the command printed."""
    started = start("train_agent.py", *bench.training, "--run-dir", "run")
    out, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    assert err == ""
    return bench.folder / "run", out
