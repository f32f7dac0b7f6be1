"""The rating model from text alone: what two texts say, with no term of a user's or an item's own.

    eta(u,i) = mean + <w, f_u> + <v, g_i> + f_u' B g_i        f, g: centred text vectors; B in principal components

Members with the same text are one member to it, and an item that nobody rated is predicted as well as any. With a language
model that was fine-tuned on ratings this is the text-only model h(f(x_u), g(x_i)) as the source of a world.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from recworld.encoders.text_ridge import Additive, choose_additive, fit_additive
from recworld.encoders.tuning_data import Pairs
from recworld.logs.log import FloatArray
from recworld.seeding import generator
from recworld.simulators.factors import Factors
from recworld.simulators.rating_rows import RatingRows
from recworld.simulators.rating_settings import RatingSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
COMPONENTS = 24
"""Principal components of each side's vectors whose products are weighed; COMPONENTS^2 weights."""
PENALTIES = (1e3, 3e3, 1e4, 3e4, 1e5, 1e6)
"""Of the squared weights of products, on components of unit variance, beside the sum of squared errors."""
BLOCK = 8192


class TextFitter:
    """Fits members of the text-only model to rows.

    Args:
        rows: the rows of the fit.
        user_vector: (U, D) text vectors of all users; zeros where there is no text.
        item_vector: (I, D) text vectors of all items.
        settings: settings of the rating model; `folds` and `width` are read.
        seed: seed of the fit.
    """

    def __init__(
        self, rows: RatingRows, user_vector: FloatArray, item_vector: FloatArray, settings: RatingSettings,
        seed: int,
    ) -> None:  # fmt: skip
        self.rows, self.settings, self.seed = rows, settings, seed
        self.target = rows.rating.astype(np.float64)
        # Rows count, not members: a vector is centred on that of the average row.
        self.vectors = (
            _centred(user_vector, rows.user),
            _centred(item_vector, rows.item),
        )
        self.parts = tuple(_components(vectors) for vectors in self.vectors)
        self.pairs = Pairs(rows.user.astype(np.int64), rows.item.astype(np.int64), rows.rating)
        self.weight = np.ones(len(rows)) if rows.weight is None else rows.weight.astype(np.float64)

    def cross_fit(self) -> tuple[Floats, float]:
        """Return out-of-fold predictors (n,), and the penalty of products that served them best.

        The penalties of both sides are chosen on the first fold.
        """
        n = len(self.rows)
        part = generator(self.seed, "text", "folds").permutation(n) % self.settings.folds
        self.penalties = choose_additive(
            self.vectors, self.pairs.take(part != 0), self.target[part != 0], self.pairs.take(part == 0),
            self.target[part == 0],
        ).penalties  # fmt: skip
        eta = np.zeros((len(PENALTIES), n))
        for fold in range(self.settings.folds):
            held = part == fold
            plain = self._additive(~held, self.weight[~held])
            base = plain.predict(*self.vectors, self.pairs)
            for row, products in enumerate(self._products(base, ~held, self.weight[~held], PENALTIES)):
                eta[row, held] = base[held] + self._applied(products, held)
        errors = ((eta - self.target) ** 2 * self.weight).mean(axis=1)
        best = int(np.argmin(errors))
        return eta[best], PENALTIES[best]

    def member(self, number: int, penalty: float) -> Factors:
        """Return one member: the fit with users weighed anew (Bayesian bootstrap, Rubin 1981), the first as they are."""
        weight = self.weight
        if number:
            drawn = generator(self.seed, "text", "member", number).standard_exponential(len(self.vectors[0]))
            weight = weight * drawn[self.rows.user]
        every = np.ones(len(self.rows), np.bool_)
        plain = self._additive(every, weight)
        base = plain.predict(*self.vectors, self.pairs)
        products = self._products(base, every, weight, (penalty,))[0]
        left, size, right = np.linalg.svd(products, full_matrices=False)
        keep = min(self.settings.width, len(size))
        root = np.sqrt(size[:keep])
        factors = Factors(
            plain.mean + self.vectors[0] @ plain.user,
            self.vectors[1] @ plain.item,
            self.parts[0] @ (left[:, :keep] * root),
            self.parts[1] @ (right[:keep].T * root),
        )
        return _padded(factors, self.settings.width).centred()

    def _additive(self, chosen: npt.NDArray[np.bool_], weight: Floats) -> Additive:
        return fit_additive(
            *self.vectors, self.pairs.take(chosen), self.target[chosen], self.penalties, weight
        )

    def _products(
        self, base: Floats, chosen: npt.NDArray[np.bool_], weight: Floats, penalties: tuple[float, ...]
    ) -> list[Floats]:
        """Return B (a, b) for each penalty, fitted to what `base` leaves of chosen rows."""
        a, b = (part.shape[1] for part in self.parts)
        gram, linear = np.zeros((a * b, a * b)), np.zeros(a * b)
        rows = np.flatnonzero(chosen)
        for at in range(0, len(rows), BLOCK):
            block, w = rows[at : at + BLOCK], weight[at : at + BLOCK]
            x = self._design(block)
            gram += x.T @ (w[:, None] * x)
            linear += x.T @ (w * (self.target[block] - base[block]))
        eye = np.eye(a * b)
        solved = (np.linalg.solve(gram + penalty * eye, linear) for penalty in penalties)
        return [np.asarray(weights.reshape(a, b), np.float64) for weights in solved]

    def _design(self, rows: Ints) -> Floats:
        user, item = self.parts[0][self.pairs.user[rows]], self.parts[1][self.pairs.item[rows]]
        return np.asarray(np.einsum("na,nb->nab", user, item).reshape(len(rows), -1))

    def _applied(self, products: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
        user, item = (
            part[getattr(self.pairs, s)[chosen]] for part, s in zip(self.parts, ("user", "item"), strict=True)
        )
        return np.asarray(np.einsum("na,ab,nb->n", user, products, item, optimize=True))


def fit_text(
    rows: RatingRows, user_vector: FloatArray, item_vector: FloatArray, settings: RatingSettings, members: int,
    seed: int, advance: Callable[[int], None],
) -> tuple[list[Factors], Floats, dict[str, float]]:  # fmt: skip
    """Return M members, out-of-fold predictors (n,) in units of the rating, and the penalties that were chosen."""
    fitter = TextFitter(rows, user_vector, item_vector, settings, seed)
    eta, penalty = fitter.cross_fit()
    advance(settings.folds)
    fitted = []
    for number in range(members):
        fitted.append(fitter.member(number, penalty))
        advance(1)
    user, item = fitter.penalties
    return fitted, eta, {"user_penalty": user, "item_penalty": item, "product_penalty": penalty}


def _centred(vectors: FloatArray, numbers: npt.NDArray[np.int32]) -> Floats:
    """Return vectors around that of the average row; those without a text stand there."""
    told = np.asarray(vectors.any(axis=1))
    rows = numbers[told[numbers]]
    middle = vectors[rows].mean(axis=0, dtype=np.float64) if len(rows) else 0.0
    return np.where(told[:, None], vectors - middle, 0.0)


def _components(vectors: Floats) -> Floats:
    """Return (n, P) leading principal components of unit mean square; one column of zeros where nothing varies."""
    left, size, _ = np.linalg.svd(vectors, full_matrices=False)
    keep = min(COMPONENTS, int((size > 1e-6 * max(float(size[0]), 1e-12)).sum()))
    if keep == 0 or size[0] < 1e-9:
        return np.zeros((len(vectors), 1))
    return np.asarray(left[:, :keep] * np.sqrt(len(vectors)))


def _padded(factors: Factors, width: int) -> Factors:
    """Return the factors with columns of zeros up to `width`, which all members of a world share."""
    missing = width - factors.user.shape[1]
    if missing <= 0:
        return factors
    return Factors(
        factors.user_bias,
        factors.item_bias,
        np.pad(factors.user, ((0, 0), (0, missing))),
        np.pad(factors.item, ((0, 0), (0, missing))),
    )
