"""One training run of the attraction model on consumption: Adagrad over rows, text means by ridge regression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recworld.seeding import generator
from recworld.simulators.attraction_kernels import one_pass
from recworld.simulators.attraction_rows import AttractionRows, NegativeSampler
from recworld.simulators.attraction_settings import AttractionSettings
from recworld.simulators.factors import Factors, compress
from recworld.simulators.side_features import SideFeatures

Floats = npt.NDArray[np.float64]


class AttractionTrainer:
    """One training run: vectors of both sides and their text means."""

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
        start = -float(np.log(settings.negatives))
        for side, level in zip(range(2), (start, 0.0), strict=True):
            self.vector[side][:, 0] = self.mean[side][:, 0] = level
        self.count = [
            np.bincount(own, minlength=n) for own, n in zip((rows.user, rows.item), sizes, strict=True)
        ]
        self.sampler = NegativeSampler(rows, *sizes, settings.negatives)

    def epoch(self) -> None:
        """One pass over the rows and fresh negatives, then the text means."""
        s = self.settings
        rows = self.sampler.extend(self.rows, self.random)
        one_pass(
            self.random.permutation(len(rows)), rows.user, rows.item, rows.clicked, rows.weight,
            *self.vector, *self.mean, *self.squares,
            s.learning_rate, s.shrinkage, s.bias_shrinkage,
        )  # fmt: skip
        for side in range(2):
            self._regress(side)

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

    def factors(self, personal: float) -> Factors:
        """Return the predictor with its personal part (what is left after centring) scaled."""
        users, items = self.vector
        left, right = compress(users[:, 1:], items[:, 1:], self.settings.width)
        return Factors(users[:, 0].copy(), items[:, 0].copy(), left, right).centred().personal(personal)
