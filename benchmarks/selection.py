"""Which treatment of selection into rating wins where the truth is known?

    python benchmarks/selection.py                     # truths 0..4, tfidf vectors
    python benchmarks/selection.py --seeds 0 --worlds foreign

Logs are drawn by a biased policy from the synthetic truths: `wellspecified` with a correlation of the errors of click and
rating of 0, 0.5 and -0.4, and `foreign`, whose clicks and ratings share hidden factors and nothing else. The error is of
the expected rating of 30,000 uniformly random pairs. Treatments: none; inverse-propensity weights, clipped at 2, 5 and 20
means; correlation (the default of worlds). A treatment has no setting that was chosen on these pairs.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from scipy.special import ndtr
from scipy.stats import cauchy

from recworld.encoders import EncoderSettings, encode_log
from recworld.logs import LogSettings, SyntheticSettings, load_log, synthetic_truth
from recworld.logs.foreign import foreign_truth
from recworld.seeding import child_seed, generator
from recworld.simulators.attraction import fit_attraction
from recworld.simulators.attraction_rows import exposure_rows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.dynamics import dynamics_preset
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.selection import consumption_propensity, inverse_weights
from recworld.simulators.selection_correlation import corrected, estimate_correlation, rated_clicks
from recworld.simulators.truths import draw_log

PAIRS = 30_000
CLIPS = (2.0, 5.0, 20.0)
WORLDS = {
    "wellspecified": 0.0,
    "wellspecified, rho 0.5": 0.5,
    "wellspecified, rho -0.4": -0.4,
    "foreign": 0.0,
}


def draw(world: str, seed: int) -> tuple[Any, Any, Any, Any]:
    """Return a log, random pairs (user, item) and their expected ratings."""
    sizes = SyntheticSettings()
    random = generator(seed, "pairs")
    user = random.integers(0, sizes.num_users, PAIRS).astype(np.int32)
    item = random.integers(0, sizes.num_items, PAIRS).astype(np.int32)
    if world == "foreign":
        truth = foreign_truth(sizes, seed)
        base, utility = truth.base, truth.utility(user, item[:, None])[:, 0]
        latent = base.user_scale[user] * utility - base.user_shift[user]
        gap = latent[:, None] - truth.thresholds[base.items.genre[item]]
        above = 0.7 * ndtr(gap) + 0.3 * cauchy.cdf(gap / 0.5)
        return load_log("foreign", LogSettings(synthetic=sizes), seed), user, item, 1 + above.sum(1)
    rho = {"click_rating_correlation": WORLDS[world]}
    base, fr = synthetic_truth(sizes, seed), sizes.factors
    eta = base.user_rating_bias[user] + base.item_rating_bias[item]
    eta = eta + np.einsum("nf,nf->n", base.taste[user, :fr], base.item[item, :fr])
    latent = base.user_scale[user] * eta - base.user_shift[user]
    log = draw_log(sizes, seed, dynamics_preset("strong").model_copy(update=rho))
    return log, user, item, 1 + ndtr(latent[:, None] - base.thresholds).sum(1)


def measure(world: str, seed: int) -> dict[str, Any]:
    """Return RMSE and mean error of every treatment, and the correlation found."""
    log, user, item, expected = draw(world, seed)
    text = encode_log(log, EncoderSettings(kind="tfidf"))
    vectors = (text.user, text.item)
    settings, clicks_settings = RatingSettings(threads=1), AttractionSettings(threads=1)
    chance = consumption_propensity(log.user, log.item, *vectors, clicks_settings, child_seed(seed, "chance"))

    def fit(weight: Any) -> Any:
        rows = RatingRows(log.user, log.item, log.rating, weight)
        return fit_rating(rows, *vectors, log.scale, settings, 4, child_seed(seed, "rating"))

    plain = fit(None)
    fits = {"none": plain} | {f"weights, clip {c:g}": fit(inverse_weights(chance, c)) for c in CLIPS}
    rows = exposure_rows(log.exposures, 1.0)
    attraction = fit_attraction(rows, *vectors, clicks_settings, 1, child_seed(seed, "attraction"))
    clicks = rated_clicks(log, plain.outside, attraction)
    found = estimate_correlation(clicks, plain.observation, log.num_users, log.num_items, seed)
    fits["correlation"] = corrected(plain, found)
    out: dict[str, Any] = {"correlation found": found.to_json()}
    for name, chosen in fits.items():
        gap = chosen.predict(user, item) - expected
        out[name] = {"rmse": float(np.sqrt(np.mean(gap**2))), "bias": float(gap.mean())}
    return out


def main() -> None:
    """Print a JSON line per log, and a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    table = []
    for world in options.worlds:
        runs = []
        for seed in options.seeds:
            runs.append(measure(world, seed))
            print(json.dumps({"world": world, "seed": seed, **runs[-1]}), flush=True)
        covered = sum(
            r["correlation found"]["low"] <= WORLDS[world] <= r["correlation found"]["high"] for r in runs
        )
        rho = np.mean([r["correlation found"]["rho"] for r in runs])
        table.append(f"{world}: rho found {rho:+.3f} on average, interval covers in {covered} of {len(runs)}")
        for name in [key for key in runs[0] if key != "correlation found"]:
            error = np.array([r[name]["rmse"] for r in runs])
            gain = error - np.array([r["none"]["rmse"] for r in runs])
            bias = np.mean([r[name]["bias"] for r in runs])
            table.append(
                f"  {name:18} RMSE {error.mean():.4f} (against none {gain.mean():+.4f} sd {gain.std():.4f})"
                f"  mean error {bias:+.4f}"
            )
    print("\n".join(table))


if __name__ == "__main__":
    main()
