"""The rating model: members of a Bayesian factorisation, and one link from the predictor to ratings.

Every chain is a posterior; a *member* is the average of a few thinned samples of one chain, which is bilinear
again and is compressed to `width` factors. The observation model is fitted on out-of-fold predictors of the
same kind, so that the spread of simulated ratings is that of a prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import FloatArray, IntArray, RatingScale
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.simulators.factors import Factors, Mixture
from recworld.simulators.gibbs import GibbsChain, GibbsPriors
from recworld.simulators.observation import ObservationModel, accuracy_figures, fit_observation
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.side_features import side_features

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RatingRows:
    """The rows of a fit.

    Attributes:
        user: (n,) int32 user numbers.
        item: (n,) int32 item numbers.
        rating: (n,) float32.
        weight: (n,) float32, positive: precision of a row against that of others, mean 1; None is 1 everywhere. A row of
            weight w counts as w rows.
    """

    user: IntArray
    item: IntArray
    rating: FloatArray
    weight: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.weight is None:
            return
        if self.weight.shape != self.user.shape:
            raise InputError(f"Row weights must have shape {self.user.shape}. Got {self.weight.shape}.")
        if not (np.isfinite(self.weight).all() and (self.weight > 0).all()):
            raise InputError("Row weights must be positive and finite.")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[Any]) -> RatingRows:
        """Return the chosen rows (numbers or a mask)."""
        weight = None if self.weight is None else self.weight[rows]
        return RatingRows(self.user[rows], self.item[rows], self.rating[rows], weight)


@dataclass(frozen=True)
class RatingFit:
    """A fitted rating model.

    Attributes:
        members: M members, in units of the rating.
        observation: how eta becomes a rating; the same for all members.
        report: figures of the fit, JSON-ready; the errors are out-of-fold, for a single member.
    """

    members: tuple[Factors, ...]
    observation: ObservationModel
    report: dict[str, Any]

    def predictor(self, user: IntArray, item: IntArray, member: int) -> Floats:
        """Return eta, (n,), of one member."""
        return self.members[member].predict(user, item)

    def distribution(self, user: IntArray, item: IntArray, members: Sequence[int] | None = None) -> Floats:
        """Return P(r = levels[c]), (n, R), averaged over members (all by default): probabilities, never eta."""
        return self._average(self.observation.levels, user, item, members)

    def predict(self, user: IntArray, item: IntArray, members: Sequence[int] | None = None) -> Floats:
        """Return the mean of the predictive distribution, (n,)."""
        return self._average(self.observation.mean, user, item, members)

    def liked(self, user: IntArray, item: IntArray, members: Sequence[int] | None = None) -> Floats:
        """Return the probability of a rating from `scale.liked_from` up, (n,)."""
        return self._average(self.observation.liked, user, item, members)

    def accuracy(self, rows: RatingRows, members: Sequence[int] | None = None) -> dict[str, float]:
        """Return the figures of `accuracy_figures` on rows."""
        mean, liked = self.predict(rows.user, rows.item, members), self.liked(rows.user, rows.item, members)
        return accuracy_figures(mean, liked, rows.rating, self.observation.scale)

    def _average(
        self, read: Callable[[Floats, IntArray], Floats], user: IntArray, item: IntArray,
        members: Sequence[int] | None,
    ) -> Floats:  # fmt: skip
        chosen = range(len(self.members)) if members is None else members
        parts = [read(self.predictor(user, item, m), user) for m in chosen]
        return np.asarray(np.mean(parts, axis=0))

    def tables(self) -> dict[str, FloatArray]:
        """Return the rating part of `ResponseTables`, float32, by field name; "taste" and "item" are (M, ., Fr)."""
        count = len(self.members)

        def stack(pick: Callable[[Factors], Floats]) -> FloatArray:
            return np.stack([pick(m) for m in self.members]).astype(np.float32)

        def repeat(value: Floats) -> FloatArray:
            return np.repeat(value[None].astype(np.float32), count, axis=0)

        return {
            "taste": stack(lambda m: m.user),
            "item": stack(lambda m: m.item),
            "user_rating_bias": stack(lambda m: m.user_bias),
            "item_rating_bias": stack(lambda m: m.item_bias),
            "thresholds": repeat(self.observation.link.thresholds),
            "user_shift": repeat(self.observation.link.user_shift),
            "user_scale": repeat(self.observation.link.user_scale),
            "user_sigma": repeat(self.observation.user_sigma),
        }


class _Fitter:
    """What the chains of one fit share: standardisation, vectors, settings."""

    def __init__(
        self, rows: RatingRows, user_vector: FloatArray, item_vector: FloatArray, scale: RatingScale,
        settings: RatingSettings, seed: int,
    ) -> None:  # fmt: skip
        self.rows, self.user_vector, self.item_vector = rows, user_vector, item_vector
        self.scale, self.settings, self.seed = scale, settings, seed
        self.centre = float(rows.rating.mean(dtype=np.float64))
        smallest = max(0.01 * (scale.high - scale.low), 1e-6)
        self.unit = max(float(rows.rating.std(dtype=np.float64)), smallest)
        freedom = settings.noise_freedom
        self.priors = GibbsPriors(settings.rank, freedom, settings.link_precision)

    def chain(self, rows: RatingRows, *name: str | int) -> GibbsChain:
        s, users, items = self.settings, len(self.user_vector), len(self.item_vector)
        seed = child_seed(self.seed, *name)
        user_features = side_features(
            rows.user, rows.item, users, items, self.user_vector, s.text_rank, s.implicit_rank, seed
        )
        item_features = side_features(
            rows.item, rows.user, items, users, self.item_vector, s.text_rank, s.implicit_rank, seed
        )
        target = (rows.rating.astype(np.float64) - self.centre) / self.unit
        weight = None if rows.weight is None else rows.weight.astype(np.float64)
        return GibbsChain(
            rows.user, rows.item, target, user_features, item_features, self.priors, seed, weight=weight
        )

    def member(self, iterations: int, number: int, advance: Callable[[int], None]) -> Factors:
        """Run a chain on all rows and average the last samples."""
        s, chain = self.settings, self.chain(self.rows, "member", number)
        mixture = Mixture(s.width)
        first = iterations - (s.samples_per_member - 1) * s.thinning
        for step in range(1, iterations + 1):
            chain.step()
            if step >= first and (iterations - step) % s.thinning == 0:
                mixture.add(chain.user_vector, chain.item_vector)
            advance(1)
        return mixture.factors(self.centre, self.unit)

    def cross_fit(self, advance: Callable[[int], None]) -> tuple[Floats, int]:
        """Predict every row from chains that did not see it.

        Returns:
            (n,) out-of-fold eta in rating units, the average of as many samples as a member has; and the
            number of iterations after which that average stopped improving.
        """
        s, n = self.settings, len(self.rows)
        part = generator(self.seed, "folds").permutation(n) % s.folds
        held = [np.flatnonzero(part == f) for f in range(s.folds)]
        chains = [self.chain(self.rows.take(part != f), "fold", f) for f in range(s.folds)]
        target = (self.rows.rating - self.centre) / self.unit
        kept: list[Floats] = []
        best, stale, step = np.inf, 0, 0
        least = s.burn_in + s.samples_per_member * s.thinning
        with ThreadPoolExecutor(s.threads) as pool:

            def go_on(fold: int, steps: int) -> None:
                for _ in range(steps):
                    chains[fold].step()

            while step < max(s.max_iterations, least):
                steps = s.burn_in if step == 0 else s.thinning
                list(pool.map(go_on, range(s.folds), [steps] * s.folds))
                step += steps
                advance(steps * s.folds)
                if step == s.burn_in:
                    continue
                drawn = np.empty(n)
                for rows, chain in zip(held, chains, strict=True):
                    drawn[rows] = chain.predict(self.rows.user[rows], self.rows.item[rows])
                kept = [*kept, drawn][-s.samples_per_member :]
                error = float(np.mean((np.mean(kept, axis=0) - target) ** 2))
                stale = 0 if error < best * (1 - s.improvement) else stale + 1
                best = min(best, error)
                if stale >= s.patience and step >= least:
                    break
        return self.centre + self.unit * np.mean(kept, axis=0), step


def fit_rating(
    rows: RatingRows, user_vector: FloatArray, item_vector: FloatArray, scale: RatingScale,
    settings: RatingSettings, members: int, seed: int,
) -> RatingFit:  # fmt: skip
    """Fit the rating model on `rows`.

    The number of iterations and the observation model come from cross-fitting inside `rows`; the members are
    then fitted on all of them.

    Args:
        rows: the rows of the fit.
        user_vector: (U, D) text vectors of all users; zeros where there is no text.
        item_vector: (I, D) text vectors of all items.
        scale: the rating scale, discrete or continuous.
        settings: settings of the model.
        members: M.
        seed: seed of the fit; the same seed gives the same bits.
    """
    fitter = _Fitter(rows, user_vector, item_vector, scale, settings, seed)
    with bar(None, "rating model", "iteration") as shown:
        eta, iterations = fitter.cross_fit(shown.update)
        with ThreadPoolExecutor(settings.threads) as pool:
            jobs = [pool.submit(fitter.member, iterations, m, shown.update) for m in range(members)]
            fitted = tuple(job.result() for job in jobs)
    observe = fit_observation(eta, rows.rating, rows.user, len(user_vector), scale)
    outside = accuracy_figures(
        observe.mean(eta, rows.user), observe.liked(eta, rows.user), rows.rating, scale
    )
    report = {
        "rows": len(rows),
        "iterations": iterations,
        "folds": settings.folds,
        "out_of_fold_member": outside,
    }
    return RatingFit(fitted, observe, report)
