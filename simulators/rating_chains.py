"""The chains of a rating fit: cross-fitted ones for the observation model, and one per member."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray, IntArray, RatingScale
from recworld.seeding import child_seed, generator
from recworld.simulators.factors import Factors, Mixture
from recworld.simulators.gibbs import GibbsChain, GibbsPriors
from recworld.simulators.gibbs_moments import MomentEffects, Moments, moment_effect
from recworld.simulators.gibbs_ordinal import OrdinalLatents
from recworld.simulators.rating_rows import RatingRows
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.side_features import side_features

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FittedMoments:
    """The effects of moments in one member, averaged over its samples.

    Attributes:
        moments: the moments of the training rows.
        level: (P,) the user's slowly changing level at each, in units of the rating.
        page: (P,) what its rows have in common beyond that.
        rho: correlation of neighbouring levels.
    """

    moments: Moments
    level: Floats
    page: Floats
    rho: float

    def predict(self, user: IntArray, time: npt.NDArray[np.int64]) -> Floats:
        """Return the effect at any times of users, (n,)."""
        return moment_effect(self.level, self.page, self.rho, *self.moments.locate(user, time))


class ChainFitter:
    """What the chains of one fit share: standardisation, vectors, settings.

    Args:
        rows: the rows of the fit.
        user_vector: (U, D) text vectors.
        item_vector: (I, D) text vectors.
        scale: the rating scale.
        settings: settings of the model.
        seed: seed of the fit.

    Attributes:
        centre: rating at which the predictor of a chain is 0; known after `cross_fit`, as is `unit`.
        unit: rating units per unit of a chain's predictor.
    """

    def __init__(
        self, rows: RatingRows, user_vector: FloatArray, item_vector: FloatArray, scale: RatingScale,
        settings: RatingSettings, seed: int,
    ) -> None:  # fmt: skip
        self.rows, self.user_vector, self.item_vector = rows, user_vector, item_vector
        self.scale, self.settings, self.seed = scale, settings, seed
        self.centre = float(rows.rating.mean(dtype=np.float64))
        smallest = max(0.01 * (scale.high - scale.low), 1e-6)
        self.unit = max(float(rows.rating.std(dtype=np.float64)), smallest)
        self.target = (rows.rating.astype(np.float64) - self.centre) / self.unit
        self.priors = GibbsPriors(settings.rank, settings.noise_freedom, settings.link_precision)
        self.timed = settings.moments and rows.time is not None
        self.ordinal = settings.ordinal and scale.kind == "discrete" and len(np.unique(rows.rating)) > 1

    def chain(self, rows: RatingRows, *name: str | int) -> GibbsChain:
        """Start a chain on rows."""
        s, users, items = self.settings, len(self.user_vector), len(self.item_vector)
        seed = child_seed(self.seed, *name)
        user_features = side_features(
            rows.user, rows.item, users, items, self.user_vector, s.text_rank, s.implicit_rank, seed
        )
        item_features = side_features(
            rows.item, rows.user, items, users, self.item_vector, s.text_rank, s.implicit_rank, seed
        )
        target = (rows.rating.astype(np.float64) - self.centre) / self.unit
        latents = moments = None
        if self.ordinal:
            levels = np.asarray(self.scale.levels, np.float64)
            latents = OrdinalLatents(np.abs(levels - rows.rating[:, None]).argmin(1), len(levels))
        if self.timed and rows.time is not None:
            moments = MomentEffects(Moments(rows.user, rows.time, users))
        return GibbsChain(
            rows.user, rows.item, target, user_features, item_features, self.priors, seed,
            None if rows.weight is None else rows.weight.astype(np.float64), latents, moments,
        )  # fmt: skip

    def member(
        self, iterations: int, number: int, advance: Callable[[int], None]
    ) -> tuple[Factors, FittedMoments | None]:
        """Run a chain on all rows and average the last samples."""
        s, chain = self.settings, self.chain(self.rows, "member", number)
        mixture, effects = Mixture(s.width), chain.moments
        level, page, rho = (0.0, 0.0, 0.0) if effects is None else (0 * effects.level, 0 * effects.page, 0.0)
        share = 1.0 / s.samples_per_member
        first = iterations - (s.samples_per_member - 1) * s.thinning
        for step in range(1, iterations + 1):
            chain.step()
            if step >= first and (iterations - step) % s.thinning == 0:
                chain.place_unseen()
                mixture.add(chain.user_vector, chain.item_vector)
                if effects is not None:
                    level = level + share * self.unit * effects.level
                    page = page + share * self.unit * effects.page
                    rho += share * effects.rho
            advance(1)
        factors = mixture.factors(self.centre, self.unit)
        if effects is None:
            return factors, None
        return factors, FittedMoments(effects.moments, np.asarray(level), np.asarray(page), rho)

    def cross_fit(self, advance: Callable[[int], None]) -> tuple[Floats, int]:
        """Predict every row from chains that did not see it.

        Returns:
            (n,) out-of-fold eta in rating units, the average of as many samples as a member has; and the
            number of iterations after which that average stopped improving.
        """
        s, n = self.settings, len(self.rows)
        part = generator(self.seed, "folds").permutation(n) % s.folds
        held = [np.flatnonzero(part == f) for f in range(s.folds)]
        with ThreadPoolExecutor(s.threads) as pool:
            chains = list(
                pool.map(lambda f: self.chain(self.rows.take(part != f), "fold", f), range(s.folds))
            )
            kept: list[FloatArray] = []
            best, stale, step = np.inf, 0, 0
            least = s.burn_in + s.samples_per_member * s.thinning
            while step < max(s.max_iterations, least):
                steps = s.burn_in if step == 0 else s.thinning

                def go_on(fold: int, steps: int = steps) -> Floats:
                    for _ in range(steps):
                        chains[fold].step()
                    return self._predict(chains[fold], self.rows.take(held[fold]))

                parts = list(pool.map(go_on, range(s.folds)))
                step += steps
                advance(steps * s.folds)
                if step == s.burn_in:
                    continue
                drawn = np.empty(n)
                for rows, values in zip(held, parts, strict=True):
                    drawn[rows] = values
                kept = [*kept, drawn.astype(np.float32)][-s.samples_per_member :]
                error = _unexplained(np.mean(kept, axis=0, dtype=np.float64), self.target)
                stale = 0 if error < best * (1 - s.improvement) else stale + 1
                best = min(best, error)
                if stale >= s.patience and step >= least:
                    break
        return self._to_rating_units(np.mean(kept, axis=0, dtype=np.float64)), step

    def _predict(self, chain: GibbsChain, rows: RatingRows) -> Floats:
        chain.place_unseen()
        guess = chain.predict(rows.user, rows.item)
        if chain.moments is None or rows.time is None:
            return guess
        return guess + chain.moments.predict(*chain.moments.moments.locate(rows.user, rows.time))

    def _to_rating_units(self, guess: Floats) -> Floats:
        """Return out-of-fold predictors in rating units; those of latent levels by regression of the ratings on them."""
        if self.ordinal:
            spread = float(guess.var())
            slope = float(np.mean((guess - guess.mean()) * self.target)) / spread if spread > 1e-9 else 1.0
            self.centre -= self.unit * slope * float(guess.mean())
            self.unit *= max(slope, 1e-3)
        return np.asarray(self.centre + self.unit * guess)


def _unexplained(guess: Floats, target: Floats) -> float:
    """Return the mean squared error of the best linear function of a guess."""
    spread = float(guess.var())
    if spread < 1e-12:
        return float(target.var())
    return (
        float(target.var()) - float(np.mean((guess - guess.mean()) * (target - target.mean()))) ** 2 / spread
    )
