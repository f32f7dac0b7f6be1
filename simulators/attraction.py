"""The attraction model: P(click | shown and noticed), which is not P(liked | rated).

    logit a(u,i) = b_u + b_i + <c_u, d_i>,   (b, c)_u ~ around A' x_u,   (b, d)_i ~ around B' x_i

Where exposures are logged, it is fitted on the rows that were shown, with the probability e_k that position k is
noticed estimated beside it (e_0 = 1: the first place is always noticed). Elsewhere it is fitted on consumption against
items that were not consumed, sampled uniformly.

Uniform sampling shifts every logit by the log of the sampling rate; what is handed out is corrected by the *pooled*
rate log(negatives * n / (U I)), so that the mean probability is the density of the log. A correction per user would
turn the number of rows of a user into a readiness to click, which a log of consumption cannot tell; the base rate is a
named assumption of the world (`base_click_rate`) anyway. The item bias is the item's log-popularity effect in full.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.logs.log import Exposures, FloatArray, IntArray
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators.accuracy import auc, log_loss
from recworld.simulators.attraction_kernels import mark_consumed, one_pass
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.factors import Factors, compress
from recworld.simulators.side_features import SideFeatures, side_features

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AttractionRows:
    """What the model is fitted on: shown rows, or consumption (every row a click, negatives sampled).

    Attributes:
        user: (n,) int32.
        item: (n,) int32.
        clicked: (n,) bool.
        position: (n,) int64 place in the slate; 0 throughout for consumption.
        weight: (n,) float64, mean 1: inverse propensities where they are known.
        shown: whether the rows were shown (then no negatives are sampled).
    """

    user: IntArray
    item: IntArray
    clicked: npt.NDArray[np.bool_]
    position: npt.NDArray[np.int64]
    weight: Floats
    shown: bool

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[Any]) -> AttractionRows:
        """Return the chosen rows (numbers or a mask)."""
        return AttractionRows(
            self.user[rows], self.item[rows], self.clicked[rows], self.position[rows], self.weight[rows], self.shown
        )


def consumption_rows(user: IntArray, item: IntArray) -> AttractionRows:
    """Return rows of a log without exposures; duplicate (user, item) pairs count once."""
    order = np.lexsort((item, user))
    keep = np.ones(len(order), np.bool_)
    keep[1:] = (np.diff(user[order]) != 0) | (np.diff(item[order]) != 0)
    rows = np.sort(order[keep])
    n = len(rows)
    return AttractionRows(user[rows], item[rows], np.ones(n, np.bool_), np.zeros(n, np.int64), np.ones(n), False)


def exposure_rows(exposures: Exposures, chosen: npt.NDArray[np.bool_], largest_weight: float) -> AttractionRows:
    """Return the chosen rows of a log's exposures, weighted by inverse propensity where it is known."""
    propensity = exposures.propensity.astype(np.float64)
    known = np.isfinite(propensity) & (propensity > 0)
    inverse = np.where(known, 1.0 / np.where(known, propensity, 1.0), np.nan)
    weight = np.where(known, inverse / (inverse[known].mean() if known.any() else 1.0), 1.0)[chosen]
    weight = np.minimum(weight, largest_weight)
    return AttractionRows(
        exposures.user[chosen], exposures.item[chosen], exposures.clicked[chosen],
        exposures.position[chosen].astype(np.int64), weight / max(weight.mean(), 1e-9), True,
    )  # fmt: skip


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
        return np.asarray(np.mean([expit(self.logit(user, item, m)) for m in range(len(self.members))], axis=0))

    def tables(self) -> dict[str, FloatArray]:
        """Return the attraction part of `ResponseTables`, float32; "taste" and "item" are (M, ., Fa)."""
        members = self.members
        return {
            "taste": np.stack([m.user for m in members]).astype(np.float32),
            "item": np.stack([m.item for m in members]).astype(np.float32),
            "user_attraction_bias": np.stack([m.user_bias for m in members]).astype(np.float32),
            "item_attraction_bias": np.stack([m.item_bias for m in members]).astype(np.float32),
        }


class _Trainer:
    """One training run: vectors of both sides, their text means, and the positions."""

    def __init__(
        self, rows: AttractionRows, users: SideFeatures, items: SideFeatures, settings: AttractionSettings, seed: int
    ) -> None:
        self.rows, self.settings, self.features = rows, settings, (users, items)
        self.random = generator(seed, "attraction")
        sizes, width = (len(users.values), len(items.values)), 1 + settings.width
        self.vector = [0.1 * self.random.standard_normal((n, width)) for n in sizes]
        self.mean = [np.zeros((n, width)) for n in sizes]
        self.squares = [np.full((n, width), 0.1) for n in sizes]
        rate = rows.clicked.mean() if rows.shown else 1 / (1 + settings.negatives)
        start = float(np.log(np.clip(rate, 1e-4, 1 - 1e-4) / (1 - np.clip(rate, 1e-4, 1 - 1e-4))))
        for side, level in zip(range(2), (start, 0.0), strict=True):
            self.vector[side][:, 0] = self.mean[side][:, 0] = level
        self.noticed = np.ones(int(rows.position.max()) + 1)
        self.count = [np.bincount(own, minlength=n) for own, n in zip((rows.user, rows.item), sizes, strict=True)]
        self.consumed = _sorted_consumed(rows, sizes[0])

    def negatives(self, rows: AttractionRows, random: np.random.Generator) -> AttractionRows:
        """Return `rows` with sampled items that their users did not consume (of `self.rows`) appended."""
        if rows.shown:
            return rows
        times = self.settings.negatives
        user = np.repeat(rows.user, times)
        item = random.integers(0, len(self.vector[1]), len(user), dtype=np.int32)
        taken = np.empty(len(user), np.bool_)
        mark_consumed(user, item, *self.consumed, taken)
        free = ~taken
        extra = int(free.sum())
        return AttractionRows(
            np.concatenate([rows.user, user[free]]), np.concatenate([rows.item, item[free]]),
            np.concatenate([rows.clicked, np.zeros(extra, np.bool_)]),
            np.concatenate([rows.position, np.zeros(extra, np.int64)]),
            np.concatenate([rows.weight, np.repeat(rows.weight, times)[free]]), False,
        )  # fmt: skip

    def epoch(self) -> None:
        """One pass over the rows, then the text means and the positions."""
        s = self.settings
        rows = self.negatives(self.rows, self.random)
        one_pass(
            self.random.permutation(len(rows)), rows.user, rows.item, rows.clicked, rows.weight,
            self.noticed[rows.position], *self.vector, *self.mean, *self.squares,
            s.learning_rate, s.shrinkage, s.bias_shrinkage,
        )  # fmt: skip
        for side in range(2):
            self._regress(side)
        if rows.shown and len(self.noticed) > 1:
            self._positions(rows)

    def _regress(self, side: int) -> None:
        """Regress the vectors of one side on its features, weighting by what is known of each; unseen take the mean."""
        x, count = self.features[side].values, self.count[side]
        known = np.minimum(count, 20.0)
        penalty = np.full(x.shape[1], self.settings.link_ridge)
        penalty[0] = 1e-3
        weighted = x * known[:, None]
        link = np.linalg.solve(weighted.T @ x + np.diag(penalty), weighted.T @ self.vector[side])
        self.mean[side] = np.ascontiguousarray(x @ link)
        self.vector[side][count == 0] = self.mean[side][count == 0]

    def _positions(self, rows: AttractionRows) -> None:
        """EM step for the probability that a position is noticed."""
        s, e = expit(self.logit(rows)), self.noticed[rows.position]
        noticed = np.where(rows.clicked, 1.0, e * (1 - s) / np.maximum(1 - e * s, 1e-9))
        size = len(self.noticed)
        total = np.bincount(rows.position, rows.weight * noticed, size) + 1.0
        share = total / (np.bincount(rows.position, rows.weight, size) + 1.0)
        self.noticed = np.clip(share / share[0], 1e-3, 1.0)

    def logit(self, rows: AttractionRows) -> Floats:
        """Return the logit of each row, (n,)."""
        return self.factors(1.0).predict(rows.user, rows.item)

    def factors(self, personal: float) -> Factors:
        """Return the predictor with its personal part scaled."""
        users, items = self.vector
        left, right = compress(users[:, 1:] * personal, items[:, 1:], self.settings.width)
        return Factors(users[:, 0].copy(), items[:, 0].copy(), left, right).centred()

    def loss(self, rows: AttractionRows, logit: Floats) -> float:
        """Return the log-loss of rows, positions counted in."""
        return log_loss(expit(logit) * self.noticed[np.minimum(rows.position, len(self.noticed) - 1)], rows.clicked)


def _sorted_consumed(rows: AttractionRows, users: int) -> tuple[npt.NDArray[np.int64], IntArray]:
    order = np.lexsort((rows.item, rows.user))
    start = np.concatenate([[0], np.cumsum(np.bincount(rows.user, minlength=users))]).astype(np.int64)
    return start, np.ascontiguousarray(rows.item[order])


def _choose(
    rows: AttractionRows, users: SideFeatures, items: SideFeatures, settings: AttractionSettings, seed: int,
    advance: Callable[[int], None],
) -> tuple[int, float, dict[str, Any]]:  # fmt: skip
    """Return the number of passes, the scale of the personal part, and the figures, all from validation rows."""
    held = generator(seed, "validation").random(len(rows)) < settings.validation_share
    if held.all() or not held.any():
        held = np.arange(len(rows)) % 10 == 9
    if not held.any() or held.all():
        return 3, 1.0, {"validation_rows": 0}
    trainer = _Trainer(rows.take(~held), users, items, settings, child_seed(seed, "choice"))
    # Negatives of validation are items consumed in neither part.
    whole = _Trainer(rows, users, items, settings, seed)
    check = whole.negatives(rows.take(held), generator(seed, "check"))
    best, best_logit, epochs, stale = np.inf, np.zeros(len(check)), 1, 0
    plain = np.zeros(len(check))
    for epoch in range(1, settings.epochs + 1):
        trainer.epoch()
        advance(1)
        logit = trainer.logit(check)
        loss = trainer.loss(check, logit)
        if loss < best * (1 - 1e-4):
            best, best_logit, epochs, stale = loss, logit, epoch, 0
            now = trainer.factors(1.0)
            plain = now.user_bias[check.user] + now.item_bias[check.item]
        else:
            stale += 1
            if stale >= settings.patience:
                break
    grid = np.linspace(0.5, 1.5, 21)
    losses = [trainer.loss(check, plain + g * (best_logit - plain)) for g in grid]
    personal = float(grid[int(np.argmin(losses))])
    popularity = np.bincount(rows.item[~held & rows.clicked], minlength=len(items.values))[check.item]
    figures = {
        "validation_rows": int(held.sum()),
        "epochs": epochs,
        "personal_scale": round(personal, 3),
        "log_loss": round(float(min(losses)), 5),
        "auc": round(auc(best_logit, check.clicked), 5),
        "popularity_auc": round(auc(popularity.astype(np.float64), check.clicked), 5),
    }
    return epochs, personal, figures


def fit_attraction(
    rows: AttractionRows, user_vector: FloatArray, item_vector: FloatArray, settings: AttractionSettings,
    members: int, seed: int,
) -> AttractionFit:  # fmt: skip
    """Fit the attraction model: passes and scale chosen on validation rows, then members on all rows.

    Members differ by their seed and by a Bayesian bootstrap (exponential weights of the rows; Rubin 1981); with one
    member the weights stay as they are.

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
            trainer = _Trainer(chosen, users, items, settings, name)
            for _ in range(epochs):
                trainer.epoch()
                shown.update(1)
            return trainer.factors(personal), trainer.noticed

        with ThreadPoolExecutor(settings.threads) as pool:
            trained = list(pool.map(train, range(members)))
    shift = 0.0 if rows.shown else float(np.log(settings.negatives * len(rows) / (n_users * n_items)))
    fitted = tuple(_anchored(member, shift) for member, _ in trained)
    noticed = np.mean([n for _, n in trained], axis=0)
    report = {"rows": len(rows), "source": "exposures" if rows.shown else "consumption", **figures}
    return AttractionFit(fitted, noticed, report)


def _anchored(member: Factors, shift: float) -> Factors:
    """Return the member with item biases of mean zero and the sampling shift in the user biases."""
    mean = float(member.item_bias.mean())
    return replace(member, user_bias=member.user_bias + mean + shift, item_bias=member.item_bias - mean)
