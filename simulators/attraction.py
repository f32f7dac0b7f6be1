"""The attraction model: P(click | shown and noticed), which is not P(liked | rated).

    logit a(u,i) = b_u + b_i + <c_u, d_i>,   (b, c)_u ~ around A' x_u,   (b, d)_i ~ around B' x_i

Where exposures are logged, it is fitted on the rows that were shown, with the probability e_k that position k
is noticed estimated beside it (e_0 = 1: the first place is always noticed). Elsewhere it is fitted on
consumption against items that were not consumed, sampled uniformly.

Uniform sampling shifts every logit by the log of the sampling rate; what is handed out is corrected by the
*pooled* rate log(negatives * n / (U I)), so that the mean probability is the density of the log. A correction
per user would turn the number of rows of a user into a readiness to click, which a log of consumption cannot
tell; the base rate is a named assumption of the world (`base_click_rate`) anyway. The item bias is the item's
log-popularity effect in full.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.logs.log import FloatArray, IntArray
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators.accuracy import auc
from recworld.simulators.attraction_rows import AttractionRows, NegativeSampler, grouped
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.attraction_trainer import AttractionTrainer
from recworld.simulators.factors import Factors
from recworld.simulators.side_features import SideFeatures, side_features

Floats = npt.NDArray[np.float64]

_IMPROVEMENT = 5e-4  # relative, of the validation log-loss
_RECALL_WORK = 1e8  # scores


@dataclass(frozen=True)
class AttractionFit:
    """A fitted attraction model.

    Attributes:
        members: M members; logits.
        noticed: (P,) probability that each position is noticed; (1,) of 1 without exposures.
        report: figures of the fit on its validation rows, JSON-ready.
    """

    members: tuple[Factors, ...]
    noticed: Floats
    report: dict[str, Any]

    def logit(self, user: IntArray, item: IntArray, member: int = 0) -> Floats:
        """Return the logit of a click of a member, shown and noticed, (n,)."""
        return self.members[member].predict(user, item)

    def probability(self, user: IntArray, item: IntArray) -> Floats:
        """Return the probability of a click, averaged over members, (n,)."""
        return np.asarray(
            np.mean([expit(self.logit(user, item, m)) for m in range(len(self.members))], axis=0)
        )

    def tables(self) -> dict[str, FloatArray]:
        """Return the attraction part of `ResponseTables`, float32; "taste" and "item" are (M, ., Fa)."""
        members = self.members
        return {
            "taste": np.stack([m.user for m in members]).astype(np.float32),
            "item": np.stack([m.item for m in members]).astype(np.float32),
            "user_attraction_bias": np.stack([m.user_bias for m in members]).astype(np.float32),
            "item_attraction_bias": np.stack([m.item_bias for m in members]).astype(np.float32),
        }


def _choose(
    rows: AttractionRows, users: SideFeatures, items: SideFeatures, settings: AttractionSettings, seed: int,
    advance: Callable[[int], None],
) -> tuple[int, float, dict[str, Any]]:  # fmt: skip
    """Return the number of passes, the scale of the personal part, and the figures, all from validation rows."""
    held = generator(seed, "validation").random(len(rows)) < settings.validation_share
    if held.all() or not held.any():
        return min(3, settings.epochs), 1.0, {"validation_rows": 0, "epochs": min(3, settings.epochs)}
    kept = rows.take(~held)
    trainer = AttractionTrainer(kept, users, items, settings, child_seed(seed, "choice"))
    # Negatives of validation are items consumed in neither part.
    sampler = NegativeSampler(rows, len(users.values), len(items.values), settings.negatives)
    check = sampler.extend(rows.take(held), generator(seed, "check"))
    best, best_factors, epochs, stale = np.inf, trainer.factors(1.0), 1, 0
    for epoch in range(1, settings.epochs + 1):
        trainer.epoch()
        advance(1)
        factors = trainer.factors(1.0)
        loss = trainer.loss(check, factors.predict(check.user, check.item))
        if loss < best * (1 - _IMPROVEMENT):
            best, best_factors, epochs, stale = loss, factors, epoch, 0
        else:
            stale += 1
            if stale >= settings.patience:
                break
    logit = best_factors.predict(check.user, check.item)
    plain = best_factors.user_bias[check.user] + best_factors.item_bias[check.item]
    grid = np.linspace(0.5, 1.5, 21)
    losses = [trainer.loss(check, plain + g * (logit - plain)) for g in grid]
    personal = float(grid[int(np.argmin(losses))])
    figures = _figures(best_factors, logit, kept, rows.take(held), check)
    figures |= {
        "epochs": epochs,
        "personal_scale": round(personal, 3),
        "log_loss": round(float(min(losses)), 5),
    }
    return epochs, personal, figures


def _figures(
    factors: Factors, logit: Floats, kept: AttractionRows, held: AttractionRows, check: AttractionRows
) -> dict[str, Any]:
    """Return AUC and recall on validation rows beside those of popularity."""
    size = len(factors.item_bias)
    popularity = np.bincount(kept.item[kept.clicked], minlength=size).astype(np.float64)
    figures = {
        "validation_rows": len(held),
        "auc": round(auc(logit, check.clicked), 5),
        "popularity_auc": round(auc(popularity[check.item], check.clicked), 5),
    }
    if not held.shown:
        by_popularity = Factors(
            np.zeros(len(factors.user_bias)), popularity, factors.user[:, :0], factors.item[:, :0]
        )
        figures["recall_at_20"] = round(recall_at(factors, kept, held, 20), 5)
        figures["popularity_recall_at_20"] = round(recall_at(by_popularity, kept, held, 20), 5)
    return figures


def recall_at(factors: Factors, known: AttractionRows, held: AttractionRows, k: int) -> float:
    """Return the mean over users of: held-out items among the best k not known, over min(k, held-out items).

    On a large log it is measured on as many users as keep the work bounded, in the order of their numbers.
    """
    size, users = len(factors.item_bias), np.unique(held.user)
    users = users[: max(1, int(_RECALL_WORK / size))]
    top = min(k, size)
    shares: list[float] = []
    known_start, known_item = grouped(known.user, known.item, len(factors.user_bias))
    held_start, held_item = grouped(held.user, held.item, len(factors.user_bias))
    for u in users:
        score = factors.item_bias + factors.item @ factors.user[u]
        score[known_item[known_start[u] : known_start[u + 1]]] = -np.inf
        best = np.argpartition(-score, top - 1)[:top]
        wanted = held_item[held_start[u] : held_start[u + 1]]
        shares.append(len(np.intersect1d(best, wanted)) / min(top, len(wanted)))
    return float(np.mean(shares))


def fit_attraction(
    rows: AttractionRows, user_vector: FloatArray, item_vector: FloatArray, settings: AttractionSettings,
    members: int, seed: int,
) -> AttractionFit:  # fmt: skip
    """Fit the attraction model: passes and scale chosen on validation rows, then members on all rows.

    Members differ by their seed and by a Bayesian bootstrap (exponential weights of the rows; Rubin 1981);
    with one member the weights stay as they are.

    Args:
        rows: the rows of the fit.
        user_vector: (U, D) text vectors; zeros where there is no text.
        item_vector: (I, D).
        settings: settings of the model.
        members: M.
        seed: seed of the fit; the same seed gives the same bits.
    """
    empty, n_users, n_items = np.zeros(0, np.int32), len(user_vector), len(item_vector)
    users = side_features(empty, empty, n_users, n_items, user_vector, settings.text_rank, 0, seed)
    items = side_features(empty, empty, n_items, n_users, item_vector, settings.text_rank, 0, seed)
    with bar(None, "attraction model", "pass") as shown:
        epochs, personal, figures = _choose(rows, users, items, settings, seed, shown.update)

        def train(number: int) -> tuple[Factors, Floats]:
            name = child_seed(seed, "member", number)
            chosen = rows
            if members > 1:
                weight = rows.weight * generator(name, "bootstrap").exponential(size=len(rows))
                chosen = replace(rows, weight=weight / weight.mean())
            trainer = AttractionTrainer(chosen, users, items, settings, name)
            for _ in range(epochs):
                trainer.epoch()
                shown.update(1)
            return trainer.factors(personal), trainer.noticed

        with ThreadPoolExecutor(settings.threads) as pool:
            trained = list(pool.map(train, range(members)))
    fitted = tuple(_anchored(member, _shift(rows, member, seen, settings)) for member, seen in trained)
    noticed = np.mean([n for _, n in trained], axis=0)
    report = {"rows": len(rows), "source": "exposures" if rows.shown else "consumption", **figures}
    return AttractionFit(fitted, noticed, report)


def _shift(rows: AttractionRows, member: Factors, noticed: Floats, settings: AttractionSettings) -> float:
    """Return what is added to every logit.

    Shown rows: the mean simulated click rate becomes the logged one (bisection). Consumption: the log of the sampling
    rate is taken out.
    """
    if not rows.shown:
        size = len(member.user_bias) * len(member.item_bias)
        return float(np.log(settings.negatives * len(rows) / size))
    logit, seen = member.predict(rows.user, rows.item), noticed[rows.position] * rows.weight
    wanted = float((rows.weight * rows.clicked).sum())
    low, high = -5.0, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if float((seen * expit(logit + middle)).sum()) < wanted else (low, middle)
    return (low + high) / 2


def _anchored(member: Factors, shift: float) -> Factors:
    """Return the member with item biases of mean zero and the sampling shift in the user biases."""
    mean = float(member.item_bias.mean())
    return replace(member, user_bias=member.user_bias + mean + shift, item_bias=member.item_bias - mean)
