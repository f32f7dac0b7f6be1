"""How do time and memory of the rating model grow? Synthetic logs of rising size, four members each.

    python benchmarks/rating_size.py                     # 100,000, 300,000 and 1,000,000 ratings
    python benchmarks/rating_size.py --scale continuous --rows 100000

Each size is fitted in a process of its own, so that the peak of one does not hide that of another. The true predictor has
rank 6; "over the noise" is the error of the ensemble on held-out rows over the standard deviation of the noise.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from recworld.logs.log import RatingScale
from recworld.simulators.accuracy import rmse
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings

NOISE = 0.8


def synthetic(count: int, scale: RatingScale) -> tuple[RatingRows, int, int]:
    """Return about `count` rows: a user has a hundred on average, items are met by Zipf's law."""
    random = np.random.default_rng(0)
    users, items = max(count // 100, 50), max(count // 60, 50)
    chance = 1 / np.arange(5, items + 5) ** 0.8
    u = random.integers(0, users, int(1.15 * count))
    i = random.choice(items, len(u), p=chance / chance.sum())
    pair = np.unique(u * items + i)
    u, i = np.divmod(random.permutation(pair)[:count], items)
    p, q = random.standard_normal((users, 6)), random.standard_normal((items, 6)) * 0.35
    eta = 3.5 + 0.4 * random.standard_normal(users)[u] + 0.5 * random.standard_normal(items)[i]
    rating = eta + np.einsum("nf,nf->n", p[u], q[i]) + NOISE * random.standard_normal(len(u))
    if scale.kind == "discrete":
        rating = np.clip(np.round(rating), 1, 5)
    return RatingRows(u.astype(np.int32), i.astype(np.int32), rating.astype(np.float32)), users, items


def measure(count: int, kind: str, threads: int) -> None:
    """Fit one log and print a line."""
    wide = RatingScale("continuous", (), -10.0, 10.0)
    scale = RatingScale("discrete", (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 5.0) if kind == "discrete" else wide
    rows, users, items = synthetic(count, scale)
    text = np.random.default_rng(1).standard_normal((max(users, items), 64)).astype(np.float32)
    held = np.random.default_rng(2).random(len(rows)) < 0.1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    settings = RatingSettings(threads=threads)
    fit = fit_rating(rows.take(~held), text[:users], text[:items], scale, settings, 4, 0)
    seconds, processor = time.perf_counter() - began, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    test = rows.take(held)
    error = rmse(fit.predict(test.user, test.item), test.rating.astype(np.float64))
    print(
        f"{kind:10} {len(rows):9,} rows {users:7,} users {items:7,} items  {seconds:6.0f} s ({processor:.0f} s of CPU)  "
        f"peak {peak:5.0f} MiB, {(peak - before) * 1024 / len(rows):.2f} KiB per row above the start  "
        f"over the noise {error / NOISE:.3f}",
        flush=True,
    )


def main() -> None:
    """Print a line per size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--scale", default="discrete", choices=("discrete", "continuous"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if len(options.rows) == 1:
        measure(options.rows[0], options.scale, options.threads)
        return
    for count in options.rows:
        command = [sys.executable, __file__, "--rows", str(count), "--scale", options.scale]
        subprocess.run([*command, "--threads", str(options.threads)], check=True)


if __name__ == "__main__":
    main()
