"""Cutting a log: early and late per user, by time, at random, by user, by item; answers are row numbers.

The two parts of a split of rows are disjoint and together complete.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import IntArray, InteractionLog
from recworld.seeding import generator

Rows = npt.NDArray[np.int64]

SPLITS = ("train", "validation", "test")


def check_log(log: InteractionLog, users: int = 3, items: int = 2) -> None:
    """Check that a log is large enough to build a world from it.

    Args:
        log: the log.
        users: least number of users with an interaction; three give one each to train, validation and test.
        items: least number of items.

    Raises:
        InputError: it is too small; the text says what it has and what is needed.
    """
    active = len(np.unique(log.user))
    for what, have, need in (("users with interactions", active, users), ("items", log.num_items, items)):
        if have < need:
            one = what.replace("users", "user").replace("items", "item") if have == 1 else what
            raise InputError(f"{log.name} has {have} {one}; a world needs at least {need}.")


def split_early_late(log: InteractionLog, early: float = 0.5) -> tuple[Rows, Rows]:
    """Cut each user's rows in time.

    Rows of one user with the same time stay on the same side, unless that would empty a side: then the tied
    rows are cut in source order. A user with one row has it early.

    Args:
        log: the log; without timestamps the order of its rows stands for time.
        early: share of each user's rows that is early, in (0, 1).

    Returns:
        (early rows, late rows), sorted int64. Every user with at least 2 rows has a row on each side.

    Raises:
        InputError: the share is not between 0 and 1.
    """
    _check_share("early", early)
    order = log.order_in_time
    sizes = np.bincount(log.user, minlength=log.num_users)
    start = np.cumsum(sizes) - sizes
    cut = np.minimum(np.maximum(np.round(sizes * early).astype(np.int64), 1), np.maximum(sizes - 1, 1))
    if log.time is not None:
        time = log.time[order]
        for u in np.flatnonzero(sizes >= 2):
            cut[u] = _untied(time[start[u] : start[u] + sizes[u]], int(cut[u]))
    place = np.arange(len(log)) - start[log.user[order]]
    is_early = place < cut[log.user[order]]
    return _sorted(order[is_early]), _sorted(order[~is_early])


def _untied(time: npt.NDArray[np.float64], cut: int) -> int:
    """Move a cut of sorted times to the nearest place between two different times, where there is one."""
    if time[cut - 1] != time[cut]:
        return cut
    low = int(np.searchsorted(time, time[cut], side="left"))
    high = int(np.searchsorted(time, time[cut], side="right"))
    inside = [place for place in (low, high) if 0 < place < len(time)]
    return min(inside, key=lambda place: abs(place - cut)) if inside else cut


def split_by_time(log: InteractionLog, share: float = 0.2) -> tuple[Rows, Rows]:
    """Cut the whole log at one moment: (rows before, the latest `share` of the rows).

    Rows with the same time stay on the same side; where all times are equal the order of the source decides.

    Raises:
        InputError: the share is not between 0 and 1, or the log has fewer than 2 rows.
    """
    cut = len(log) - _count(log, share)
    rows = np.arange(len(log), dtype=np.int64)
    if log.time is None:
        return rows[:cut], rows[cut:]
    order = np.lexsort((rows, log.time))
    cut = _untied(log.time[order], cut)
    return _sorted(order[:cut]), _sorted(order[cut:])


def split_random(log: InteractionLog, share: float = 0.2, seed: int = 0) -> tuple[Rows, Rows]:
    """Cut rows at random: (the rest, `share` of the rows).

    Raises:
        InputError: the share is not between 0 and 1, or the log has fewer than 2 rows.
    """
    order = generator(seed, "split", "random").permutation(len(log))
    cut = len(log) - _count(log, share)
    return _sorted(order[:cut]), _sorted(order[cut:])


def split_by_item(log: InteractionLog, share: float = 0.2, seed: int = 0) -> tuple[Rows, Rows]:
    """Cut by item, for cold starts: (rows of the other items, rows of a random `share` of the items).

    Raises:
        InputError: the share is not between 0 and 1, or fewer than 2 items have rows.
    """
    return _by_group(log, log.item, "items", share, seed)


def split_by_user(log: InteractionLog, share: float = 0.2, seed: int = 0) -> tuple[Rows, Rows]:
    """Cut by user, for cold starts: (rows of the other users, rows of a random `share` of the users).

    Raises:
        InputError: the share is not between 0 and 1, or fewer than 2 users have rows.
    """
    return _by_group(log, log.user, "users", share, seed)


def _by_group(log: InteractionLog, group: IntArray, what: str, share: float, seed: int) -> tuple[Rows, Rows]:
    _check_share("share", share)
    present = np.unique(group)
    if len(present) < 2:
        raise InputError(
            f"{log.name} has {len(present)} {what} with interactions; splitting by them needs 2."
        )
    count = min(max(round(len(present) * share), 1), len(present) - 1)
    chosen = generator(seed, "split", what).choice(present, count, replace=False)
    held = np.isin(group, chosen)
    return np.flatnonzero(~held), np.flatnonzero(held)


def split_users(
    users: InteractionLog | int, shares: tuple[float, float, float] = (0.7, 0.1, 0.2), seed: int = 0
) -> dict[str, IntArray]:
    """Give every user to "train", "validation" or "test", at random; none of the three is empty.

    Args:
        users: a log, or U. Of a log, users without interactions go to "train": they cannot be met in an
            episode that starts from their history.
        shares: shares of the three, in proportion.
        seed: the seed.

    Returns:
        Sorted int32 user numbers by name of the split; disjoint, and complete over 0..U-1.

    Raises:
        InputError: fewer than 3 users, or a share that is not positive.
    """
    if isinstance(users, InteractionLog):
        check_log(users, items=1)
        active: IntArray = np.unique(users.user)
        idle = np.setdiff1d(np.arange(users.num_users), active)
    else:
        active, idle = np.arange(users, dtype=np.int32), np.arange(0)
    if len(active) < 3:
        raise InputError(
            f"Splitting users into {', '.join(SPLITS)} needs at least 3 users. Got {len(active)}."
        )
    if len(shares) != 3 or not all(np.isfinite(s) and s > 0 for s in shares):
        raise InputError(f"The shares of {', '.join(SPLITS)} must be three positive numbers. Got {shares}.")
    order = generator(seed, "split", "users").permutation(active)
    total, n = sum(shares), len(active)
    validation = min(max(round(n * shares[1] / total), 1), n - 2)
    test = min(max(round(n * shares[2] / total), 1), n - 1 - validation)
    parts = (
        np.append(order[validation + test :], idle),
        order[:validation],
        order[validation : validation + test],
    )
    return {name: np.sort(part).astype(np.int32) for name, part in zip(SPLITS, parts, strict=True)}


def validation_rows(log: InteractionLog, rows: Rows, share: float = 0.1, seed: int = 0) -> tuple[Rows, Rows]:
    """Cut validation rows out of training rows at random: (kept rows, validation rows).

    A user's only training row is kept, so that every user who was known stays known.

    Args:
        log: the log.
        rows: training row numbers.
        share: share of `rows` that validates, in (0, 1).
        seed: the seed.

    Raises:
        InputError: the share is not between 0 and 1, or no user has two training rows.
    """
    _check_share("share", share)
    order = generator(seed, "split", "validation").permutation(np.asarray(rows, np.int64))
    _, first = np.unique(log.user[order], return_index=True)
    free = np.ones(len(order), np.bool_)
    free[first] = False
    places = np.flatnonzero(free)
    if len(places) == 0:
        raise InputError(f"{log.name} has no user with two training rows; none can be spared for validation.")
    chosen = places[: min(max(round(len(order) * share), 1), len(places))]
    held = np.zeros(len(order), np.bool_)
    held[chosen] = True
    return _sorted(order[~held]), _sorted(order[held])


def _count(log: InteractionLog, share: float) -> int:
    _check_share("share", share)
    if len(log) < 2:
        raise InputError(f"{log.name} has {len(log)} interaction; splitting it needs at least 2.")
    return min(max(round(len(log) * share), 1), len(log) - 1)


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise InputError(f"The {name} must be between 0 and 1. Got {share!r}.")


def _sorted(rows: Rows) -> Rows:
    return np.sort(rows).astype(np.int64)
