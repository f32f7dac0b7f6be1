"""The fidelity report on worlds whose faults are known: the truth, and the truth with one thing wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.evaluation import FidelityReport, fidelity_classifier, fidelity_report, fidelity_sensitivity
from recworld.evaluation.fidelity_exposures import exposed
from recworld.evaluation.fidelity_lines import GROUPS, Line
from recworld.evaluation.fidelity_marginals import marginals
from recworld.evaluation.fidelity_replay import logged_sessions, rate_logged, replay
from recworld.evaluation.fidelity_splits import SPLITS, Split, make_split
from recworld.logs.log import InteractionLog, RatingScale
from recworld.logs.settings import SyntheticSettings
from recworld.simulators.bundled import bundled_world
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.tables import ResponseTables
from recworld.simulators.truths import draw_log, wellspecified_world
from recworld.simulators.world import World

SIZES = SyntheticSettings(num_users=600, num_items=150, consumptions=40, popularity_bias=0.3)
APART = DynamicsSettings(
    boredom=0.0,
    boredom_rating=0.0,
    taste_rate=0.0,
    leave_dissatisfaction=0.0,
    leave_boredom=0.0,
    leave_base=-2.0,
)
"""Clicks, ratings and leaving that do not touch each other, so that one fault shows in one place."""


@pytest.fixture(scope="module", autouse=True)
def _few_policies_and_players() -> Iterator[None]:
    """The ranking of policies has tests of its own: here it need only be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity_sensitivity, "QUICK_USERS", 16)
        patch.setattr(fidelity_sensitivity, "FULL_USERS", 16)
        patch.setattr(fidelity_sensitivity, "QUICK_NAMES", ("boredom",))
        patch.setattr(fidelity_sensitivity, "RANGES", {"boredom": fidelity_sensitivity.RANGES["boredom"]})
        patch.setattr(fidelity_classifier, "TREES", 10)
        yield


@pytest.fixture(scope="module")
def log() -> InteractionLog:
    return draw_log(SIZES, 0, APART)


@pytest.fixture(scope="module")
def truth() -> World:
    return wellspecified_world(SIZES, 0, APART)


@pytest.fixture(scope="module")
def replayed(log: InteractionLog) -> Callable[[World], dict[str, Line]]:
    """Return what replays held-out sessions through a world that is taken for fitted: lines by name."""
    split = make_split(log, "random", 0)
    assert isinstance(split, Split)
    sessions = logged_sessions(log.exposures, split.shown, log.num_items)

    def lines(world: World) -> dict[str, Line]:
        found = marginals(log, world, split, sessions, 0).lines
        found += exposed(world, sessions, "", split.unit, 0).lines
        return {line.name: line for line in found}

    return lines


def poor(lines: dict[str, Line]) -> set[str]:
    return {name for name, line in lines.items() if line.level == "poor"}


def test_the_truth_is_good(replayed: Any, truth: World) -> None:
    lines = replayed(truth)
    required = [line for line in lines.values() if line.required]
    assert len(required) >= 6
    assert {line.level for line in required} == {"good"}, [(line.name, line.verdict) for line in required]
    assert poor(lines) == set()
    for line in lines.values():
        assert line.figure is not None
        assert line.floor is not None
        assert line.low is not None
        assert line.low <= line.figure <= line.high


def changed(world: World, **tables: Any) -> World:
    return replace(world, truth=replace(world.truth, **tables))


def test_shifted_thresholds_are_poor_in_the_ratings_only(replayed: Any, truth: World) -> None:
    lines = replayed(changed(truth, thresholds=truth.truth.thresholds + np.float32(0.8)))
    assert {"histogram_js", "user_means_wasserstein", "item_means_wasserstein"} <= poor(lines)
    assert {lines[name].level for name in ("click_rate", "clicks_by_position", "session_length")} == {"good"}
    assert lines["histogram_js"].beside["simulated mean"] < lines["histogram_js"].beside["real mean"] - 0.4


def test_a_doubled_click_rate_is_poor_in_the_clicks_only(replayed: Any, truth: World) -> None:
    lines = replayed(changed(truth, user_attraction_bias=truth.truth.user_attraction_bias + np.float32(1.1)))
    assert {"click_rate", "clicks_by_position"} <= poor(lines)
    assert lines["click_rate"].figure > 0.7
    assert {lines[name].level for name in ("histogram_js", "user_means_wasserstein", "session_length")} == {
        "good"
    }


def test_sessions_of_half_the_length_are_poor_in_the_length_only(replayed: Any, truth: World) -> None:
    short = truth.with_dynamics(APART.model_copy(update={"leave_base": -1.0}))
    lines = replayed(short)
    assert poor(lines) == {"session_length"}
    beside = lines["session_length"].beside
    assert beside["simulated"] < 0.65 * beside["logged"]


def test_a_wrong_decay_of_attention_shows_by_position(replayed: Any, truth: World) -> None:
    lines = replayed(truth.with_dynamics(APART.model_copy(update={"examination_decay": 0.5})))
    assert {"clicks_by_position", "click_rate"} <= poor(lines)
    assert lines["click_depth"].level == "poor"
    assert lines["click_depth"].beside["simulated"] < lines["click_depth"].beside["logged"]


def test_stays_are_compared_without_bias_where_leaving_depends_on_what_is_shown() -> None:
    """Sessions that met slates they liked last longer in the log; comparing raw lengths would call the truth too short."""
    sizes = SyntheticSettings(num_users=400, num_items=120, consumptions=30)
    gaps = []
    for seed in range(2):
        log, world = draw_log(sizes, seed), wellspecified_world(sizes, seed)
        split = make_split(log, "random", 0)
        assert isinstance(split, Split)
        sessions = logged_sessions(log.exposures, split.shown, log.num_items)
        line = {one.name: one for one in exposed(world, sessions, "", split.unit, 0).lines}["session_length"]
        gaps.append(line.beside["simulated"] / line.beside["logged"] - 1)
    assert abs(np.mean(gaps)) < 0.06


def test_replay_shows_the_logged_slates_to_the_logged_users(log: InteractionLog, truth: World) -> None:
    held = np.isin(log.exposures.session, np.unique(log.exposures.session)[:40])
    sessions = logged_sessions(log.exposures, held, log.num_items)
    assert len(sessions) == 40
    assert (sessions.item < log.num_items).sum() == held.sum()
    assert sessions.click.sum() == log.exposures.clicked[held].sum()
    for row in range(5):
        rows = log.exposures.session == sessions.number[row]
        assert (log.exposures.user[rows] == sessions.user[row]).all()
        shown = sessions.item[row][sessions.item[row] < log.num_items]
        np.testing.assert_array_equal(shown, log.exposures.item[rows])
    found = replay(truth, sessions.user, sessions.item, 0, leaving=False)
    empty = sessions.item == log.num_items
    assert not found.click[empty].any()
    inside = np.arange(sessions.item.shape[1])[None, :] < sessions.length[:, None]
    np.testing.assert_array_equal(found.there, inside)
    again = replay(truth, sessions.user, sessions.item, 0, leaving=False)
    np.testing.assert_array_equal(found.click, again.click)
    gone = replay(truth, sessions.user, sessions.item, 0, leaving=True)
    assert (gone.left.sum(1) <= 1).all()
    after = np.cumsum(gone.left, axis=1)[:, :-1] == 1
    assert not gone.there[:, 1:][after].any()


def test_every_logged_consumption_gets_a_rating(log: InteractionLog, truth: World) -> None:
    rows = np.arange(200)
    user, item = log.user[rows].astype(np.int64), log.item[rows][:, None, None]
    drawn = rate_logged(truth, user, item, 0)
    assert set(np.unique(drawn)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert np.corrcoef(drawn[:, 0, 0], log.rating[rows])[0, 1] > 0.2


@pytest.mark.parametrize("name", SPLITS)
def test_nothing_that_is_held_out_is_in_the_training_part(name: str, log: InteractionLog) -> None:
    split = make_split(log, name, 0)
    assert isinstance(split, Split)
    assert len(split.train) + len(split.test) == len(log)
    assert 0.1 < len(split.test) / len(log) < 0.35
    held = log.user[split.test].astype(np.int64) * log.num_items + log.item[split.test]
    shown, whole = split.train.exposures, log.exposures
    clicked = (shown.user.astype(np.int64) * log.num_items + shown.item)[shown.clicked]
    assert not np.isin(held, clicked).any()
    assert len(shown) + split.shown.sum() == len(whole)
    if name == "cold_users":
        assert not np.isin(split.train.user, log.user[split.test]).any()
        assert not np.isin(shown.user, log.user[split.test]).any()
    if name == "cold_items":
        assert not np.isin(shown.item, log.item[split.test]).any()
    if name == "random":
        assert not np.isin(np.unique(shown.session), np.unique(whole.session[split.shown])).any()


def as_is(world: World) -> Callable[[Split, int, int], tuple[ResponseTables, dict[str, Any]]]:
    """Return a fit that hands out the world's own truth."""
    return lambda split, members, seed: (world.truth, {})


@pytest.fixture(scope="module")
def report(log: InteractionLog, truth: World) -> FidelityReport:
    told = {
        "calibration": {
            "estimates": [
                {"name": "boredom", "value": 0.5, "low": 0.0, "high": 1.0, "identified": True, "words": "identified: yes"},
                {"name": "frailty", "value": 0.5, "low": None, "high": None, "identified": False, "words": "not identified"},
            ]
        },
        "selection": {"lines": [{"name": "ips", "value": 0.1, "words": "weighting buys this <much>"}]},
    }  # fmt: skip
    return fidelity_report(replace(truth, report=told), log, fit=as_is(truth), kind="quick")


def test_the_whole_report_of_the_truth(report: FidelityReport) -> None:
    assert report.summary.level == "good", report.summary.off
    assert report.refusal("good") == []
    assert {line.group for line in report.lines} == set(GROUPS) - {"classifier"}
    keys = [(line.group, line.name) for line in report.lines]
    assert len(set(keys)) == len(keys)
    assert report["rmse_random"].figure < report["rmse_random"].beside["user and item means"]
    assert report["frechet"].level == "good"
    assert all(line.verdict for line in report.lines)
    boredom = report["calibration/boredom"]
    assert (boredom.level, boredom.figure, boredom.low, boredom.high) == ("good", 0.5, 0.0, 1.0)
    assert report["calibration/frailty"].level == "unknown"
    assert report["sensitivity/boredom"].beside.keys() == {"at 0", "at 1"}, "moved over what the log told"
    assert not any(words.startswith("boredom =") for words in report.assumed), "told, so not assumed"
    assert report["selection/ips"].figure == 0.1


def test_a_report_comes_back_from_json(report: FidelityReport) -> None:
    text = json.dumps(report.to_json(), allow_nan=False)
    again = FidelityReport.from_json(json.loads(text))
    assert again.lines == report.lines
    assert again.summary == report.summary
    assert json.dumps(again.to_json()) == text


def test_a_log_of_another_world_is_refused(log: InteractionLog) -> None:
    with pytest.raises(InputError, match=r"60 users and 80 items\. Got 600 and 150"):
        fidelity_report(bundled_world(users=60, items=80), log)


KINDS = {
    "clicks": RatingScale("click"),
    "continuous": RatingScale("continuous", (), -10.0, 10.0),
    "stars": RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0),
}


def made_log(world: World, each: int, timed: bool, seed: int = 0) -> InteractionLog:
    """Return a log of `each` random consumptions a user, without exposures."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(world.num_users, dtype=np.int32), each)
    item = np.concatenate(
        [rng.choice(world.num_items, each, replace=False) for _ in range(world.num_users)]
    ).astype(np.int32)
    rating = np.ones(len(user), np.float32)
    if world.scale.kind == "discrete":
        rating = rng.integers(1, 6, len(user)).astype(np.float32)
    if world.scale.kind == "continuous":
        rating = rng.uniform(-10, 10, len(user)).astype(np.float32)
    time = 1000.0 * np.arange(len(user)) if timed else None
    return InteractionLog(
        "made", user, item, rating, time, np.array(world.user_keys), np.array(world.item_keys), world.user_text,
        world.item_text, world.scale,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("users", "each", "timed"), [(60, 12, False), (10, 5, True)])
def test_every_kind_of_log_gets_an_answer(kind: str, users: int, each: int, timed: bool) -> None:
    world = bundled_world(users=users, items=40, width=8, members=2, scale=KINDS[kind])
    log = made_log(world, each, timed)
    found = fidelity_report(world, log, fit=as_is(world), kind="full" if users == 10 else "quick")
    wanted = set(GROUPS) - {"selection"} - (set() if users == 10 else {"classifier"})
    assert {line.group for line in found.lines} == wanted
    assert not [line for line in found.lines if line.name.endswith("_failed")]
    unknown = [line for line in found.lines if line.level == "unknown" and line.group != "calibration"]
    assert all(line.verdict.startswith("not measurable: ") or "too few" in line.verdict for line in unknown)
    assert "no exposures" in found["click_rate"].verdict
    if kind == "clicks":
        assert "no ratings, only clicks" in found["marginals/ratings"].verdict
    elif users == 60:
        assert found["histogram_js"].figure is not None
    if not timed and users == 10:
        assert "timestamps" in found["split_temporal"].verdict
    text = json.dumps(found.to_json(), allow_nan=False)
    assert FidelityReport.from_json(json.loads(text)).lines == found.lines
    if users == 10:
        again = fidelity_report(world, log, fit=as_is(world))
        assert json.dumps(again.to_json(), allow_nan=False) == text, "the same seed gives the same report"


def test_a_group_that_fails_leaves_a_line_and_the_others(truth: World, log: InteractionLog) -> None:
    def broken(split: Split, members: int, seed: int) -> tuple[ResponseTables, dict[str, Any]]:
        raise RuntimeError("the fit broke")

    small = replace(truth, splits={name: users[:20] for name, users in truth.splits.items()})
    found = fidelity_report(small, log, fit=broken, kind="quick")
    assert "RuntimeError: the fit broke" in found["accuracy_failed"].verdict
    assert found["winner"].figure is not None
    assert found.summary.level == "unknown"
    assert found.refusal("fair") == ["no required figure could be measured"]
