"""Curves: a metrics file without a clock that a resume cuts back, TensorBoard, and periodic evaluation."""

from __future__ import annotations

import json
import math
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recworld.agents.baselines import GreedyAgent, MMRAgent, RandomAgent
from recworld.agents.episodes import episode_env, play
from recworld.errors import CorruptError, InputError
from recworld.evaluation import MetricsFile, PeriodicEvaluation, TensorBoardWriter
from recworld.seeding import child_seed

BASELINES = {"greedy": GreedyAgent, "random": RandomAgent}


def events(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.fixture
def evaluation(world, options):
    def make(agent=GreedyAgent, **given):
        env = episode_env(world, options, num_users=1)
        return PeriodicEvaluation(
            agent(env), world, options, **({"every": 100, "baselines": BASELINES, "streams": 20} | given)
        )

    return make


def test_the_metrics_file_keeps_no_clock_and_nothing_that_is_not_finite(tmp_path):
    file = MetricsFile.start(tmp_path / "metrics.jsonl")
    file.write(10, {"b": 2.0, "a": 1, "time/steps_per_second": 3.0, "c": math.nan, "d": math.inf})
    file.write(20, {"time/fps": 1.0})
    assert file.path.read_text() == '{"a": 1.0, "b": 2.0, "step": 10}\n'
    assert file.records() == [{"a": 1.0, "b": 2.0, "step": 10}]
    assert MetricsFile(tmp_path / "none").records() == []


def test_a_resume_cuts_what_came_after_the_checkpoint_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile.start(path)
    for step in (10, 20, 30):
        file.write(step, {"x": 0.1 * step})
    whole = path.read_text()
    path.write_text(whole + '{"x": 4.0, "st')
    assert [record["step"] for record in file.records()] == [10, 20, 30]
    again = MetricsFile.resume(path, 20)
    assert [record["step"] for record in again.records()] == [10, 20]
    again.write(30, {"x": 0.1 * 30})
    assert path.read_text() == whole
    assert list(tmp_path.iterdir()) == [path]
    path.write_text('{"x": 1}\n' + whole)
    with pytest.raises(CorruptError, match="line 1, is not a record"):
        MetricsFile.resume(path, 20)


def test_it_evaluates_whenever_another_stretch_is_done(evaluation, tmp_path):
    file = MetricsFile.start(tmp_path / "metrics.jsonl")
    callback = evaluation(metrics=file)
    callback.start()
    assert all(callback(step, {"train/return": float(step)}) is True for step in range(64, 641, 64))
    records = file.records()
    assert [r["step"] for r in records] == [0, *range(64, 641, 64)]
    assert [r["step"] for r in records if "eval/return" in r] == [0, 128, 256, 320, 448, 512, 640]
    assert [r["train/return"] for r in records[1:]] == [float(s) for s in range(64, 641, 64)]


def test_the_agent_and_the_baselines_play_the_same_episodes(evaluation, world, options):
    found = evaluation().evaluate(0)
    assert found["eval/return"] == found["baselines/greedy"] > found["baselines/random"]
    assert (found["eval/lead"], found["eval/lead_low"], found["eval/lead_high"]) == (0.0, 0.0, 0.0)
    # Enough episodes that the interval tells the two apart whatever the draws are.
    worse = evaluation(RandomAgent, streams=20 * len(world.users("validation"))).evaluate(0)
    assert worse["eval/lead"] == pytest.approx(worse["eval/lead_high"], abs=9)
    assert worse["eval/lead_high"] < 0
    env = episode_env(world, options, users="validation")
    users = world.users("validation")
    own = evaluation(streams=len(users)).evaluate(0)
    run = play(GreedyAgent(env), env, users, seed=child_seed(0, "periodic evaluation"))
    assert own["eval/return"] == pytest.approx(run.returns().mean())
    assert own["eval/session_length"] == pytest.approx(run.active.sum(0).mean())


def test_more_streams_than_users_are_other_episodes_of_the_same_users(evaluation, world):
    callback = evaluation(streams=3 * len(world.users("validation")) + 1)
    pairs = set(zip(callback._users.tolist(), callback._streams.tolist(), strict=True))
    assert len(pairs) == len(callback._users)
    assert len(set(callback._streams.tolist())) == len(callback._users)


def test_one_look_at_tensorboard_tells_who_wins(evaluation, tmp_path):
    writer = TensorBoardWriter(tmp_path)
    callback = evaluation(MMRAgent, writer=writer)
    for step in (100, 200):
        callback(step, {"train/return": 1.0, "time/steps_per_second": 5.0, "loss/value": math.nan})
    writer.close()
    own, greedy = events(tmp_path), events(tmp_path / "baseline_greedy")
    assert [step for step, _ in own["eval/return"]] == [100, 200]
    assert [step for step, _ in greedy["eval/return"]] == [100, 200]  # the same chart, a line of its own
    assert own["baselines/greedy"] == greedy["eval/return"]
    assert own["eval/lead"][0][1] == pytest.approx(
        own["eval/return"][0][1] - greedy["eval/return"][0][1], abs=2
    )
    assert "time/steps_per_second" in own
    assert "loss/value" not in own
    assert (tmp_path / "baseline_random").is_dir()


def test_a_resumed_run_ends_with_the_file_and_the_curves_of_an_unbroken_one(evaluation, tmp_path):
    steps = list(range(50, 501, 50))
    whole, broken = MetricsFile.start(tmp_path / "a.jsonl"), MetricsFile.start(tmp_path / "b.jsonl")
    unbroken = evaluation(metrics=whole, writer=(first := TensorBoardWriter(tmp_path / "a")))
    for step in steps:
        unbroken(step, {"train/return": math.sqrt(step)})
    first.close()
    killed = evaluation(metrics=broken, writer=(writer := TensorBoardWriter(tmp_path / "b")))
    for step in steps[:7]:  # the checkpoint was at 200, the kill after 350
        killed(step, {"train/return": math.sqrt(step)})
    writer.close()
    time.sleep(1.1)  # event files are read in the order of the second in their names
    resumed_file = MetricsFile.resume(tmp_path / "b.jsonl", 200)
    writer = TensorBoardWriter(tmp_path / "b", resume_step=200)
    resumed = evaluation(metrics=resumed_file, writer=writer, done=200)
    assert resumed.best is not None
    assert resumed.best[0] == 100
    for step in steps[4:]:
        resumed(step, {"train/return": math.sqrt(step)})
    writer.close()
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    assert resumed.best == unbroken.best
    for run in ("", "baseline_greedy"):
        assert events(tmp_path / "b" / run) == events(tmp_path / "a" / run)


def test_the_best_is_told_once_and_only_when_it_is_better(evaluation):
    told = []
    callback = evaluation(RandomAgent, on_best=lambda step, value: told.append((step, value)))
    callback(100, {})
    callback(200, {})
    assert [step for step, _ in told] == [100]
    callback.agent = GreedyAgent(callback._env)
    callback(300, {})
    assert [step for step, _ in told] == [100, 300]
    assert callback.best == told[-1]


def test_the_same_seed_writes_the_same_bytes(evaluation, tmp_path):
    texts = []
    for name in ("one", "two"):
        file = MetricsFile.start(tmp_path / name)
        callback = evaluation(RandomAgent, metrics=file)
        callback(100, {"train/return": 1.0})
        texts.append(file.path.read_text())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["eval/coverage"] > 0


def test_numbers_below_one_are_refused(evaluation):
    with pytest.raises(InputError, match=r"at least 1\. Got 0, 20 and 1"):
        evaluation(every=0)
