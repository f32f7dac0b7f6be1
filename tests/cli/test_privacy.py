"""A word that stands in the texts of users stands nowhere in what commands leave behind or say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recworld.envs import RecEnv
from recworld.evaluation import fidelity_sensitivity
from recworld.runs import RunFolder
from recworld.simulators.world import World
from recworld.storage import read_json

MARKER = "Xylomarker"
ADDRESS = re.compile(r"[\w.]+@mail\.example")


class Told(NamedTuple):
    """A log whose texts hold a marker, the cache of what was done with it, and a run trained on it."""

    log: Path
    cache: Path
    run: Path
    said: str


@pytest.fixture(scope="module")
def told(bench: Any, start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("told")
    log = folder / "marked.csv"
    lines = bench.log.read_text().splitlines()
    marked = [re.sub(r"(\d+) year old", rf"{MARKER} \1 s\1@mail.example", line) for line in lines]
    assert sum(MARKER in line for line in marked) == len(lines) - 1
    log.write_text("\n".join(marked) + "\n")
    words = [
        "--dataset",
        str(log),
        "--config",
        str(bench.fast),
        "--total-steps",
        "256",
        "--run-dir",
        str(folder / "run"),
    ]
    process = start(
        "train_agent.py",
        *words,
        "--redact",
        "email",
        r"s\d{2,4}",
        RECWORLD_QUIET="",
        RECWORLD_CACHE=str(folder / "cache"),
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return Told(log, folder / "cache", folder / "run", out + err)


def holding(word: str, folder: Path) -> list[str]:
    """Return the files below a folder that hold a word, however it is written, or whose names do."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if word.lower() in path.name.lower()
        or (path.is_file() and word.lower().encode() in path.read_bytes().lower())
    ]


def test_training_leaves_no_text_of_a_user(told: Told) -> None:
    assert holding(MARKER, told.log.parent) == ["marked.csv"], "the run, its TensorBoard events and the cache"
    assert holding("mail.example", told.log.parent) == ["marked.csv"]
    assert MARKER.lower() not in told.said.lower()
    assert "redacted: 80 places in 80 of 80 user texts" in told.said
    settings = RunFolder.open(told.run).settings()
    assert settings["data"]["redact"] == ["email", r"s\d{2,4}"], "for new texts"
    assert settings["data"]["user_text"] == "drop"
    assert holding("film 7 ", told.run) == ["world/world.json"], "items are named"


def test_a_run_without_texts_recommends(told: Told, command: Any) -> None:
    done = command("recommend", str(told.run), "--user", "u7", "--k", "2")
    assert done.code == 0, done.err
    assert done.out.startswith("For user u7, of whom the recommender knows ")
    assert "Film " in done.out


def test_new_texts_are_redacted_as_those_of_the_run(told: Told, command: Any) -> None:
    done = command("recommend", str(told.run), "--text", "a pilot, new.one@mail.example", "--k", "2")
    assert done.code == 0, done.err
    assert 'For somebody new: "a pilot, [redacted]", of whom' in done.out


def test_a_slate_in_words_without_texts(told: Told) -> None:
    env = RecEnv(world=told.run / "world", users="all", slate_size=2, num_candidates=5, render_mode="ansi")
    env.reset(seed=0)
    env.step([0, 1])
    assert re.match(r"user u\d+\n  1\. .*Film \d+ ", str(env.render()))


@pytest.fixture
def fitting(told: Told, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a quick fit of the same log, up to the output folder."""
    monkeypatch.setattr(fidelity_sensitivity, "QUICK_USERS", 16)
    monkeypatch.setattr(fidelity_sensitivity, "QUICK_NAMES", ("boredom",))
    monkeypatch.setenv("RECWORLD_CACHE", str(told.cache))
    monkeypatch.delenv("RECWORLD_QUIET", raising=False)
    config = tmp_path / "fit.yaml"
    config.write_text(bench.fast.read_text().split("\nenv:")[0] + "\n")
    return ["--dataset", str(told.log), "--config", str(config), "--redact", "email", "--output"]


def test_fitting_leaves_no_text_of_a_user(
    fitting: list[str], told: Told, command: Any, tmp_path: Path
) -> None:
    done = command("fit", *fitting, str(tmp_path / "world"), "--report", "quick")
    assert done.code == 0, done.err
    assert (tmp_path / "world" / "report.html").is_file()
    for word in (MARKER, "mail.example"):
        assert holding(word, tmp_path) == []
        assert holding(word, told.cache) == []
        assert word.lower() not in (done.out + done.err).lower()


def test_texts_are_kept_where_that_is_asked_for(
    fitting: list[str], told: Told, command: Any, tmp_path: Path
) -> None:
    done = command("fit", *fitting, str(tmp_path / "world"), "--report", "none", "--user-text", "keep")
    assert done.code == 0, done.err
    assert holding(MARKER, tmp_path) == ["world/world.json"]
    assert all(text.startswith(f"{MARKER} ") for text in World.load(tmp_path / "world").user_text)
    assert not ADDRESS.search(str(read_json(tmp_path / "world" / "world.json"))), "what is kept is redacted"
    assert holding(MARKER, told.cache) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--redact", "email", "(x"],
            "'(x': no regular expression: missing ), unterminated subpattern at position 0.",
        ),
        (["--redact", "a*"], "'a*': the pattern matches the empty text, so it would match everywhere."),
        (["--user-text", "hash"], "setting --data.user-text got 'hash': input should be 'drop' or 'keep'."),
        (["--noise", "-1"], "setting --encoder.noise got '-1': input should be greater than or equal to 0."),
    ],
)
def test_wrong_settings(words: list[str], expected: str, command: Any, tmp_path: Path) -> None:
    done = command("train", *words, "--run-dir", str(tmp_path / "run"))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.endswith(expected + "\n")
