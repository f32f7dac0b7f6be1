"""Does what made people take an item up also raise their rating of it? Correlated errors of click and rating.

A click happens where an uniform u < e_k a(u,i), that is where a latent willingness N(0, 1) exceeds -Phi^-1(e_k a). With a
correlation rho of willingness and rating error, a rating that follows a click is lifted by

    rho lambda(p),    lambda(p) = phi(Phi^-1(p)) / p,    p = e_k a(u,i)     (the inverse Mills ratio: Heckman 1979)

in standard deviations of the error. The lift of a user or an item is one with their bias: the log cannot tell the two
apart. The *position* can: an item further down is noticed less often, and so clicked only when the willingness is high,
while nobody likes it more for its place. So rho is estimated by an instrument, the mean lift at the row's position, with
users, items, attraction and the prediction itself taken out; the score of the ordinal probit stands for the residual.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import lsqr
from scipy.special import log_ndtr, ndtr, ndtri

from recworld.logs.log import FloatArray, IntArray, InteractionLog
from recworld.seeding import generator
from recworld.simulators.attraction import AttractionFit
from recworld.simulators.observation import ObservationModel
from recworld.simulators.rating import RatingFit
from recworld.simulators.rating_report import fit_biases
from recworld.simulators.rating_rows import RatingRows
from recworld.simulators.tables import ResponseTables

Floats = npt.NDArray[np.float64]

WIDEST_ERROR = 0.25
"""Standard error of the coefficient above which the log is said not to tell it."""
_LEAST_ROWS = 50
_SMALLEST, _LARGEST = 1e-4, 1 - 1e-4
_Z = 1.959964


@dataclass(frozen=True)
class RatedClicks:
    """Clicks on shown items, with the ratings that followed.

    Attributes:
        user: (n,) int32.
        item: (n,) int32.
        position: (n,) int64 place in the slate.
        rating: (n,) float32.
        eta: (n,) rating predictors from fits that did not see the row, in units of the rating.
        logit: (n,) logits of the attraction.
        noticed: (P,) probability that a position is noticed.
    """

    user: IntArray
    item: IntArray
    position: npt.NDArray[np.int64]
    rating: FloatArray
    eta: Floats
    logit: Floats
    noticed: Floats

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Correlation:
    """The correlation of the errors of click and rating.

    Attributes:
        rho: estimate; the errors are what the fitted models leave open.
        low, high: its 95 % interval.
        placebo: the estimate after the positions were shuffled among the rows.
        used: what a world takes: `rho` pulled to 0 by as much as chance explains it; 0 where the log cannot tell.
        identified: whether the log tells it.
        narrowing: standard deviation of the error of a rating that follows a click, at `used`; 1 without correlation.
        lift: mean of lambda over the rows.
        user_lift: (U,) what a user's mean of lambda has beyond it.
        item_lift: (I,) the same of items.
    """

    rho: float
    low: float
    high: float
    placebo: float
    used: float
    identified: bool
    narrowing: float
    lift: float
    user_lift: Floats
    item_lift: Floats

    def to_json(self) -> dict[str, Any]:
        """Return the figures, without those of single users and items."""
        names = ("rho", "low", "high", "placebo", "used", "narrowing", "lift")
        figures: dict[str, Any] = {name: round(float(getattr(self, name)), 5) for name in names}
        return figures | {"identified": self.identified}


def mills(chance: Floats) -> Floats:
    """Return lambda(p), the mean of a standard normal given that its upper tail of probability p was met."""
    x = ndtri(np.clip(chance, _SMALLEST, _LARGEST))
    return np.asarray(np.exp(-0.5 * x**2 - log_ndtr(x)) / np.sqrt(2 * np.pi))


def rated_clicks(log: InteractionLog, eta: Floats, attraction: AttractionFit) -> RatedClicks | None:
    """Return the clicks of a log that were rated, or None where it has none.

    Args:
        log: a log with ratings.
        eta: (n,) out-of-fold predictors of its interactions.
        attraction: the attraction model, fitted to its exposures.
    """
    shown = log.exposures
    if shown is None or attraction.report.get("source") != "exposures":
        return None
    pair = log.user.astype(np.int64) * log.num_items + log.item
    order = np.argsort(pair, kind="stable")
    rows = np.flatnonzero(shown.clicked & np.isfinite(shown.rating))
    wanted = shown.user[rows].astype(np.int64) * log.num_items + shown.item[rows]
    place = np.minimum(np.searchsorted(pair[order], wanted), len(order) - 1)
    known = pair[order][place] == wanted
    rows, place = rows[known], place[known]
    if len(rows) == 0:
        return None
    user, item = shown.user[rows], shown.item[rows]
    return RatedClicks(
        user, item, shown.position[rows].astype(np.int64), shown.rating[rows], eta[order[place]],
        attraction.logit(user, item), attraction.noticed,
    )  # fmt: skip


def estimate_correlation(
    rows: RatedClicks, observation: ObservationModel, num_users: int, num_items: int, seed: int
) -> Correlation:
    """Estimate the correlation of the errors of click and rating, by the position as an instrument.

    The standard error allows for dependence within users. `used` is the positive-part James-Stein estimate.

    Args:
        rows: rated clicks.
        observation: how eta becomes a rating.
        num_users: U.
        num_items: I.
        seed: of the placebo.
    """
    attraction = 1.0 / (1.0 + np.exp(-rows.logit))
    chance = rows.noticed[rows.position] * attraction
    lift, quantile = mills(chance), ndtri(np.clip(chance, _SMALLEST, _LARGEST))
    score, information = _score(rows, observation)
    own = np.array([mills(e * attraction).mean() for e in rows.noticed])[rows.position]
    shuffled = generator(seed, "placebo").permutation(own)
    estimate, error, placebo = np.nan, np.inf, np.nan
    if len(rows) >= _LEAST_ROWS and np.ptp(own) > 1e-6:
        controls = np.column_stack([rows.logit, rows.eta])
        instrument = _within(own, rows, controls, num_users, num_items)
        strength = float(instrument @ (information * lift))
        estimate = float(instrument @ score) / strength
        sums = np.bincount(rows.user, instrument * (score - estimate * information * lift), num_users)
        error = float(np.sqrt((sums**2).sum()) / abs(strength))
        placebo = float(_within(shuffled, rows, controls, num_users, num_items) @ score) / strength
    identified = error <= WIDEST_ERROR
    # Var(willingness | click) = 1 - lambda (lambda + Phi^-1(p))
    taken = float(np.mean(lift * (lift + quantile)))
    pulled = estimate * max(0.0, 1 - (error / estimate) ** 2) if identified and estimate != 0 else 0.0
    used = _rho(pulled, taken)
    lifts = RatingRows(rows.user, rows.item, lift.astype(np.float32))
    effects = fit_biases(lifts, num_users, num_items, observation.scale)
    bounds = (estimate, estimate - _Z * error, estimate + _Z * error, placebo)
    rho, low, high, fake = (_rho(value, taken) for value in bounds)
    return Correlation(
        rho, low, high, fake, used, identified, float(np.sqrt(1 - used**2 * taken)),
        effects.mean, effects.user, effects.item,
    )  # fmt: skip


def _rho(coefficient: float, taken: float) -> float:
    """Return rho from a coefficient in standard deviations of the error *after* the click, which is narrower.

    Without an estimate, 0; with an infinite one, the end of the range.
    """
    if np.isnan(coefficient):
        return 0.0
    if np.isinf(coefficient):
        return float(np.sign(coefficient))
    return float(np.clip(coefficient / np.sqrt(1 + coefficient**2 * taken), -0.99, 0.99))


def _score(rows: RatedClicks, observation: ObservationModel) -> tuple[Floats, Floats]:
    """Return the slope of a row's log-likelihood in its latent place, and the information, (n,) each."""
    if observation.scale.kind != "discrete":
        gap = (rows.rating.astype(np.float64) - rows.eta) / observation.user_sigma[rows.user]
        return gap, np.ones(len(rows))
    link, levels = observation.link, np.asarray(observation.scale.levels, np.float64)
    place = link.user_scale[rows.user] * rows.eta - link.user_shift[rows.user]
    level = np.abs(levels - rows.rating[:, None]).argmin(1)
    edge = np.concatenate([[-40.0], link.thresholds, [40.0]])[None, :] - place[:, None]
    fall = -np.diff(np.exp(-0.5 * edge**2) / np.sqrt(2 * np.pi), axis=1)  # (n, R), d P(level) / d place
    chance = np.maximum(np.diff(ndtr(edge), axis=1), 1e-12)
    row = np.arange(len(rows))
    return fall[row, level] / chance[row, level], (fall**2 / chance).sum(1)


def _within(value: Floats, rows: RatedClicks, controls: Floats, num_users: int, num_items: int) -> Floats:
    """Return what is left of a value when effects of users, items and controls are taken out."""
    n, place = len(value), np.arange(len(value))
    one = np.ones(n)
    centred = controls - controls.mean(0)
    spread = centred.std(0)
    design = sp.hstack([
        sp.csr_array((one, (place, rows.user)), shape=(n, num_users)),
        sp.csr_array((one, (place, rows.item)), shape=(n, num_items)),
        sp.csr_array(centred / np.where(spread > 1e-9, spread, 1.0)),
    ]).tocsr()  # fmt: skip
    return np.asarray(value - design @ lsqr(design, value, damp=1e-3, atol=1e-8, btol=1e-8, iter_lim=200)[0])


def corrected(fit: RatingFit, found: Correlation) -> RatingFit:
    """Return a rating fit for pairs that nobody chose: the lift of the clicks is taken out, their spread put back.

    Args:
        fit: fitted to ratings that followed clicks.
        found: the correlation.
    """
    if found.used == 0:
        return fit
    observation, link, s = fit.observation, fit.observation.link, found.narrowing
    # Rating units per standard deviation of the error.
    unit = observation.user_sigma if observation.scale.kind != "discrete" else 1.0 / link.user_scale
    down = found.used / s
    members = tuple(
        replace(
            member,
            user_bias=member.user_bias - down * unit * (found.lift + found.user_lift),
            item_bias=member.item_bias - down * float(unit.mean()) * found.item_lift,
        )
        for member in fit.members
    )
    wider = replace(
        link, thresholds=s * link.thresholds, user_shift=s * link.user_shift, user_scale=s * link.user_scale
    )
    return replace(
        fit,
        members=members,
        observation=replace(observation, link=wider, user_sigma=observation.user_sigma / s),
    )


def as_rated(tables: ResponseTables, used: float, narrowing: float, lift: float) -> ResponseTables:
    """Return tables whose ratings are those that follow a click, as the log's do, without a click having to be drawn.

    Args:
        tables: tables of a corrected fit.
        used: rho, as in `Correlation`.
        narrowing: as in `Correlation`.
        lift: as in `Correlation`; users and items are all lifted by this mean.
    """
    if used == 0:
        return tables
    s = np.float32(narrowing)
    up = used * lift * (1 / tables.user_scale if tables.thresholds.shape[1] else tables.user_sigma)
    return replace(
        tables,
        user_rating_bias=np.asarray(tables.user_rating_bias + up, np.float32),
        thresholds=tables.thresholds / s,
        user_shift=tables.user_shift / s,
        user_scale=tables.user_scale / s,
        user_sigma=tables.user_sigma * s,
    )
