"""Whatever is wrong is answered in one line that names it, exit code 2, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recworld.runs import RunFolder

TRAIN: list[tuple[str, str]] = [
    ("--algo ppoo", "Unknown algorithm 'ppoo'. Did you mean 'ppo'?"),
    ("--algo no_such_module:Agent", "importing 'no_such_module' failed"),
    ("--dataset ml-100", "Unknown data set 'ml-100'"),
    ("--dataset nowhere.csv", "nowhere.csv does not exist"),
    ("--total-step 5", "Unknown flag --total-step. Did you mean --total-steps?"),
    ("--total-steps many", "setting --total-steps got 'many': input should be a valid integer"),
    ("--total-steps 0", "setting --total-steps got '0': input should be greater than or equal to 1"),
    ("--total-steps", "--total-steps needs a value."),
    ("--agent.gamma 1.5", "setting --agent.gamma got '1.5': input should be less than or equal to 1"),
    ("--agent.gamma nan", "setting --agent.gamma got 'nan': input should be a finite number"),
    ("--agent.gama 0.9", "Unknown flag --agent.gama. Did you mean --agent.gamma?"),
    ("--slate-size 4.5", "setting --env.slate-size got '4.5': input should be a valid integer"),
    ("--env.candidates most", "setting --env.candidates got 'most': input should be 'random', 'popular'"),
    ("--env.reward clicks", "'clicks'"),
    (
        "--dynamics chaotic",
        "setting --dynamics got 'chaotic': unknown dynamics preset 'chaotic'. Did you mean 'static'?",
    ),
    ("--dynamics.boredom inf", "setting --dynamics.boredom got 'inf': input should be a finite number"),
    ("--env.members 9", "--env.members got 9: members are numbers from 0 to 3."),
    ("--evaluation.members 0", "--evaluation.members got 0, which is one of --env.members"),
    ("--evaluation.baselines gready", "got 'gready', which is no policy. Did you mean 'greedy'?"),
    ("--evaluation.baselines dqn", "got 'dqn', which has to be trained first"),
    ("--config none.yaml", "none.yaml cannot be read: No such file"),
    ("--resume nowhere", "The run folder nowhere does not exist"),
    ("--device gpu", "The device must be cpu, cuda"),
    ("greedy", "'greedy' is not a flag."),
]


def refused(done: Any, expected: str) -> None:
    assert done.code == 2, done
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    assert done.out == ""
    assert expected in done.err


@pytest.mark.parametrize(("line", "expected"), TRAIN)
def test_training_refuses(
    line: str, expected: str, command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(command("train", *line.split()), expected)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "small.csv"),
        (b"user_id,item_id,rating\n", "small.csv"),
        (b"user_id,rating\n1,2\n", "item_id"),
        (b"user_id,item_id,rating\n1,2,good\n", "good"),
        (b"user_id,item_id,rating\n1,2,nan\n1,3,4\n", "rating"),
        (b"user_id,item_id,rating\n1,2,3\n1,2\n", "small.csv"),
        (b"\x00\x01\x02\xff\xfe", "small.csv"),
        (b"user_id,item_id,rating\n1,2,3\n", "every rating is 3"),
        (b"user_id,item_id,rating\n1,2,3\n1,3,4\n", "user"),
    ],
)
def test_logs_that_are_refused(
    content: bytes, expected: str, bench: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.csv").write_bytes(content)
    done = command("train", "--dataset", "small.csv", "--config", str(bench.fast))
    refused(done, expected)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_sizes_are_checked_before_the_long_work(bench: Any, command: Any) -> None:
    refused(
        command("train", *bench.training, "--num-candidates", "61"),
        "--env.num-candidates got 61: small has 60 items, so at most that many.",
    )
    refused(
        command("train", *bench.training, "--slate-size", "13"),
        "--env.slate-size got 13: at most the 12 candidates can be shown.",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agent: {gama: 1}", "bad.yaml: unknown setting 'agent.gama'. Did you mean 'gamma'?"),
        ("total_steps: [1]", "bad.yaml: setting 'total_steps' got [1]: input should be a valid integer."),
        ("a: !!python/name:os.system", "bad.yaml is not plain YAML"),
        ("just words", "bad.yaml must hold names and values"),
    ],
)
def test_settings_files_that_are_refused(text: str, expected: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    refused(command("train", "--config", str(tmp_path / "bad.yaml")), expected)


def test_a_run_keeps_its_settings(trained: tuple[Path, str], bench: Any, command: Any) -> None:
    run = str(trained[0])
    refused(
        command("train", "--resume", run, "--algo", "ppo"), "only --total-steps may be given. Got --algo."
    )
    refused(command("train", "--resume", run, "--total-steps", "5"), "at least the run's 768. Got 5.")
    refused(command("train", *bench.training, "--run-dir", run), "holds a run already: go on with --resume")
    (bench.folder / "full").mkdir(exist_ok=True)
    (bench.folder / "full" / "mine").write_text("")
    refused(command("train", *bench.training, "--run-dir", str(bench.folder / "full")), "exists already")


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("evaluate", [], "What shall be compared?"),
        ("evaluate", ["greedy"], "A run folder, or --world FOLDER, is expected"),
        ("evaluate", ["gredy"], "'gredy' is neither a run folder nor a policy. Did you mean 'greedy'?"),
        ("evaluate", ["runs/none"], "The run folder runs/none does not exist"),
        ("evaluate", ["RUN", "dqn"], "got 'dqn', which has to be trained first"),
        ("evaluate", ["RUN", "--users", "everybody"], "setting --users got 'everybody'"),
        ("evaluate", ["FOLDER"], "is not a run folder: it has no settings.yaml"),
        ("evaluate", ["greedy", "--world", "FOLDER"], "is not a world: it has no world.json"),
        ("recommend", [], "One run folder is expected"),
        ("recommend", ["RUN"], "Either --user or --text is expected"),
        ("recommend", ["RUN", "--user", "u1", "--text", "x"], "Either --user or --text is expected"),
        ("recommend", ["RUN", "--user", "u999"], "--user 'u999' is not a user of small. Did you mean"),
        ("recommend", ["RUN", "--user", "u1", "--k", "0"], "setting --k got '0'"),
        ("recommend", ["RUN", "--user", "u1", "--k", "61"], "61"),
        ("recommend", ["FOLDER", "--user", "u1"], "is not a run folder"),
        ("fit", ["--datset", "x"], "Unknown flag --datset. Did you mean --dataset?"),
        ("fit", ["x"], "'x' is not a flag."),
    ],
)
def test_other_commands_refuse(
    name: str, words: list[str], expected: str, trained: tuple[Path, str], bench: Any, command: Any
) -> None:
    folder = bench.folder / "not a run"
    folder.mkdir(exist_ok=True)
    given = {"RUN": str(trained[0]), "FOLDER": str(folder)}
    refused(command(name, *[given.get(word, word) for word in words]), expected)


def test_a_broken_run_is_named(trained: tuple[Path, str], command: Any) -> None:
    file = RunFolder.open(trained[0]).agent / "network.safetensors"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:-4])
        refused(command("recommend", str(trained[0]), "--user", "u1"), "network.safetensors")
    finally:
        file.write_bytes(whole)


def test_an_unforeseen_fault_is_one_line_too(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from recworld.cli import train

    def broken(words: list[str], prog: str) -> None:
        raise ZeroDivisionError("a\nfault")

    monkeypatch.setattr(train, "train", broken)
    done = command("train")
    assert (done.code, done.err) == (
        1,
        "error: ZeroDivisionError: a fault (set RECWORLD_DEBUG=1 for the traceback)\n",
    )
    monkeypatch.setenv("RECWORLD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        train.train([], "train.py")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written(bench: Any, command: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    refused(command("train", *bench.training, "--run-dir", str(tmp_path / "deep" / "run")), "Cannot write")
