"""How well is someone new served? Items and users without a rating, and the error against the number of known ratings.

    python benchmarks/cold_start.py                   # five folds over items and over users, and both curves
    python benchmarks/cold_start.py --members 2 --threads 1

Beside ours, on the same rows: a bias model, and a ridge regression on one-hot words of the text and on the decade of its
number (for MovieLens: genre and year of an item; age, gender and occupation of a user), on top of the biases of the other
side, its penalty chosen on members held out of the training members.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge

from recworld.encoders import EncoderSettings, encode_log
from recworld.logs import load_log
from recworld.progress import bar
from recworld.seeding import generator
from recworld.simulators.accuracy import mae, rmse
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_report import fit_biases
from recworld.simulators.rating_settings import RatingSettings

KNOWN = (0, 1, 2, 5, 10, 20)
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)


def text_features(texts: Any) -> Any:
    """Return (n, P) sparse features: words of five texts or more, and the decade of the text's number."""
    words = CountVectorizer(binary=True, min_df=5, token_pattern=r"[\w'-]+").fit_transform(texts)
    numbers = [re.findall(r"\d+", text) for text in texts]
    decade = np.array([int(found[-1]) // 10 if found else -1 for found in numbers])
    place = np.unique(decade, return_inverse=True)[1]
    decades = sp.csr_array((np.ones(len(place)), (np.arange(len(place)), place)))
    return sp.csr_array(sp.hstack([words.astype(np.float64), decades]))


def text_ridge(train: RatingRows, test: RatingRows, side: str, features: Any, log: Any) -> Any:
    """Return the predictions of the ridge regression for members of `side` that the training rows do not hold."""

    def predict(known: RatingRows, asked: RatingRows, penalties: tuple[float, ...]) -> list[Any]:
        biases = fit_biases(known, log.num_users, log.num_items, log.scale)
        other = "item" if side == "user" else "user"

        def base(rows: RatingRows) -> Any:
            return biases.mean + getattr(biases, other)[getattr(rows, other)]

        rest = known.rating - base(known)
        out = []
        for penalty in penalties:
            model = Ridge(alpha=penalty, solver="sparse_cg").fit(features[getattr(known, side)], rest)
            guess = base(asked) + model.predict(features[getattr(asked, side)])
            out.append(np.clip(guess, log.scale.low, log.scale.high))
        return out

    own = getattr(train, side)
    held = np.isin(own, generator(0, "ridge").permutation(np.unique(own))[::5])
    tried = predict(train.take(~held), train.take(held), PENALTIES)
    errors = [rmse(guess, train.rating[held].astype(np.float64)) for guess in tried]
    return predict(train, test, (PENALTIES[int(np.argmin(errors))],))[0]


class Bench:
    """The log, its vectors and settings."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.log = load_log(options.dataset)
        text = encode_log(self.log, EncoderSettings(kind=options.encoder))
        self.vectors, self.members = (text.user, text.item), options.members
        self.settings = RatingSettings(threads=options.threads)
        self.rows = RatingRows(self.log.user, self.log.item, self.log.rating)

    def guesses(self, train: RatingRows, test: RatingRows) -> dict[str, Any]:
        """Return the predictions of ours and of the bias model."""
        log = self.log
        fit = fit_rating(train, *self.vectors, log.scale, self.settings, self.members, 0)
        biases = fit_biases(train, log.num_users, log.num_items, log.scale)
        return {"ours": fit.predict(test.user, test.item), "bias": biases.predict(test)}

    def unseen(self, side: str, seed: int) -> None:
        """Print pooled errors of five folds over the members of a side."""
        size = self.log.num_users if side == "user" else self.log.num_items
        part = generator(seed, "cold", side).permutation(size) % 5
        features = text_features(self.log.user_text if side == "user" else self.log.item_text)
        pooled: dict[str, list[Any]] = {}
        actual = []
        for fold in range(5):
            held = part[getattr(self.rows, side)] == fold
            train, test = self.rows.take(~held), self.rows.take(held)
            found = self.guesses(train, test)
            found["ridge on text words"] = text_ridge(train, test, side, features, self.log)
            actual.append(test.rating.astype(np.float64))
            for name, guess in found.items():
                pooled.setdefault(name, []).append(guess)
        for name, parts in pooled.items():
            guess, real = np.concatenate(parts), np.concatenate(actual)
            print(
                f"  unseen {side}s, seed {seed}  {name:20} RMSE {rmse(guess, real):.4f}  MAE {mae(guess, real):.4f}",
                flush=True,
            )

    def curve(self, side: str) -> None:
        """Print errors on fixed rows of a fifth of the members, of whom the first k ratings of a random order are known."""
        own = getattr(self.rows, side)
        random = generator(0, "curve", side)
        order = random.permutation(len(own))
        rank = np.empty(len(own), np.int64)  # place of a row among those of its member
        by_member = order[np.argsort(own[order], kind="stable")]
        start = np.concatenate([[0], np.cumsum(np.bincount(own))])
        rank[by_member] = np.arange(len(own)) - start[own[by_member]]
        rich = np.flatnonzero(np.bincount(own) > KNOWN[-1] + 5)
        chosen = np.isin(own, random.permutation(rich)[: len(rich) // 5])
        test = self.rows.take(chosen & (rank >= KNOWN[-1]))
        print(f"  known ratings of {side}s: {len(np.unique(own[chosen]))} members, {len(test)} test rows")
        with bar(len(KNOWN), f"curve over {side}s", "fit") as shown:
            for known in KNOWN:
                found = self.guesses(self.rows.take(~chosen | (rank < known)), test)
                actual = test.rating.astype(np.float64)
                errors = {n: (rmse(g, actual), float((g - actual).mean())) for n, g in found.items()}
                shown.update(1)
                print(
                    f"  {side}s with {known:2d} known   "
                    + "  ".join(f"{n} {e:.4f} (mean error {m:+.3f})" for n, (e, m) in errors.items()),
                    flush=True,
                )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--encoder", default="bert")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0], help="of the folds")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    bench = Bench(parser.parse_args())
    for seed in parser.parse_args().seeds:
        for side in ("item", "user"):
            bench.unseen(side, seed)
    for side in ("item", "user"):
        bench.curve(side)


if __name__ == "__main__":
    main()
