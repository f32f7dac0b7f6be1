"""`evaluate --algos`: algorithms x seeds x worlds, with one that fails, stopped and gone on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.cli.board_measure import STILL, make_worlds
from recworld.cli.board_rows import Row, read_row, read_rows, settings_of
from recworld.cli.board_settings import BoardSettings, read_board
from recworld.cli.jobs import Job, locked, side_by_side
from recworld.errors import InputError
from recworld.runs import RunFolder
from recworld.simulators.bundled import bundled_world
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.world import World
from recworld.storage import sha256_file, write_folder

AGENTS = '''
import os, time
from pathlib import Path
import numpy as np

class Quick:
    """The best K by the recommender's own estimate."""

    def __init__(self, env, seed=0):
        self.size = env.slate_size

    def act(self, observation, deterministic=True):
        score = np.where(observation["action_mask"] == 1, observation["candidate_score"], -np.inf)
        return np.argsort(-score, axis=1, kind="stable")[:, : self.size]

    def learn(self, env, total_steps, callback=None):
        for step in range(256, total_steps + 1, 256):
            callback(step, {})

class Slow(Quick):
    def learn(self, env, total_steps, callback=None):
        Path("waiting").write_text(str(os.getpid()))
        while not Path("go").exists():
            time.sleep(0.02)
        super().learn(env, total_steps, callback)

class Bad(Quick):
    def learn(self, env, total_steps, callback=None):
        raise RuntimeError("this one cannot learn")
'''


def test_rows_are_read_as_they_are_written() -> None:
    assert read_row("ppo") == Row("ppo", "ppo")
    row = read_row("dqn@gamma=0,network.hidden=32,16")
    assert row.options == (("gamma", "0"), ("network.hidden", "32,16"))
    assert row.name == "dqn@gamma=0,network.hidden=32,16"
    assert read_row("examples.custom_agent:MyAgent@learning_rate=1").name == "MyAgent@learning_rate=1"
    assert "/" not in read_row("ppo@device=a/b").stem
    for wrong in ("ppo@", "ppo@gamma", "ppo@=3"):
        with pytest.raises(InputError, match="settings are written ppo@gamma=0"):
            read_row(wrong)
    with pytest.raises(InputError, match="Did you mean 'ppo'"):
        read_row("ppoo@gamma=0")


def test_each_row_that_looks_ahead_gets_one_that_does_not() -> None:
    rows = read_rows(["ppo", "dqn@learning_rate=1e-3", "a2c@gamma=0"], [], myopic=True)
    assert [(row.name, row.far) for row in rows] == [
        ("ppo", None),
        ("ppo@gamma=0", "ppo"),
        ("dqn@learning_rate=1e-3", None),
        ("dqn@gamma=0,learning_rate=1e-3", "dqn@learning_rate=1e-3"),
        ("a2c@gamma=0", None),
    ]
    assert settings_of(rows[3], []).agent.gamma == 0
    assert settings_of(rows[3], []).agent.learning_rate == 1e-3
    named = read_rows(["ppo", "ppo@gamma=0.0"], [], myopic=True)
    assert [(row.name, row.far) for row in named] == [("ppo", None), ("ppo@gamma=0.0", "ppo")]
    assert [row.name for row in read_rows(["ppo", "ppo"], [], myopic=False)] == ["ppo"]
    own = read_rows(["examples.custom_agent:MyAgent@learning_rate=0.5"], [], myopic=True)
    assert settings_of(own[0], []).agent == {"learning_rate": 0.5}
    with pytest.raises(InputError, match=r"--algos ppo@gama=0: .*Did you mean --agent.gamma"):
        read_rows(["ppo@gama=0"], [], myopic=True)


def test_flags_of_training_pass_through() -> None:
    words = (
        "--algos ppo dqn --seeds 3 --slate-size 4 --episodes 7 --reward rating --myopic no --dynamics static"
    )
    options, training = read_board(words.split())
    assert (options.algos, options.seeds, options.episodes, options.myopic) == (["ppo", "dqn"], 3, 7, "no")
    settings = settings_of(Row("ppo", "ppo"), training, seed=2)
    assert (settings.env.slate_size, settings.env.reward, settings.dynamics.preset) == (4, "rating", "static")
    assert (settings.seed, settings.world_seed) == (2, 0)
    assert settings_of(Row("ppo", "ppo"), [], preset="static").dynamics.boredom == 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--algos", "--algos needs a value"),
        ("--algos ppoo", "Did you mean 'ppo'?"),
        ("--algos ppo --seeds 0", "setting --seeds got '0'"),
        ("--algos ppo --myopic maybe", "setting --myopic got 'maybe'"),
        ("--algos ppo --margin 0", "setting --margin got '0'"),
        ("--algos ppo --worlds half", "--worlds takes NAME=FOLDER"),
        ("--algos ppo --presets strong --dynamics static", "Either --presets or --dynamics"),
        ("--algos ppo --presets chaotic", "unknown dynamics preset 'chaotic'"),
        ("--algos ppo --baselines gready", "Did you mean 'greedy'?"),
        ("--algos ppo --baselines dqn", "has to be trained first"),
        ("--algos ppo --run-dir x", "--run-dir belongs to a single run"),
        ("--algos ppo --resume x", "--resume belongs to a single run"),
        ("--algos ppo --tune 3", "--tune belongs to a single run"),
        ("--algos ppo --seedz 3", "Unknown flag --seedz"),
    ],
)
def test_what_is_wrong_is_refused_before_the_long_work(
    line: str, expected: str, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("evaluate", *line.split())
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert expected in done.err
    assert not list(tmp_path.iterdir())


def test_help_of_the_leaderboard(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = command("evaluate", "--algos", "ppo", "--help")
    assert done.code == 0
    assert "--margin" in done.out
    assert max(map(len, done.out.splitlines()[1:])) <= 100


def test_jobs_side_by_side_tell_who_failed(tmp_path: Path) -> None:
    code = "import sys, time; time.sleep(0.3); print('error: ' + sys.argv[1]); sys.exit(int(sys.argv[2]))"
    jobs = [Job(f"job {n}", (f"word {n}", str(n % 2)), tmp_path / f"{n}.txt", code) for n in range(4)]
    killed = Job("killed", (), tmp_path / "k.txt", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    start = time.monotonic()
    assert side_by_side([*jobs, killed], 5, "Test") == {
        "job 1": "word 1", "job 3": "word 3", "killed": "killed by SIGKILL",
    }  # fmt: skip
    assert time.monotonic() - start < 4 * 0.3 + 1.5


def test_a_lock_is_held_by_what_a_killed_command_left_running(tmp_path: Path) -> None:
    from subprocess import Popen

    path = tmp_path / ".lock"
    with locked(path) as lock:
        assert lock is not None
        child = Popen(["sleep", "60"], pass_fds=(lock,))
        with pytest.raises(InputError, match="at work already"), locked(path):
            pass
    try:
        with pytest.raises(InputError, match="at work already"), locked(path):
            pass
    finally:
        child.kill()
        child.wait()
    with locked(path):
        pass


def test_another_world_takes_the_place_of_the_truth_only(tmp_path: Path) -> None:
    """What a recommender knows, its users and their dynamics stay; other users or items are refused."""
    world, other = (bundled_world(users=60, items=40, width=8, members=3, seed=seed) for seed in (0, 1))
    other = replace(
        other, item_vector=world.item_vector, user_keys=world.user_keys, item_keys=world.item_keys
    )
    write_folder(tmp_path / "other", other.with_dynamics(dynamics_preset("static")).save)
    options = BoardSettings(algos=["ppo"], worlds={"half": str(tmp_path / "other")})
    settings = settings_of(Row("ppo", "ppo"), ["--world.members", "3"], seed=4)
    found = make_worlds(options, {"strong": world}, {"strong": settings}, ["greedy"], tmp_path)["strong"]
    assert list(found.worlds) == ["training world", "evaluation world", "half", STILL]
    half = found.worlds["half"]
    np.testing.assert_array_equal(half.truth.taste, other.truth.taste)
    np.testing.assert_array_equal(half.agent.response.taste, world.agent.response.taste)
    assert half.dynamics == world.dynamics
    assert all((half.users(split) == world.users(split)).all() for split in ("train", "test"))
    assert found.worlds[STILL].dynamics.taste_rate == 0
    assert found.seed == 0, "the episodes are those of the world's seed, whatever a run's"
    for change, expected in (
        ({"user_keys": other.user_keys[::-1]}, "users of that world are not those of"),
        ({"item_keys": other.item_keys[::-1]}, "items of that world are not those of"),
        ({"item_vector": -other.item_vector}, "other item vectors"),
    ):
        write_folder(tmp_path / "wrong", replace(other, **change).save)
        wrong = options.model_copy(update={"worlds": {"half": str(tmp_path / "wrong")}})
        with pytest.raises(InputError, match=expected):
            make_worlds(wrong, {"strong": world}, {"strong": settings}, [], tmp_path)
    for worlds, expected in (
        ({"half": "nowhere"}, "no such folder"),
        ({"training world": str(tmp_path / "other")}, "has already"),
    ):
        with pytest.raises(InputError, match=expected):
            make_worlds(
                options.model_copy(update={"worlds": worlds}),
                {"strong": world},
                {"strong": settings},
                [],
                tmp_path,
            )


@pytest.fixture(scope="module")
def toys(bench: Any) -> list[str]:
    """The words of a command over toy agents; some are named in it by each test."""
    (bench.folder / "toys.py").write_text(AGENTS)
    (bench.folder / "toys.yaml").write_text(bench.fast.read_text().partition("agent: ")[0])
    return [
        "--dataset",
        str(bench.log),
        "--config",
        "toys.yaml",
        "--output",
        "board",
        "--episodes",
        "1",
        "--jobs",
        "2",
        "--baselines",
        "random",
        "greedy",
        "oracle",
    ]


def test_stopped_and_gone_on_with(
    bench: Any, toys: list[str], start: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("RECWORLD_QUIET", "1")
    board, waiting = Path("board"), Path("waiting")
    runs = board / "runs" / "strong"
    words = ["--seeds", "1", *toys]
    at_work = start("evaluate_agents.py", "--algos", "toys:Quick", "toys:Slow", *words)
    while at_work.poll() is None and not (
        waiting.exists() and waiting.read_text() and _ended(runs / "Quick-0")
    ):
        time.sleep(0.02)
    at_work.send_signal(signal.SIGINT)
    _, err = at_work.communicate(timeout=60)
    assert at_work.returncode == 130, err
    assert err.splitlines()[-1].startswith("error: Interrupted.")
    with pytest.raises(ProcessLookupError):
        os.kill(int(waiting.read_text()), 0)
    assert not (runs / "Slow-0" / "agent").exists()
    agent = runs / "Quick-0" / "agent"
    before = sha256_file(agent / "agent.json"), agent.stat().st_mtime_ns

    Path("go").touch()
    done = command("evaluate", "--algos", "toys:Quick", "toys:Slow", "toys:Bad", *words)
    assert done.code == 1, done.err
    assert done.err == (
        "error: Bad, seed 0, dynamics strong: RuntimeError: this one cannot learn "
        "(set RECWORLD_DEBUG=1 for the traceback)\n"
    )
    assert "failed and left out: Bad, seed 0" in done.out.replace("\n  ", " ")
    assert before == (sha256_file(agent / "agent.json"), agent.stat().st_mtime_ns), "left alone"
    told = _blocks(board)["strong"]
    assert [world["label"] for world in told["worlds"]] == ["training world", "evaluation world"]
    rows = told["worlds"][0]["policies"]
    assert set(rows) == {"Quick", "Slow", "random", "greedy", "oracle"}
    assert rows["Quick"]["metrics"] == rows["greedy"]["metrics"], "the same policy on the same luck"
    assert rows["random"]["metrics"]["return"] != rows["greedy"]["metrics"]["return"]
    assert "oracle" not in told["tastes_that_stay"]["policies"]
    answers = told["worlds"][0]["answers"]
    assert {one["policy"] for one in answers["compared"]} == {"Quick", "Slow", "random"}
    assert [one["survives"] for one in answers["compared"] if one["policy"] == "Quick"] == [False]

    refused = command("evaluate", "--algos", "toys:Quick", "--horizon", "4", *words)
    assert (refused.code, refused.err) == (
        2,
        "error: board/runs/strong/Quick-0 was trained otherwise: env.horizon (5, now 4): name another --output.\n",
    )
    with locked(board / ".lock"):
        refused = command("evaluate", "--algos", "toys:Quick", *words)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "is at work already" in refused.err


@pytest.mark.slow
def test_widened_by_seeds_worlds_and_dynamics(
    bench: Any, toys: list[str], command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("RECWORLD_QUIET", "1")
    words, board = toys.copy(), Path("wide")
    words[words.index("board")] = "wide"
    runs = board / "runs" / "strong"
    done = command("evaluate", "--algos", "toys:Quick", "--seeds", "1", *words)
    assert (done.code, done.err) == (0, "")
    told = _blocks(board)["strong"]
    measured = set((board / "measured").iterdir())
    words += ["--seeds", "2"]
    more = ["--presets", "strong", "static", "--worlds", "again=wide/prepared"]
    done = command("evaluate", "--algos", "toys:Quick", *words, *more)
    assert (done.code, done.err) == (0, "")
    assert "dynamics static ==" in done.out
    blocks = _blocks(board)
    assert set(blocks) == {"strong", "static"}
    for block in blocks.values():
        assert [world["label"] for world in block["worlds"]] == [
            "training world",
            "evaluation world",
            "again",
        ]
        assert block["worlds"][2]["policies"]["Quick"]["runs"] == 2
    assert blocks["static"]["tastes_that_stay"] is None, "tastes stay anyway"
    old, new = (
        [world["policies"]["greedy"]["metrics"]["click_rate"] for world in block["worlds"]]
        for block in (told, blocks["strong"])
    )
    assert new[:2] == old
    assert new[2] != new[0]
    assert measured < set((board / "measured").iterdir()), "what was measured is kept"
    assert (board / "leaderboard-static.png").is_file()
    lines = list(csv.DictReader((board / "curves.csv").read_text().splitlines()))
    assert {(line["block"], line["policy"], line["runs"]) for line in lines} == {
        (block, "Quick", "2") for block in blocks
    }
    assert [line["step"] for line in lines] == 2 * ["0", "256", "512", "768"]
    assert (board / "curves.png").read_bytes()[:4] == b"\x89PNG"
    seeds = [RunFolder.open(runs / f"Quick-{n}").settings() for n in (0, 1)]
    assert [(one["seed"], one["world_seed"]) for one in seeds] == [(0, 0), (1, 0)]
    worlds = [World.load(runs / f"Quick-{n}" / "world").fingerprint for n in (0, 1)]
    assert worlds[0] == worlds[1], "one world for all seeds"

    words = ["--algo", "toys:Quick", *toys[: toys.index("--output")], "--seed", "1", "--world-seed", "0"]
    assert command("train", *words, "--run-dir", "alone").code == 0
    assert World.load(Path("alone") / "world").fingerprint == worlds[0]
    pair = [
        [json.loads(line)["eval/return"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (Path("alone"), runs / "Quick-1")
    ]
    assert pair[0] == pair[1], "one training of the leaderboard, by itself"


def test_trained_in_the_evaluation_world_is_an_upper_line(
    bench: Any, toys: list[str], command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("RECWORLD_QUIET", "1")
    words = toys.copy()
    words[words.index("board")] = "inside"
    done = command("evaluate", "--algos", "toys:Quick", "--seeds", "1", "--insiders", "yes", *words)
    assert (done.code, done.err) == (0, "")
    block = _blocks(Path("inside"))["strong"]
    name = "Quick trained in the evaluation world"
    assert name in block["upper_lines"]
    assert block["trained"] == ["Quick"], "it has no verdict and is in no correction"
    assert [world["label"] for world in block["worlds"]] == ["training world", "evaluation world"]
    assert all(name in world["policies"] for world in block["worlds"])
    own, other = (
        RunFolder.open(next(Path("inside/runs/strong").glob(f"Quick{end}-0"))).settings()
        for end in ("", "_trained*")
    )
    assert own["env"]["members"] == other["evaluation"]["members"]
    assert own["evaluation"]["members"] == other["env"]["members"]


def test_one_member_leaves_no_world_to_be_inside_of() -> None:
    row = Row("ppo inside", "ppo", insider=True)
    with pytest.raises(InputError, match="--insiders yes needs members"):
        settings_of(row, ["--world.members", "1"])


def _blocks(board: Path) -> Any:
    return json.loads((board / "leaderboard.json").read_text())["blocks"]


def _ended(run: Path) -> bool:
    return (run / "evaluation" / "leaderboard.json").is_file()
