"""One training run of the attraction model: Adagrad over rows, text means by ridge regression, positions by moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.seeding import generator
from recworld.simulators.accuracy import log_loss
from recworld.simulators.attraction_kernels import one_pass
from recworld.simulators.attraction_rows import AttractionRows, NegativeSampler
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.factors import Factors, compress
from recworld.simulators.side_features import SideFeatures

Floats = npt.NDArray[np.float64]


class AttractionTrainer:
    """One training run: vectors of both sides, their text means, and the positions."""

    def __init__(
        self,
        rows: AttractionRows,
        users: SideFeatures,
        items: SideFeatures,
        settings: AttractionSettings,
        seed: int,
    ) -> None:
        self.rows, self.settings, self.features = rows, settings, (users, items)
        self.random = generator(seed, "attraction")
        sizes, width = (len(users.values), len(items.values)), 1 + settings.width
        self.vector = [0.1 * self.random.standard_normal((n, width)) for n in sizes]
        self.mean = [np.zeros((n, width)) for n in sizes]
        self.squares = [np.full((n, 2), 0.1) for n in sizes]  # bias, factors
        rate = rows.clicked.mean() if rows.shown else 1 / (1 + settings.negatives)
        start = float(np.log(np.clip(rate, 1e-4, 1 - 1e-4) / (1 - np.clip(rate, 1e-4, 1 - 1e-4))))
        for side, level in zip(range(2), (start, 0.0), strict=True):
            self.vector[side][:, 0] = self.mean[side][:, 0] = level
        self.noticed = np.ones(int(rows.position.max()) + 1)
        self.count = [
            np.bincount(own, minlength=n) for own, n in zip((rows.user, rows.item), sizes, strict=True)
        ]
        self.sampler = NegativeSampler(rows, *sizes, settings.negatives)

    def epoch(self) -> None:
        """One pass over the rows, then the text means and the positions."""
        s = self.settings
        rows = self.sampler.extend(self.rows, self.random)
        one_pass(
            self.random.permutation(len(rows)), rows.user, rows.item, rows.clicked, rows.weight,
            self.noticed[rows.position], *self.vector, *self.mean, *self.squares,
            s.learning_rate, s.shrinkage, s.bias_shrinkage,
        )  # fmt: skip
        for side in range(2):
            self._regress(side)
        if rows.shown and len(self.noticed) > 1:
            self._positions(rows)

    def _regress(self, side: int) -> None:
        """Regress the vectors of one side on its features, weighting by what is known of each; unseen take the mean."""
        x, count = self.features[side].values, self.count[side]
        known = np.minimum(count, 20.0)
        penalty = np.full(x.shape[1], self.settings.link_ridge)
        penalty[0] = 1e-3
        weighted = x * known[:, None]
        link = np.linalg.solve(weighted.T @ x + np.diag(penalty), weighted.T @ self.vector[side])
        self.mean[side] = np.ascontiguousarray(x @ link)
        self.vector[side][count == 0] = self.mean[side][count == 0]

    def _positions(self, rows: AttractionRows) -> None:
        """Match the clicks at each position: e_k = clicks / expected clicks if noticed, relative to the first."""
        size = len(self.noticed)
        clicks = np.bincount(rows.position, rows.weight * rows.clicked, size) + 0.5
        expected = np.bincount(rows.position, rows.weight * expit(self.logit(rows)), size) + 0.5
        share = clicks / expected
        self.noticed = np.clip(share / share[0], 1e-3, 1.0)

    def logit(self, rows: AttractionRows) -> Floats:
        """Return the logit of each row, (n,)."""
        return self.factors(1.0).predict(rows.user, rows.item)

    def factors(self, personal: float) -> Factors:
        """Return the predictor with its personal part (what is left after centring) scaled."""
        users, items = self.vector
        left, right = compress(users[:, 1:], items[:, 1:], self.settings.width)
        whole = Factors(users[:, 0].copy(), items[:, 0].copy(), left, right).centred()
        root = np.sqrt(personal)
        return Factors(whole.user_bias, whole.item_bias, whole.user * root, whole.item * root)

    def loss(self, rows: AttractionRows, logit: Floats) -> float:
        """Return the log-loss of rows, positions counted in."""
        return log_loss(
            expit(logit) * self.noticed[np.minimum(rows.position, len(self.noticed) - 1)], rows.clicked
        )
