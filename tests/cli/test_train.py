"""Training from the command line: what is left behind, and that a killed run ends as an unbroken one."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recworld.runs import RunFolder
from recworld.storage import check_folder, read_arrays, sha256_file

Start = Callable[..., Any]


def test_a_run_leaves_a_folder_that_stands_alone(trained: tuple[Path, str]) -> None:
    path, out = trained
    run = RunFolder.open(path)
    assert "policy" in out
    assert "evaluation world" in out
    assert f"evaluate_agents.py {path.name} greedy" in out
    settings = run.settings()
    assert (settings["algo"], settings["total_steps"], settings["threads"]) == ("ppo", 768, 1)
    assert settings["agent"]["num_envs"] == 8
    assert settings["agent"]["gamma"] == 0.95, "what was not given is written out too"
    assert (settings["env"]["members"], settings["evaluation"]["members"]) == ([0], [1])
    assert "resume" not in settings
    assert json.loads((path / "versions.json").read_text())["numpy"]
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[-1]["step"] == 768
    assert {"train/return", "train/click_rate", "train/session_length", "loss/policy"} <= lines[-1].keys()
    assert [line["step"] for line in lines if "eval/return" in line] == [0, 256, 512, 768]
    assert all("baselines/greedy" in line for line in lines if "eval/return" in line)
    assert not any(tag.startswith("time/") for line in lines for tag in line)
    check_folder(run.agent)
    board = json.loads((run.evaluation / "leaderboard.json").read_text())
    assert [world["label"] for world in board["worlds"]] == ["training world", "evaluation world"]
    assert set(board["worlds"][0]["policies"]) == {"ppo", "random", "greedy"}
    assert (run.evaluation / "leaderboard.png").stat().st_size > 1000
    assert list(run.tensorboard.glob("events.*"))
    assert {p.suffix for p in path.rglob("*") if p.is_file() and "events" not in p.name} <= {
        ".yaml", ".json", ".jsonl", ".safetensors", ".png", ".md", ".txt",
    }  # fmt: skip
    assert not list(path.rglob("*.part"))


def same_end(one: Path, two: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    first, second = (
        read_arrays(one / "agent" / "network.safetensors"),
        read_arrays(two / "agent" / "network.safetensors"),
    )
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)
    assert sha256_file(one / "evaluation" / "leaderboard.json") == sha256_file(
        two / "evaluation" / "leaderboard.json"
    )


def test_a_run_killed_five_times_ends_as_an_unbroken_one(
    trained: tuple[Path, str], bench: Any, start: Start
) -> None:
    """Killed while the world is made, when training begins, at two checkpoints, and while policies are compared."""
    cache, run, moments = bench.folder / "cache of the killed", bench.folder / "killed", random.Random(0)

    def checkpoints() -> int:
        return max([0, *(int(p.name) for p in (run / "checkpoints").glob("[0-9]*"))])

    reached: list[Callable[[], bool]] = [
        cache.exists,
        run.exists,
        lambda: checkpoints() > 0,
        lambda: checkpoints() > 300,
        (run / "agent").exists,
    ]
    for moment in reached:
        fresh = [*bench.training, "--run-dir", str(run), "--checkpoint-seconds", "0"]
        words = ["--resume", str(run)] if run.exists() else fresh
        at_work = start("train_agent.py", *words, RECWORLD_CACHE=str(cache))
        patience = time.monotonic() + 120
        while not moment() and at_work.poll() is None and time.monotonic() < patience:
            time.sleep(0.005)
        assert moment(), at_work.communicate()[1]
        time.sleep(moments.uniform(0, 0.2))
        at_work.kill()
        at_work.communicate()
        if run.exists():
            RunFolder.open(run)
            assert (run / "world" / "world.json").is_file(), "a run folder appears whole"
    at_work = start("train_agent.py", "--resume", str(run), RECWORLD_CACHE=str(cache))
    _, err = at_work.communicate(timeout=300)
    assert at_work.returncode == 0, err
    same_end(trained[0], run)


def test_told_to_end_it_says_how_to_go_on(bench: Any, start: Start) -> None:
    run = bench.folder / "told"
    words = [*bench.training, "--run-dir", str(run), "--checkpoint-seconds", "0", "--total-steps", "100000"]
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        at_work = start("train_agent.py", *(words if number == signal.SIGTERM else ["--resume", str(run)]))
        before = set((run / "checkpoints").glob("[0-9]*"))
        while at_work.poll() is None and set((run / "checkpoints").glob("[0-9]*")) <= before:
            time.sleep(0.01)
        at_work.send_signal(number)
        _, err = at_work.communicate(timeout=60)
        assert at_work.returncode == code, err
        assert err.splitlines()[-1].endswith(f"Go on with: --resume {run}")
        assert not list(run.rglob("*.part"))


def test_what_is_planted_in_a_run_is_not_executed(
    trained: tuple[Path, str], bench: Any, command: Any
) -> None:
    run = bench.folder / "planted"
    shutil.copytree(trained[0], run)
    proof = bench.folder / "executed"
    bomb = pickle.dumps(Bomb(str(proof)))
    settings = (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text(settings + f"planted: !!python/object/apply:os.mkdir ['{proof}']\n")
    done = command("evaluate", str(run), "greedy")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "is not plain YAML" in done.err
    (run / "settings.yaml").write_text(settings)
    for file in [*run.glob("agent/*.safetensors"), *run.glob("world/*.safetensors")]:
        whole = file.read_bytes()
        file.write_bytes(bomb)
        done = command("recommend", str(run), "--user", "u1")
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert file.name in done.err
        file.write_bytes(whole)
    assert not proof.exists()
    assert command("recommend", str(run), "--user", "u1").code == 0


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_an_agent_of_your_own(bench: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    (bench.folder / "fast_own.yaml").write_text(bench.fast.read_text().partition("agent: ")[0])
    words = ["--dataset", str(bench.log), "--config", "fast_own.yaml", "--run-dir", "own"]
    done = command("train", *words, "--algo", "examples.custom_agent:MyAgent", "--agent", "learning_rate=0.2")
    assert done.code == 0, done.err
    assert RunFolder.open(Path("own")).settings()["agent"] == {"learning_rate": 0.2}
    compared = command("evaluate", "own", "random", "--episodes", "1")
    assert compared.code == 0, compared.err
    assert "own" in compared.out
