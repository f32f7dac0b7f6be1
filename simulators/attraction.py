"""The attraction model: P(click | shown and noticed), which is not P(liked | rated).

    logit a(u,i) = b_u + b_i + <c_u, d_i>,   (b, c)_u ~ around A' x_u,   (b, d)_i ~ around B' x_i

Where exposures are logged, it is fitted on the rows that were shown, by Gibbs sampling, with the probability e_k that
position k is noticed estimated beside it (e_0 = 1: the first place is always noticed). Elsewhere it is fitted on
consumption against items that were not consumed, sampled uniformly: many rows with much signal, for which stochastic
gradients (Adagrad) are ten times cheaper.

Uniform sampling shifts every logit by the log of the sampling rate; what is handed out is corrected by the
*pooled* rate log(negatives * n / (U I)), so that the mean probability is the density of the log. A correction
per user would turn the number of rows of a user into a readiness to click, which a log of consumption cannot
tell; the base rate is a named assumption of the world (`base_click_rate`) anyway. The item bias is the item's
log-popularity effect in full.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.logs.log import FloatArray, IntArray
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators.attraction_choice import choose
from recworld.simulators.attraction_rows import AttractionRows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.attraction_trainer import AttractionTrainer
from recworld.simulators.factors import Factors
from recworld.simulators.gibbs_logistic import run_chain
from recworld.simulators.side_features import side_features

Floats = npt.NDArray[np.float64]


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


def fit_attraction(
    rows: AttractionRows, user_vector: FloatArray, item_vector: FloatArray, settings: AttractionSettings,
    members: int, seed: int,
) -> AttractionFit:  # fmt: skip
    """Fit the attraction model: passes and scale chosen on validation rows, then members on all rows.

    Shown rows: members are the averaged samples of separate chains. Consumption: they differ by their seed and by a
    Bayesian bootstrap (exponential weights of the rows; Rubin 1981); with one member the weights stay as they are.

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
        passes, personal, figures = choose(rows, users, items, settings, seed, shown.update)

        def train(number: int) -> tuple[Factors, Floats]:
            name = child_seed(seed, "member", number)
            if rows.shown:
                factors, noticed = run_chain(rows, users, items, settings, name, shown.update)
                return factors.personal(personal), noticed
            chosen = rows
            if members > 1:
                weight = rows.weight * generator(name, "bootstrap").exponential(size=len(rows))
                chosen = replace(rows, weight=weight / weight.mean())
            trainer = AttractionTrainer(chosen, users, items, settings, name)
            for _ in range(passes):
                trainer.epoch()
                shown.update(1)
            return trainer.factors(personal), np.ones(1)

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
    return matching_shift(logit, seen, wanted, 5.0)


def matching_shift(logit: Floats, weight: Floats, wanted: float, bound: float) -> float:
    """Return the shift of logits, at most `bound`, at which the weighted sum of their probabilities is `wanted`."""
    low, high = -bound, bound
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if float((weight * expit(logit + middle)).sum()) < wanted else (low, middle)
        )
    return (low + high) / 2


def _anchored(member: Factors, shift: float) -> Factors:
    """Return the member with item biases of mean zero and the sampling shift in the user biases."""
    mean = float(member.item_bias.mean())
    return replace(member, user_bias=member.user_bias + mean + shift, item_bias=member.item_bias - mean)
