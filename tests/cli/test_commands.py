"""Evaluating and recommending from the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.cli.stranger import with_stranger
from recworld.runs import RunFolder
from recworld.simulators.world import World


def test_runs_and_baselines_in_one_table(trained: tuple[Path, str], bench: Any, command: Any) -> None:
    twin = bench.folder / "twin"
    if not twin.exists():
        shutil.copytree(trained[0], twin)
    output = bench.folder / "compared"
    words = [str(trained[0]), str(twin), "greedy", "random", "--episodes", "1", "--output", str(output)]
    done = command("evaluate", *words)
    assert done.code == 0, done.err
    board = json.loads((output / "leaderboard.json").read_text())
    for world in board["worlds"]:
        policies = world["policies"]
        assert set(policies) == {"run", "twin", "greedy", "random"}
        assert policies["run"]["metrics"] == policies["twin"]["metrics"], "the same agent on the same luck"
        assert policies["run"]["metrics"]["return"] != policies["random"]["metrics"]["return"]
    assert (output / "leaderboard.png").read_bytes()[:4] == b"\x89PNG"
    pooled = command("evaluate", *words[:-1], str(output / "pooled"), "--pool")
    assert pooled.code == 0, pooled.err
    rows = json.loads((output / "pooled" / "leaderboard.json").read_text())["worlds"][0]["policies"]
    assert rows["ppo"]["runs"] == 2


def test_baselines_alone_in_another_dynamics(trained: tuple[Path, str], bench: Any, command: Any) -> None:
    output = bench.folder / "static"
    words = ["greedy", "--world", str(trained[0]), "--dynamics", "static", "--num-candidates", "12"]
    done = command("evaluate", *words, "--horizon", "4", "--episodes", "1", "--output", str(output))
    assert done.code == 0, done.err
    world = json.loads((output / "leaderboard.json").read_text())["worlds"][0]
    assert world["policies"]["greedy"]["metrics"]["session_length"]["mean"] == 4, "nobody leaves"
    assert world["setting"]["env"]["dynamics"]["boredom"] == 0


def test_recommendations_for_a_user_of_the_log(trained: tuple[Path, str], command: Any) -> None:
    done = command("recommend", str(trained[0]), "--user", "u7", "--k", "4")
    assert done.code == 0, done.err
    assert "For user u7, of whom" in done.out, "a run holds no text of a user"
    shown = re.findall(r"^ +\d\. +([\d.]+)% click  (Film \d+) ", done.out, re.MULTILINE)
    assert len({film for _, film in shown}) == 4
    assert all(0 < float(chance) < 100 for chance, _ in shown)
    near = re.findall(r"close to (Film \d+) \([a-z ]+\) \(rated ([1-5])\)", done.out)
    assert len(near) == 4
    world = World.load(RunFolder.open(trained[0]).world)
    user = world.user_keys.index("u7")
    begin, end = world.agent.history_start[user : user + 2]
    consumed = {world.item_text[i].split(" (")[0] for i in world.agent.history_item[begin:end]}
    assert {film for film, _ in near} <= consumed
    assert not {film for _, film in shown} & consumed, "what was consumed is not shown again"


def test_recommendations_for_somebody_new(trained: tuple[Path, str], command: Any) -> None:
    done = command("recommend", str(trained[0]), "--text", "33 year old pilot", "--k", "3")
    assert done.code == 0, done.err
    assert 'For somebody new: "33 year old pilot", of whom the recommender knows 0 consumed items' in done.out
    assert len(re.findall(r"Film \d+", done.out)) == 3


def test_a_stranger_is_placed_among_people_described_alike() -> None:
    from recworld.simulators.bundled import bundled_world

    world = bundled_world(users=200)
    leads = []
    for number in range(10):
        wider = with_stranger(world, world.user_vector[number], world.user_text[number])
        assert wider.num_users == 201
        assert wider.agent.history_start[-1] == wider.agent.history_start[-2]
        taste = wider.truth.taste[0]
        np.testing.assert_array_equal(taste[:200], world.truth.taste[0])
        likeness = np.corrcoef(taste[200], taste[:200])[0, 1:]
        leads.append(likeness[number] - likeness.mean())
    assert np.mean(leads) > 0.5


@pytest.mark.parametrize("name", ["train", "evaluate", "recommend", "fit"])
def test_help_reads_well(name: str, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = command(name, "--help")
    assert done.code == 0
    assert done.err == ""
    assert max(map(len, done.out.splitlines()[1:])) <= 100
    undocumented = re.findall(r"│ (--[a-z-.]+)[^│]*│\n│ +\(default", done.out)
    assert undocumented == [], "every setting says what it is"


def test_help_shows_the_settings_of_the_chosen_algorithm(command: Any) -> None:
    assert "--agent.clip" in command("train", "--help").out
    assert "--agent.clip" not in command("train", "--help", "--algo", "dqn").out
