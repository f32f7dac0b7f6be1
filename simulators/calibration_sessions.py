"""Sessions and ties of a log: what its order and its gaps can tell at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.mixture import GaussianMixture

from recworld.logs.log import InteractionLog
from recworld.seeding import generator
from recworld.simulators.calibration import Estimate
from recworld.simulators.calibration_settings import CalibrationSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

USUAL_GAP = 1800.0
"""Half an hour of silence ends a session: the convention of web analytics, used where the gaps have one hump only."""
_APART = np.log(8.0)  # log gaps of two humps differ at least so much, or they are one
_MOST_GAPS = 10_000


@dataclass(frozen=True)
class Order:
    """What the times of a log's interactions say about their order.

    Attributes:
        gaps: (g,) seconds between consecutive interactions of a user.
        tied: share of gaps of at most one second.
        near: share of gaps of at most a minute.
        ordered: whether the order means anything.
        why: the reason in words where it does not.
    """

    gaps: Floats
    tied: float
    near: float
    ordered: bool
    why: str


def read_order(log: InteractionLog, settings: CalibrationSettings) -> Order:
    """Return what the times of a log say about its order; a log without times is taken as it stands."""
    if log.time is None:
        if log.exposures is not None:
            return Order(np.zeros(0), 0.0, 0.0, True, "")
        return Order(np.zeros(0), 1.0, 1.0, False, "the log has no timestamps")
    order = log.order_in_time
    same = np.diff(log.user[order]) == 0
    if log.exposures is not None:  # clicks of one slate are answered together
        slate = _slate_of(log)[order]
        same &= np.diff(slate) != 0
    gaps = np.diff(log.time[order])[same]
    if len(gaps) == 0:
        return Order(gaps, 1.0, 1.0, False, "no user has two interactions")
    tied, near = float((gaps <= 1.0).mean()), float((gaps <= 60.0).mean())
    shares = f"{tied:.0%} of consecutive gaps are at most 1 s, {near:.0%} at most 1 min"
    if tied >= settings.tied_share:
        return Order(
            gaps, tied, near, False, f"timestamps are tied ({shares}): rows were entered in one go, their order is not"
            " the order of consumption",
        )  # fmt: skip
    if log.exposures is None and near >= settings.near_tied_share:
        return Order(
            gaps, tied, near, False, f"timestamps are nearly tied ({shares}): too fast to have been consumed"
        )
    return Order(gaps, tied, near, True, "")


def _slate_of(log: InteractionLog) -> Ints:
    """Return the slate in which each interaction was first clicked, (n,); a number of its own where none is known."""
    shown = log.exposures
    out = -1 - np.arange(len(log))
    if shown is not None and shown.clicked.any():
        clicks = np.flatnonzero(shown.clicked)
        pair = shown.user[clicks].astype(np.int64) * log.num_items + shown.item[clicks]
        known, first = np.unique(pair, return_index=True)
        own = log.user.astype(np.int64) * log.num_items + log.item
        place = np.minimum(np.searchsorted(known, own), len(known) - 1)
        out = np.where(known[place] == own, shown.slate[clicks[first[place]]], out)
    return np.asarray(out, np.int64)


def consumption_estimates(log: InteractionLog, order: Order, seed: int) -> list[Estimate]:
    """Return what a log of consumption alone tells: where sessions end, and how often an interaction is the last of one."""
    if not order.ordered or log.time is None or len(order.gaps) == 0:
        return []
    gap, how = choose_gap(order.gaps)
    random = generator(seed, "gaps")
    sample = min(len(order.gaps), 4000)
    again = [choose_gap(random.choice(order.gaps, sample))[0] for _ in range(20)]
    low, high = np.quantile(again, [0.025, 0.975])
    chosen = "two humps" in how
    words = f"identified: {how}" if chosen else f"not identified: default used, source: {how}"
    low, high = (min(low, gap), max(high, gap)) if chosen else (np.nan, np.nan)
    ends, events = int((order.gaps > gap).sum()), len(order.gaps)
    rate = ends / events
    # Wilson's interval; a user's last interaction is cut by the end of the log.
    middle, half = (
        (rate + 1.92 / events) / (1 + 3.84 / events),
        1.96 * np.sqrt(rate * (1 - rate) / events + 0.96 / events**2),
    )
    told = "identified: share of interactions (a user's last left out) that end a session; consumptions, not slates"
    return [
        Estimate("session_gap", gap, float(low), float(high), chosen, words),
        Estimate("end_per_interaction", rate, float(middle - half), float(middle + half), chosen, told)
        if chosen
        else Estimate(
            "end_per_interaction",
            np.nan,
            np.nan,
            np.nan,
            False,
            "not identified: no gap ends a session clearly",
        ),
    ]


def choose_gap(gaps: Floats) -> tuple[float, str]:
    """Return the silence in seconds that ends a session, and how it was chosen.

    Two normal humps are fitted to the logarithms of the positive gaps; the cut lies where a gap belongs to either with the
    same probability. Where two humps fit no better than one (BIC), or are not clearly apart, half an hour is used.
    """
    positive = gaps[gaps > 0]
    if len(positive) < 100:
        return USUAL_GAP, "convention of half an hour: too few gaps to choose from"
    # Evenly spaced quantiles stand for a long list: the same answer, in bounded time.
    logs = np.log(np.sort(positive))[
        np.linspace(0, len(positive) - 1, min(len(positive), _MOST_GAPS)).astype(int)
    ]
    if logs[-1] - logs[0] < _APART:  # equal gaps in the extreme, which no mixture can be fitted to
        return USUAL_GAP, "convention of half an hour: the gaps are all alike"
    wide = logs[:, None]
    two = GaussianMixture(2, random_state=0, reg_covar=1e-3).fit(wide)
    one = GaussianMixture(1, random_state=0, reg_covar=1e-3).fit(wide)
    low, high = np.sort(two.means_[:, 0])
    if two.bic(wide) >= one.bic(wide) or high - low < _APART:
        return USUAL_GAP, "convention of half an hour: the gaps have one hump"
    line = np.linspace(low, high, 2001)[:, None]
    late = two.predict_proba(line)[:, int(np.argmax(two.means_[:, 0]))]
    cut = float(np.exp(line[int(np.argmax(late >= 0.5)), 0]))
    return (
        cut,
        f"two humps of the gaps, around {np.exp(low):.3g} s and {np.exp(high):.3g} s, are equally likely there",
    )


def session_facts(log: InteractionLog, order: Order) -> dict[str, Any]:
    """Return how sessions were cut and how many there are."""
    facts: dict[str, Any] = {
        "interactions": len(log),
        "share_of_tied_gaps": order.tied,
        "share_of_gaps_up_to_a_minute": order.near,
        "order_means_something": order.ordered,
    }
    if log.exposures is not None:
        facts |= {
            "session_source": "session ids of the exposures",
            "sessions": len(np.unique(log.exposures.session)),
            "mapping": "a slate of the log is a step of the environment",
        }
    elif log.time is not None and len(order.gaps):
        gap, how = choose_gap(order.gaps)
        users = len(np.unique(log.user))
        facts |= {
            "session_source": "gaps between interactions",
            "session_gap_seconds": gap,
            "session_gap_chosen": how,
            "sessions": users + int((order.gaps > gap).sum()),
            "mapping": "the log counts consumptions; which slates they came from was not logged",
        }
    return facts
