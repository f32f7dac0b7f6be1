"""Texts of users made from the early part of their log, and what is said of missing ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.encoders import EncoderSettings, encode_log
from recworld.encoders.profiles import profiles, shorten
from recworld.logs.log import InteractionLog, RatingScale

TITLES = tuple(f"Film {name} (199{n}). Comedy" for n, name in enumerate("ABCDEFGH"))


def _log(
    rows: list[tuple[int, int, float, float]], users: int = 2, scale: RatingScale | None = None
) -> InteractionLog:
    user, item, rating, time = (np.array(column) for column in zip(*rows, strict=True))
    return InteractionLog(
        name="made up",
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        rating=rating.astype(np.float32),
        time=time.astype(np.float64),
        user_keys=np.array([f"u{n}" for n in range(users)]),
        item_keys=np.array([f"i{n}" for n in range(len(TITLES))]),
        user_text=("",) * users,
        item_text=TITLES,
        scale=scale or RatingScale("discrete", (1, 2, 3, 4, 5), 1, 5),
    )


RATED = [
    *[
        (0, item, rating, time)
        for item, rating, time in [(0, 5, 0), (1, 1, 1), (2, 4, 2), (3, 3, 3), (4, 2, 4)]
    ],
    *[(0, item, 5, time) for item, time in [(5, 5), (6, 6), (7, 7), (1, 8), (3, 9)]],
    *[(1, item, 3, item) for item in range(4)],
]


def test_liked_and_disliked_of_the_early_part() -> None:
    liked, seen = profiles(_log(RATED))
    assert liked == (
        "Liked: Film C (1992). Comedy; Film A (1990). Comedy. Disliked: Film E (1994). Comedy; Film B (1991). Comedy."
    )
    assert seen == "Seen: Film B (1991). Comedy; Film A (1990). Comedy."


def test_most_extreme_and_only_so_many() -> None:
    text = profiles(_log(RATED), items=1, extreme=True)[0]
    assert text == "Liked: Film A (1990). Comedy. Disliked: Film B (1991). Comedy."
    assert profiles(_log(RATED), items=1)[0].startswith("Liked: Film C (1992). Comedy. Dis")


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_nothing_late_changes_a_profile(share: float) -> None:
    from recworld.logs.splits import split_early_late

    rng = np.random.default_rng(3)
    rows = [
        (u, int(rng.integers(8)), float(rng.integers(1, 6)), float(t)) for u in range(2) for t in range(20)
    ]
    log = _log(rows)
    _, late = split_early_late(log, share)
    rating, item = log.rating.copy(), log.item.copy()
    rating[late], item[late] = 6 - rating[late], 7 - item[late]
    changed = replace(log, rating=rating, item=item)
    assert profiles(changed, share) == profiles(log, share)
    early = log.rating.copy()
    early[np.setdiff1d(np.arange(len(log)), late)] = 5
    assert profiles(replace(log, rating=early), share) != profiles(log, share)


def test_clicks_are_liked_and_repeats_told_once() -> None:
    log = _log(
        [(0, 1, 1, 0), (0, 1, 1, 1), (0, 2, 1, 2), (0, 3, 1, 3), (0, 4, 1, 4), (0, 5, 1, 5)],
        1,
        RatingScale("click"),
    )
    assert profiles(log) == ("Liked: Film C (1992). Comedy; Film B (1991). Comedy.",)


def test_users_without_interactions_and_items_without_text() -> None:
    log = replace(_log(RATED, users=3), item_text=("",) * len(TITLES))
    assert profiles(log) == ("", "", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Short. ", "Short"),
        ("one two\n three", "one two three"),
        ("word " * 30, ("word " * 12).strip()),
        ("x" * 80, "x" * 60),
        ("日本" * 40, "日本" * 30),
    ],
)
def test_titles_are_shortened_between_words(text: str, expected: str) -> None:
    assert shorten(text) == expected


@pytest.mark.parametrize("kind", ["tfidf", "bert"])
def test_profiles_give_users_vectors(kind: Any, tiny_bert: Path) -> None:
    log = _log(RATED)
    settings = EncoderSettings(kind=kind, model=str(tiny_bert) if kind == "bert" else None, width=4)
    assert not encode_log(log, settings).user.any()
    auto = encode_log(log, settings.model_copy(update={"user_profile": "auto"}))
    np.testing.assert_allclose(np.linalg.norm(auto.user, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(auto.encode_new(profiles(log)), auto.user, atol=1e-5)
    early = encode_log(log, settings.model_copy(update={"user_profile": "auto"}), early_share=0.2)
    assert early.reduction is not None
    assert auto.reduction is not None
    assert not np.allclose(early.reduction.user_centre, auto.reduction.user_centre)


def test_auto_leaves_a_log_that_describes_users_as_it_is() -> None:
    log = replace(_log(RATED), user_text=("a man", ""))
    never, auto, always = (
        encode_log(log, EncoderSettings(kind="tfidf", width=4, user_profile=how)).fingerprint
        for how in ("never", "auto", "always")
    )
    assert never == auto != always


def test_missing_texts_are_said_in_one_line(
    make_log: Callable[..., InteractionLog], capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    settings = EncoderSettings(kind="tfidf", width=4)
    encode_log(make_log(("a man", "", " "), ("a", "b", "")), settings)
    assert capsys.readouterr().err == "Without a text: 2 of 3 users and 1 of 3 items.\n"
    encode_log(make_log(("", ""), ("a", "b")), settings)
    assert "2 of 2 users. (--encoder.user-profile auto" in capsys.readouterr().err
    encode_log(make_log(("a", "b"), ("a", "b")), settings)
    assert capsys.readouterr().err == ""
