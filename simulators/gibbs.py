"""Bayesian matrix factorisation with side information, by Gibbs sampling.

    y(u,i) = b_u + b_i + <p_u, q_i> + e,          e ~ Normal(0, 1 / (alpha_u w_row))
    (b_u, p_u) ~ Normal(W_U' x_u, Lambda_U^-1),   (b_i, q_i) ~ Normal(W_I' x_i, Lambda_I^-1)
    W ~ matrix normal with precision diag(lambda_block) x Lambda,   Lambda ~ Wishart,   lambda, alpha ~ Gamma

Sources: Salakhutdinov & Mnih (2008) for the factorisation, Simm et al. (2017, "Macau") for the link matrices.
y is the standardised rating, or the latent normal of an ordered level (`gibbs_ordinal`); effects of the moment of rating
(`gibbs_moments`) are added where time stamps are given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.seeding import generator
from recworld.simulators.gibbs_kernels import predict_rows, sample_side
from recworld.simulators.gibbs_moments import MomentEffects
from recworld.simulators.gibbs_ordinal import OrdinalLatents
from recworld.simulators.side_features import SideFeatures

Floats = npt.NDArray[np.float64]
Shorts = npt.NDArray[np.int32]

_CHUNK = 1 << 16
_PRIOR_ROWS = 20.0  # how many rows without any effect the shift of unseen members is shrunken by


@dataclass(frozen=True)
class GibbsPriors:
    """Strengths of the priors.

    Attributes:
        rank: factors beside the bias.
        noise_freedom: degrees of freedom of a user's noise precision around the common one; large means equal
            noise.
        link: prior mean of the precision of the link matrices.
        link_freedom: degrees of freedom of that prior.
        constant: the same precision for the constant feature: small where the mean is far from 0.
        spread: prior scale of what the features leave of a factor's variance.
    """

    rank: int
    noise_freedom: float
    link: float = 1.0
    link_freedom: float = 1.0
    constant: float = 1.0
    spread: float = 0.2


class GibbsSide:
    """The vectors of one side (all users or all items) with their hierarchical prior.

    Args:
        own: (n,) numbers of this side, row by row.
        partner: (n,) numbers of the other side.
        features: features of this side's members.
        priors: rank and prior strengths.
        random: source of all draws.

    Attributes:
        vector: (size, 1 + rank): bias and factors, the current draw.
        middle: (size, 1 + rank): the mean of that draw given everything else.
    """

    def __init__(
        self, own: Shorts, partner: Shorts, features: SideFeatures, priors: GibbsPriors,
        random: np.random.Generator,
    ) -> None:  # fmt: skip
        self.features, self.priors, self.random = features, priors, random
        size, width = len(features.values), 1 + priors.rank
        self.order = np.argsort(own, kind="stable")
        self.start = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=size))]).astype(np.int64)
        self.partner = np.ascontiguousarray(partner[self.order])
        self.has_rows = np.diff(self.start) > 0
        self.vector = 0.1 * random.standard_normal((size, width))
        self.vector[:, 0] = 0.0
        self.middle = self.vector.copy()
        self.link = np.zeros((features.values.shape[1], width))
        self.precision = np.diag([4.0] + [2.0] * priors.rank)
        self.block_precision = np.full(features.block.max() + 1, priors.link)
        self.block_precision[0] = priors.constant
        # The hierarchy learns only from members with rows: the others are their own prior mean.
        self.gram = features.values[self.has_rows].T @ features.values[self.has_rows]

    def sample_prior(self) -> None:
        """Draw Lambda, W and the block precisions given the vectors."""
        values, vector = self.features.values[self.has_rows], self.vector[self.has_rows]
        size, width = vector.shape
        penalty = self.block_precision[self.features.block]
        gap = vector - values @ self.link
        scatter = gap.T @ gap + (self.link * penalty[:, None]).T @ self.link
        freedom = width + 1.0
        scale = np.linalg.inv(np.eye(width) * freedom * self.priors.spread + scatter)
        self.precision = _wishart(scale, freedom + size + len(penalty), self.random)
        root = np.linalg.cholesky(np.linalg.inv(self.precision))
        # Noise injection (Simm et al. 2017): the solution of a perturbed ridge problem is a draw of W.
        shaken = values.T @ (vector + self.random.standard_normal(vector.shape) @ root.T)
        shaken += np.sqrt(penalty)[:, None] * (self.random.standard_normal(self.link.shape) @ root.T)
        self.link = np.linalg.solve(self.gram + np.diag(penalty), shaken)
        for block in range(1, len(self.block_precision)):
            part = self.link[self.features.block == block]
            spread = float(np.einsum("ij,jk,ik->", part, self.precision, part))
            shape = 0.5 * (self.priors.link_freedom + part.size)
            rate = 0.5 * (self.priors.link_freedom / self.priors.link + spread)
            self.block_precision[block] = self.random.gamma(shape) / rate

    def sample_vectors(self, weight: Floats, target: Floats, other: Floats) -> None:
        """Draw all vectors given those of the other side; `weight` and `target` in the order of the log's rows."""
        noise = self.random.standard_normal(self.vector.shape)
        mean = self.features.values @ self.link
        sample_side(
            self.start, self.partner, np.ascontiguousarray(target[self.order]),
            np.ascontiguousarray(weight[self.order]), other, mean, self.precision, noise, self.vector,
            self.middle,
        )  # fmt: skip

    def place_unseen(self, other: Floats) -> None:
        """Move members without rows from their prior mean to what a *rated* pair makes one expect.

        People rate what they like: over the log's rows, vectors fit their partners better than what text tells of them
        does. The mean of that difference, as a vector fitted to the rows by least squares, holds for someone new too.

        Args:
            other: vectors of the other side.
        """
        if self.has_rows.all() or not self.has_rows.any():
            return
        told = self.features.expected @ self.link
        ahead, owner = self.middle - told, np.repeat(np.arange(len(told)), np.diff(self.start))
        gram, linear = np.zeros((ahead.shape[1],) * 2), np.zeros(ahead.shape[1])
        for at in range(0, len(owner), _CHUNK):
            partner = other[self.partner[at : at + _CHUNK]]
            partner[:, 0] = 1.0
            gram += partner.T @ partner
            linear += partner.T @ np.einsum("nw,nw->n", ahead[owner[at : at + _CHUNK]], partner)
        gram += np.diag(_PRIOR_ROWS * np.maximum(gram.diagonal() / len(owner), 1e-9))
        shift = np.linalg.solve(gram, linear)
        self.vector[~self.has_rows] = self.middle[~self.has_rows] = told[~self.has_rows] + shift


def _wishart(scale: Floats, freedom: float, random: np.random.Generator) -> Floats:
    """Draw from Wishart(scale, freedom) by Bartlett's decomposition."""
    width = len(scale)
    lower = np.tril(random.standard_normal((width, width)), -1)
    lower[np.diag_indices(width)] = np.sqrt(random.chisquare(freedom - np.arange(width)))
    factor = np.linalg.cholesky((scale + scale.T) / 2) @ lower
    return np.asarray(factor @ factor.T)


class GibbsChain:
    """One Markov chain over the parameters.

    Args:
        user: (n,) user numbers of the training rows.
        item: (n,) item numbers.
        target: (n,) standardised ratings; not read where there are latents.
        user_features: features of the U users.
        item_features: features of the I items.
        priors: rank and prior strengths.
        seed: seed of the chain; two chains of one seed are equal bit for bit.
        weight: (n,) what a row's precision is multiplied by; 1 by default.
        latents: ordered levels, where the rows hold them.
        moments: effects of the moment of rating, where it is known.
    """

    def __init__(
        self, user: Shorts, item: Shorts, target: Floats, user_features: SideFeatures,
        item_features: SideFeatures, priors: GibbsPriors, seed: int, weight: Floats | None = None,
        latents: OrdinalLatents | None = None, moments: MomentEffects | None = None,
    ) -> None:  # fmt: skip
        self.priors = priors
        self._weight, self._latents, self.moments = weight, latents, moments
        self.random = generator(seed, "gibbs")
        self._user, self._item, self._target = user, item, target
        self._users = GibbsSide(user, item, user_features, priors, self.random)
        self._items = GibbsSide(item, user, item_features, priors, self.random)
        self._count = np.bincount(user, minlength=len(user_features.values))
        # The scale of latent normals is free: there the common noise is 1, and the thresholds follow.
        self._common_precision = 1.5 if latents is None else 1.0
        self.noise_precision = np.full(len(self._count), self._common_precision)

    @property
    def user_vector(self) -> Floats:
        """(U, 1 + rank): bias and factors of users given all else, the mean of the current draw (Rao & Blackwell)."""
        return self._users.middle

    @property
    def item_vector(self) -> Floats:
        """(I, 1 + rank): bias and factors of items, the current draw."""
        return self._items.vector

    def step(self) -> None:
        """Draw everything once; users come after items, so that `user_vector` belongs to `item_vector`."""
        weight = self.noise_precision[self._user]
        if self._weight is not None:
            weight = weight * self._weight
        shared = 0.0 if self.moments is None else self.moments.rows()
        if self._latents is not None:
            self._target = self._latents.draw(self._draws() + shared, weight, self.random)
        target = np.asarray(self._target - shared)
        self._items.sample_prior()
        self._items.sample_vectors(weight, target, self._users.vector)
        self._users.sample_prior()
        self._users.sample_vectors(weight, target, self._items.vector)
        rest = self._target - self._draws()
        if self.moments is not None:
            self.moments.step(rest, weight, self.random)
            rest = rest - self.moments.rows()
        self._sample_noise(rest)

    def place_unseen(self) -> None:
        """Place users and items without rows; to be called where a sample is used."""
        items = self._items.vector.copy()
        self._items.place_unseen(self._users.middle)
        self._users.place_unseen(items)

    def predict(self, user: Shorts, item: Shorts) -> Floats:
        """Return the (n,) predictions of the current sample, without effects of moments."""
        out = np.empty(len(user))
        predict_rows(user, item, self.user_vector, self.item_vector, out)
        return out

    def _draws(self) -> Floats:
        out = np.empty(len(self._user))
        predict_rows(self._user, self._item, self._users.vector, self._items.vector, out)
        return out

    def _sample_noise(self, gap: Floats) -> None:
        square = gap**2 if self._weight is None else self._weight * gap**2
        squares = np.bincount(self._user, square, minlength=len(self._count))
        freedom = self.priors.noise_freedom
        shape = 0.5 * (freedom + self._count)
        rate = 0.5 * (freedom / self._common_precision + squares)
        # A log without noise (a few identical ratings) must not send the precision to infinity.
        self.noise_precision = np.minimum(self.random.gamma(shape) / rate, 1e4)
        if self._latents is not None:
            return
        shape_common = 1.0 + 0.5 * freedom * len(self._count)
        rate_common = 1.0 + 0.5 * freedom * self.noise_precision.sum()
        self._common_precision = rate_common / self.random.gamma(shape_common)
