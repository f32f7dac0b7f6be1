"""What does fine-tuning the language model buy? The text-only model on users and items never met, frozen and tuned.

    python benchmarks/fine_tuning.py                       # five seeds, both cuts
    python benchmarks/fine_tuning.py --cost                # time and memory of one epoch, by method
    python benchmarks/fine_tuning.py --ceiling             # what there is to be had of items never met
    python benchmarks/fine_tuning.py --cuts items --seeds 0 --tuning '{"layers": 2, "item_rate": 0.3}'

Of each seed a fifth of the items (users) is held out for the test and a tenth for validation. The frozen model and the tuned
one have the same head, fitted in closed form with penalties chosen on validation rows; the epoch is chosen there too. Test
rows choose nothing; the curve shows them beside the validation rows by epoch.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
import torch

from recworld.encoders import EncoderSettings, encode_log
from recworld.encoders.text_ridge import fit_additive
from recworld.encoders.tuning import Tuner
from recworld.encoders.tuning_data import Pairs, tuning_data
from recworld.encoders.tuning_settings import TuningSettings
from recworld.encoders.weights import find_model
from recworld.logs import load_log
from recworld.seeding import generator
from recworld.simulators.accuracy import rmse

CHOSEN: dict[str, dict[str, Any]] = {
    "items": {"method": "full", "learning_rate": 2e-5, "user_passes": 0, "dropout": 0.1, "epochs": 3},
    "users": {"method": "lora", "layers": 2, "user_passes": 0, "item_passes": 2, "epochs": 8},
}
"""Chosen on validation rows of seeds 0 and 1 (items) and of seed 0 (users)."""

COSTS: tuple[dict[str, Any], ...] = (
    {"method": "lora"},
    {"method": "lora", "batches": "pairs"},
    {"method": "lora", "layers": 2},
    {"method": "full"},
    {"method": "adapter"},
)


SHRINK = 3.0
"""Ratings of an average item that an item's own are weighed against."""


def cut_of(log: Any, cut: str, seed: int) -> tuple[Any, Any]:
    """Return the rows that are left, and the test rows: those of a fifth of the items (users)."""
    own, size = (log.item, log.num_items) if cut == "items" else (log.user, log.num_users)
    held = (generator(seed, "fine-tuning", cut).permutation(size) % 5 == 0)[own]
    return np.flatnonzero(~held), np.flatnonzero(held)


def tuned(log: Any, cut: str, seed: int, options: argparse.Namespace) -> tuple[float, float]:
    """Train once; return the test errors of the frozen and of the tuned model."""
    given = json.loads(options.tuning) if options.tuning else {}
    settings = TuningSettings.model_validate({**CHOSEN[cut], "validation": cut, **given})
    rest, test_rows = cut_of(log, cut, seed)
    data = tuning_data(log, log.user_text, settings, seed, rest)
    test = Pairs(
        data.numbers["user"][log.user[test_rows]],
        data.numbers["item"][log.item[test_rows]],
        log.rating[test_rows],
    )
    start = time.perf_counter()
    tuner = Tuner(data, find_model(options.model), settings, "auto", seed)
    curve = [(tuner.history[0]["held/error"], tuner.error(test))]
    tuner.run(lambda epoch, figures: curve.append((figures["held/error"], tuner.error(test))))
    best = int(np.argmin([held for held, _ in curve]))
    told = " ".join(f"{held:.4f}/{error:.4f}" for held, error in curve)
    print(
        f"  {cut} seed {seed}: validation/test by epoch {told}; epoch {best}; {time.perf_counter() - start:.0f} s",
        flush=True,
    )
    return curve[0][1], curve[best][1]


def cost(options: argparse.Namespace) -> None:
    """Print what one epoch over all pairs takes, each method in a process of its own."""
    log = load_log(options.dataset)
    for given in COSTS:
        settings = TuningSettings.model_validate({"epochs": 1, **given})
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, peak = pool.apply(_epoch, (log, settings, options.model, options.threads))
        words = ", ".join(f"{name} {value}" for name, value in given.items())
        print(f"  {words}: {seconds:.0f} s an epoch, peak memory {peak / 2**20:.2f} GiB", flush=True)


def ceiling(options: argparse.Namespace) -> None:
    """Print errors on items never met: nothing known of them, their texts frozen, and their own other ratings."""
    log = load_log(options.dataset)
    text = encode_log(log, EncoderSettings(model=options.model, width=None))
    user, item = (v - v.mean(axis=0, dtype=np.float64) for v in (text.user, text.item))
    rows = []
    for seed in options.seeds:
        rest, test = cut_of(log, "items", seed)
        pairs = Pairs(log.user[rest].astype(np.int64), log.item[rest].astype(np.int64), log.rating[rest])
        fit = fit_additive(user, item, pairs, log.rating[rest].astype(np.float64), (0.03, 300.0))
        own, actual = log.item[test], log.rating[test].astype(np.float64)
        person = fit.mean + (user @ fit.user)[log.user[test]]
        rest_of_it = actual - person
        count = np.bincount(own, minlength=log.num_items)[own] - 1
        others = np.bincount(own, weights=rest_of_it, minlength=log.num_items)[own] - rest_of_it
        guesses = (person, person + (item @ fit.item)[own], person + others / (count + SHRINK))
        rows.append([rmse(np.clip(guess, log.scale.low, log.scale.high), actual) for guess in guesses])
    nothing, frozen, known = np.mean(rows, axis=0)
    print(
        f"items never met, {len(rows)} seeds: nothing known of the item {nothing:.4f}, its text {frozen:.4f}, the mean of "
        f"its other ratings {known:.4f}: the text covers {(nothing - frozen) / (nothing - known):.0%} of the way"
    )


def _epoch(log: Any, settings: TuningSettings, model: str | None, threads: int) -> tuple[float, int]:
    """Return the seconds of an epoch, without loading and the frozen head, and the peak of resident KiB."""
    torch.set_num_threads(threads)
    data = tuning_data(log, log.user_text, settings, 0)
    tuner = Tuner(data, find_model(model), settings, "auto", 0)
    start = time.perf_counter()
    tuner.run()
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--model", default=None)
    parser.add_argument("--cuts", nargs="*", default=["items", "users"], choices=["items", "users"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tuning", default="", help="JSON of settings in place of the chosen ones")
    parser.add_argument("--ceiling", action="store_true", help="what there is to be had, and nothing else")
    parser.add_argument("--cost", action="store_true", help="time and memory of one epoch, and nothing else")
    options = parser.parse_args()
    if options.cost or options.ceiling:
        (cost if options.cost else ceiling)(options)
        return
    torch.set_num_threads(options.threads)
    log = load_log(options.dataset)
    for cut in options.cuts:
        errors = np.array([tuned(log, cut, seed, options) for seed in options.seeds])
        gain = 100 * (1 - errors[:, 1] / errors[:, 0])
        spread = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
        print(
            f"{cut} never met, {len(gain)} seeds: frozen {errors[:, 0].mean():.4f}, tuned {errors[:, 1].mean():.4f}, "
            f"better by {gain.mean():.2f} % (standard error {spread:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
