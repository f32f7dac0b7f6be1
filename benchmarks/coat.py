"""Error on random coats of models fitted to self-selected ratings (Schnabel et al. 2016): ours and six peers, in one run.

    python benchmarks/coat.py --path FOLDER                  # seeds 0..4, sentence vectors
    python benchmarks/coat.py --path FOLDER --seeds 0 --encoder tfidf

All are fitted to the self-selected ratings. Per seed a random 5 % of the random ratings (232 of 4,640) are set aside and
tested by nobody: naive Bayes propensities, the shift of selection and the strength of the imputation come from them, as
far as a row of the table says "5 %". All other settings (rank and ridge of matrix factorisation, ridge of the bias model)
are chosen by four-fold cross-validation inside the self-selected ratings, weighted as the fit is. The figures are means
and standard deviations over seeds, which draw the 5 %, the folds and the chains. "new": without the random pairs that are
among the training ratings too (366).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from recworld.encoders import EncoderSettings, encode_log
from recworld.logs import InteractionLog, LogSettings, load_log
from recworld.logs.coat import coat_features, coat_propensities, coat_test
from recworld.seeding import child_seed, generator
from recworld.simulators.gibbs_kernels import predict_rows, sample_side
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_report import fit_biases
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.selection import inverse_weights, naive_bayes_propensity
from recworld.simulators.selection_unbiased import shifted, unbiased_shift

SET_ASIDE = 0.05
RANKS, RIDGES = (2, 5, 10, 20), (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
STRENGTHS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
IMPUTED, IMPUTED_WEIGHTS = (1.0, 2.0), (0.01, 0.1)
FOLDS = 4
Guess = Callable[[RatingRows], Any]
"""Predicted ratings of rows, (n,)."""


def factorise(rows: RatingRows, sizes: tuple[int, int], rank: int, ridge: float, seed: int) -> Guess:
    """Fit mu + b_u + b_i + <p_u, q_i> by alternating (weighted) ridge regressions, 30 rounds."""
    mean = float(np.average(rows.rating, weights=rows.weight))
    random, weight = generator(seed, "mf"), np.ones(len(rows)) if rows.weight is None else rows.weight
    target = rows.rating.astype(np.float64) - mean
    sides = []
    for own, partner, size in ((rows.user, rows.item, sizes[0]), (rows.item, rows.user, sizes[1])):
        order = np.argsort(own, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=size))]).astype(np.int64)
        vector = 0.1 * random.standard_normal((size, 1 + rank))
        vector[:, 0] = 0.0
        fixed = (start, partner[order], target[order], weight[order].astype(np.float64))
        sides.append((fixed, vector))
    for _ in range(30):
        for (fixed, vector), (_, other) in ((sides[0], sides[1]), (sides[1], sides[0])):
            none = np.zeros_like(vector)  # without noise, a draw is the solution of the ridge problem
            sample_side(*fixed, other, none, ridge * np.eye(1 + rank), none, vector, np.empty_like(vector))

    def guess(where: RatingRows) -> Any:
        out = np.empty(len(where))
        predict_rows(where.user, where.item, sides[0][1], sides[1][1], out)
        return np.clip(mean + out, 1, 5)

    return guess


def cross_validated(fit: Callable[..., Guess], rows: RatingRows, grid: list[Any], seed: int) -> Guess:
    """Return the fit on all rows with the settings of least weighted error over four folds."""
    part = generator(seed, "folds").permutation(len(rows)) % FOLDS
    weight = np.ones(len(rows)) if rows.weight is None else rows.weight.astype(np.float64)
    errors = []
    for setting in grid:
        total = 0.0
        for fold in range(FOLDS):
            held = rows.take(part == fold)
            gap = fit(rows.take(part != fold), setting)(held) - held.rating
            total += float((weight[part == fold] * gap**2).sum())
        errors.append(total / weight.sum())
    return fit(rows, grid[int(np.argmin(errors))])


def feature_propensity(log: InteractionLog, folder: Path) -> Any:
    """Return P(rated), (U, I), by logistic regression on the features of both sides and their products."""
    users, items = coat_features(folder)
    u, i = (a.ravel() for a in np.meshgrid(np.arange(len(users)), np.arange(len(items)), indexing="ij"))
    both = np.einsum("np,nq->npq", users[u], items[i]).reshape(len(u), -1)
    design = np.concatenate([users[u], items[i], both], axis=1).astype(np.float32)
    rated = np.zeros((len(users), len(items)), np.bool_)
    rated[log.user, log.item] = True
    model = LogisticRegression(C=0.1, max_iter=500).fit(design, rated.ravel())
    return model.predict_proba(design)[:, 1].reshape(rated.shape)


def peers(log: InteractionLog, rows: dict[str, RatingRows], aside: RatingRows, seed: int) -> dict[str, Any]:
    """Return the guesses of the bias model and of matrix factorisation, plain and weighted."""
    sizes = (log.num_users, log.num_items)

    def biases(train: RatingRows, strength: float) -> Guess:
        return fit_biases(train, *sizes, log.scale, strength).predict

    def factors(train: RatingRows, setting: tuple[int, float]) -> Guess:
        return factorise(train, sizes, *setting, child_seed(seed, "mf"))

    grid = list(product(RANKS, RIDGES))
    out: dict[str, Any] = {"bias": cross_validated(biases, rows["plain"], list(STRENGTHS), seed)}
    for name, which in (
        ("MF", "plain"), ("MF, published propensities", "published"),
        ("MF, logistic propensities", "logistic"), ("MF, naive Bayes propensities (5 %)", "naive Bayes"),
    ):  # fmt: skip
        out[name] = cross_validated(factors, rows[which], grid, seed)
    for name in ("MF", "MF, published propensities"):
        out[f"{name}, shifted (5 %)"] = lowered(out[name], aside)
    return out


def lowered(guess: Guess, aside: RatingRows) -> Guess:
    """Return a guess less its mean error on random pairs; four more rows without error stand for the prior of our shift."""
    gap = float((guess(aside) - aside.rating).sum()) / (len(aside) + 4)
    return lambda rows: np.clip(guess(rows) - gap, 1, 5)


def imputed(train: RatingRows, level: float, weight: float, sizes: tuple[int, int], seed: int) -> RatingRows:
    """Return rows with as many unrated pairs, drawn at random, given `level` at a small weight."""
    rated = np.zeros(sizes, np.bool_)
    rated[train.user, train.item] = True
    free = np.flatnonzero(~rated.ravel())
    u, i = np.divmod(generator(seed, "imputed").choice(free, len(train), replace=False), sizes[1])
    n = len(train)
    return RatingRows(
        np.concatenate([train.user, u]).astype(np.int32), np.concatenate([train.item, i]).astype(np.int32),
        np.concatenate([train.rating, np.full(n, level)]).astype(np.float32),
        np.concatenate([np.ones(n), np.full(n, weight)]).astype(np.float32),
    )  # fmt: skip


def ours(log: InteractionLog, vectors: Any, rows: dict[str, RatingRows], aside: RatingRows, seed: int) -> Any:
    """Return our fits by name, as (ensemble, members) guesses, and the shifts found."""
    settings, sizes = RatingSettings(threads=1), (log.num_users, log.num_items)

    def fit(train: RatingRows) -> Any:
        return fit_rating(train, *vectors, log.scale, settings, 4, child_seed(seed, "ours"))

    fits: dict[str, Any] = {"ours": fit(rows["plain"])}
    for name, which in (
        ("ours, published propensities", "published"), ("ours, logistic propensities", "logistic"),
        ("ours, naive Bayes propensities (5 %)", "naive Bayes"),
    ):  # fmt: skip
        fits[name] = fit(rows[which])
    tried = [fit(imputed(rows["plain"], r, w, sizes, seed)) for r, w in product(IMPUTED, IMPUTED_WEIGHTS)]
    errors = [float(np.mean((f.predict(aside.user, aside.item) - aside.rating) ** 2)) for f in tried]
    fits["ours, imputed (5 %)"] = tried[int(np.argmin(errors))]
    shifts = {}
    for name in ("ours", "ours, logistic propensities"):
        found = unbiased_shift(fits[name], aside)
        shifts[name] = (found.amount, found.low, found.high)
        fits[f"{name}, shifted (5 %)"] = shifted(fits[name], found.amount)
    return fits, shifts


def errors_of(guess: Any, test: RatingRows, new: Any) -> dict[str, float]:
    """Return the figures of one guess."""
    gap = guess - test.rating.astype(np.float64)
    figures = {"mse": np.mean(gap**2), "rmse": np.sqrt(np.mean(gap**2)), "mae": np.mean(np.abs(gap))}
    figures |= {"bias": np.mean(gap), "mse_new": np.mean(gap[new] ** 2), "mae_new": np.mean(np.abs(gap[new]))}
    return {name: float(value) for name, value in figures.items()}


def measure(log: InteractionLog, folder: Path, vectors: Any, seed: int) -> tuple[dict[str, Any], Any]:
    """Return the figures of all models for one seed, and the shifts."""
    random = coat_test(folder)
    whole = RatingRows(random.user, random.item, random.rating)
    order = generator(seed, "aside").permutation(len(whole))
    count = round(SET_ASIDE * len(whole))
    aside, test = whole.take(order[:count]), whole.take(order[count:])
    rated = np.zeros((log.num_users, log.num_items), np.bool_)
    rated[log.user, log.item] = True
    new = ~rated[test.user, test.item]
    plain = RatingRows(log.user, log.item, log.rating)
    chances = {
        "published": coat_propensities(folder)[log.user, log.item],
        "logistic": feature_propensity(log, folder)[log.user, log.item],
        "naive Bayes": naive_bayes_propensity(plain, aside, log.scale, rated.size),
    }
    rows = {"plain": plain}
    for name, chance in chances.items():
        weight = inverse_weights(np.clip(chance, 1e-6, 1.0), 1e9)  # unclipped, as published
        rows[name] = RatingRows(log.user, log.item, log.rating, weight)
    figures = {
        name: errors_of(guess(test), test, new) for name, guess in peers(log, rows, aside, seed).items()
    }
    fits, shifts = ours(log, vectors, rows, aside, seed)
    for name, fit in fits.items():
        figures[name] = errors_of(fit.predict(test.user, test.item), test, new)
        alone = [errors_of(fit.predict(test.user, test.item, [m]), test, new) for m in range(4)]
        figures[f"{name}; one member"] = {k: float(np.mean([a[k] for a in alone])) for k in alone[0]}
    return figures, shifts


def main() -> None:
    """Print a JSON line per seed, and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--path", required=True, help="folder with the files of Coat")
    parser.add_argument("--encoder", default="bert", help="bert, tfidf or id")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    log = load_log("coat", LogSettings(path=options.path))
    text = encode_log(log, EncoderSettings(kind=options.encoder))
    runs = []
    for seed in options.seeds:
        figures, shifts = measure(log, Path(options.path), (text.user, text.item), seed)
        print(json.dumps({"seed": seed, "shifts": shifts, **figures}), flush=True)
        runs.append(figures)
    print(f"{'':46} MSE          RMSE   MAE          mean error   MSE, new pairs")
    for name in sorted(runs[0], key=lambda n: np.mean([r[n]["mse"] for r in runs])):
        mean = {k: float(np.mean([r[name][k] for r in runs])) for k in runs[0][name]}
        spread = {k: float(np.std([r[name][k] for r in runs], ddof=min(1, len(runs) - 1))) for k in mean}
        print(
            f"{name:46} {mean['mse']:.4f} ±{spread['mse']:.4f} {mean['rmse']:.4f} {mean['mae']:.4f} ±{spread['mae']:.4f}"
            f"  {mean['bias']:+.4f}   {mean['mse_new']:.4f} ±{spread['mse_new']:.4f}"
        )


if __name__ == "__main__":
    main()
