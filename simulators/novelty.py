"""What was new is not new at the end of the log: how the appeal of items falls (or rises) with their age.

A model of (user, item) takes an item for as attractive as it was on the mean of its exposures. Of items that appeared during
the log many exposures fall into their first days, and a policy that goes by them looks better in the world than it will be.
Where the log tells times, one curve by age is estimated beside the fitted logits, common to all items that appeared late:

    logit P(take up | noticed) = a(u,i) + c(t) + f(age of i at t)

c: calendar time in bins; f: bins of age with equally many rows, 0 for items that were there from the start (maximum
likelihood, Fisher scoring). Where a likelihood-ratio test says that f is there, the world's item biases are moved by the
difference between f at the end of the log and its mean over the item's exposures, so that the world stands for what comes
after the log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import expit

from recworld.logs.log import InteractionLog
from recworld.simulators.attraction import AttractionFit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TIME_BINS, AGE_BINS = 12, 8
ROWS_PER_BIN = 200
"""Fewer rows make fewer bins."""
LATE = 1e-3
"""An item is late where its n exposures would all miss the time before its first one with less than this probability."""
SIGNIFICANCE = 1e-3
ROUNDS = 20
RIDGE = 1e-3
"""Precision that keeps cells without rows at 0."""


@dataclass(frozen=True)
class Novelty:
    """What age does to appeal.

    Attributes:
        shift: (I,) logits to add to the item biases for the end of the log; 0 for items that did not appear late.
        report: the curve and its test, JSON-ready.
    """

    shift: Floats
    report: dict[str, Any]

    def apply(self, fit: AttractionFit) -> AttractionFit:
        """Return the fit as of the end of the log; item biases keep their mean of zero."""
        mean = float(self.shift.mean())
        members = tuple(
            replace(m, user_bias=m.user_bias + mean, item_bias=m.item_bias + self.shift - mean)
            for m in fit.members
        )
        return replace(fit, members=members, report={**fit.report, "novelty": self.report})


def exposure_times(log: InteractionLog) -> Floats | None:
    """Return the time of every exposure, (n,) seconds, NaN where nothing tells it; None where the log has no times.

    Exposures carry an order and no time. A click is matched with the interaction that it became (the k-th click on an item
    with the user's k-th interaction with it); slates between two clicks of a user lie evenly between them, those
    before the first or after the last click at its time.
    """
    shown = log.exposures
    if log.time is None or shown is None:
        return None
    order = np.lexsort((shown.position, shown.slate, shown.session, shown.user))
    user, clicked = shown.user[order], shown.clicked[order]
    clicks = np.flatnonzero(clicked)
    when = np.full(len(order), np.nan)
    when[clicks] = _matched(log, user[clicks].astype(np.int64), shown.item[order][clicks].astype(np.int64))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(user) != 0) | (np.diff(shown.slate[order]) != 0)
    slate = np.cumsum(new) - 1
    first = np.full(int(slate[-1]) + 1, np.inf)
    known = np.isfinite(when)
    np.minimum.at(first, slate[known], when[known])
    first = _between(np.where(np.isfinite(first), first, np.nan), user[new])
    out = np.empty(len(order))
    out[order] = first[slate]
    return out


def _matched(log: InteractionLog, user: Ints, item: Ints) -> Floats:
    """Return the times of clicks, in order of time within a user, by the interactions they became."""
    if log.time is None:
        return np.full(len(user), np.nan)
    rows = np.lexsort((log.time, log.user))
    ours = _numbered(user * log.num_items + item)
    theirs = _numbered(log.user[rows].astype(np.int64) * log.num_items + log.item[rows])
    by = np.lexsort((theirs[1], theirs[0]))
    keys = theirs[0][by] * (len(rows) + 1) + theirs[1][by]
    wanted = ours[0] * (len(rows) + 1) + ours[1]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, log.time[rows][by][place].astype(np.float64), np.nan)


def _numbered(pair: Ints) -> tuple[Ints, Ints]:
    """Return the pairs, and how many times each stood earlier."""
    order = np.argsort(pair, kind="stable")
    rank = np.empty(len(pair), np.int64)
    rank[order] = np.arange(len(pair)) - np.searchsorted(pair[order], pair[order])
    return pair, rank


def _between(value: Floats, user: npt.NDArray[Any]) -> Floats:
    """Fill NaN by straight lines between the known values of the same user, and evenly outside of them."""
    n, known, place = len(value), np.isfinite(value), np.arange(len(value))
    if not known.any():
        return value
    before = np.maximum.accumulate(np.where(known, place, -1))
    after = np.minimum.accumulate(np.where(known, place, n)[::-1])[::-1]
    has_before = (before >= 0) & (user[np.maximum(before, 0)] == user)
    has_after = (after < n) & (user[np.minimum(after, n - 1)] == user)
    left, right = np.where(has_before, before, after), np.where(has_after, after, before)
    some = has_before | has_after
    left, right = np.where(some, left, 0), np.where(some, right, 0)
    share = (place - left) / np.maximum(right - left, 1)
    filled = value[left] + np.clip(share, 0, 1) * (value[right] - value[left])
    return np.where(some, filled, np.nan)


def late_items(item: npt.NDArray[Any], time: Floats, num_items: int) -> npt.NDArray[np.bool_]:
    """Return which items appeared during the log, (I,): n exposures at random times would not all have come so late."""
    rank = np.argsort(np.argsort(time, kind="stable"), kind="stable")
    first = np.full(num_items, len(time))
    np.minimum.at(first, item, rank)
    count = np.bincount(item, minlength=num_items)
    before = np.minimum(first / len(time), 1 - 1e-12)
    return np.asarray((count > 0) & (count * np.log1p(-before) < np.log(LATE)))


def fit_novelty(log: InteractionLog, fit: AttractionFit) -> Novelty | None:
    """Estimate what age does to appeal; None where the log tells no times, or too few items appeared during it.

    Args:
        log: with exposures.
        fit: the attraction model of these exposures.
    """
    time, shown = exposure_times(log), log.exposures
    if time is None or shown is None:
        return None
    rows = np.flatnonzero(np.isfinite(time))
    time, item = time[rows], shown.item[rows]
    late = late_items(item, time, log.num_items)
    mine = late[item]
    times, ages = min(TIME_BINS, len(rows) // ROWS_PER_BIN), min(AGE_BINS, int(mine.sum()) // ROWS_PER_BIN)
    if times < 2 or ages < 2:
        return None
    first = np.full(log.num_items, np.inf)
    np.minimum.at(first, item, time)
    age = time - first[item]
    edges = np.unique(np.quantile(age[mine], np.arange(1, ages) / ages))
    when = np.searchsorted(np.unique(np.quantile(time, np.arange(1, times) / times)), time, side="right")
    step = np.where(mine, 1 + np.searchsorted(edges, age, side="right"), 0)
    logit = np.mean([fit.logit(shown.user[rows], item, m) for m in range(len(fit.members))], axis=0)
    data = _Rows(logit, shown.clicked[rows], fit.noticed[shown.position[rows]], when, step)
    with_it, curve, weight = data.maximum(len(edges) + 1)
    without, _, _ = data.maximum(0)
    chance = float(stats.chi2.sf(2 * (with_it - without), len(edges) + 1))
    report = {
        "late_items": int(late.sum()),
        "age_from_days": [0.0, *np.round(edges / 86_400, 2).tolist()],
        "logits": np.round(curve, 4).tolist(),
        "p_value": chance,
        "applied": chance < SIGNIFICANCE,
    }
    if chance >= SIGNIFICANCE:
        return Novelty(np.zeros(log.num_items), report)
    total = np.bincount(item, weight * np.append(0.0, curve)[step], log.num_items)
    mean = total / np.maximum(np.bincount(item, weight, log.num_items), 1e-12)
    last = curve[np.searchsorted(edges, float(time.max()) - np.where(late, first, 0.0), side="right")]
    return Novelty(np.where(late, last - mean, 0.0), report)


@dataclass(frozen=True)
class _Rows:
    """Exposures: fitted logit, answer, chance of notice, bin of time, bin of age (0: the item was always there)."""

    logit: Floats
    clicked: npt.NDArray[np.bool_]
    noticed: Floats
    when: Ints
    step: Ints

    def maximum(self, ages: int) -> tuple[float, Floats, Floats]:
        """Return the log-likelihood at its maximum, the curve (ages,), and each row's Fisher information.

        With no ages, only calendar time moves the logits.
        """
        step = self.step if ages else np.zeros_like(self.step)
        times = int(self.when.max()) + 1
        cell, shape = self.when * (ages + 1) + step, (times, ages + 1)
        effect = np.zeros(times + ages)
        for _ in range(ROUNDS):
            _, score, information = self._derivatives(effect, times, step)
            slope = np.bincount(cell, score, times * (ages + 1)).reshape(shape)
            weight = np.bincount(cell, information, times * (ages + 1)).reshape(shape)
            system = np.diag(np.concatenate([weight.sum(1), weight.sum(0)[1:]]) + RIDGE)
            system[:times, times:] = weight[:, 1:]
            system[times:, :times] = weight[:, 1:].T
            gradient = np.concatenate([slope.sum(1), slope.sum(0)[1:]]) - RIDGE * effect
            move = np.linalg.solve(system, gradient)
            effect = effect + np.clip(move, -1, 1)
            if np.abs(move).max() < 1e-6:
                break
        likelihood, _, information = self._derivatives(effect, times, step)
        return likelihood, effect[times:], information

    def _derivatives(self, effect: Floats, times: int, step: Ints) -> tuple[float, Floats, Floats]:
        """Return the log-likelihood, and each row's slope and Fisher information."""
        moved = self.logit + effect[self.when] + np.append(0.0, effect[times:])[step]
        chance = np.clip(expit(moved), 1e-9, 1 - 1e-9)
        seen = self.noticed * chance
        missed = np.maximum(1 - seen, 1e-9)
        score = np.where(self.clicked, 1 - chance, -seen * (1 - chance) / missed)
        likelihood = float(np.where(self.clicked, np.log(np.maximum(seen, 1e-12)), np.log(missed)).sum())
        return likelihood, score, seen * (1 - chance) ** 2 / missed
