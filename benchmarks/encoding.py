"""How fast is each encoder backend, how near to torch are its vectors, and what does that do to held-out ratings?

    python benchmarks/encoding.py                    # MovieLens-100K, two threads
    python benchmarks/encoding.py --fits 0           # without the rating model

Needs pip install "recworld[onnx]". Speed: the same sample of real texts through `BertEncoder.encode`, in rounds in which
the backends take turns, so that other work on the machine meets all alike; ratios are medians over rounds. The ratio of
CPU time is what an idle machine would show. Cosine: all distinct texts, as `encode_log` encodes them. RMSE: the ensemble
on a random fifth of the rows, whose users and items are known, and on the rows of a random fifth of the items, of which
the model knows the text alone; another row gives the spread by the sampler's seed, which is what to hold differences to.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, get_args

import numpy as np

from recworld.encoders import BertEncoder, CachedEncoder, EncoderSettings, encode_log
from recworld.encoders.base import clean_texts
from recworld.encoders.settings import Backend
from recworld.logs import load_log
from recworld.logs.splits import split_random
from recworld.seeding import generator
from recworld.simulators.accuracy import rmse
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings
from recworld.storage import cache_root

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def settings_of(backend: Backend) -> EncoderSettings:
    """Return the default settings with another backend, on the CPU."""
    return EncoderSettings(backend=backend, device="cpu")


def speed(texts: list[str], rounds: int) -> None:
    """Print texts per second and ratios to torch."""
    encoders = {backend: BertEncoder(settings_of(backend)) for backend in BACKENDS}
    seconds: dict[str, list[tuple[float, float]]] = {backend: [] for backend in BACKENDS}
    for encoder in encoders.values():
        encoder.encode(texts[:64])
    for _ in range(rounds):
        for backend, encoder in encoders.items():
            began = time.perf_counter(), time.process_time()
            encoder.encode(texts)
            seconds[backend].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    torch = np.array(seconds["torch"])  # (rounds, 2)
    for backend in BACKENDS:
        own = np.array(seconds[backend])
        ratio = np.median(torch / own, axis=0)
        print(
            f"  {backend:10} {len(texts) / np.median(own[:, 0]):7.0f} texts/s, {ratio[0]:.2f} times torch; by CPU time "
            f"{len(texts) / np.median(own[:, 1]):6.0f} texts per core and second, {ratio[1]:.2f} times torch",
            flush=True,
        )


def nearness(texts: list[str]) -> None:
    """Print cosines to the vectors of torch."""
    vectors = {
        backend: CachedEncoder(BertEncoder(settings_of(backend)), cache_root() / "vectors").encode(texts)
        for backend in BACKENDS
    }
    for backend in BACKENDS:
        cosine = (vectors[backend] * vectors["torch"]).sum(axis=1)
        print(
            f"  {backend:10} cosine to torch: mean {cosine.mean():.4f}, least {cosine.min():.4f}", flush=True
        )


def ratings(log: Any, members: int, threads: int, seeds: int) -> None:
    """Print held-out errors of the rating model."""
    rows = RatingRows(log.user, log.item, log.rating)
    settings = RatingSettings(threads=threads)
    known, held = split_random(log, 0.2, 0)
    unseen = generator(0, "unseen", "item").permutation(log.num_items)[log.item] % 5 == 0
    cuts = {
        "known users and items": (rows.take(known), rows.take(held)),
        "items never met": (rows.take(~unseen), rows.take(unseen)),
    }
    for seed in range(seeds):
        for backend in BACKENDS:
            text = encode_log(log, settings_of(backend))
            cells = []
            for name, (train, test) in cuts.items():
                fit = fit_rating(train, text.user, text.item, log.scale, settings, members, seed)
                error = rmse(fit.predict(test.user, test.item), test.rating.astype(np.float64))
                cells.append(f"{name} {error:.4f}")
            print(f"  {backend:10} RMSE, sampler's seed {seed}: {', '.join(cells)}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=int, default=512, help="texts of the sample that is timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--members", type=int, default=1, help="of the ensemble of rating models")
    parser.add_argument("--fits", type=int, default=2, help="seeds of the rating model; 0: no rating model")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    log = load_log(options.dataset)
    texts = [text for text in dict.fromkeys(clean_texts([*log.user_text, *log.item_text])) if text]
    sample = generator(0, "texts").permutation(len(texts))[: options.texts]
    print(f"{len(sample)} of {len(texts)} texts, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    speed([texts[n] for n in sample], options.rounds)
    print(f"load {os.getloadavg()[0]:.1f}; all {len(texts)} texts")
    nearness(texts)
    if options.fits:
        ratings(log, options.members, options.threads, options.fits)


if __name__ == "__main__":
    main()
