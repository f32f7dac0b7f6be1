"""How far do other texts move scores and rankings, what does a seller's suffix gain, and what do defences buy and cost?

    python benchmarks/robustness.py                          # MovieLens-100K: its world is fitted, or taken from the cache
    python benchmarks/robustness.py --fits 0 --quick         # without the rating model, on few items
    python benchmarks/robustness.py --run runs/ml-100k-ppo-1 # the world of a run; do explanations of its agent hold?
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

from recworld.agents import load_agent
from recworld.cli.settings import load_settings
from recworld.encoders import EncoderSettings, TextVectors, encode_log
from recworld.envs import RecVectorEnv
from recworld.evaluation.deletion import deletion_check
from recworld.evaluation.explaining import Explainer
from recworld.evaluation.robustness import Bench, Sizes, remembered, robustness_report
from recworld.logs import load_log
from recworld.logs.log import InteractionLog
from recworld.logs.splits import split_early_late
from recworld.runs import RunFolder
from recworld.seeding import generator
from recworld.simulators.accuracy import rmse
from recworld.simulators.attraction import fit_attraction
from recworld.simulators.attraction_rows import consumption_rows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.build import WorldSettings, cached_world
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.prepare import assumptions
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
    log: InteractionLog, text: TextVectors, bench: Bench, words: tuple[str, ...], count: int, seeds: int = 3
) -> None:
    """Print how far the route's moves are those of the attraction model, fitted again with the suffix in a few texts."""
    known = log.select(split_early_late(log, WorldSettings().early_share)[0])
    settings, source = AttractionSettings(threads=1), consumption_rows(known.user, known.item)
    side, share = bench.route.item, assumptions(bench.world)[0]
    random = generator(bench.seed, "fitted again")
    for name, low, high in (("never met", 0, 0), ("met 1 to 10 times", 1, 10), ("met oftener", 11, np.inf)):
        chosen = random.permutation(np.flatnonzero((bench.count >= low) & (bench.count <= high)))[:count]
        changed = text.item.copy()
        changed[chosen] = bench.encode([" ".join([log.item_text[i], *words]) for i in chosen], "item")
        real = np.zeros((log.num_users, len(chosen)))
        for seed in range(seeds):
            for vectors, sign in ((changed, 1), (text.item, -1)):
                member = fit_attraction(source, text.user, vectors, settings, 1, seed).members[0]
                real += sign / seeds * (member.item_bias[chosen] + member.user @ member.item[chosen].T)
        rows = side.moved(chosen, changed[chosen]) - side.own[chosen]
        guess = bench.route.user.own[:, bench.route.estimate.rating_width : -2] @ (
            rows[:, bench.route.estimate.rating_width : -2].T
        )
        guess += rows[:, -1] / share
        slope = float((guess * real).sum() / max((guess**2).sum(), 1e-12))
        likeness = np.corrcoef(guess.ravel(), real.ravel())[0, 1]
        print(
            f"fitted again with the suffix in {len(chosen)} texts, items {name}: mean logit {real.mean():+.3f}, along the "
            f"route {guess.mean():+.3f}; over users and items correlation {likeness:.2f}, "
            f"slope {slope:.2f}",
            flush=True,
        )


def explanations(run: RunFolder, world: World, encode: Any, count: int) -> dict[str, Any]:
    """Print and return what the strongest words of recommended items, and random ones, are worth to the run's agent."""
    settings = load_settings(run.settings(), str(run.path / "settings.yaml"))
    arguments = settings.env.arguments() | {"candidates": "all", "observation": "features"}
    env = RecVectorEnv(1, world=world, users="test", members=[0], **arguments)
    agent = load_agent(run.trained(), env, device="cpu")
    explainer, pairs = Explainer(env, encode, agent), []
    for user in generator(0, "explained").permutation(world.users("test"))[:count]:
        seen, _ = env.reset(seed=0, options={"user": np.array([user])})
        pairs.append((int(user), int(env.candidate_items()[0, agent.act(seen)[0, 0]])))
    found = deletion_check(explainer, pairs)
    for name, values in found.items():
        cells = ", ".join(
            f"{words} {v.mean:+.3f} [{v.low:+.3f}, {v.high:+.3f}]" for words, v in values.items()
        )
        print(f"left out of recommended items, the {name} loses: {cells}", flush=True)
    return {name: {words: v.as_json() for words, v in values.items()} for name, values in found.items()}


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
    parser.add_argument("--again", type=int, default=8, help="items of each fit with changed texts; 0: none")
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
        against_fits(log, text, bench, words, options.again)
    if options.run:
        told["explanations"] = explanations(
            RunFolder.open(Path(options.run)), world, encode, options.explained
        )
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
