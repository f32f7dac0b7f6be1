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
from threadpoolctl import threadpool_limits

from recworld.errors import InputError
from recworld.logs.log import FloatArray, IntArray, RatingScale
from recworld.progress import bar
from recworld.simulators.factors import Factors
from recworld.simulators.observation import ObservationModel, accuracy_figures, fit_observation
from recworld.simulators.rating_chains import ChainFitter, FittedMoments
from recworld.simulators.rating_rows import RatingRows
from recworld.simulators.rating_settings import RatingSettings
from recworld.simulators.rating_text import fit_text

__all__ = ["RatingFit", "RatingRows", "fit_rating"]

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RatingFit:
    """A fitted rating model.

    Attributes:
        members: M members, in units of the rating.
        observation: how eta becomes a rating; the same for all members.
        report: figures of the fit, JSON-ready; the errors are out-of-fold, for a single member.
        moments: effects of the moment of rating, by member; empty where they were not asked for. Simulated users rate at
            no date, so a world is made from a fit without.
        outside: (n,) predictors of the fitted rows by chains that did not see them, in units of the rating.
    """

    members: tuple[Factors, ...]
    observation: ObservationModel
    report: dict[str, Any]
    moments: tuple[FittedMoments, ...] = ()
    outside: Floats | None = None

    def predictor(self, user: IntArray, item: IntArray, member: int, time: Times | None = None) -> Floats:
        """Return eta, (n,), of one member; without `time`, at a moment of which nothing is known."""
        eta = self.members[member].predict(user, item)
        if time is None or not self.moments:
            return eta
        return eta + self.moments[member].predict(user, time)

    def distribution(
        self, user: IntArray, item: IntArray, members: Sequence[int] | None = None, time: Times | None = None
    ) -> Floats:
        """Return P(r = levels[c]), (n, R), averaged over members (all by default): probabilities, never eta."""
        return self._average(self.observation.levels, user, item, members, time)

    def predict(
        self, user: IntArray, item: IntArray, members: Sequence[int] | None = None, time: Times | None = None
    ) -> Floats:
        """Return the mean of the predictive distribution, (n,)."""
        return self._average(self.observation.mean, user, item, members, time)

    def liked(
        self, user: IntArray, item: IntArray, members: Sequence[int] | None = None, time: Times | None = None
    ) -> Floats:
        """Return the probability of a rating from `scale.liked_from` up, (n,)."""
        return self._average(self.observation.liked, user, item, members, time)

    def accuracy(self, rows: RatingRows, members: Sequence[int] | None = None) -> dict[str, float]:
        """Return the figures of `accuracy_figures` on rows, with their times where the fit has moments."""
        where = (rows.user, rows.item, members, rows.time)
        return accuracy_figures(self.predict(*where), self.liked(*where), rows.rating, self.observation.scale)

    def _average(
        self, read: Callable[[Floats, IntArray], Floats], user: IntArray, item: IntArray,
        members: Sequence[int] | None, time: Times | None,
    ) -> Floats:  # fmt: skip
        chosen = range(len(self.members)) if members is None else members
        parts = [read(self.predictor(user, item, m, time), user) for m in chosen]
        return np.asarray(np.mean(parts, axis=0))

    def tables(self) -> dict[str, FloatArray]:
        """Return the rating part of `ResponseTables`, float32, by field name; "taste" and "item" are (M, ., Fr).

        Raises:
            InputError: the fit has effects of moments, which simulated users do not know.
        """
        if self.moments:
            raise InputError(
                "A world is made from a rating fit without moments. Got one with: set moments to false."
            )
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
    if settings.source == "text":
        return _from_text(rows, user_vector, item_vector, scale, settings, members, seed)
    fitter = ChainFitter(rows, user_vector, item_vector, scale, settings, seed)
    # The matrices are small: threads of the linear algebra gain nothing, and wait for each other on a busy machine.
    with threadpool_limits(1), bar(None, "rating model", "iteration") as shown:
        eta, iterations = fitter.cross_fit(shown.update)
        with ThreadPoolExecutor(settings.threads) as pool:
            jobs = [pool.submit(fitter.member, iterations, m, shown.update) for m in range(members)]
            fitted = [job.result() for job in jobs]
    observe = fit_observation(eta, rows.rating, rows.user, len(user_vector), scale)
    outside = accuracy_figures(
        observe.mean(eta, rows.user), observe.liked(eta, rows.user), rows.rating, scale
    )
    report = {
        "rows": len(rows),
        "iterations": iterations,
        "folds": settings.folds,
        "ordinal": fitter.ordinal,
        "moments": fitter.timed,
        "out_of_fold_member": outside,
    }
    moments = tuple(effects for _, effects in fitted if effects is not None)
    return RatingFit(tuple(factors for factors, _ in fitted), observe, report, moments, eta)


def _from_text(
    rows: RatingRows, user_vector: FloatArray, item_vector: FloatArray, scale: RatingScale,
    settings: RatingSettings, members: int, seed: int,
) -> RatingFit:  # fmt: skip
    with threadpool_limits(1), bar(settings.folds + members, "rating model from text", "fit") as shown:
        fitted, eta, penalties = fit_text(
            rows, user_vector, item_vector, settings, members, seed, shown.update
        )
    observe = fit_observation(eta, rows.rating, rows.user, len(user_vector), scale)
    outside = accuracy_figures(
        observe.mean(eta, rows.user), observe.liked(eta, rows.user), rows.rating, scale
    )
    report = {
        "rows": len(rows), "folds": settings.folds, "source": "text", **penalties,
        "ordinal": False, "moments": False, "iterations": 0, "out_of_fold_member": outside,
    }  # fmt: skip
    return RatingFit(tuple(fitted), observe, report, (), eta)
