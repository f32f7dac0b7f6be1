"""What a robustness report holds, as a table of words and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.evaluation.intervals import Interval
from recworld.evaluation.resampling import bootstrap_weights

COLUMNS = ("cosine", "moved", "tau", "overlap", "gain")


def bootstrap_mean(values: npt.ArrayLike, seed: int) -> Interval:
    """Return the mean of (n,) values with the percentile interval of a bootstrap over them; NaN where there are none."""
    own = np.asarray(values, np.float64)
    if len(own) == 0:
        return Interval(np.nan, np.nan, np.nan)
    weight = bootstrap_weights(len(own), seed)
    drawn = weight @ own / weight.sum(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(own.mean()), float(low), float(high))


@dataclass(frozen=True)
class Row:
    """What one change of texts does.

    Attributes:
        change: its name.
        known: "as known" (the log has its say beside the text) or "as new" (the text is all there is).
        cosine: between the vectors before and after; interval over items.
        moved: absolute move of an item's score, in standard deviations of a user's scores; over items.
        tau: Kendall's tau between a user's rankings of the changed items before and after; over users.
        overlap: share of the ten best of them that stay; over users.
        gain: places that a changed item alone rises, in per cent of the catalogue; over items.
    """

    change: str
    known: str
    cosine: Interval
    moved: Interval
    tau: Interval
    overlap: Interval
    gain: Interval


@dataclass(frozen=True)
class Attack:
    """What a suffix gains the attacked items, under one way to read texts.

    Attributes:
        defence: name of the reading.
        suffix: kind: random words, the text of the most popular item, words searched for to rise with all users, or with the
            fifth of them whose tastes stand out (measured on such users).
        words: the suffix searched for; empty for the others.
        gain: places that an attacked new item rises, in per cent of the catalogue; interval over items.
        raised: move of its score, in standard deviations of a user's scores.
        top: percentage points more of users who have it among their ten best.
        known_gain: as `gain`, for the items as the log knows them.
    """

    defence: str
    suffix: str
    words: tuple[str, ...]
    gain: Interval
    raised: Interval
    top: Interval
    known_gain: Interval


@dataclass(frozen=True)
class Cost:
    """What a reading costs honest texts.

    Attributes:
        defence: its name.
        explained: R^2 of scores of items left out, from their texts; interval over items.
        lost: by how much less than the plain reading's; over the same items.
    """

    defence: str
    explained: Interval
    lost: Interval


@dataclass(frozen=True)
class RobustnessReport:
    """How far other texts move scores and rankings, what a seller can gain, and what defences buy and cost.

    Attributes:
        rows: accidents and near words.
        attacks: suffixes under each defence.
        costs: of each defence.
        faithful: score lost by the strongest words, and by as many random ones, in standard deviations of a user's scores.
        setting: sizes and seed, JSON-ready.
    """

    rows: tuple[Row, ...]
    attacks: tuple[Attack, ...]
    costs: tuple[Cost, ...]
    faithful: dict[str, Interval]
    setting: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {
            "setting": self.setting,
            "rows": [_plain(row) for row in self.rows],
            "attacks": [_plain(attack) for attack in self.attacks],
            "costs": [_plain(cost) for cost in self.costs],
            "faithful": {name: value.as_json() for name, value in self.faithful.items()},
        }

    def text(self) -> str:
        """Return the tables."""
        s = self.setting
        lines = [
            f"{s['world']}: {s['items']} items, {s['users']} users; 95 % intervals by bootstrap",
            "",
            f"{'change of the texts':22}{'':10}{'cosine':>14}{'score, sd':>14}{'tau':>14}{'overlap@10':>14}{'rise, %':>14}",
        ]
        for row in self.rows:
            cells = "".join(f"{_cell(getattr(row, name)):>14}" for name in COLUMNS)
            lines.append(f"{row.change:22}{row.known:10}{cells}")
        lines += [
            "",
            f"{'defence':10}{'suffix':32}{'rise, %':>14}{'score, sd':>14}{'in top 10, %':>14}{'known, %':>14}",
        ]
        for a in self.attacks:
            cells = "".join(f"{_cell(one):>14}" for one in (a.gain, a.raised, a.top, a.known_gain))
            lines.append(
                f"{a.defence:10}{a.suffix:32}{cells}" + (f"  {' '.join(a.words)}" if a.words else "")
            )
        lines += ["", f"{'defence':10}{'R2 of newcomers':>20}{'less than none':>20}"]
        lines += [f"{c.defence:10}{_cell(c.explained):>20}{_cell(c.lost):>20}" for c in self.costs]
        if self.faithful:
            told = ", ".join(f"{name} {_cell(value)}" for name, value in self.faithful.items())
            lines += ["", f"left out together, the score loses (sd): {told}"]
        return "\n".join(lines)


def _cell(value: Interval) -> str:
    return f"{value.mean:.2f} ±{value.half:.2f}" if np.isfinite(value.low) else f"{value.mean:.2f}"


def _plain(row: Any) -> dict[str, Any]:
    return {
        name: value.as_json()
        if isinstance(value, Interval)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in vars(row).items()
    }
