"""Bayesian logistic factorisation of what was shown and taken up, with the chance that a position is noticed.

    P(click) = e_k sigmoid(a(u,i)),   a(u,i) = b_u + b_i + <c_u, d_i>,   e_0 = 1

Gibbs sampling with two kinds of latent variables: whether a row without a click was noticed, and a Pólya-Gamma weight
per noticed row. Given both, the vectors are those of a Gaussian factorisation, with the same hierarchy over text.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.seeding import generator
from recworld.simulators.attraction_rows import AttractionRows
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.factors import Factors, Mixture
from recworld.simulators.gibbs import GibbsPriors, GibbsSide
from recworld.simulators.gibbs_kernels import predict_rows
from recworld.simulators.polya_gamma import draw_polya_gamma
from recworld.simulators.side_features import SideFeatures

Floats = npt.NDArray[np.float64]


class LogisticChain:
    """One Markov chain.

    Args:
        rows: shown rows.
        users: features of the U users.
        items: features of the I items.
        rank: factors beside the bias.
        seed: seed of the chain.
    """

    def __init__(
        self, rows: AttractionRows, users: SideFeatures, items: SideFeatures, rank: int, seed: int
    ) -> None:
        self.random = generator(seed, "logistic")
        priors = GibbsPriors(rank, noise_freedom=1.0, constant=0.01)
        self._rows = rows
        self._users = GibbsSide(rows.user, rows.item, users, priors, self.random)
        self._items = GibbsSide(rows.item, rows.user, items, priors, self.random)
        rate = (rows.clicked.sum() + 0.5) / (len(rows) + 1)
        self._users.vector[:, 0] = np.log(rate / (1 - rate))
        self._users.link[0, 0] = self._users.vector[0, 0]
        self.noticed = np.ones(int(rows.position.max()) + 1)
        if len(self.noticed) > 1:  # away from 1, where a chain would stay for long
            self.noticed[1:] = 0.7

    @property
    def user_vector(self) -> Floats:
        """(U, 1 + rank): bias and factors of users, the current draw."""
        return self._users.vector

    @property
    def item_vector(self) -> Floats:
        """(I, 1 + rank): bias and factors of items, the current draw."""
        return self._items.vector

    def step(self) -> None:
        """Draw everything once."""
        rows = self._rows
        logit = np.empty(len(rows))
        predict_rows(rows.user, rows.item, self.user_vector, self.item_vector, logit)
        seen = self._sample_noticed(logit)
        weight = np.zeros(len(rows))
        drawn = np.empty(int(seen.sum()))
        draw_polya_gamma(logit[seen], self.random, drawn)
        weight[seen] = np.maximum(drawn, 1e-4)
        target = np.zeros(len(rows))
        target[seen] = (rows.clicked[seen] - 0.5) / weight[seen]
        weight *= rows.weight
        self._users.sample_prior()
        self._users.sample_vectors(weight, target, self.item_vector)
        self._items.sample_prior()
        self._items.sample_vectors(weight, target, self.user_vector)

    def _sample_noticed(self, logit: Floats) -> npt.NDArray[np.bool_]:
        """Draw which rows were noticed, and then e_k given them (uniform prior)."""
        rows, chance, e = self._rows, expit(logit), self.noticed[self._rows.position]
        unseen = e * (1 - chance) / np.maximum(1 - e * chance, 1e-12)
        seen = rows.clicked | (self.random.random(len(rows)) < unseen)
        size = len(self.noticed)
        hits = np.bincount(rows.position, seen, size)
        misses = np.bincount(rows.position, ~seen, size)
        self.noticed[1:] = self.random.beta(1 + hits[1:], 1 + misses[1:])
        return np.asarray(seen)


def run_chain(
    rows: AttractionRows, users: SideFeatures, items: SideFeatures, settings: AttractionSettings, seed: int,
    advance: Callable[[int], None],
) -> tuple[Factors, Floats]:  # fmt: skip
    """Run a chain; return the compressed average of its samples and the mean chance that each position is noticed."""
    chain = LogisticChain(rows, users, items, settings.rank, seed)
    mixture, noticed = Mixture(settings.width), np.zeros(len(chain.noticed))
    for step in range(1, settings.burn_in + settings.samples * settings.thinning + 1):
        chain.step()
        advance(1)
        if step > settings.burn_in and (step - settings.burn_in) % settings.thinning == 0:
            mixture.add(chain.user_vector, chain.item_vector)
            noticed += chain.noticed / settings.samples
    return mixture.factors(0.0, 1.0), noticed
