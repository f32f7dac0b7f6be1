"""How well are held-out ratings predicted? Ours (ensemble, single member), SVD++ and a bias model on the same rows.

    python benchmarks/rating.py                          # MovieLens-100K, random 80/20, seed 0
    python benchmarks/rating.py --seeds 0 1 2 --folds 1  # three seeds, and canonical fold 1

Settings are the defaults; iterations are chosen on validation rows cut from the training rows. SVD++ (Koren 2008) is
written out below with the hyperparameters of Surprise's `SVDpp`; Surprise itself is measured too where it is installed.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import time
from typing import Any

import numba
import numpy as np

from recworld.encoders import EncoderSettings, encode_log
from recworld.logs import canonical_fold, load_log
from recworld.logs.splits import split_random
from recworld.seeding import generator
from recworld.simulators.accuracy import mae, rmse
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_report import compare, fit_biases
from recworld.simulators.rating_settings import RatingSettings


@numba.njit(cache=True)
def svdpp_epoch(
    order: Any, user: Any, item: Any, rating: Any, start: Any, rated: Any, mean: float,
    user_bias: Any, item_bias: Any, p: Any, q: Any, y: Any, rate: float, shrink: float,
) -> None:  # fmt: skip
    """One pass of stochastic gradient descent over the rows (Koren 2008, equation 15 and its updates)."""
    width = p.shape[1]
    implicit = np.empty(width)
    for row in order:
        u, i = user[row], item[row]
        mine = rated[start[u] : start[u + 1]]
        root = 1.0 / math.sqrt(len(mine))
        implicit[:] = 0.0
        for j in mine:
            for f in range(width):
                implicit[f] += y[j, f] * root
        guess = mean + user_bias[u] + item_bias[i]
        for f in range(width):
            guess += q[i, f] * (p[u, f] + implicit[f])
        error = rating[row] - guess
        user_bias[u] += rate * (error - shrink * user_bias[u])
        item_bias[i] += rate * (error - shrink * item_bias[i])
        for f in range(width):
            old_p, old_q = p[u, f], q[i, f]
            p[u, f] += rate * (error * old_q - shrink * old_p)
            q[i, f] += rate * (error * (old_p + implicit[f]) - shrink * old_q)
            step = error * old_q * root
            for j in mine:
                y[j, f] += rate * (step - shrink * y[j, f])


def svdpp(train: RatingRows, test: RatingRows, users: int, items: int, seed: int) -> Any:
    """Return the SVD++ predictions of test rows: 20 factors, 20 passes, rate .007, shrinkage .02, as in Surprise."""
    random = generator(seed, "svdpp")
    by_user = np.argsort(train.user, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(train.user, minlength=users))])
    rated = train.item[by_user]
    p, q, y = (0.1 * random.standard_normal((n, 20)) for n in (users, items, items))
    user_bias, item_bias = np.zeros(users), np.zeros(items)
    mean, rating = float(train.rating.mean()), train.rating.astype(np.float64)
    for _ in range(20):
        order = np.arange(len(train))[by_user]  # user by user, as Surprise walks
        svdpp_epoch(
            order,
            train.user,
            train.item,
            rating,
            start,
            rated,
            mean,
            user_bias,
            item_bias,
            p,
            q,
            y,
            0.007,
            0.02,
        )
    count = np.maximum(np.bincount(train.user, minlength=users), 1)
    implicit = np.zeros((users, 20))
    np.add.at(implicit, train.user, y[train.item])
    taste = p + implicit / np.sqrt(count)[:, None]
    return mean + user_bias[test.user] + item_bias[test.item] + (taste[test.user] * q[test.item]).sum(1)


def surprise_svdpp(train: RatingRows, test: RatingRows, low: float, high: float, seed: int) -> Any:
    """Return the predictions of Surprise's `SVDpp`, or None where Surprise is not installed."""
    try:
        import pandas as pd
        from surprise import Dataset, Reader, SVDpp
    except ImportError:
        return None
    frame = pd.DataFrame({"u": train.user, "i": train.item, "r": train.rating})
    model = SVDpp(random_state=seed, cache_ratings=True)
    model.fit(Dataset.load_from_df(frame, Reader(rating_scale=(low, high))).build_full_trainset())
    return np.array([model.predict(u, i).est for u, i in zip(test.user, test.item, strict=True)])


def measure(
    log: Any, vectors: Any, cut: tuple[Any, Any], settings: RatingSettings, seed: int
) -> dict[str, Any]:
    """Return the figures of all models on one cut."""
    rows = RatingRows(log.user, log.item, log.rating)
    train, test = rows.take(cut[0]), rows.take(cut[1])
    began = time.perf_counter()
    fit = fit_rating(train, *vectors, log.scale, settings, 4, seed)
    seconds = time.perf_counter() - began
    figures = compare(fit, fit_biases(train, log.num_users, log.num_items, log.scale), test)
    peers = {
        "svdpp": svdpp(train, test, log.num_users, log.num_items, seed),
        "surprise_svdpp": surprise_svdpp(train, test, log.scale.low, log.scale.high, seed),
    }
    for name, guess in peers.items():
        if guess is not None:
            bounded, actual = np.clip(guess, log.scale.low, log.scale.high), test.rating.astype(np.float64)
            figures[name] = {"rmse": round(rmse(bounded, actual), 5), "mae": round(mae(bounded, actual), 5)}
    return figures | {"iterations": fit.report["iterations"], "seconds": round(seconds, 1)}


def main() -> None:
    """Print one JSON line per cut, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--encoder", default="bert", help="bert, tfidf or none (zero vectors)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--folds", type=int, nargs="*", default=[], help="canonical folds of ml-100k, 1..5")
    options = parser.parse_args()
    log = load_log(options.dataset)
    if options.encoder == "none":
        vectors = (np.zeros((log.num_users, 1), np.float32), np.zeros((log.num_items, 1), np.float32))
    else:
        text = encode_log(log, EncoderSettings(kind=options.encoder))
        vectors = (text.user, text.item)
    settings = RatingSettings()
    cuts = [(f"random 80/20, seed {s}", split_random(log, 0.2, s), s) for s in options.seeds]
    cuts += [(f"canonical fold {f}", canonical_fold(f, len(log)), 0) for f in options.folds]
    for name, cut, seed in cuts:
        figures = measure(log, vectors, cut, settings, seed)
        print(json.dumps({"cut": name, **figures}))
        for model in ("ensemble", "single_member", "svdpp", "surprise_svdpp", "bias"):
            if model in figures:
                print(
                    f"  {name:24} {model:15} RMSE {figures[model]['rmse']:.4f}  MAE {figures[model]['mae']:.4f}"
                )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
