"""Worlds from logs: no leakage from late to early, determinism, every kind of log, the cache."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from recworld.errors import InputError
from recworld.logs.log import Exposures, InteractionLog, RatingScale
from recworld.logs.splits import split_early_late
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.build import WorldSettings, build_world, cached_world
from recworld.simulators.dynamics import DynamicsSettings, dynamics_preset
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.world import World
from recworld.storage import check_folder, write_folder

STARS = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0)
RATING = RatingSettings(
    rank=2, width=4, samples_per_member=3, thinning=2, burn_in=4, max_iterations=12, folds=2, implicit_rank=4
)
QUICK = WorldSettings(
    rating=RATING,
    attraction=AttractionSettings(width=3, epochs=4, rank=2, burn_in=4, samples=3, thinning=1),
    members=2,
    agent_samples=4,
)
DYNAMICS = DynamicsSettings()


def make_log(scale=STARS, users=20, items=15, per_user=8, seed=0, with_time=True, shown=False):
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), per_user).astype(np.int32)
    item = np.concatenate([random.permutation(items)[:per_user] for _ in range(users)]).astype(np.int32)
    if scale.kind == "discrete":
        rating = random.choice(scale.levels, len(user)).astype(np.float32)
    elif scale.kind == "continuous":
        rating = random.uniform(scale.low, scale.high, len(user)).astype(np.float32)
    else:
        rating = np.ones(len(user), np.float32)
    return InteractionLog(
        "log", user, item, rating, random.permutation(len(user)).astype(np.float64) if with_time else None,
        np.array([f"u{k}" for k in range(users)]), np.array([f"i{k}" for k in range(items)]),
        tuple(f"user {k}" for k in range(users)), tuple(f"item {k}" for k in range(items)), scale,
        exposures(user, item, items, random) if shown else None, ("a note",),
    )  # fmt: skip


def exposures(user, item, items, random):
    """A slate per interaction: the item that was taken up, and one that was not."""
    n = len(user)
    pair = np.column_stack([item, random.integers(0, items, n)]).ravel().astype(np.int32)
    twice = np.repeat(np.arange(n), 2).astype(np.int32)
    nan = np.full(2 * n, np.nan, np.float32)
    position, clicked = np.tile([0, 1], n).astype(np.int32), np.tile([True, False], n)
    return Exposures(twice, twice, position, np.repeat(user, 2), pair, clicked, nan, nan)


def vectors(log, width=4, seed=0):
    random = np.random.default_rng(seed)
    out = []
    for size in (log.num_users, log.num_items):
        v = random.standard_normal((size, width)).astype(np.float32)
        out.append(v / np.linalg.norm(v, axis=1, keepdims=True))
    return tuple(out)


def build(log, settings=QUICK, seed=0):
    return build_world(log, *vectors(log), settings, DYNAMICS, seed)


def agent_arrays(world):
    agent = world.agent
    return agent.response.arrays() | {
        "popularity": agent.popularity, "start": agent.history_start, "item": agent.history_item,
        "feedback": agent.history_feedback,
    }  # fmt: skip


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        assert np.array_equal(array, right[name]), name


KINDS = {
    "stars": (STARS, {}, 4, 4),
    "no time": (STARS, {"with_time": False}, 4, 4),
    "exposures": (STARS, {"shown": True}, 4, 4),
    "continuous": (RatingScale("continuous", (), -10.0, 10.0), {}, 4, 0),
    "clicks": (RatingScale("click"), {}, 0, 0),
    "one level": (RatingScale("discrete", (3.0,), 3.0, 3.0), {}, 4, 0),
    "smallest": (STARS, {"users": 3, "items": 2, "per_user": 2}, 4, 4),
    "smallest with exposures": (STARS, {"users": 3, "items": 2, "per_user": 2, "shown": True}, 4, 4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_world_of_every_kind_of_log(kind, tmp_path):
    scale, options, rating_width, thresholds = KINDS[kind]
    log = make_log(scale, **options)
    world = build(log)
    users, items = log.num_users, log.num_items
    for tables, members in ((world.truth, 2), (world.agent.response, 1)):
        assert tables.num_members == members
        assert tables.rating_width == rating_width
        assert tables.taste.shape == (members, users, rating_width + 3)
        assert tables.item.shape == (members, items, rating_width + 3)
        assert tables.thresholds.shape == (members, thresholds)
        for name, array in tables.arrays().items():
            assert array.dtype == np.float32, name
            assert np.isfinite(array).all(), name
        assert (tables.user_scale > 0).all()
        assert (tables.user_sigma > 0).all()
        assert (np.diff(tables.thresholds, axis=1) > 0).all()
        np.testing.assert_allclose(tables.item_attraction_bias.mean(1), 0, atol=1e-5)
    assert ("rating" in world.report["truth"]) == (scale.kind != "click")
    source = "exposures" if "exposures" in kind else "consumption"
    assert world.report["truth"]["attraction"]["source"] == source
    world.save(tmp_path)
    again = World.load(tmp_path)
    assert again.fingerprint == world.fingerprint
    assert again.report == world.report


def test_the_history_is_the_early_part_in_time_order():
    log = make_log()
    world = build(log)
    early, late = split_early_late(log, 0.5)
    assert world.agent.popularity.sum() == len(early)
    for u in range(log.num_users):
        mine = early[log.user[early] == u]
        mine = mine[np.argsort(log.time[mine])]
        part = slice(world.agent.history_start[u], world.agent.history_start[u + 1])
        assert world.agent.history_item[part].tolist() == log.item[mine].tolist()
        np.testing.assert_allclose(world.agent.history_feedback[part], (log.rating[mine] - 3) / 2)
        assert log.time[mine].max() < log.time[late[log.user[late] == u]].min()


@pytest.mark.parametrize("shown", [False, True])
def test_changing_late_rows_leaves_the_agent_side_alone_and_changes_the_truth(shown):
    log = make_log(shown=shown)
    _, late = split_early_late(log, 0.5)
    rating, item = log.rating.copy(), log.item.copy()
    rating[late] = 6 - rating[late]
    item[late] = item[late][::-1]
    slates = log.exposures
    if shown:
        # Late slates show (and sell) other items; which slates are late is known by what was taken up.
        moved = slates.item.copy()
        moved[slates.clicked] = item
        slates = dataclasses.replace(slates, item=moved)
        order = np.concatenate(
            [np.flatnonzero(log.user == u)[np.argsort(log.time[log.user == u])] for u in range(20)]
        )
        log, slates = (
            _slates_in_time(log, log.exposures, order),
            _slates_in_time(log, slates, order).exposures,
        )
    changed = dataclasses.replace(log, rating=rating, item=item, exposures=slates)
    one, other = build(log), build(changed)
    assert_equal(agent_arrays(one), agent_arrays(other))
    assert one.report["agent"] == other.report["agent"]
    assert not np.array_equal(one.truth.taste, other.truth.taste)


def _slates_in_time(log, shown, order):
    """Renumber slates and sessions of a log by the time of their interaction."""
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return dataclasses.replace(
        log, exposures=dataclasses.replace(shown, slate=place[shown.slate], session=place[shown.session])
    )


def test_users_are_split_and_nobody_is_in_two_parts():
    world = build(make_log())
    parts = [world.users(name) for name in ("train", "validation", "test")]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(20))
    assert [len(p) for p in parts] == [14, 2, 4]


def test_same_seed_same_bits_other_seed_other_world():
    log = make_log()
    one, same, other = build(log), build(log), build(log, seed=1)
    assert one.fingerprint == same.fingerprint
    assert one.report == same.report
    assert one.fingerprint != other.fingerprint
    assert not np.array_equal(one.truth.taste[0], one.truth.taste[1])


def test_the_cache_gives_the_same_world_at_once_and_heals():
    log = make_log(seed=5)
    arguments = (log, *vectors(log), QUICK)
    first = cached_world(*arguments, DYNAMICS, 0)
    began = time.perf_counter()
    again = cached_world(*arguments, dynamics_preset("static"), 0, name="other")
    assert time.perf_counter() - began < 2
    assert_equal(first.truth.arrays(), again.truth.arrays())
    assert (again.name, again.dynamics.boredom) == ("other", 0.0)
    assert first.dynamics == DYNAMICS
    from recworld.storage import cache_root

    folder = next(
        p for p in (cache_root() / "worlds").iterdir() if World.load(p).fingerprint == first.fingerprint
    )
    (folder / "world.safetensors").write_bytes(b"broken")
    assert cached_world(*arguments, DYNAMICS, 0).fingerprint == first.fingerprint
    assert cached_world(*arguments, DYNAMICS, 1).fingerprint != first.fingerprint


@pytest.mark.parametrize(("users", "items", "wanted"), [(2, 5, "2 users"), (5, 1, "1 item")])
def test_a_log_that_is_too_small_says_what_is_needed(users, items, wanted):
    log = make_log(users=users, items=items, per_user=1)
    with pytest.raises(InputError, match=wanted):
        build(log)


def test_vectors_that_do_not_fit_are_refused():
    log = make_log()
    user, item = vectors(log)
    with pytest.raises(InputError, match=r"item vectors must have shape \(15, D\)"):
        build_world(log, user, user, QUICK, DYNAMICS, 0)
    user[3, 0] = np.nan
    with pytest.raises(InputError, match="must be finite"):
        build_world(log, user, item, QUICK, DYNAMICS, 0)


def test_worlds_on_disk_hold_no_text_of_a_user_unless_asked_to(tmp_path, monkeypatch):
    monkeypatch.setenv("RECWORLD_CACHE", str(tmp_path / "cache"))
    log = make_log()
    log = dataclasses.replace(log, user_text=tuple(f"Xylomarker {k}" for k in range(20)))
    fresh = cached_world(log, *vectors(log), QUICK, DYNAMICS, 0)
    cached = cached_world(log, *vectors(log), QUICK, DYNAMICS, 0)
    assert fresh.user_text == cached.user_text == log.user_text, "the process that has the log has its texts"
    (tmp_path / "world").mkdir()
    cached.save(tmp_path / "world")
    assert not holding("Xylomarker", tmp_path)
    again = World.load(tmp_path / "world")
    assert again.user_text == ("",) * 20
    assert (again.item_text, again.user_keys) == (log.item_text, cached.user_keys)
    assert again.fingerprint == cached.fingerprint
    (tmp_path / "kept").mkdir()
    cached.save(tmp_path / "kept", user_text=True)
    assert World.load(tmp_path / "kept").user_text == log.user_text


def test_a_cache_entry_of_an_earlier_version_loses_its_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("RECWORLD_CACHE", str(tmp_path))
    log = make_log()
    log = dataclasses.replace(log, user_text=tuple(f"Xylomarker {k}" for k in range(20)))
    fresh = cached_world(log, *vectors(log), QUICK, DYNAMICS, 0)
    (entry,) = (tmp_path / "worlds").iterdir()
    write_folder(entry, lambda folder: fresh.save(folder, user_text=True))
    assert holding("Xylomarker", tmp_path)
    again = cached_world(log, *vectors(log), QUICK, DYNAMICS, 0)
    assert again.fingerprint == fresh.fingerprint
    assert not holding("Xylomarker", tmp_path)
    check_folder(entry)


def holding(word, folder):
    """Return the files below a folder that hold a word, or whose names do."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if word.encode() in path.read_bytes() or word in path.name]
