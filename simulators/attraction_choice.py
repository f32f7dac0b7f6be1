"""Choices made on validation rows of the attraction model: passes, scale of the personal part, figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.seeding import child_seed, generator
from recworld.simulators.accuracy import auc, log_loss
from recworld.simulators.attraction_rows import AttractionRows, NegativeSampler, grouped
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.attraction_trainer import AttractionTrainer
from recworld.simulators.factors import Factors
from recworld.simulators.gibbs_logistic import run_chain
from recworld.simulators.side_features import SideFeatures

Floats = npt.NDArray[np.float64]

_IMPROVEMENT = 5e-4  # relative, of the validation log-loss
_RECALL_WORK = 1e8  # scores
_FEW = 3  # passes where there is nothing to choose them on


def choose(
    rows: AttractionRows, users: SideFeatures, items: SideFeatures, settings: AttractionSettings, seed: int,
    advance: Callable[[int], None],
) -> tuple[int, float, dict[str, Any]]:  # fmt: skip
    """Return the number of passes, the scale of the personal part, and the figures, all from validation rows.

    A chain over shown rows has a fixed length, and its personal part stays as it is: a posterior mean is shrunken
    already, and shown rows, which a policy selected, vary less in it than the pairs a world has to answer for.
    """
    held = generator(seed, "validation").random(len(rows)) < settings.validation_share
    if held.all() or not held.any():
        return min(_FEW, settings.epochs), 1.0, {"validation_rows": 0}
    kept = rows.take(~held)
    # Negatives of validation are items consumed in neither part.
    sampler = NegativeSampler(rows, len(users.values), len(items.values), settings.negatives)
    check = sampler.extend(rows.take(held), generator(seed, "check"))
    name = child_seed(seed, "choice")
    if rows.shown:
        best, noticed = run_chain(kept, users, items, settings, name, advance)
        passes = settings.burn_in + settings.samples * settings.thinning
    else:
        best, passes = _stop_early(AttractionTrainer(kept, users, items, settings, name), check, advance)
        noticed = np.ones(1)
    seen = noticed[np.minimum(check.position, len(noticed) - 1)]
    logit = best.predict(check.user, check.item)
    plain = best.user_bias[check.user] + best.item_bias[check.item]
    grid = np.ones(1) if rows.shown else np.linspace(0.5, 2.0, 31)
    losses = [log_loss(expit(plain + g * (logit - plain)) * seen, check.clicked) for g in grid]
    personal = float(grid[int(np.argmin(losses))])
    figures = _figures(best, plain + personal * (logit - plain), seen, kept, rows.take(held), check)
    figures |= {
        "passes": passes,
        "personal_scale": round(personal, 3),
        "log_loss": round(float(min(losses)), 5),
    }
    return passes, personal, figures


def _stop_early(
    trainer: AttractionTrainer, check: AttractionRows, advance: Callable[[int], None]
) -> tuple[Factors, int]:
    """Train until the log-loss of `check` stops falling; return the best predictor and its number of passes."""
    best, best_factors, passes, stale = np.inf, trainer.factors(1.0), 1, 0
    for epoch in range(1, trainer.settings.epochs + 1):
        trainer.epoch()
        advance(1)
        factors = trainer.factors(1.0)
        loss = log_loss(expit(factors.predict(check.user, check.item)), check.clicked)
        if loss < best * (1 - _IMPROVEMENT):
            best, best_factors, passes, stale = loss, factors, epoch, 0
        else:
            stale += 1
            if stale >= trainer.settings.patience:
                break
    return best_factors, passes


def _figures(
    factors: Factors,
    logit: Floats,
    seen: Floats,
    kept: AttractionRows,
    held: AttractionRows,
    check: AttractionRows,
) -> dict[str, Any]:
    """Return AUC and recall on validation rows beside those of popularity."""
    size = len(factors.item_bias)
    popularity = np.bincount(kept.item[kept.clicked], minlength=size).astype(np.float64)
    if held.shown:  # of shown items, the popular ones are those with a high click rate
        popularity = (popularity + 1) / (np.bincount(kept.item, minlength=size) + 5)
    figures = {
        "validation_rows": len(held),
        "auc": round(auc(expit(logit) * seen, check.clicked), 5),
        "popularity_auc": round(auc(popularity[check.item] * seen, check.clicked), 5),
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
