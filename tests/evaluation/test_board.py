"""Leaderboards of many runs: what is asked, what is kept, what is written; alarms that only they can give."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from recworld.agents.baselines import GreedyAgent, MMRAgent, PopularityAgent, RandomAgent, StaticAgent
from recworld.agents.upper import ShortTermOracle
from recworld.errors import CorruptError, InputError
from recworld.evaluation import Leaderboard, compare, split_members
from recworld.evaluation.blocks import Blocks
from recworld.evaluation.comparing import evaluate_policies
from recworld.evaluation.learning_curves import curves_csv, read_curve, save_curves
from recworld.evaluation.measuring import Measurer
from recworld.evaluation.metrics import METRICS, PER_EPISODE, first_slates
from recworld.evaluation.questions import Questions, answer, overlap_estimate
from recworld.evaluation.results import EvaluationResult
from recworld.evaluation.stored import load_result, pool, save_result

POLICIES = {"random": RandomAgent, "greedy": GreedyAgent, "mmr": MMRAgent, "oracle": ShortTermOracle}


@pytest.fixture(scope="module")
def measured(world, options):
    return compare(POLICIES, split_members(world, [0]), options, episodes_per_user=2)


def asked(board, **given):
    return Leaderboard(board.results, ["random"], board.still, Questions(**given))


def test_first_slates_by_hand():
    slates = np.array([[0, 1], [1, 0], [1, 2], [4, 4]])  # 4 = empty
    overlap, same = first_slates(slates, 4)
    np.testing.assert_allclose(
        overlap, [3 / 6, 3 / 6, 2 / 6, 0.0]
    )  # (others with 0 + others with 1) / (3 others x 2)
    assert same == 0.5  # the order does not matter
    assert first_slates(np.tile([0, 1], (5, 1)), 4)[0].tolist() == [1.0] * 5


def test_overlap_intervals_know_that_a_pair_has_two_users(by_hand):
    rng = np.random.default_rng(0)
    result = by_hand(users=100, one=(0, 0, 1))
    chance = rng.dirichlet(np.ones(12))
    found, halves = [], []
    for _ in range(400):
        slates = np.stack([rng.choice(12, 2, replace=False, p=chance) for _ in range(100)])
        overlap, same = first_slates(slates, 12)
        row = pool("one", [result.policies["one"]])
        row = type(row)(row.name, False, row.values, row.shown, overlap[None], np.array([same]))
        interval = overlap_estimate(type(result)("w", {"one": row}, None), "one").interval()
        found.append(interval.mean)
        halves.append(interval.half)
    assert 0.8 < np.mean(halves) / (1.96 * np.std(found)) < 1.25


def test_one_slate_for_everybody_is_told(world, options, by_hand):
    whole = {**options, "candidates": "all"}
    policies = {"greedy": GreedyAgent, "mmr": MMRAgent, "mine": StaticAgent, "static": PopularityAgent}
    board = compare(policies, {"training world": world}, whole, users="all")
    (flag,) = (flag for flag in board.flags() if "to everybody" in flag)
    assert re.match(
        r"mine: it shows much the same to everybody: two users share [\d.]+ % of their first slates", flag
    )
    overlap = board.results[0].policies["mine"].overlap
    assert f"share {100 * overlap.mean():.1f} %" in flag
    one = by_hand(greedy=(0, 0, 1), mine=(0, 0, 1)).policies
    for share, expected in (
        (0.05, 0),
        (0.5, 1),
    ):  # no impersonal policy in the table: three times the reference's
        rows = {
            name: replace(
                row, overlap=np.random.default_rng(0).normal(mean, 0.01, (1, 200)), same=np.zeros(1)
            )
            for (name, row), mean in zip(one.items(), (0.1, share), strict=True)
        }
        flags = Leaderboard([EvaluationResult("w", rows, "greedy")]).flags()
        assert len(flags) == expected


def test_a_gain_that_is_mostly_shifted_tastes_is_told(by_hand):
    first = by_hand(greedy=(0, 0, 1.0), ppo=(2, 1, 1.0))
    little = by_hand(greedy=(0, 0, 1.0), ppo=(0.5, 0, 1.0))
    (flag,) = Leaderboard([first], still=little).flags()
    assert re.match(
        r"ppo: it gains on greedy mostly by shifting tastes: \+(1\.9|2\.0)\d, of which \+0\.[45]\d is left",
        flag,
    )
    assert Leaderboard([first], still=by_hand(greedy=(0, 0, 1.0), ppo=(1.5, 0, 1.0))).flags() == []


def test_a_gain_that_is_only_uncertain_elsewhere_is_not_called_gone(by_hand):
    first = by_hand(greedy=(0, 0, 1.0), ppo=(1, 0, 1.0))
    rng = np.random.default_rng(1)
    values = {
        name: {metric: rng.normal(gain, 9, (1, 200)) for metric in PER_EPISODE}
        for name, gain in (("greedy", 5), ("ppo", 6))
    }
    rows = {name: replace(first.policies[name], values=values[name]) for name in values}
    rows["ppo"].values["return"] += (
        1 - (rows["ppo"].values["return"] - rows["greedy"].values["return"]).mean()
    )
    noisy = EvaluationResult("other world", rows, "greedy")
    (flag,) = Leaderboard([first, noisy]).flags()
    assert "cannot be told from none in the other world (+1.00 ±" in flag
    assert Leaderboard([first], still=noisy).flags() == []


def test_every_row_is_compared_with_every_reference_once(measured):
    found = answer(measured.results[0], ["oracle"], Questions())
    assert set(found.compared) == {("random", "greedy"), ("mmr", "greedy"), ("random", "mmr")}
    one = found.compared["random", "greedy"]
    assert one.difference.mean == pytest.approx(
        measured.results[0].difference("random", "greedy")["return"].mean
    )
    turned = found.against("mmr", "random")
    assert turned.difference.mean == -found.compared["random", "mmr"].difference.mean
    assert turned.p_holm == found.compared["random", "mmr"].p_holm
    assert found.against("oracle", "greedy") is None
    ordered = sorted(found.compared.values(), key=lambda each: each.p)
    assert ordered[0].p_holm == pytest.approx(min(1.0, 3 * ordered[0].p))
    assert all(each.p <= each.p_holm <= 1 for each in ordered)
    assert set(found.shares) == {("random", "oracle"), ("mmr", "oracle")}
    greedy = measured.results[0].policies["greedy"].summary["return"].mean
    assert found.margin == pytest.approx(0.02 * greedy)


def test_equivalence_is_asked_of_twins(by_hand):
    result = by_hand(users=400, greedy=(0, 0, 1), far=(1, 0, 1), near=(1, 0, 1), other=(3, 0, 1))
    twins = (("near", "far"), ("other", "far"))
    board = Leaderboard([result], questions=Questions(twins=twins, margin=0.2))
    found = board.answers(result).twins
    assert [twin.verdict for twin in found] == ["equivalent", "different"]
    assert "within ±0.2 in return" in board.text()
    told = json.loads(board.json_text())["worlds"][0]["answers"]
    assert [pair["verdict"] for pair in told["gamma"]] == ["equivalent", "different"]
    assert told["margin"] == 0.2


def test_the_tables_fit_and_name_the_number_of_comparisons(measured):
    text = asked(measured).text()
    assert max(map(len, text.splitlines())) <= 110
    assert "survives Holm's correction for 3 comparisons" in text.replace("\n  ", " ")
    assert "% of the way to oracle" in text
    assert "% of the way to oracle" not in measured.text()


def test_a_star_in_the_first_table_is_one_for_all_comparisons(by_hand):
    """A difference whose own interval excludes 0, and which many comparisons do not survive."""
    rng = np.random.default_rng(0)
    first = by_hand(users=50, greedy=(0, 0, 1), **{f"row{n}": (0, 0, 1) for n in range(30)})
    for name, row in first.policies.items():
        noise = rng.normal(0, 1, (1, 50))
        gain = 0.3 + 0.6 * (name == "row1") if name in ("row0", "row1") else 0.0
        row.values["return"][:] = 5 + gain + (0 if name == "greedy" else noise - noise.mean())
    lines = {}
    for questions in (None, Questions()):
        text = Leaderboard([first], [], questions=questions).text(differences=False).splitlines()
        lines[questions] = [
            next(line for line in text if line.startswith(f"{name} ")) for name in ("row0", "row1")
        ]
    assert ["*" in line for line in lines[None]] == [True, True]
    assert ["*" in line for line in lines[Questions()]] == [False, True]


def test_one_line_of_csv_for_each_policy_world_and_metric(measured):
    blocks = Blocks({"strong": asked(measured)})
    rows = list(csv.DictReader(io.StringIO(blocks.csv_text())))
    keys = [(row["block"], row["world"], row["policy"], row["metric"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert {row["metric"] for row in rows} >= {*METRICS, "first_slate_overlap", "share_of_distance_to_oracle"}
    (row,) = (
        r for r in rows if r["policy"] == "mmr" and r["world"] == "training world" and r["metric"] == "return"
    )
    summary = measured.results[0].policies["mmr"].summary["return"]
    assert float(row["mean"]) == pytest.approx(summary.mean, rel=1e-5)
    assert float(row["minus_greedy_low"]) == pytest.approx(
        measured.results[0].difference("mmr", "greedy")["return"].low, rel=1e-4
    )
    assert row["minus_mmr"] == ""


def test_blocks_are_written_side_by_side(measured, tmp_path):
    blocks = Blocks({"strong": asked(measured), "static": asked(measured)})
    paths = blocks.save(tmp_path)
    names = ["json", "md", "txt", "csv"]
    assert [p.name for p in paths] == [
        *(f"leaderboard.{name}" for name in names), "leaderboard-strong.png", "leaderboard-static.png",
    ]  # fmt: skip
    assert list(json.loads(paths[0].read_text())["blocks"]) == ["static", "strong"]
    assert "== dynamics static ==" in paths[2].read_text()
    assert paths[4].read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="At least one"):
        Blocks({})


def test_results_are_kept_and_pooled(world, options, tmp_path):
    one, two = (
        evaluate_policies(
            {"mine": lambda env, seed, p=p: MMRAgent(env, seed, history_penalty=p)}, world, options
        )
        for p in (0.0, 3.0)
    )
    save_result(one.policies["mine"], one.setting, tmp_path / "kept")
    back, setting = load_result(tmp_path / "kept")
    assert setting == one.setting
    assert back.summary == one.policies["mine"].summary
    row = pool("mine", [back, two.policies["mine"]])
    together = evaluate_policies(
        {"mine": [lambda env, seed, p=p: MMRAgent(env, seed, history_penalty=p) for p in (0.0, 3.0)]},
        world,
        options,
    ).policies["mine"]
    assert row.runs == 2
    assert row.summary == together.summary
    np.testing.assert_array_equal(row.overlap, together.overlap)
    file = tmp_path / "kept" / "result.json"
    file.write_text(file.read_text().replace("mine", "yours"))
    with pytest.raises(CorruptError):
        load_result(tmp_path / "kept")
    with pytest.raises(InputError, match="at least one result"):
        pool("mine", [])


def test_what_was_measured_is_not_measured_again(world, options, tmp_path):
    built = []

    def policy(env, seed):
        built.append(seed)
        return GreedyAgent(env, seed)

    here = Measurer(tmp_path, "training world", world, options, "test", 1, 0)
    first, _ = here.measure("greedy", "a", policy)
    again, _ = here.measure("greedy", "a", policy)
    assert len(built) == 1
    assert first.summary == again.summary
    others = [
        Measurer(tmp_path, "w", world.with_members([1]), options, "test", 1, 0),
        Measurer(tmp_path, "w", world, options | {"slate_size": 2}, "test", 1, 0),
        Measurer(tmp_path, "w", world, options, "validation", 1, 0),
        Measurer(tmp_path, "w", world, options, "test", 2, 0),
        Measurer(tmp_path, "w", world, options, "test", 1, 1),
    ]
    assert len({here.path("a"), here.path("b"), *(other.path("a") for other in others)}) == 7
    result = here.together({"greedy": ["a"]})
    assert result.reference == "greedy"
    assert result.policies["greedy"].summary == first.summary
    (here.path("a") / "result.json").unlink()
    here.measure("greedy", "a", policy)
    assert len(built) == 2


def test_curves_are_means_over_seeds_with_a_band(tmp_path):
    files = []
    for seed, shift in enumerate((-1.0, 0.0, 1.0)):
        file = tmp_path / f"{seed}.jsonl"
        steps = (0, 10, 20) if seed else (0, 10, 20, 30)
        lines = [
            {"step": s, "eval/return": s / 10 + shift, "baselines/greedy": 4.0 + shift / 2} for s in steps
        ]
        file.write_text(
            "".join(json.dumps(line) + "\n" for line in [*lines, {"step": 20, "loss/value": 1.0}])
        )
        files.append(file)
    curve = read_curve("ppo", [*files, tmp_path / "absent.jsonl"])
    assert (curve.runs, curve.steps, curve.reference) == (3, (0, 10, 20), 4.0)
    assert [at.mean for at in curve.band] == pytest.approx([0, 1, 2])
    # Half of each shift was luck that greedy had too; t with two degrees of freedom.
    assert curve.band[1].half == pytest.approx(0.5 * 4.302653 / np.sqrt(3))
    without = read_curve("ppo", files, reference="mmr")
    assert without.band[1].half == pytest.approx(4.302653 / np.sqrt(3))
    assert np.isnan(without.reference)
    paths = save_curves({"strong": [curve, read_curve("none", [])]}, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    assert [(row["policy"], row["step"], row["mean"]) for row in rows] == [
        ("ppo", "0", "0"),
        ("ppo", "10", "1"),
        ("ppo", "20", "2"),
    ]
    assert paths[1].read_bytes()[:4] == b"\x89PNG"
    assert curves_csv({}).count("\n") == 1
