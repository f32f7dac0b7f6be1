"""Splits are disjoint, complete, repeatable and do what their names say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recworld.errors import InputError
from recworld.logs import (
    InteractionLog,
    RatingScale,
    split_by_item,
    split_by_time,
    split_by_user,
    split_early_late,
    split_random,
    split_users,
    validation_rows,
)

Rows = npt.NDArray[np.int64]


def make_log(users: list[int], times: list[float] | None, items: list[int] | None = None) -> InteractionLog:
    """Return a log with the given rows."""
    n, item = len(users), items or list(range(len(users)))
    return InteractionLog(
        name="made",
        user=np.array(users, np.int32),
        item=np.array(item, np.int32),
        rating=np.ones(n, np.float32),
        time=None if times is None else np.array(times, np.float64),
        user_keys=np.arange(max(users) + 1).astype(str),
        item_keys=np.arange(max(item) + 1).astype(str),
        user_text=("",) * (max(users) + 1),
        item_text=("",) * (max(item) + 1),
        scale=RatingScale("click"),
    )


@st.composite
def logs(draw: st.DrawFn) -> InteractionLog:
    """Logs of 2 to 40 rows with many ties, or without times."""
    n = draw(st.integers(2, 40))
    users = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    items = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    times = draw(st.none() | st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.5]), min_size=n, max_size=n))
    return make_log(users, times, items)


def check_parts(log: InteractionLog, first: Rows, second: Rows) -> None:
    """Check that two parts are sorted int64 row numbers, disjoint and complete."""
    for part in (first, second):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(log)))


@given(log=logs(), early=st.floats(0.01, 0.99))
def test_early_and_late(log: InteractionLog, early: float) -> None:
    first, second = split_early_late(log, early)
    check_parts(log, first, second)
    for u in np.unique(log.user):
        mine, later = first[log.user[first] == u], second[log.user[second] == u]
        assert len(mine) >= 1
        if len(mine) + len(later) >= 2:
            assert len(later) >= 1
        if log.time is None or len(later) == 0:
            assert len(later) == 0 or mine.max() < later.min()
            continue
        assert log.time[mine].max() <= log.time[later].min()
        if len(set(log.time[np.concatenate([mine, later])].tolist())) > 1:
            assert log.time[mine].max() < log.time[later].min()


def test_early_and_late_known_answers() -> None:
    log = make_log([0, 0, 0, 0, 1], [4, 1, 3, 2, 9])
    assert [part.tolist() for part in split_early_late(log)] == [[1, 3, 4], [0, 2]]
    # The nearest place between two times: 1 | 2 2 2 is nearer to the middle of five than 1 2 2 2 | 3.
    log = make_log([0] * 5, [1, 2, 2, 2, 3])
    assert split_early_late(log)[0].tolist() == [0]
    # All at one time: nothing tells early from late, the order of the source does.
    log = make_log([0] * 4, [5, 5, 5, 5])
    assert split_early_late(log, 0.5)[0].tolist() == [0, 1]


@given(log=logs(), share=st.floats(0.01, 0.99))
def test_by_time(log: InteractionLog, share: float) -> None:
    before, after = split_by_time(log, share)
    check_parts(log, before, after)
    assert len(before) >= 1
    assert len(after) >= 1
    if log.time is not None and len(set(log.time.tolist())) > 1:
        assert log.time[before].max() < log.time[after].min()


@given(log=logs(), share=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_at_random(log: InteractionLog, share: float, seed: int) -> None:
    rest, held = split_random(log, share, seed)
    check_parts(log, rest, held)
    assert len(held) == min(max(round(len(log) * share), 1), len(log) - 1)
    again = split_random(log, share, seed)[1]
    np.testing.assert_array_equal(held, again)


@pytest.mark.parametrize(("split", "column"), [(split_by_item, "item"), (split_by_user, "user")])
@given(log=logs(), share=st.floats(0.01, 0.99))
def test_by_group(
    log: InteractionLog, share: float, split: Callable[..., tuple[Rows, Rows]], column: str
) -> None:
    group = getattr(log, column)
    if len(np.unique(group)) < 2:
        with pytest.raises(InputError, match="splitting by them needs 2"):
            split(log, share)
        return
    rest, held = split(log, share)
    check_parts(log, rest, held)
    assert len(rest) >= 1
    assert len(held) >= 1
    assert not set(group[rest].tolist()) & set(group[held].tolist())


@given(users=st.integers(3, 200), seed=st.integers(0, 3))
def test_users(users: int, seed: int) -> None:
    parts = split_users(users, seed=seed)
    assert list(parts) == ["train", "validation", "test"]
    assert all(len(part) >= 1 and part.dtype == np.int32 for part in parts.values())
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(users))


def test_shares_of_users_and_the_idle_ones() -> None:
    assert {name: len(part) for name, part in split_users(1000, (0.6, 0.1, 0.3)).items()} == {
        "train": 600, "validation": 100, "test": 300,
    }  # fmt: skip
    parts = split_users(make_log([0, 2, 4, 5], None))
    assert {1, 3} <= set(parts["train"].tolist())
    assert sorted(np.concatenate(list(parts.values())).tolist()) == [0, 1, 2, 3, 4, 5]


@given(log=logs(), share=st.floats(0.01, 0.99), seed=st.integers(0, 3))
def test_validation_rows_keep_every_user(log: InteractionLog, share: float, seed: int) -> None:
    rows = split_random(log, 0.3, seed)[0]
    if len(np.unique(log.user[rows])) == len(rows):
        with pytest.raises(InputError, match="no user with two training rows"):
            validation_rows(log, rows, share, seed)
        return
    kept, held = validation_rows(log, rows, share, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), rows)
    assert len(held) >= 1
    assert set(log.user[kept].tolist()) == set(log.user[rows].tolist())


def test_wrong_arguments() -> None:
    log = make_log([0, 1], [1, 2])
    for share in (0.0, 1.0, -1.0, 2.0, float("nan")):
        with pytest.raises(InputError, match="must be between 0 and 1"):
            split_early_late(log, share)
        with pytest.raises(InputError, match="must be between 0 and 1"):
            split_random(log, share)
    with pytest.raises(InputError, match=r"needs at least 3 users\. Got 2"):
        split_users(2)
    with pytest.raises(InputError, match="made has 2 users with interactions"):
        split_users(log)
    with pytest.raises(InputError, match="must be three positive numbers"):
        split_users(10, (1.0, 0.0, 0.5))
    with pytest.raises(InputError, match="has 1 interaction; splitting it needs at least 2"):
        split_random(make_log([0], None))
