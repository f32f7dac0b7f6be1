"""`fit_encoder.py`: a folder for `--encoder.model`, going on after a kill, and wrong words refused in one line."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recworld.encoders.weights import find_model
from recworld.storage import read_arrays

QUICK = """
encoder: {width: 8, device: cpu}
tuning: {method: lora, epochs: 2, patience: 2, batch_texts: 16, validation_share: 0.2}
threads: 1
"""


@pytest.fixture
def words(bench: Any, model: Path, tmp_path: Path) -> list[str]:
    """The words of a quick run, up to the run's folder."""
    config = tmp_path / "tuning.yaml"
    config.write_text(QUICK)
    return ["--dataset", str(bench.log), "--config", str(config), "--encoder.model", str(model), "--run-dir"]


def test_the_model_goes_into_a_world_of_texts(
    words: list[str], bench: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = command("fit-encoder", *words, str(run))
    assert done.code == 0, done.err
    assert "Held-out error (items):" in done.out
    model = run / "encoder"
    assert f"--encoder.model {model}" in done.out
    assert find_model(str(model)).width == 32
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]
    assert list((run / "tensorboard").glob("events*"))
    assert read_arrays(model / "head" / "head.safetensors")["user"].shape == (32,)
    world = tmp_path / "world"
    fitted = command(
        "fit", *bench.training[:2], "--encoder.model", str(model), "--encoder.width", "8", "--encoder.device", "cpu",
        "--world.rating.source", "text", "--world.members", "2", "--report", "none", "--output", str(world),
    )  # fmt: skip
    assert fitted.code == 0, fitted.err
    report = json.loads((world / "report.json").read_text())["fit"]
    assert '"source": "text"' in json.dumps(report)


def test_two_towers_are_two_folders(words: list[str], command: Callable[..., Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = command("fit-encoder", *words, str(run), "--towers", "separate", "--epochs", "1")
    assert done.code == 0, done.err
    flags = f"--encoder.model {run / 'encoder' / 'item'} --encoder.user-model {run / 'encoder' / 'user'}"
    assert flags in done.out
    assert find_model(str(run / "encoder" / "user")).width == 32


def test_a_killed_run_goes_on(
    words: list[str], start: Callable[..., Any], command: Callable[..., Any], tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    given = ["--epochs", "12", "--patience", "12"]
    process = start("fit_encoder.py", *words, str(broken), *given)
    deadline = time.monotonic() + 120
    while not list((broken / "checkpoints").glob("*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (broken / "encoder").exists()
    resumed = command("fit-encoder", "--resume", str(broken))
    assert resumed.code == 0, resumed.err
    unbroken = command("fit-encoder", *words, str(whole), *given)
    assert unbroken.code == 0, unbroken.err
    assert (whole / "metrics.jsonl").read_text() == (broken / "metrics.jsonl").read_text()
    assert find_model(str(whole / "encoder")).fingerprint == find_model(str(broken / "encoder")).fingerprint
    more = command("fit-encoder", "--resume", str(whole), "--rank", "4")
    assert (more.code, "only --epochs may be given" in more.err) == (2, True)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (["--method", "lara"], "setting --tuning.method got 'lara'"),
        (["--layers", "3"], "--tuning.layers must be at most 2, the layers of this model. Got 3."),
        (["--encoder.kind", "tfidf"], "Fine-tuning needs --encoder.kind bert and --encoder.backend torch."),
        (["--encoder.model", "./nowhere"], "encoder.model: there is no folder './nowhere'."),
        (["--epoch", "3"], "Unknown flag --epoch. Did you mean --tuning.epochs?"),
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], command: Callable[..., Any], tmp_path: Path, wrong: list[str], line: str
) -> None:
    done = command("fit-encoder", *words, str(tmp_path / "run"), *wrong)
    assert done.code == 2
    assert line in done.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over(words: list[str], command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("kept")
    done = command("fit-encoder", *words, str(tmp_path / "run"))
    assert done.code == 2
    assert "exists already: name another --run-dir." in done.err
    assert (tmp_path / "run" / "mine").read_text() == "kept"


def test_what_a_profile_tells_is_not_learnt_from(
    words: list[str], command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recworld.encoders import tuning_data as module

    seen: list[Any] = []
    plain = module.tuning_data

    def spied(log: Any, users: Any, settings: Any, seed: int, rows: Any = None) -> Any:
        seen.append((len(log), rows))
        return plain(log, users, settings, seed, rows)

    monkeypatch.setattr(module, "tuning_data", spied)
    done = command(
        "fit-encoder", *words, str(tmp_path / "run"), "--epochs", "0", "--encoder.user-profile", "always"
    )
    assert done.code == 0, done.err
    (size, rows), *_ = seen
    assert 0 < len(rows) < 0.6 * size  # the late part alone
