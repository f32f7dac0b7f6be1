"""Held-out accuracy of one member and of the ensemble, beside models that know nothing of tastes, on four splits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.evaluation.fidelity_lines import Line, Tolerance, judge, judge_margin, line_of, unknown
from recworld.evaluation.fidelity_responses import Responses, SimpleModels
from recworld.evaluation.fidelity_splits import TITLES, Split
from recworld.evaluation.resampling import (
    Statistic,
    auc_of,
    calibration_of,
    compact,
    mean_of,
    measure,
    measure_margin,
)
from recworld.logs.log import InteractionLog
from recworld.seeding import child_seed, generator

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GROUP = "accuracy"
FEWEST = 20
"""Held-out rows below which nothing is said."""
NEGATIVES = 5
"""Items not consumed that are drawn per held-out consumption, where what was shown is not logged."""
CALIBRATION = Tolerance(0.02, 0.05)
LEAST_CHANCE = 1e-7
MEMBER = (0,)
DRAWS = 40
"""Draws of a perfectly calibrated model."""
REQUIRED = ("rmse", "liked_auc", "take_up_auc")

Curve = dict[str, list[float]]


@dataclass(frozen=True)
class Accuracy:
    """Lines of one split, and its reliability curves by name ("liked", "take-up")."""

    lines: list[Line]
    curves: dict[str, Curve]


@dataclass(frozen=True)
class _Metric:
    """A figure of merit: statistics of the member, the ensemble and each simple model, and which way is better."""

    name: str
    title: str
    meaning: str
    unit: str
    ours: Statistic
    beside: dict[str, Statistic]
    better: int  # 1: larger is better, -1: smaller is
    than: tuple[str, ...]


def accuracy(split: Split, log: InteractionLog, responses: Responses, seed: int) -> Accuracy:
    """Return the lines of one split.

    Args:
        split: the log in two parts.
        log: the whole log.
        responses: fitted to `split.train`.
        seed: of negatives, bootstrap and halves.
    """
    seed = child_seed(seed, "accuracy", split.name)
    simple = SimpleModels(split.train)
    lines: list[Line] = []
    curves: dict[str, Curve] = {}
    for kind, measured in (("ratings", _ratings), ("take-up", _take_up)):
        found = measured(split, log, responses, simple, seed)
        if isinstance(found, str):
            title = f"{kind}, {TITLES[split.name]}"
            lines.append(
                unknown(GROUP, f"{kind}_{split.name}".replace("-", "_"), title[:1].upper() + title[1:], found)
            )
            continue
        lines += found[0]
        curves |= found[1]
    return Accuracy(lines, curves)


Found = tuple[list[Line], dict[str, Curve]] | str


def _ratings(
    split: Split, log: InteractionLog, responses: Responses, simple: SimpleModels, seed: int
) -> Found:
    if log.scale.kind == "click":
        return "the log has no ratings, only clicks"
    if log.scale.high <= log.scale.low:
        return "all ratings are the same"
    if len(split.test) < FEWEST:
        return f"{len(split.test)} held-out ratings are too few"
    user, item = log.user[split.test], log.item[split.test]
    rating, owner = log.rating[split.test].astype(np.float64), compact(user)
    everyone = range(responses.tables.num_members)
    liked = rating >= log.scale.liked_from - 1e-6
    chance = {
        "member": responses.liked(user, item, MEMBER),
        "ensemble": responses.liked(user, item, everyone),
    }
    chance["user and item means"] = simple.liked(user, item)
    means = {
        "member": responses.rating(user, item, MEMBER),
        "ensemble": responses.rating(user, item, everyone),
    }
    means["user and item means"] = simple.rating(user, item)
    others = {name for name in means if name != "member"}

    def each(of: Any, of_what: dict[str, Floats]) -> tuple[Statistic, dict[str, Statistic]]:
        made = {name: of(values) for name, values in of_what.items()}
        return made["member"], {name: made[name] for name in sorted(others)}

    than, metrics = ("user and item means",), []
    for name, title, meaning, unit, better, (ours, beside) in (
        ("rmse", "Rating error (RMSE)", "Root of the mean squared error of predicted ratings", "of a rating", -1,
         each(lambda v: mean_of((v - rating) ** 2, owner, np.sqrt), means)),
        ("mae", "Rating error (MAE)", "Mean size of the error of predicted ratings", "of a rating", -1,
         each(lambda v: mean_of(np.abs(v - rating), owner), means)),
        ("liked_auc", "Telling liked from not liked (AUC)",
         "Chance that a liked item is ranked above one that is not", "", 1, each(lambda v: auc_of(v, liked, owner), chance)),
        ("liked_log_loss", "Probability of liking (log-loss)", "Mean of -log of the probability of what happened", "nats",
         -1, each(lambda v: mean_of(_losses(v, liked), owner), chance)),
    ):  # fmt: skip
        metrics.append(_Metric(name, title, meaning, unit, ours, beside, better, than))
    users = int(owner.max()) + 1
    lines = [_line(metric, split, users, seed) for metric in metrics]
    lines.append(_calibration(chance["member"], liked, owner, split, seed))
    return lines, {"liked": _curve(chance["member"], liked)}


def _take_up(
    split: Split, log: InteractionLog, responses: Responses, simple: SimpleModels, seed: int
) -> Found:
    if split.shown is not None and log.exposures is not None:
        shown, rows = log.exposures, np.flatnonzero(split.shown)
        user, item, taken = shown.user[rows], shown.item[rows], shown.clicked[rows]
        meaning = "Chance that a shown item that was clicked is ranked above a shown one that was not"
        other, rival = "items' click rates", simple.item_rate
        noticed = responses.noticed(shown.position[rows])
    else:
        user, item, taken = _against_random(split, log, seed)
        meaning = "Chance that a consumed item is ranked above a random one that was not"
        other, rival, noticed = "popularity", simple.popularity, None
    if taken.sum() < FEWEST or (~taken).sum() < FEWEST:
        return f"{int(taken.sum())} held-out consumptions are too few"
    owner = compact(user)
    member, ensemble = (
        responses.take_up(user, item, chosen, noticed is not None)
        for chosen in (MEMBER, range(responses.tables.num_members))
    )
    beside = {"ensemble": auc_of(ensemble, taken, owner), other: auc_of(rival[item], taken, owner)}
    metric = _Metric(
        "take_up_auc", "What is taken up (AUC)", meaning, "", auc_of(member, taken, owner), beside, 1, (other,)
    )  # fmt: skip
    # Against drawn negatives only the order means something; what was shown tells the probability too.
    curves = {} if noticed is None else {"clicked": _curve(member * noticed, taken)}
    return [_line(metric, split, int(owner.max()) + 1, seed)], curves


def _against_random(split: Split, log: InteractionLog, seed: int) -> tuple[Any, Any, Mask]:
    """Return held-out pairs and, for each, random items that the user has nowhere in the log; cold items among cold ones."""
    pair = np.unique(log.user[split.test].astype(np.int64) * log.num_items + log.item[split.test])
    user, item = pair // log.num_items, pair % log.num_items
    pool = np.unique(item) if split.name == "cold_items" else np.arange(log.num_items)
    rng = generator(seed, "negatives")
    who = np.repeat(user, NEGATIVES)
    other = pool[rng.integers(0, len(pool), len(who))]
    free = ~np.isin(who * log.num_items + other, log.user.astype(np.int64) * log.num_items + log.item)
    taken = np.r_[np.ones(len(user), np.bool_), np.zeros(int(free.sum()), np.bool_)]
    return np.r_[user, who[free]].astype(np.int32), np.r_[item, other[free]].astype(np.int32), taken


def _losses(chance: Floats, happened: Mask) -> Floats:
    kept = np.clip(chance, LEAST_CHANCE, 1 - LEAST_CHANCE)
    return np.asarray(-np.where(happened, np.log(kept), np.log1p(-kept)))


def _line(metric: _Metric, split: Split, users: int, seed: int) -> Line:
    found = measure(metric.ours, users, seed)
    whole = np.ones((1, users))
    beside = {name: float(statistic(whole)[0]) for name, statistic in metric.beside.items()}
    best = max(metric.than, key=lambda name: metric.better * beside[name])
    rival = metric.beside[best]
    margin = (
        measure_margin(metric.ours, rival, users, seed)
        if metric.better > 0
        else measure_margin(rival, metric.ours, users, seed)
    )
    level, verdict = judge_margin(margin, best)
    return line_of(
        GROUP, f"{metric.name}_{split.name}", f"{metric.title}, {TITLES[split.name]}",
        f"{metric.meaning}; {TITLES[split.name]} held out, one member of the world.", found, level, verdict,
        unit=metric.unit, beside=beside, required=split.name == "random" and metric.name in REQUIRED,
    )  # fmt: skip


def _calibration(chance: Floats, liked: Mask, owner: npt.NDArray[np.int64], split: Split, seed: int) -> Line:
    """Return the calibration error; its floor is what a perfectly calibrated model shows by chance."""
    users = int(owner.max()) + 1
    found = measure(calibration_of(chance, liked, owner), users, seed)
    rng, whole = generator(seed, "calibration floor"), np.ones((1, users))
    lucky = [
        float(calibration_of(chance, rng.random(len(chance)) < chance, owner)(whole)[0]) for _ in range(DRAWS)
    ]
    found = replace(found, floor=float(np.mean(lucky)), floor_high=float(np.quantile(lucky, 0.95)))
    level, verdict = judge(found, CALIBRATION, "a perfectly calibrated model and chance")
    return line_of(
        GROUP, f"liked_calibration_{split.name}", f"Calibration of liking, {TITLES[split.name]}",
        "Mean gap between the promised and the observed share of liked items, over 15 equal groups. Its noise floor is what "
        "a perfectly calibrated model shows by chance.", found, level, verdict, required=split.name == "random",
    )  # fmt: skip


def _curve(chance: Floats, happened: Mask, bins: int = 15) -> Curve:
    parts = [part for part in np.array_split(np.argsort(chance, kind="stable"), bins) if len(part)]
    return {
        "chance": [float(chance[part].mean()) for part in parts],
        "observed": [float(happened[part].mean()) for part in parts],
        "rows": [float(len(part)) for part in parts],
    }


def no_split(name: str, why: str) -> list[Line]:
    """Return the line of a split that the log does not allow."""
    title = f"Accuracy on {TITLES[name]}"
    return [unknown(GROUP, f"split_{name}", title, why)]
