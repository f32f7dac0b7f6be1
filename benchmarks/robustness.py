"""How far do other texts move scores and rankings, what does a seller's suffix gain, and what do defences buy and cost?

    python benchmarks/robustness.py                          # MovieLens-100K: its world is fitted, or taken from the cache
    python benchmarks/robustness.py --fits 0 --quick         # without the rating model, on few items
    python benchmarks/robustness.py --dataset my.csv --encoder.model my-folder --json out.json

Accidents (typos, dropped words, order, form), near words, and suffixes: random words, the text of the most popular item,
words that a greedy search finds. "As known": the text has a say beside the log; "as new": it is all there is. The
search sees neither the items nor the users that its suffix is measured on, and searches anew against each defence. What a
defence costs honest texts: R^2 of the scores of items left out, and RMSE of the rating model on the rows of a fifth of the
items, of which it knows the text alone, read as the defence reads it. Then: is what moves along the route what a new fit of
the attraction model makes of the changed texts?
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recworld.encoders import EncoderSettings, TextVectors, encode_log
from recworld.evaluation.intervals import two_level
from recworld.evaluation.robustness import Bench, Sizes, remembered, robustness_report
from recworld.logs import load_log
from recworld.logs.log import InteractionLog
from recworld.logs.splits import split_early_late
from recworld.seeding import generator
from recworld.simulators.accuracy import rmse
from recworld.simulators.attraction import fit_attraction
from recworld.simulators.attraction_rows import consumption_rows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.build import WorldSettings, cached_world
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.world import World

QUICK = Sizes(users=100, items=60, attacked=24, seen=4, budget=3, tried=30, keep=6)


def rating_cost(log: InteractionLog, bench: Bench, names: list[str] | None, seed: int) -> dict[str, float]:
    """Print and return held-out RMSE of items never met, their texts read under each defence."""
    rows = RatingRows(log.user, log.item, log.rating)
    held = generator(0, "unseen", "item").permutation(log.num_items)[log.item] % 5 == 0
    train, test = rows.take(~held), rows.take(held)
    unseen = np.unique(test.item)
    out = {}
    for defence in bench.defences(names):
        vectors = bench.world.item_vector
        if defence.name != "none" and defence.uses_level:
            vectors = defence.encode(log.item_text, "item")
        fit = fit_rating(
            train, bench.world.user_vector, vectors, log.scale, RatingSettings(threads=1), 1, seed
        )
        if not defence.uses_level:
            bias = fit.members[0].item_bias
            bias[unseen] = bias[unseen].mean()
        out[defence.name] = rmse(fit.predict(test.user, test.item), test.rating.astype(np.float64))
        print(
            f"  {defence.name:10} RMSE of items never met, sampler's seed {seed}: {out[defence.name]:.4f}",
            flush=True,
        )
    return out


def against_fits(
    log: InteractionLog, text: TextVectors, bench: Bench, words: tuple[str, ...], count: int, seed: int
) -> None:
    """Print how far the route's moves are those of the attraction model, fitted again with the suffix in some texts."""
    known = log.select(split_early_late(log, WorldSettings().early_share)[0])
    chosen = generator(seed, "fitted again").permutation(bench.items)[:count]
    settings, source = AttractionSettings(threads=1), consumption_rows(known.user, known.item)
    changed = text.item.copy()
    changed[chosen] = bench.encode([" ".join([log.item_text[i], *words]) for i in chosen], "item")

    def fitted(vectors: Any, number: int) -> Any:
        member = fit_attraction(source, text.user, vectors, settings, 1, number).members[0]
        everybody = np.arange(log.num_users, dtype=np.int32)
        return np.stack(
            [member.predict(everybody, np.full(log.num_users, i, np.int32)).mean() for i in chosen]
        )

    base, after, again = fitted(text.item, seed), fitted(changed, seed), fitted(text.item, seed + 1)
    side = bench.route.item
    share = bench.world.dynamics.popularity_share or 0.5
    moved = (side.moved(chosen, changed[chosen]) - side.own[chosen])[:, -1] / share
    real, noise = after - base, float(np.std(again - base))
    slope = float(moved @ real / max(moved @ moved, 1e-12))
    print(
        f"fitted again with the suffix in {count} texts: mean logit moved by {two_level(real).mean:+.3f}, along the route "
        f"by {moved.mean():+.3f}; correlation over items {np.corrcoef(moved, real)[0, 1]:.2f}, slope {slope:.2f} (another "
        f"seed of the fit alone: sd {noise:.3f})",
        flush=True,
    )


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument(
        "--encoder.model", dest="model", default=None, help="folder or hub name of the language model"
    )
    parser.add_argument("--encoder.kind", dest="kind", default="bert", choices=("bert", "tfidf"))
    parser.add_argument(
        "--world", default=None, help="folder of a run whose world and text are taken, instead of a fit"
    )
    parser.add_argument(
        "--reward", default="click", choices=("click", "rating"), help="what the score estimates"
    )
    parser.add_argument("--budget", type=int, default=5, help="words of a suffix")
    parser.add_argument("--defences", nargs="*", default=None, help="beside none; all by default")
    parser.add_argument("--fits", type=int, default=1, help="seeds of the rating model; 0: no RMSE")
    parser.add_argument("--again", type=int, default=40, help="items of the fit with changed texts; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few items, users and words")
    parser.add_argument("--json", default=None, help="file for the report")
    return parser.parse_args()


def main() -> None:
    """Print the tables."""
    options = parse()
    import torch

    torch.set_num_threads(options.threads)
    log = load_log(options.dataset)
    if options.world:
        text, world = (
            TextVectors.load(Path(options.world) / "text"),
            World.load(Path(options.world) / "world"),
        )
    else:
        text = encode_log(log, EncoderSettings(kind=options.kind, model=options.model))
        world = cached_world(
            log, text.user, text.item, WorldSettings(), dynamics_preset("strong"), options.seed
        )
    encode = remembered(world, partial(text.encode_new, keep=False))
    sizes = QUICK if options.quick else Sizes(budget=options.budget)
    weights = {"click": (1.0, 0.0), "rating": (0.0, 1.0)}[options.reward]
    report = robustness_report(world, encode, weights, sizes, options.seed, options.defences)
    print(report.text(), flush=True)
    bench = Bench(world, encode, weights, sizes, options.seed)
    told = report.to_json()
    if options.fits and log.scale.kind != "click":
        told["rmse"] = [rating_cost(log, bench, options.defences, seed) for seed in range(options.fits)]
    if options.again and log.exposures is None:
        words = next((a.words for a in report.attacks if a.words), ())
        against_fits(log, text, bench, words, min(options.again, len(bench.items)), options.seed)
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
