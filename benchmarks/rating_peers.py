"""Peers of the rating model, in an interpreter of their own: myFM and Surprise's SVD++.

    python benchmarks/rating_peers.py rows.npz predictions.npz

`benchmarks/rating.py --peers-python PATH` calls this with the interpreter at PATH, which needs numpy, scipy and one or both
of `myfm` and `scikit-surprise`, and nothing of this project. The first file holds "train_user", "train_item",
"train_rating", "train_time", the same with "test_", and "user_words" and "item_words" (binary, dense); the second gets
one array of expected ratings of the test rows per peer, and "seconds_<peer>".
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

RANK, ITERATIONS, BURN_IN = 10, 512, 12
"""myFM's own values in its examples for MovieLens."""
DAY = 86_400


def surprise_svdpp(rows: dict[str, Any]) -> Any:
    """Return the predictions of Surprise's SVDpp at its defaults."""
    import pandas as pd
    from surprise import Dataset, Reader, SVDpp

    names = ("train_user", "train_item", "train_rating")
    frame = pd.DataFrame(dict(zip("uir", (rows[n] for n in names), strict=True)))
    low, high = float(frame.r.min()), float(frame.r.max())
    model = SVDpp(random_state=0, cache_ratings=True)
    model.fit(Dataset.load_from_df(frame, Reader(rating_scale=(low, high))).build_full_trainset())
    pairs = zip(rows["test_user"], rows["test_item"], strict=True)
    return np.array([model.predict(u, i).est for u, i in pairs])


def blocks(rows: dict[str, Any]) -> tuple[list[Any], list[int]]:
    """Return the features of users and of items, and the sizes of their groups.

    Ids, the set of partners in the training rows over the root of its size, and words of the text.
    """
    import scipy.sparse as sp

    u, i = rows["train_user"], rows["train_item"]
    out, sizes = [], []
    for own, partner, words, others in (
        (u, i, rows["user_words"], len(rows["item_words"])),
        (i, u, rows["item_words"], len(rows["user_words"])),
    ):
        count = np.maximum(np.bincount(own, minlength=len(words)), 1)
        met = sp.csr_matrix((1 / np.sqrt(count[own]), (own, partner)), shape=(len(words), others))
        parts = [sp.identity(len(words), format="csr"), met, sp.csr_matrix(words.astype(np.float64))]
        sizes += [p.shape[1] for p in parts]
        out.append(sp.hstack(parts, format="csr").astype(np.float64))
    return out, sizes


def myfm(rows: dict[str, Any], ordinal: bool, dated: bool) -> Any:
    """Return the predictions of myFM: ids, sets on both sides, words; regression or ordered probit; with or without day."""
    import myfm as library
    import scipy.sparse as sp

    features, sizes = blocks(rows)
    first = min(rows["train_time"].min(), rows["test_time"].min())
    days = int((max(rows["train_time"].max(), rows["test_time"].max()) - first) // DAY) + 1

    def main(part: str) -> Any:
        n = len(rows[f"{part}_user"])
        if not dated:
            return None
        day = (rows[f"{part}_time"] - first) // DAY
        return sp.csr_matrix((np.ones(n), (np.arange(n), day)), shape=(n, days))

    def relations(part: str) -> list[Any]:
        sides = zip(("user", "item"), features, strict=True)
        return [library.RelationBlock(rows[f"{part}_{side}"].tolist(), block) for side, block in sides]

    kind = library.MyFMOrderedProbit if ordinal else library.MyFMRegressor
    model = kind(rank=RANK, random_seed=0)
    shapes = ([days] if dated else []) + sizes
    rating = rows["train_rating"].astype(np.float64)
    levels = np.unique(rating)
    target = np.searchsorted(levels, rating).astype(np.float64) if ordinal else rating
    model.fit(
        main("train"), target, X_rel=relations("train"), n_iter=ITERATIONS,
        n_kept_samples=ITERATIONS - BURN_IN, group_shapes=shapes,
    )  # fmt: skip
    if ordinal:
        return model.predict_proba(main("test"), X_rel=relations("test")) @ levels
    return np.clip(model.predict(main("test"), X_rel=relations("test")), levels[0], levels[-1])


def main() -> None:
    """Predict by every peer that can be imported; say in a line which cannot."""
    rows = dict(np.load(sys.argv[1], allow_pickle=False))
    peers = {
        "myfm": lambda: myfm(rows, False, False),
        "myfm_ordinal": lambda: myfm(rows, True, False),
        "myfm_day": lambda: myfm(rows, False, True),
        "myfm_ordinal_day": lambda: myfm(rows, True, True),
        "surprise_svdpp": lambda: surprise_svdpp(rows),
    }
    found: dict[str, Any] = {}
    for name, predict in peers.items():
        began = time.perf_counter()
        try:
            found[name] = predict()
        except ImportError as missing:
            print(f"{name}: skipped ({missing}).", file=sys.stderr)
            continue
        found[f"seconds_{name}"] = np.array(time.perf_counter() - began)
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
