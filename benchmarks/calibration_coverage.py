"""Do the 95 % intervals of the calibration cover the truth? Logs drawn from `wellspecified` with varied true dynamics.

    python benchmarks/calibration_coverage.py --logs 200 --output coverage.jsonl    # resumable; prints the table
    python benchmarks/calibration_coverage.py --logs 0 --output coverage.jsonl                   # the table of what is there

Each log has a catalogue, users, logging policy and true effects of its own; the effects are drawn uniformly around the
preset `strong` (`RANGES`). Coverage is of the intervals before the verdict, so that nothing is left out for being wrong;
on the first `--checked` logs the placebo and held-out runs are made too, and the share called identified is printed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from recworld.logs.settings import SyntheticSettings
from recworld.seeding import child_seed, generator
from recworld.simulators.calibration import calibrate
from recworld.simulators.calibration_settings import CalibrationSettings
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.truths import draw_log, wellspecified_world

SIZES = SyntheticSettings(num_users=110, num_items=100, consumptions=20)
RANGES = {
    "examination_decay": (0.75, 0.95),
    "boredom": (3.0, 6.0),
    "boredom_memory": (0.75, 0.92),
    "boredom_scale": (1.0, 2.2),
    "taste_rate": (0.02, 0.06),
    "taste_return": (0.01, 0.03),
    "satisfaction_rate": (0.2, 0.45),
    "leave_base": (-5.5, -4.5),
    "leave_dissatisfaction": (3.0, 5.0),
    "leave_boredom": (0.75, 2.5),
    "leave_step": (0.0, 0.05),
    "frailty": (0.2, 0.9),
}
"""Where the true effects of a log come from, uniformly; the rest are the defaults."""


def one_log(number: int, checked: bool, samples: int) -> dict[str, Any]:
    """Draw a log, calibrate it; return what was true and what was found."""
    random = generator(number, "coverage")
    drawn = {name: float(random.uniform(low, high)) for name, (low, high) in RANGES.items()}
    dynamics = DynamicsSettings.model_validate(drawn)
    seed = child_seed(number, "coverage log") % 2**31
    log, world = draw_log(SIZES, seed, dynamics), wellspecified_world(SIZES, seed, dynamics)
    truth, shown = world.truth, log.exposures
    assert shown is not None
    fr = truth.rating_width
    logit = truth.user_attraction_bias[0][:, None] + truth.item_attraction_bias[0]
    chance = expit(logit + truth.taste[0][:, fr:] @ truth.item[0][:, fr:].T)
    true = drawn | {
        "shown_click_rate": float(chance[shown.user, shown.item].mean()),
        "base_click_rate": float(chance.mean()),
    }
    start = time.perf_counter()
    settings = CalibrationSettings(samples=samples, burn_in=100, checks=checked)
    found = calibrate(log, world.item_vector, settings, seed)
    return {
        "log": number,
        "rows": len(shown),
        "seconds": round(time.perf_counter() - start, 1),
        "true": true,
        "checked": checked,
        "measured": {e.name: e.measured for e in found.estimates if e.measured},
        "identified": {e.name: e.identified for e in found.estimates},
        "facts": found.to_json()["facts"],
    }


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share."""
    share, z2 = hits / count, 1.96**2
    middle = (share + z2 / 2 / count) / (1 + z2 / count)
    half = 1.96 * math.sqrt(share * (1 - share) / count + z2 / 4 / count**2) / (1 + z2 / count)
    return middle - half, middle + half


def table(records: list[dict[str, Any]]) -> str:
    """Return coverage per parameter and overall."""
    names = [n for n in records[0]["measured"] if n in records[0]["true"]]
    lines = [
        f"{'parameter':24s} {'logs':>4s} {'covered':>8s} {'of it':>14s} {'bias':>9s} {'width':>8s} {'identified':>16s}"
    ]
    total = hit = 0
    for name in names:
        rows = [(r["true"][name], r["measured"][name], r) for r in records if name in r["measured"]]
        inside = [m["low"] <= t <= m["high"] for t, m, _ in rows]
        bias = np.mean([m["value"] - t for t, m, _ in rows])
        width = np.median([m["high"] - m["low"] for _, m, _ in rows])
        low, high = wilson(sum(inside), len(inside))
        asked = [r for *_, r in rows if r["checked"]]
        told = [r for r in asked if r["identified"][name]]
        good = sum(r["measured"][name]["low"] <= r["true"][name] <= r["measured"][name]["high"] for r in told)
        share = f"{len(told)}/{len(asked)} ({good} cover)" if asked else "-"
        lines.append(
            f"{name:24s} {len(rows):4d} {np.mean(inside):8.1%} {f'{low:.1%}-{high:.1%}':>14s} {bias:+9.4f} "
            f"{width:8.4f} {share:>16s}"
        )
        if name != "base_click_rate":
            total, hit = total + len(inside), hit + sum(inside)
    low, high = wilson(hit, total)
    lines.append(
        f"{'overall':24s} {total:4d} {hit / total:8.1%} {f'{low:.1%}-{high:.1%}':>14s}   without base_click_rate"
    )
    return "\n".join(lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument(
        "--checked", type=int, default=0, help="logs on which placebo and held-out runs are made"
    )
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument(
        "--output", default="coverage.jsonl", help="one line per log; what is there is not done again"
    )
    chosen = parser.parse_args()
    os.environ["RECWORLD_QUIET"] = "1"
    path = Path(chosen.output)
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {r["log"] for r in records}
    for number in range(chosen.logs):
        if number in done:
            continue
        records.append(one_log(number, number < chosen.checked, chosen.samples))
        with path.open("a") as file:
            file.write(json.dumps(records[-1]) + "\n")
    print(table(records))
    print(
        f"{np.mean([r['seconds'] for r in records]):.1f} s and {np.mean([r['rows'] for r in records]):,.0f} rows per log"
    )


if __name__ == "__main__":
    main()
