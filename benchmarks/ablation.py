"""What does each kind of side information buy? Ids, TF-IDF, BERT; warm, cold items, cold users; mean ± sd over seeds.

    python benchmarks/ablation.py
    python benchmarks/ablation.py --members 1 --threads 1
    python benchmarks/ablation.py --models "BERT only"

Warm: a random fifth of the rows. Cold items (users): the rows of a random fifth of the items (users). "BERT only" tells rows
apart by text alone: members with the same text are one member to it, and none has a bias or implicit set of its own; it is a
ridge regression on products of text components, its penalty chosen on validation rows of the same kind (rows, items or users
held out of the training rows).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from recworld.encoders import EncoderSettings, encode_log
from recworld.logs import load_log
from recworld.progress import bar
from recworld.seeding import generator
from recworld.simulators.accuracy import rmse
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings

WIDTH = 24  # principal components of text in the text-only model
PENALTIES = (1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
MODELS = ("ids only", "TF-IDF + ids", "BERT only", "BERT + ids")


def components(vector: Any, width: int) -> Any:
    """Return (n, 1 + width): a constant and the first principal components of the vectors, scaled to unit variance."""
    left, _, _ = np.linalg.svd(vector - vector.mean(0), full_matrices=False)
    return np.column_stack([np.ones(len(vector)), left[:, :width] * np.sqrt(len(vector))])


def text_only(train: RatingRows, test: RatingRows, vectors: Any, cut: str, seed: int) -> Any:
    """Return the predictions of the bilinear ridge regression on text: x_u' B x_i."""
    user, item = (components(v.astype(np.float64), WIDTH) for v in vectors)
    width = user.shape[1] * item.shape[1]

    def design(rows: RatingRows) -> Any:
        return np.einsum("na,nb->nab", user[rows.user], item[rows.item]).reshape(len(rows), width)

    def moments(rows: RatingRows) -> tuple[Any, Any]:
        gram, linear = np.zeros((width, width)), np.zeros(width)
        for part in np.array_split(np.arange(len(rows)), max(len(rows) // 8192, 1)):
            x = design(rows.take(part))
            gram += x.T @ x
            linear += x.T @ rows.rating[part].astype(np.float64)
        return gram, linear

    def solve(gram: Any, linear: Any, penalty: float) -> Any:
        shrink = np.full(width, penalty)
        shrink[0] = 0.0  # the mean
        return np.linalg.solve(gram + np.diag(shrink), linear)

    unit = {"warm": np.arange(len(train)), "cold items": train.item, "cold users": train.user}[cut]
    held = (generator(seed, "validation").random(unit.max() + 1) < 0.15)[unit]
    system, check = moments(train.take(~held)), train.take(held)
    x, actual = design(check), check.rating.astype(np.float64)
    best = min(PENALTIES, key=lambda p: rmse(x @ solve(*system, p), actual))
    return design(test) @ solve(*moments(train), best)


def cuts(log: Any, seed: int) -> dict[str, Any]:
    """Return the masks of test rows by kind of cut."""
    random = generator(seed, "ablation")
    items = random.permutation(log.num_items) % 5 == 0
    users = random.permutation(log.num_users) % 5 == 0
    return {
        "warm": random.random(len(log)) < 0.2,
        "cold items": items[log.item],
        "cold users": users[log.user],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="*", default=MODELS, choices=MODELS)
    options = parser.parse_args()
    log = load_log(options.dataset)
    rows = RatingRows(log.user, log.item, log.rating)
    none = (np.zeros((log.num_users, 1), np.float32), np.zeros((log.num_items, 1), np.float32))
    vectors: dict[str, Any] = {"ids only": none}
    for name, kind in (("TF-IDF + ids", "tfidf"), ("BERT + ids", "bert")):
        text = encode_log(log, EncoderSettings(kind=kind))
        vectors[name] = (text.user, text.item)
    settings = RatingSettings(threads=options.threads)
    errors: dict[tuple[str, str], list[float]] = {}
    fitted = [name for name in options.models if name in vectors]
    with bar(len(options.seeds) * 3 * len(options.models), "ablation", "fit") as shown:
        for seed in options.seeds:
            for cut, held in cuts(log, seed).items():
                train, test = rows.take(~held), rows.take(held)
                actual = test.rating.astype(np.float64)
                for name in fitted:
                    fit = fit_rating(train, *vectors[name], log.scale, settings, options.members, seed)
                    errors.setdefault((name, cut), []).append(rmse(fit.predict(test.user, test.item), actual))
                    shown.update(1)
                if "BERT only" in options.models:
                    guess = text_only(train, test, vectors["BERT + ids"], cut, seed)
                    bounded = np.clip(guess, log.scale.low, log.scale.high)
                    errors.setdefault(("BERT only", cut), []).append(rmse(bounded, actual))
                    shown.update(1)
            print(f"seed {seed} done", file=sys.stderr, flush=True)
    kinds = ("warm", "cold items", "cold users")
    print(f"RMSE, {len(options.seeds)} seeds   " + "".join(f"{kind:>18}" for kind in kinds))
    for name in options.models:
        cells = (errors[name, kind] for kind in kinds)
        print(f"  {name:18}" + "".join(f"  {np.mean(c):.4f} ± {np.std(c, ddof=1):.4f}" for c in cells))
    if "BERT + ids" not in options.models:
        return
    print("Paired difference to BERT + ids (positive: BERT + ids is better), mean ± standard error")
    for name in (m for m in options.models if m != "BERT + ids"):
        gaps = [np.subtract(errors[name, kind], errors["BERT + ids", kind]) for kind in kinds]
        root = np.sqrt(len(options.seeds))
        print(f"  {name:18}" + "".join(f" {np.mean(g):+.4f} ± {np.std(g, ddof=1) / root:.4f}" for g in gaps))


if __name__ == "__main__":
    main()
