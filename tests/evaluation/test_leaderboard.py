"""Leaderboard: what it shows, what it says of the trained agent, and what it warns of."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from recworld.agents.baselines import GreedyAgent, MMRAgent, RandomAgent
from recworld.agents.upper import ShortTermOracle
from recworld.errors import InputError
from recworld.evaluation import Leaderboard, compare, split_members

POLICIES = {"random": RandomAgent, "greedy": GreedyAgent, "mine": MMRAgent, "oracle": ShortTermOracle}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def board(world, options):
    return compare(POLICIES, split_members(world, [0]), options, episodes_per_user=2)


def test_the_same_comparison_gives_the_same_bytes(board, world, options):
    again = compare(POLICIES, split_members(world, [0]), options, episodes_per_user=2)
    assert again.json_text() == board.json_text()
    assert again.text() == board.text()
    found = json.loads(board.json_text())
    assert [w["label"] for w in found["worlds"]] == ["training world", "evaluation world"]
    row = found["worlds"][1]["policies"]["mine"]
    assert set(row["metrics"]) == set(row["minus greedy"])
    assert (
        row["metrics"]["return"]["low"] < row["metrics"]["return"]["mean"] < row["metrics"]["return"]["high"]
    )
    assert found["trained"] == ["mine"]
    assert found["upper_lines"] == ["oracle"]
    assert found["worlds"][0]["setting"]["env"]["slate_size"] == options["slate_size"]
    assert "oracle" not in found["tastes_that_stay"]["policies"]


def test_the_terminal_table_fits_and_sets_upper_lines_apart(board):
    text = board.text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 110
    start = next(i for i, line in enumerate(lines) if line.startswith("policy"))
    assert "return" in lines[start]
    assert "- greedy" in lines[start]
    block = lines[start + 2 : lines.index("", start)]
    assert block[-2].startswith("---")
    assert block[-1].startswith("(oracle)")
    returns = [float(line.split()[1]) for line in block[:-2]]
    assert returns == sorted(returns, reverse=True)
    shown = board.results[0].policies["greedy"].summary["return"]
    assert f"{shown.mean:.2f} ±{shown.half:.2f}" in text
    assert re.search(
        r"K = 3, C = 20 random, horizon 8, reward click; +12 test\s+users x 2 whole episodes", text
    )
    assert "dynamics strong" in text
    assert len(board.text(differences=False)) < len(text)


def test_long_names_do_not_break_the_table(by_hand):
    name = "my_package.some_module:AnAgentWithALongName"
    result = by_hand(**{"greedy": (0, 0, 1), name: (123456.789, 0, 1)})
    assert max(map(len, Leaderboard([result]).text().splitlines())) <= 110
    assert name in Leaderboard([result]).markdown()


def test_markdown_is_a_table_for_each_world(board):
    text = board.markdown()
    tables = [line for line in text.splitlines() if line.startswith("|---")]
    assert len(tables) == 4  # values and differences, two worlds
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count(" | ") for line in rows}) == 2  # the columns of values, and of differences
    assert "*(oracle)*" in text


def test_everything_is_written_and_the_plot_is_a_png(board, tmp_path):
    paths = board.save(tmp_path / "new" / "folder")
    assert [path.suffix for path in paths] == [".json", ".md", ".txt", ".png"]
    assert paths[3].read_bytes()[:8] == PNG
    assert len(paths[3].read_bytes()) > 10_000
    assert json.loads(paths[0].read_text()) == json.loads(board.json_text())
    assert paths[2].read_text() == board.text()


def test_the_verdict_says_who_is_beaten_beyond_the_interval(by_hand):
    result = by_hand(
        greedy=(0, 0, 1), ppo=(1, 0, 1), mmr=(1, 0, 1), static=(3, 0, 1), oracle=(9, 0, 1), upper=("oracle",)
    )
    board = Leaderboard([result])
    assert board.trained == ["ppo"]
    (verdict,) = board.verdicts()
    assert (verdict.beats, verdict.level, verdict.loses) == (("greedy",), ("mmr",), ("static",))
    lead = result.difference("ppo", "greedy")["return"]
    assert verdict.sentence() == (
        f"ppo in the training world: beats greedy ({lead.mean:+.2f} ±{lead.half:.2f}); cannot be told from mmr "
        f"({verdict.leads['mmr'].mean:+.2f} ±{verdict.leads['mmr'].half:.2f}); loses to static "
        f"({verdict.leads['static'].mean:+.2f} ±{verdict.leads['static'].half:.2f}) "
        "(paired difference in return, 95 % interval)."
    )
    assert np.isclose(verdict.leads["static"].mean, -2, atol=0.1)


def test_warnings_name_gains_that_vanish_taste_shift_and_collapsed_coverage(by_hand):
    fine = {"greedy": (0, 0, 1.0), "ppo": (1, 0, 0.9)}
    first = by_hand(**fine)
    assert Leaderboard([first, by_hand("evaluation world", **fine)], still=by_hand(**fine)).flags() == []
    gone = by_hand("evaluation world", greedy=(0, 0, 1.0), ppo=(0, 0, 0.9))
    (flag,) = Leaderboard([first, gone]).flags()
    assert flag == "ppo: its gain over greedy in the training world vanishes in the evaluation world."
    shifting = by_hand(greedy=(0, 0, 1.0), ppo=(1, 1, 0.9))
    assert Leaderboard([shifting], still=by_hand(**fine)).flags() == []
    (flag,) = Leaderboard([shifting], still=by_hand(greedy=(0, 0, 1.0), ppo=(0, 0, 0.9))).flags()
    assert flag == "ppo: it gains on greedy only by shifting tastes: where tastes stay, the gain is gone."
    (flag,) = Leaderboard([by_hand(greedy=(0, 0, 1.0), ppo=(0, 0, 0.3))]).flags()
    assert re.match(
        r"ppo: it shows 30\.0 % of the catalogue, less than half of the 100\.0 % of greedy\.", flag
    )
    assert f"Warning: {flag}" in Leaderboard([by_hand(greedy=(0, 0, 1.0), ppo=(0, 0, 0.3))]).text().replace(
        "\n  ", " "
    )


def test_invalid_choices_get_a_column_only_when_there_are_any(board, by_hand):
    assert "invalid" not in board.text()
    assert "invalid" in Leaderboard([by_hand(greedy=(0, 0, 1), ppo=(0, 0, 1))]).text()


def test_without_the_reference_there_are_no_differences(by_hand):
    board = Leaderboard([by_hand(ppo=(0, 0, 1), mmr=(1, 0, 1))])
    assert "Paired differences to" not in board.text()
    assert board.flags() == []
    assert board.verdicts()[0].loses == ("mmr",)


def test_wrong_calls_are_refused(by_hand):
    with pytest.raises(InputError, match="at least one result"):
        Leaderboard([])
    with pytest.raises(InputError, match="No policy 'dqn' was measured"):
        Leaderboard([by_hand(greedy=(0, 0, 1))], trained=["dqn"])


def test_tastes_that_stay_are_measured_where_tastes_move(world, options):
    """`compare` measures once more where tastes stay, but not where they stay anyway."""
    found = compare({"greedy": GreedyAgent, "mine": MMRAgent}, split_members(world, [0]), options)
    assert found.still is not None
    moved, stayed = (r.policies["mine"].summary["taste_shift"].mean for r in (found.results[0], found.still))
    assert stayed < moved
    static = compare({"greedy": GreedyAgent}, split_members(world, [0]), options | {"dynamics": "static"})
    assert static.still is None
