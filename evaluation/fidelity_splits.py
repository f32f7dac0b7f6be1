"""What is held out: random rows or sessions, the latest rows, whole users, whole items; exposures are cut the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import Exposures, InteractionLog
from recworld.logs.splits import split_by_item, split_by_time, split_by_user, split_random
from recworld.seeding import child_seed, generator
from recworld.simulators.build import usable_exposures

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

SHARE = 0.2
"""Share of the log that is held out."""
SPLITS = ("random", "temporal", "cold_users", "cold_items")
TITLES = {
    "random": "random rows",
    "temporal": "the latest rows",
    "cold_users": "users never met",
    "cold_items": "items never met",
}


@dataclass(frozen=True)
class Split:
    """A log in two parts.

    Attributes:
        name: one of `SPLITS`.
        train: what a model may see, exposures included.
        test: interaction rows that are held out, of the whole log.
        shown: exposure rows that are held out, of the whole log; None without usable exposures.
        unit: what was held out: "row", "session", "slate", "moment", "user", "item".
    """

    name: str
    train: InteractionLog
    test: Rows
    shown: Mask | None
    unit: str


def make_split(log: InteractionLog, name: str, seed: int) -> Split | str:
    """Return a split, or why there is none.

    Random: sessions where they are logged (20 % of them), else rows. Temporal: the latest 20 % of the rows; of exposures,
    which carry no time, each user's slates from the first with a held-out click on. Cold: 20 % of users or items.
    """
    if name == "temporal" and (log.time is None or np.ptp(log.time) == 0):
        return "the log has no timestamps"
    seed = child_seed(seed, "fidelity", name)
    exposures = log.exposures if usable_exposures(log) else None
    try:
        if name == "random" and exposures is not None:
            return _by_session(log, exposures, seed)
        cut: Callable[[], tuple[Rows, Rows]] = {
            "random": lambda: split_random(log, SHARE, seed),
            "temporal": lambda: split_by_time(log, SHARE),
            "cold_users": lambda: split_by_user(log, SHARE, seed),
            "cold_items": lambda: split_by_item(log, SHARE, seed),
        }[name]
        rest, test = cut()
    except InputError as error:
        return str(error).rstrip(".")
    unit = {"random": "row", "temporal": "moment", "cold_users": "user", "cold_items": "item"}[name]
    if exposures is None:
        return Split(name, log.select(rest), test, None, unit)
    if name == "cold_users":
        held = np.isin(exposures.user, np.unique(log.user[test]))
    elif name == "cold_items":
        held = np.isin(exposures.item, np.unique(log.item[test]))
    else:
        held = _later(log, exposures, test)
    return Split(name, _without(log, rest, exposures, held), test, held, unit)


def _without(log: InteractionLog, rest: Rows, exposures: Exposures, held: Mask) -> InteractionLog:
    return replace(log.select(rest), exposures=take(exposures, ~held))


def take(exposures: Exposures, rows: npt.NDArray[np.int64] | Mask) -> Exposures:
    """Return the chosen exposure rows."""
    return Exposures(**{name: getattr(exposures, name)[rows] for name in Exposures.__annotations__})


def _by_session(log: InteractionLog, exposures: Exposures, seed: int) -> Split:
    """Hold out sessions; slates where hardly anybody has two sessions. Clicks take their interactions with them."""
    owner = np.unique(np.stack([exposures.session, exposures.user], 1), axis=0)[:, 1]
    several = float((np.bincount(owner)[np.unique(owner)] > 1).mean())
    unit, number = ("session", exposures.session) if several >= 0.3 else ("slate", exposures.slate)
    rng, present = generator(seed, "sessions"), np.unique(number)
    chosen = rng.permutation(present)[: min(max(round(SHARE * len(present)), 1), len(present) - 1)]
    held = np.isin(number, chosen)
    pair = exposures.user.astype(np.int64) * log.num_items + exposures.item
    own = log.user.astype(np.int64) * log.num_items + log.item
    kept_pairs, held_pairs = pair[exposures.clicked & ~held], pair[exposures.clicked & held]
    out = np.isin(own, held_pairs) & ~np.isin(own, kept_pairs)
    # Interactions that no logged click explains are held out row by row.
    out |= ~np.isin(own, pair[exposures.clicked]) & (rng.random(len(own)) < SHARE)
    rest, test = np.flatnonzero(~out), np.flatnonzero(out)
    if len(test) == 0 or len(rest) == 0:
        raise InputError("The held-out sessions hold no interaction, or all of them.")
    return Split("random", _without(log, rest, exposures, held), test, held, unit)


def _later(log: InteractionLog, exposures: Exposures, test: Rows) -> Mask:
    """Return the exposures of each user from the first slate on that holds a click on a held-out pair."""
    pair = exposures.user.astype(np.int64) * log.num_items + exposures.item
    own = log.user.astype(np.int64) * log.num_items + log.item
    late = np.zeros(len(own), np.bool_)
    late[test] = True
    telling = exposures.clicked & np.isin(pair, own[late]) & ~np.isin(pair, own[~late])
    order = np.lexsort((exposures.slate, exposures.session, exposures.user))
    place = np.empty(len(order), np.int64)
    slate = exposures.slate[order]
    place[order] = np.cumsum(np.r_[True, np.diff(slate) != 0]) - 1
    first = np.full(log.num_users, np.iinfo(np.int64).max)
    np.minimum.at(first, exposures.user[telling], place[telling])
    return np.asarray(place >= first[exposures.user])
