"""Gaussian posteriors over the weights of a linear or a logistic model, updated in batches of rows.

Legend: n rows, W features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from recworld.packing import Arrays

Floats = npt.NDArray[np.float64]

NEWTON_STEPS = 25
"""Most Newton steps of one logistic update; two to four are usual, as the start is the last mean."""
CLOSE = 1e-10
"""A Newton step of this length ends the search."""


class Posterior:
    """Weights ~ Normal(mean, precision^-1).

    Args:
        prior: (W,) the mean before anything is seen.
        ridge: precision of every weight before anything is seen.

    Attributes:
        mean: (W,) float64.
        precision: (W, W) float64.
        root: (W, W) float64, the inverse of the precision's lower Cholesky factor: root^T root is the covariance.
    """

    logistic = False

    def __init__(self, prior: Floats, ridge: float) -> None:
        self.mean = np.array(prior, np.float64)
        self.precision = ridge * np.eye(len(self.mean))
        self._refresh()

    def _refresh(self) -> None:
        eye = np.eye(len(self.mean))
        lower = cholesky(self.precision, lower=True, check_finite=False)
        self.root: Floats = solve_triangular(lower, eye, lower=True, check_finite=False)

    def solve(self, right: Floats) -> Floats:
        """Return precision^-1 right, (W,)."""
        return np.asarray(self.root.T @ (self.root @ right))

    def update(self, rows: Floats, target: Floats) -> None:
        """Take in n observations.

        Args:
            rows: (n, W) features.
            target: (n,) what followed; 0 or 1 for the logistic model.
        """
        raise NotImplementedError

    def predict(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return <mean, row> of features (..., W), (...) float32: a logit in the logistic model."""
        return np.asarray(rows @ self.mean.astype(np.float32))

    def width(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the posterior's standard deviation of <weights, row>, sqrt(x^T A^-1 x), (...) float32."""
        return np.asarray(np.linalg.norm(rows @ self.root.T.astype(np.float32), axis=-1))

    def sample(self, count: int, scale: float, random: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return `count` draws of the weights from Normal(mean, scale^2 precision^-1), (count, W) float32."""
        noise = random.standard_normal((count, len(self.mean)))
        return np.asarray(self.mean + scale * noise @ self.root, np.float32)

    def arrays(self) -> Arrays:
        """Return mean and precision."""
        return {"mean": self.mean.copy(), "precision": self.precision.copy()}

    def load(self, arrays: Arrays) -> None:
        """Take the arrays of `arrays`.

        Raises:
            ValueError: of another width, or no precision.
        """
        mean, precision = (np.array(arrays[name], np.float64) for name in ("mean", "precision"))
        if mean.shape != self.mean.shape or precision.shape != self.precision.shape:
            raise ValueError(f"{mean.shape} weights, {self.mean.shape} expected")
        self.mean, self.precision = mean, precision
        self._refresh()  # numpy's LinAlgError is a ValueError


class LinearPosterior(Posterior):
    """Ridge regression: precision A = ridge I + sum x x^T, mean A^-1 (ridge prior + sum y x), with noise of variance 1.

    Li, Chu, Langford & Schapire (2010), "A contextual-bandit approach to personalized news article recommendation",
    algorithm 1 with one model for all arms.
    """

    def update(self, rows: Floats, target: Floats) -> None:
        """Take in n observations; see `Posterior.update`. Any split into batches gives the same posterior."""
        moment = self.precision @ self.mean + rows.T @ target
        self.precision += rows.T @ rows
        self._refresh()
        self.mean = self.solve(moment)


class LogisticPosterior(Posterior):
    """Logistic regression by Laplace's method: the last posterior is the prior of the next batch.

    The mean maximises the batch's log-likelihood plus the log-density of the last posterior, and the precision grows by
    sum p (1 - p) x x^T. Chapelle & Li (2011), "An empirical evaluation of Thompson sampling", algorithm 3, with the whole
    matrix in the place of its diagonal.
    """

    logistic = True

    def update(self, rows: Floats, target: Floats) -> None:
        """Take in n observations; see `Posterior.update`."""
        start, weights = self.mean, self.mean.copy()
        before = self.precision
        for _ in range(NEWTON_STEPS):
            chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -40, 40)))
            slope = rows.T @ (target - chance) - before @ (weights - start)
            self.precision = before + (rows * (chance * (1 - chance))[:, None]).T @ rows
            self._refresh()
            move = self.solve(slope)
            # A long Newton step can overshoot where the curvature vanishes: 4 is far on the scale of logits.
            move *= min(1.0, 4.0 / max(float(np.abs(rows @ move).max(initial=0.0)), 1e-12))
            weights = weights + move
            if np.abs(move).max() < CLOSE:
                break
        self.mean = weights
