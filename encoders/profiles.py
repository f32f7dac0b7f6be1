"""Texts for users whom a log does not describe: what they consumed in the early part of their log, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recworld.encoders.base import clean_texts
from recworld.encoders.settings import EncoderSettings
from recworld.logs.log import InteractionLog
from recworld.logs.splits import split_early_late
from recworld.progress import say

TITLE_CHARS = 60
"""Characters of an item's text in a profile, so that many items fit into what a language model reads at once."""
DISLIKED_TO = 0.25
"""The highest place on the rating scale that counts as disliked, as `RatingScale.liked_from` is three quarters."""


def user_texts(log: InteractionLog, settings: EncoderSettings, early_share: float) -> tuple[str, ...]:
    """Return U texts of users as `settings` ask for them: the log's own, with or without a profile.

    Args:
        log: the log.
        settings: `user_profile`, `profile_items` and `profile_order` of them.
        early_share: share of each user's interactions, in time, that the agent side knows; a profile tells of no other.
    """
    own = tuple(log.user_text)
    if settings.user_profile == "never" or settings.kind in ("id", "given"):
        return own
    if settings.user_profile == "auto" and any(clean_texts(own)):
        return own
    written = profiles(log, early_share, settings.profile_items, settings.profile_order == "extreme")
    say(
        f"{sum(map(bool, written))} of {len(own)} users get a text of what they consumed early on. "
        "Figures on held-out early rows are then a little too good: the texts tell of some."
    )
    return tuple(f"{text.strip()} {profile}".strip() for text, profile in zip(own, written, strict=True))


def profiles(
    log: InteractionLog, early_share: float = 0.5, items: int = 8, extreme: bool = False
) -> tuple[str, ...]:
    """Return U texts, "Liked: A; B. Disliked: C.", of the early part of each user's log; "" where it holds nothing.

    Liked is three quarters up the scale, disliked a quarter; of a user with neither, and of click logs, all is told:
    as "Seen" and as "Liked".

    Args:
        log: the log.
        early_share: share of each user's interactions, in time, that is early.
        items: titles of each kind at most.
        extreme: those with the highest (and lowest) ratings, recent first among equals, and not the most recent.
    """
    early, _ = split_early_late(log, early_share)
    is_early = np.zeros(len(log), np.bool_)
    is_early[early] = True
    rows = log.order_in_time[is_early[log.order_in_time]][::-1]  # the latest first
    titles = [shorten(text) for text in log.item_text]
    by_user: list[list[int]] = [[] for _ in range(log.num_users)]
    for row in rows:
        by_user[log.user[row]].append(int(row))
    return tuple(_profile(log, of_one, titles, items, extreme) for of_one in by_user)


def _profile(log: InteractionLog, rows: Sequence[int], titles: list[str], items: int, extreme: bool) -> str:
    """Return the text of one user from their early rows, the latest first."""
    latest: dict[int, float] = {}
    for row in rows:
        if titles[log.item[row]]:
            latest.setdefault(int(log.item[row]), float(log.rating[row]))
    scale = log.scale
    if scale.kind == "click":
        groups = {"Liked": list(latest)}
    else:
        low = scale.low + DISLIKED_TO * (scale.high - scale.low)
        groups = {
            "Liked": [item for item, rating in latest.items() if rating >= scale.liked_from],
            "Disliked": [item for item, rating in latest.items() if rating <= low],
        }
        if extreme:
            groups["Liked"].sort(key=lambda item: -latest[item])
            groups["Disliked"].sort(key=lambda item: latest[item])
        if not any(groups.values()):
            groups = {"Seen": list(latest)}
    told = {name: "; ".join(titles[item] for item in chosen[:items]) for name, chosen in groups.items()}
    return " ".join(f"{name}: {text}." for name, text in told.items() if text)


def shorten(text: str, limit: int = TITLE_CHARS) -> str:
    """Return a text of at most `limit` characters that ends between two words, without a full stop."""
    (text,) = clean_texts([" ".join(text.split())])
    if len(text) > limit:
        head, _, cut = text[: limit + 1].rpartition(" ")
        text = head if head and len(cut) < limit // 2 else text[:limit]
    return text.rstrip(" .,;:")


def say_missing(users: Sequence[str], items: Sequence[str], settings: EncoderSettings) -> None:
    """Say in one line how many users and items have no text, if any; their vectors are zero."""
    without = [sum(not text for text in clean_texts(texts)) for texts in (users, items)]
    if not any(without):
        return
    parts = [
        f"{count} of {len(texts)} {what}"
        for count, texts, what in zip(without, (users, items), ("users", "items"), strict=True)
        if count
    ]
    line = f"Without a text: {' and '.join(parts)}."
    if without[0] == len(users) and settings.user_profile == "never":
        line += " (--encoder.user-profile auto describes users by what they consumed early on.)"
    say(line)
