"""How well are held-out ratings predicted? Ours, myFM, Surprise's SVD++ and a bias model, on the same rows.

    python benchmarks/rating.py                                   # MovieLens-100K, random 80/20, seed 0
    python benchmarks/rating.py --folds 1 2 3 4 5 --parts 5       # canonical folds, and random 5-fold
    python benchmarks/rating.py --folds 1 --peers-python PATH     # with peers, in the interpreter at PATH

Each cut is measured twice: without and with the moment of rating ("+ moments"), for the ensemble and for the one member
that a world uses. Settings are the defaults; the number of iterations and the observation model come from rows cut from the
training rows. Defaults were compared on validation rows inside the training rows of canonical fold 1, so the test rows of
that fold have decided nothing. The peers need an interpreter of their own (an older numpy):

    python -m venv peers && peers/bin/pip install "setuptools<80" wheel "numpy<2" scipy pandas cython
    peers/bin/pip install --no-build-isolation myfm scikit-surprise
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from recworld.encoders import EncoderSettings, encode_log
from recworld.logs import canonical_fold, load_log
from recworld.logs.splits import split_random
from recworld.seeding import generator
from recworld.simulators.accuracy import mae, rmse
from recworld.simulators.rating import RatingFit, RatingRows, fit_rating
from recworld.simulators.rating_report import distribution_figures, fit_biases
from recworld.simulators.rating_settings import RatingSettings

COLUMNS = (
    ("rmse", "RMSE"), ("mae", "MAE"), ("log_loss", "log-loss"), ("calibration_error", "ECE"),
    ("liked_auc", "liked AUC"), ("liked_log_loss", "liked LL"), ("liked_calibration_error", "liked ECE"),
    ("within_user_variance", "var ratio"), ("user_spread_correlation", "sd corr"), ("seconds", "s"),
)  # fmt: skip


def words(texts: Any) -> Any:
    """Return (n, W) int8: which words of at least two texts each text holds."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(binary=True, min_df=2).fit_transform(texts).toarray().astype(np.int8)


def peers(interpreter: str, log: Any, train: RatingRows, test: RatingRows) -> dict[str, dict[str, float]]:
    """Return the errors of the peers that the interpreter has."""
    arrays = {"user_words": words(log.user_text), "item_words": words(log.item_text)}
    for name, rows in (("train", train), ("test", test)):
        for field in ("user", "item", "rating", "time"):
            arrays[f"{name}_{field}"] = getattr(rows, field)
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "rows.npz", Path(folder) / "predictions.npz"
        np.savez(given, **arrays)
        script = Path(__file__).with_name("rating_peers.py")
        subprocess.run([interpreter, str(script), str(given), str(found)], check=True)
        predicted = dict(np.load(found, allow_pickle=False))
    actual = test.rating.astype(np.float64)
    return {
        name: {
            "rmse": rmse(guess, actual),
            "mae": mae(guess, actual),
            "seconds": float(predicted[f"seconds_{name}"]),
        }
        for name, guess in predicted.items()
        if not name.startswith("seconds_")
    }


def ours(
    log: Any, vectors: Any, train: RatingRows, test: RatingRows, settings: RatingSettings, seed: int
) -> dict[str, dict[str, float]]:
    """Return the figures of the ensemble and of one member of a fit."""
    began = time.perf_counter()
    fit: RatingFit = fit_rating(train, *vectors, log.scale, settings, 4, seed)
    seconds = time.perf_counter() - began
    out = {}
    for name, members in (("ensemble", None), ("one member", [0])):
        out[name] = fit.accuracy(test, members) | distribution_figures(fit, test, members)
        out[name]["seconds"] = seconds
    return out


def measure(
    log: Any, vectors: Any, cut: tuple[Any, Any], settings: RatingSettings, seed: int, interpreter: str | None
) -> dict[str, dict[str, float]]:
    """Return the figures of all models on one cut."""
    when = None if log.time is None else np.asarray(log.time).astype(np.int64)
    rows = RatingRows(log.user, log.item, log.rating, None, when)
    train, test = rows.take(cut[0]), rows.take(cut[1])
    figures = ours(log, vectors, train, test, settings, seed)
    if when is not None:
        dated = ours(log, vectors, train, test, settings.model_copy(update={"moments": True}), seed)
        figures |= {f"{name} + moments": row for name, row in dated.items()}
    if interpreter is not None:
        figures |= peers(interpreter, log, train, test)
    guess = fit_biases(train, log.num_users, log.num_items, log.scale).predict(test)
    actual = test.rating.astype(np.float64)
    return figures | {"bias": {"rmse": rmse(guess, actual), "mae": mae(guess, actual)}}


def show(title: str, figures: dict[str, dict[str, float]]) -> None:
    """Print a table."""
    print(f"{title:28}" + "".join(f"{heading:>11}" for _, heading in COLUMNS))
    for name, row in figures.items():
        cells = (f"{row[key]:11.4f}" if key in row else " " * 11 for key, _ in COLUMNS)
        print(f"  {name:26}" + "".join(cells), flush=True)


def average(parts: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the mean of figures over cuts; models that some cut lacks are left out."""
    names = [name for name in parts[0] if all(name in p for p in parts)]
    return {n: {k: float(np.mean([p[n][k] for p in parts])) for k in parts[0][n]} for n in names}


def cuts_of(options: argparse.Namespace, size: int, log: Any) -> dict[str, list[tuple[str, Any]]]:
    """Return the cuts to measure, by family."""
    families: dict[str, list[tuple[str, Any]]] = {}
    if options.folds:
        families["canonical folds"] = [
            (f"canonical fold {f}", canonical_fold(f, size)) for f in options.folds
        ]
    if options.parts:
        part = generator(0, "parts").permutation(size) % options.parts
        families["random folds"] = [
            (f"random fold {f + 1}", (np.flatnonzero(part != f), np.flatnonzero(part == f)))
            for f in range(options.parts)
        ]
    if options.seeds or not families:
        families["random 80/20"] = [
            (f"random 80/20, seed {s}", split_random(log, 0.2, s)) for s in options.seeds or [0]
        ]
    return families


def main() -> None:
    """Print a table and a JSON line per cut, and the mean over each family of cuts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--encoder", default="bert", help="bert, tfidf or none (zero vectors)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="random 80/20 cuts")
    parser.add_argument("--folds", type=int, nargs="*", default=[], help="canonical folds of ml-100k, 1..5")
    parser.add_argument("--parts", type=int, default=0, help="random folds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers-python", help="interpreter that has myfm and scikit-surprise")
    options = parser.parse_args()
    log = load_log(options.dataset)
    if options.encoder == "none":
        vectors = (np.zeros((log.num_users, 1), np.float32), np.zeros((log.num_items, 1), np.float32))
    else:
        text = encode_log(log, EncoderSettings(kind=options.encoder))
        vectors = (text.user, text.item)
    if options.peers_python is None:
        print("Peers skipped: no --peers-python.", file=sys.stderr)
    settings = RatingSettings(threads=options.threads)
    for family, cuts in cuts_of(options, len(log), log).items():
        parts = []
        for name, cut in cuts:
            parts.append(measure(log, vectors, cut, settings, 0, options.peers_python))
            print(json.dumps({"cut": name, **parts[-1]}))
            show(name, parts[-1])
        if len(parts) > 1:
            show(f"mean, {family}", average(parts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
