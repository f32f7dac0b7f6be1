"""--tune: a search from the command line, its files, and a training that ends where the best trial did."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from recworld.cli.train import train
from recworld.evaluation import search as search_module
from recworld.runs import RunFolder
from recworld.settings import read_yaml


@pytest.fixture(scope="module")
def searched(bench: Any) -> tuple[Path, str]:
    """A search of four trials, in two commands."""
    out = io.StringIO()
    with contextlib.chdir(bench.folder), contextlib.redirect_stdout(out):
        for trials in ("2", "4"):
            words = ["--run-dir", "search", "--tune", trials, "--tune-fields", "learning_rate", "gamma"]
            train([*bench.training, *words], "train_agent.py")
    return bench.folder / "search", out.getvalue()


def test_it_leaves_the_trials_and_the_best_settings(searched: tuple[Path, str]) -> None:
    folder, out = searched
    rows = list(csv.DictReader(io.StringIO((folder / "trials.csv").read_text())))
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    assert (float(rows[0]["learning_rate"]), float(rows[0]["gamma"])) == (3e-3, 0.95), "first what is given"
    result = json.loads((folder / "result.json").read_text())
    whole = [float(row["return"]) for row in rows if row["state"] == "whole"]
    assert result["return"] == max(whole)
    best = read_yaml(folder / "best.yaml")
    assert best["agent"]["gamma"] == result["options"]["gamma"]
    assert best["agent"]["num_envs"] == 8, "what was not searched stays as it was given"
    assert "run_dir" not in best
    assert f"train_agent.py --config {folder.name}/best.yaml" in out
    assert max(map(len, out.splitlines())) <= 125
    assert not (folder / "agent").exists(), "nothing is trained on"


def test_a_run_with_the_best_settings_ends_where_the_trial_did(
    searched: tuple[Path, str], bench: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    done = command("train", "--config", "search/best.yaml", "--run-dir", "best")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in RunFolder.open(Path("best")).metrics.read_text().splitlines()]
    result = json.loads((searched[0] / "result.json").read_text())
    assert [line["eval/return"] for line in lines if line["step"] == 768] == [result["return"]]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--tune", "2", "--run-dir", "search", "--horizon", "4"], "env.horizon: 5 there, 4 here"),
        (["--tune", "2", "--run-dir", "search", "--tune-fields", "gamma"], "fields: "),
        (["--tune", "0"], "--tune got '0'"),
        (["--tune"], "--tune needs a value"),
        (["--tune-steps", "10"], "--tune-steps needs --tune"),
        (["--tune", "2", "--tune-fields", "gama", "--run-dir", "new"], "Did you mean 'gamma'"),
        (["--tune", "2", "--tune-pruner", "best"], "'median', 'hyperband' or 'none'"),
        (["--tune", "2", "--run-dir", "."], "holds no search"),
    ],
)
def test_bad_input_is_one_line(
    searched: Any, bench: Any, command: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], text: str
) -> None:
    monkeypatch.chdir(bench.folder)
    done = command("train", *bench.training, *words)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert text in done.err


def test_without_optuna_one_line(bench: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    monkeypatch.setattr(search_module.importlib.util, "find_spec", lambda name: None)
    done = command("train", *bench.training, "--tune", "2")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "recworld[tune]" in done.err


def test_one_command_at_a_time(
    searched: Any, bench: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.chdir(bench.folder)
    with (searched[0] / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        words = ["--run-dir", "search", "--tune", "5", "--tune-fields", "learning_rate", "gamma"]
        done = command("train", *bench.training, *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "Another search is at work" in done.err


def test_an_agent_of_your_own(bench: Any, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    (bench.folder / "own.yaml").write_text(bench.fast.read_text().partition("agent: ")[0])
    words = ["--dataset", str(bench.log), "--config", "own.yaml", "--algo", "examples.custom_agent:MyAgent"]
    done = command("train", *words, "--tune", "2", "--tune-steps", "256")
    assert done.code == 0, done.err
    folder = Path("runs") / "small-MyAgent-tune"
    first = next(csv.DictReader(io.StringIO((folder / "trials.csv").read_text())))
    assert first["learning_rate"] == "0.1"
    assert set(read_yaml(folder / "best.yaml")["agent"]) == {"learning_rate"}
