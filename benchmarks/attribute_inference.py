"""What does a stored user vector give away? Gender and age group of the people of MovieLens-100K, guessed from it.

    python benchmarks/attribute_inference.py                             # guesses at every noise, some minutes
    python benchmarks/attribute_inference.py --ratings --noise 1 2 8     # what the noise costs, some minutes more

Their texts are age, gender and occupation. Two people guess. *Learning*: knows gender and age of four fifths of the users
and learns the rest from their vectors (logistic regression, five folds, penalty chosen inside the training folds).
*Trying*: knows nobody, has the encoder, encodes every age, gender and occupation there is, and weighs each by how likely
the stored vector is under the noise, near the best that is possible without knowing who the users are. The same is asked of
what else a world holds: factors of the rating model, and the early history.

Balanced accuracy (mean over classes of the share found; guessing the largest class has one over the number of classes) and
AUC (one class against the rest, mean), with 95 % intervals of a bootstrap over users.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from recworld.encoders import EncoderSettings, TextVectors, encode_log
from recworld.encoders.noise import noisy
from recworld.logs import InteractionLog, load_log
from recworld.logs.movielens import user_text
from recworld.logs.splits import split_by_user, split_early_late, split_random
from recworld.seeding import generator
from recworld.simulators.rating import RatingFit, RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

KEY = b"benchmark"
"""In place of the secret of a machine, so that the figures come out again."""
BORDERS = (25, 35, 50)
GROUPS = ("under 25", "25 to 34", "35 to 49", "50 and more")
RESAMPLES = 1000
DELTA = 1e-5


def attributes(texts: tuple[str, ...]) -> tuple[dict[str, Classes], npt.NDArray[np.bool_]]:
    """Return gender (1: woman) and age group of people described as "24 year old man, technician", and who has both."""
    found = [re.match(r"(\d+) year old (man|woman)", text) for text in texts]
    ages = np.array([int(m[1]) if m else 0 for m in found])
    women = np.array([m is not None and m[2] == "woman" for m in found])
    known = np.array([m is not None for m in found])
    return {"gender": women.astype(np.int64), "age group": np.searchsorted(BORDERS, ages, "right")}, known


def learnt(features: Floats, classes: Classes, seed: int = 0) -> Floats:
    """Return out-of-fold class probabilities, (n, classes), by logistic regression with balanced classes."""
    out = np.zeros((len(classes), classes.max() + 1))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    for train, test in folds.split(features, classes):
        model = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(
                Cs=[1e-4, 1e-3, 1e-2, 1e-1, 1.0],
                cv=3,
                class_weight="balanced",
                scoring="neg_log_loss",
                max_iter=500,
            ),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(features[train], classes[train])
        out[test] = model.predict_proba(features[test])
    return out


def tried(stored: Floats, candidates: Floats, noise: float) -> Floats:
    """Return log weights of candidate texts, (n, candidates): how likely each makes a stored unit vector.

    With y = v + e, e normal of standard deviation s per component, log p(y | v) is y'v / s^2 and what does not depend on v;
    of y only its direction is stored, so its expected length sqrt(1 + noise^2) stands for it.
    """
    width = stored.shape[1]
    spread = max(noise, 1e-3) / np.sqrt(width)
    return np.asarray(stored @ candidates.T * np.sqrt(1 + noise**2) / spread**2)


def by_class(weights: Floats, classes: Classes) -> Floats:
    """Return class probabilities, every class as likely beforehand."""
    logs = np.stack(
        [
            logsumexp(weights[:, classes == c], axis=1) - np.log((classes == c).sum())
            for c in np.unique(classes)
        ],
        axis=1,
    )
    return np.asarray(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)))


def figures(chances: Floats, classes: Classes) -> tuple[float, float]:
    """Return balanced accuracy and AUC."""
    guess = chances.argmax(axis=1)
    present = np.unique(classes)
    balanced = np.mean([np.mean(guess[classes == c] == c) for c in present])
    return float(balanced), float(np.mean([roc_auc_score(classes == c, chances[:, c]) for c in present]))


def with_intervals(chances: Floats, classes: Classes) -> str:
    """Return both figures with bootstrap intervals, as cells of a table."""
    random = generator(0, "bootstrap")
    draws = [random.integers(0, len(classes), len(classes)) for _ in range(RESAMPLES)]
    sampled = np.array([figures(chances[rows], classes[rows]) for rows in draws])
    low, high = np.quantile(sampled, [0.025, 0.975], axis=0)
    return " | ".join(
        f"{value:.3f} [{a:.3f}, {b:.3f}]"
        for value, a, b in zip(figures(chances, classes), low, high, strict=True)
    )


def epsilon(noise: float, width: int) -> float:
    """Return epsilon at delta = 1e-5 of the Gaussian mechanism on unit vectors (L2 sensitivity 2).

    Analytic condition of Balle and Wang (2018), Theorem 8: Phi(D/2s - es/D) - exp(e) Phi(-D/2s - es/D) <= delta.
    """
    ratio = 2 / (noise / np.sqrt(width))

    def excess(value: float) -> float:
        first, second = log_ndtr(ratio / 2 - value / ratio), value + log_ndtr(-ratio / 2 - value / ratio)
        return float(np.exp(first) - np.exp(second) - DELTA)

    return float(brentq(excess, 0, ratio**2 / 2 + 10 * ratio))


def every_text(log: InteractionLog) -> list[str]:
    """Return every text that a user of the log could have: ages between the least and the greatest, all occupations."""
    ages = [int(text.split()[0]) for text in log.user_text]
    jobs = sorted({text.partition(", ")[2] for text in log.user_text})
    return [
        user_text(str(age), gender, job or "other")
        for age in range(min(ages), max(ages) + 1)
        for gender in "MF"
        for job in jobs
    ]


def guesses(log: InteractionLog, vectors: TextVectors, levels: list[float]) -> None:
    """Print what vectors give away, by noise."""
    classes, known = attributes(log.user_text)
    texts = every_text(log)
    candidates = vectors.encode_new(texts).astype(np.float64)
    others, _ = attributes(tuple(texts))
    print(f"\n{known.sum()} users, {len(set(log.user_text))} texts; tried: {len(texts)} texts")
    for name, values in classes.items():
        share = np.bincount(values[known]).max() / known.sum()
        print(
            f"{name}: the largest class has {share:.3f}; guessing it: balanced {1 / len(set(values)):.3f}, AUC .500"
        )
    print("| noise | cosine | epsilon | whole text found | attribute | who | balanced accuracy | AUC |")
    for noise in levels:
        stored = noisy(vectors.user, noise, KEY).astype(np.float64)
        cosine = float((stored * vectors.user).sum(axis=1)[known].mean())
        weights = tried(stored, candidates, noise)
        whole = np.mean(
            [texts[n] == text for n, text in zip(weights.argmax(axis=1), log.user_text, strict=True)]
        )
        private = epsilon(noise, vectors.width) if noise else float("inf")
        for name, values in classes.items():
            guessed = {
                "learning": learnt(stored[known], values[known]),
                "trying": by_class(weights[known], others[name]),
            }
            for who, chances in guessed.items():
                cells = with_intervals(chances, values[known])
                print(
                    f"| {noise:g} | {cosine:.3f} | {private:.0f} | {whole:.3f} | {name} | {who} | {cells} |",
                    flush=True,
                )


def behaviour(log: InteractionLog) -> None:
    """Print what the early history gives away, to the one who learns."""
    classes, known = attributes(log.user_text)
    early, _ = split_early_late(log, 0.5)
    seen = np.zeros((log.num_users, log.num_items))
    seen[log.user[early], log.item[early]] = 1
    reduced = TruncatedSVD(50, random_state=0).fit_transform(
        seen * (1 + np.log(log.num_users / np.maximum(seen.sum(0), 1)))
    )
    for name, values in classes.items():
        print(
            f"| early history | {name} | {with_intervals(learnt(reduced[known], values[known]), values[known])} |",
            flush=True,
        )


def rating_figures(
    log: InteractionLog, vectors: TextVectors, levels: list[float | None], seeds: int, threads: int
) -> None:
    """Print held-out errors of the rating model with noisy user vectors (None: no user text), and what its factors tell."""
    classes, known = attributes(log.user_text)
    rows, settings = RatingRows(log.user, log.item, log.rating), RatingSettings(threads=threads)
    cuts = {"known users": split_random(log, 0.2, 0), "users never met": split_by_user(log, 0.2, 0)}
    errors: dict[tuple[str, float | None], Floats] = {}
    for level in levels:
        label = "no user text" if level is None else f"noise {level:g}"
        user = np.zeros_like(vectors.user) if level is None else noisy(vectors.user, level, KEY)
        for name, (train, held) in cuts.items():
            test, squares = rows.take(held), []
            for seed in range(seeds):
                fit = fit_rating(rows.take(train), user, vectors.item, log.scale, settings, 1, seed)
                squares.append((fit.predict(test.user, test.item) - test.rating) ** 2)
                if name == "known users" and seed == 0:
                    factors = user_factors(fit)
            errors[name, level] = np.mean(squares, axis=0)
            each = ", ".join(f"{np.sqrt(square.mean()):.4f}" for square in squares)
            cell = f"{np.sqrt(errors[name, level].mean()):.4f} (by seed: {each})"
            more = (
                over_exact(errors[name, level], errors[name, 0.0], test.user) if (name, 0.0) in errors else ""
            )
            print(f"| {label} | RMSE, {name} | {cell} | {more} |", flush=True)
        for attribute, values in classes.items():
            cell = with_intervals(learnt(factors[known], values[known]), values[known])
            print(f"| {label} | rating factors | {attribute} | {cell} |", flush=True)


def over_exact(squares: Floats, exact: Floats, user: npt.NDArray[np.int32]) -> str:
    """Return how much larger an RMSE is than that with exact vectors, with an interval of a bootstrap over users."""
    number = np.unique(user, return_inverse=True)[1]
    sums = np.stack([np.bincount(number, values) for values in (squares, exact, np.ones_like(exact))])
    random = generator(0, "bootstrap", "rows")
    draws = [sums[:, random.integers(0, sums.shape[1], sums.shape[1])].sum(axis=1) for _ in range(RESAMPLES)]
    lead = [np.sqrt(a / n) - np.sqrt(b / n) for a, b, n in [sums.sum(axis=1), *draws]]
    low, high = np.quantile(lead[1:], [0.025, 0.975])
    return f"{lead[0]:+.4f} [{low:+.4f}, {high:+.4f}]"


def user_factors(fit: RatingFit) -> Floats:
    """Return what a world holds of each user's ratings: factors, bias, and use of the scale."""
    tables: dict[str, Any] = fit.tables()
    columns = ("user_rating_bias", "user_shift", "user_scale", "user_sigma")
    return np.concatenate(
        [tables["taste"][0], *(tables[name][0][:, None] for name in columns)], axis=1
    ).astype(np.float64)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--noise", type=float, nargs="*", default=[0, 1, 2, 4, 8])
    parser.add_argument(
        "--ratings", action="store_true", help="fit the rating model at each noise, and without user text"
    )
    parser.add_argument("--seeds", type=int, default=2, help="of the rating model")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    log = load_log("ml-100k")
    vectors = encode_log(log, EncoderSettings())
    print(" ".join(["python", *sys.argv]))
    if options.ratings:
        exact_first = sorted({0.0, *options.noise})
        rating_figures(log, vectors, [*exact_first, None], options.seeds, options.threads)
        return
    guesses(log, vectors, options.noise)
    behaviour(log)


if __name__ == "__main__":
    main()
