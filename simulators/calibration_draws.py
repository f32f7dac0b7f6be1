"""What a joint chain gives: its draws, how many independent ones they are worth, and how long it has to run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.simulators.calibration_chain import NAMES, JointChain

Floats = npt.NDArray[np.float64]

ENOUGH_DRAWS = 50.0
"""Independent draws of every effect after which a chain need not go on."""


@dataclass(frozen=True)
class Draws:
    """What a chain gives.

    Attributes:
        values: (draws, len(NAMES)) kept draws.
        accepted: share of accepted proposals.
        base: (n,) mean logit, the policy's part in it, before boredom and drift.
        bored: (n,) mean boredom.
    """

    values: Floats
    accepted: float
    base: Floats
    bored: Floats

    def column(self, name: str) -> Floats:
        """Return the draws of one of `NAMES`."""
        return self.values[:, NAMES.index(name)]


def run_joint(chain: JointChain, burn_in: int, samples: int, most: int = 0) -> Draws:
    """Run a chain; the reference point of its proposals follows the draws in the burn-in, and stays from then on.

    Args:
        chain: the chain.
        burn_in: iterations that are not kept.
        samples: iterations that are kept.
        most: where the draws of an effect are worth less than `ENOUGH_DRAWS` independent ones, as many more are made, up to
            this number in all.
    """
    base, bored = np.zeros(len(chain.table)), np.zeros(len(chain.table))
    for step in range(burn_in):
        chain.step(search=step < burn_in // 3)
        if step >= burn_in // 3:
            chain.reference = chain.reference + 0.05 * (chain.theta - chain.reference)
    chain.proposed = chain.accepted = 0
    kept: list[Floats] = []
    while True:
        for _ in range(samples):
            chain.step()
            kept.append(chain.values())
            base += chain.base
            bored += chain.bored
        values, count = np.array(kept), len(kept)
        if count + samples > most or min(map(effective_draws, values.T[chain.asked])) >= ENOUGH_DRAWS:
            return Draws(values, chain.accepted / max(chain.proposed, 1), base / count, bored / count)


def effective_draws(draws: Floats) -> float:
    """Return how many independent draws a chain is worth (Geyer 1992: pairs of autocorrelations, while positive).

    No more than it moved: of a chain that moved once, at its end, autocorrelations tell nothing.
    """
    away = draws - draws.mean()
    if not away.any():
        return 0.0
    n = len(away)
    power = np.abs(np.fft.rfft(away, 2 * n)) ** 2
    auto = np.fft.irfft(power)[:n]
    auto = auto / auto[0]
    total = 1.0
    for lag in range(1, n - 1, 2):
        pair = auto[lag] + auto[lag + 1]
        if pair < 0:
            break
        total += 2 * pair
    return min(float(n / total), float(np.count_nonzero(np.diff(draws))))
