"""The joint chain: attraction, examination, boredom and drift of what was shown, drawn together.

    P(click) = decay^k sigmoid(b_u + b_i + <c_u, d_i> + delta x - beta b(gamma, s0) + drift(alpha))

Boredom and drift regressed on an attraction that was estimated before would be confounded: what is left of the taste in
the residual is what was clicked, and so what bores. Here factors and effects are drawn in turn, so that the uncertainty of
one is in the interval of the other.

x is what the logging policy made of the pair (`policy_scores`): a policy that knows more of a taste than the clicks tell
puts what is liked at the top, and delta keeps that from passing for examination.

One sweep: the effects given the attraction, by independence Metropolis on the exact likelihood (neither notice nor
Pólya-Gamma weights enter it), proposed from one Newton step off a fixed point; then who noticed, the weights, and the
vectors of users and items, as in `LogisticChain`. The drift of a draw is computed in the metric of a fitted world (factors
centred and balanced between both sides), and stands as an offset while the vectors are drawn: exact in first order in alpha.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from recworld.seeding import generator
from recworld.simulators.calibration_features import chain_features
from recworld.simulators.calibration_kernels import (
    boredom_rows,
    collapse_side,
    drift_rows,
    log_chance,
    log_chances,
    score_rows,
    slope_rows,
)
from recworld.simulators.calibration_table import Pairs, SlateTable, centred_vectors, make_pairs
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.factors import compress
from recworld.simulators.gibbs import GibbsPriors, GibbsSide
from recworld.simulators.gibbs_kernels import predict_rows
from recworld.simulators.polya_gamma import draw_polya_gamma

Floats = npt.NDArray[np.float64]

SHIFT, BETA, ALPHA, DECAY, MEMORY, SCALE = range(6)
"""Coordinates of the effects: intercept, beta / s0, alpha, -log of decay, logit of gamma, 1 / s0. Boredom is nearly linear
in the memory where it is small, so that beta and s0 alone would lie on a bent ridge."""
NAMES = (
    "boredom",
    "taste_rate",
    "examination_decay",
    "boredom_memory",
    "boredom_scale",
    "shown_click_rate",
    "base_click_rate",
)
"""What a kept draw holds, in this order."""
BETA_SPREAD, ALPHA_SPREAD, SCALE_SPREAD = 6.0, 0.2, 1.0
"""Priors: beta ~ Normal(0, 6), alpha ~ Normal(0, 0.2), log s0 ~ Normal(log of the default, 1); decay, gamma ~ Uniform."""
STRIDE = np.array([0.5, 0.5, 0.02, 0.05, 0.4, 0.15])
"""Longest step of the search for a starting point, by coordinate."""
SPREAD = 0.05
"""Prior scale of what is left of a factor's variance. Wider ones leave room for attractions more varied than the shown ones
are, which the chance of being noticed then makes up for."""
FREEDOM = 6.0
"""Degrees of freedom of the proposals."""
WALKS = 3
"""Random steps of the shape of boredom in every other sweep."""
POLICY_SPREAD = 1.0
"""Prior: delta ~ Normal(0, 1), for scores of standard deviation 1."""
RATE_PAIRS = 20_000
"""Random user-item pairs over which the base click rate of a draw is averaged."""


class JointChain:
    """One Markov chain.

    Args:
        table: shown rows, in order.
        vector: (I, D) unit text vectors.
        num_users: U.
        rank: factors beside the bias.
        seed: seed of the chain.
        back: kappa, which the chain holds.
        fixed: values at which effects are held: {"boredom": 0.0} leaves boredom out.
    """

    def __init__(
        self, table: SlateTable, vector: npt.NDArray[np.float32], num_users: int, rank: int, seed: int,
        back: float | None = None, fixed: dict[str, float] | None = None,
    ) -> None:  # fmt: skip
        self.table, self.random = table, generator(seed, "joint")
        default = DynamicsSettings()
        self._back = default.taste_return if back is None else back
        self.pairs: Pairs = make_pairs(table, centred_vectors(vector))
        users, items = chain_features(table, vector, num_users, seed)
        priors = GibbsPriors(rank, noise_freedom=1.0, constant=0.01, spread=SPREAD)
        self.users = GibbsSide(table.user, table.item, users, priors, self.random)
        self.items = GibbsSide(table.item, table.user, items, priors, self.random)
        rate = (table.clicked.sum() + 0.5) / (len(table) + 1)
        self.users.vector[:, 0] = self.users.link[0, 0] = np.log(rate / (1 - rate))
        self._places = np.arange(int(table.position.max()) + 1)
        scale = default.boredom_scale
        self.theta = np.array([0.0, 0.5 / scale, 0.0, 0.2, 1.0, 1 / scale])
        self.free, self.reference = np.ones(6, np.bool_), self.theta.copy()
        for name, value in (fixed or {}).items():
            self.hold(name, value)
        if len(self._places) == 1:
            self.free[DECAY] = False
        self._odd, self._knows, self.delta = False, bool(table.score.any()), 0.0
        n = len(table)
        self.base, self.bored, self.drift = np.empty(n), np.zeros(n), np.zeros(n)
        self._slopes, self._work = np.ones((n, 6)), np.empty((3, n))
        self.proposed = self.accepted = 0
        self._pair = self.random.integers(0, [[num_users], [len(vector)]], (2, RATE_PAIRS)).astype(np.int32)

    def hold(self, name: str, value: float) -> None:
        """Hold an effect from now on: "boredom" at 0, "taste_rate", or "examination_decay"."""
        places = {"boredom": [BETA, MEMORY, SCALE], "taste_rate": [ALPHA], "examination_decay": [DECAY]}[name]
        at = -np.log(value) if name == "examination_decay" else value
        self.theta[places[0]] = self.reference[places[0]] = at
        self.free[places] = False

    @property
    def asked(self) -> list[int]:
        """Places in `NAMES` of the effects that are free."""
        free = {"boredom": BETA, "taste_rate": ALPHA, "examination_decay": DECAY}
        return [
            NAMES.index("shown_click_rate"),
            *(NAMES.index(n) for n, place in free.items() if self.free[place]),
        ]

    def step(self, search: bool = False) -> None:
        """Draw everything once; with `search`, the effects take one cautious Newton step instead."""
        table = self.table
        self._predict(table, self.base)
        self._taste, self._factor = balanced(self.users.vector[:, 1:], self.items.vector[:, 1:])
        if search:
            self._search()
        else:
            self._draw_effects()
        logit = self.base - self.theta[BETA] / self.theta[SCALE] * self.bored + self.drift
        seen = self._draw_noticed(logit)
        weight, target = np.zeros(len(table)), np.zeros(len(table))
        drawn = np.empty(int(seen.sum()))
        draw_polya_gamma(logit[seen], self.random, drawn)
        weight[seen] = np.maximum(drawn, 1e-4)
        target[seen] = (table.clicked[seen] - 0.5) / weight[seen]
        self.users.sample_prior()
        self._draw_side(self.users, self.items.vector, weight, target)
        self.items.sample_prior()
        self._draw_side(self.items, self.users.vector, weight, target)

    def _predict(self, table: SlateTable, out: Floats) -> None:
        predict_rows(table.user, table.item, self.users.vector, self.items.vector, out)
        out += self.delta * table.score

    def _draw_side(self, side: GibbsSide, other: Floats, weight: Floats, target: Floats) -> None:
        """Draw beta and delta with the side's vectors integrated out, then the vectors given them.

        Both have a part that is constant in a user or an item, which a vector can take over: drawn in turn, they would
        move in small steps. Drift depends on the vectors themselves, so that its rate has to wait for the exact likelihood.
        """
        order, score = side.order, self.table.score
        free = np.array([self.free[BETA], self._knows])
        if free.any():
            held = self.drift if free[0] else self.drift - self.theta[BETA] / self.theta[SCALE] * self.bored
            rows = np.stack([-self.bored[order], score[order]], axis=1)[:, free]
            matrix, linear = np.zeros((rows.shape[1],) * 2), np.zeros(rows.shape[1])
            collapse_side(
                side.start, side.partner, (target - held)[order], weight[order], np.ascontiguousarray(rows), other,
                side.features.values @ side.link, side.precision, matrix, linear,
            )  # fmt: skip
            precision = matrix + np.diag(np.array([BETA_SPREAD, POLICY_SPREAD])[free] ** -2)
            root = np.linalg.cholesky(np.linalg.inv(precision))
            drawn = np.linalg.solve(precision, linear) + root @ self.random.standard_normal(len(linear))
            if free[0]:
                self.theta[BETA] = drawn[0] * self.theta[SCALE]
            if free[1]:
                self.delta = float(drawn[-1])
        offset = self.drift + self.delta * score - self.theta[BETA] / self.theta[SCALE] * self.bored
        side.sample_vectors(weight, target - offset, other)

    def values(self) -> Floats:
        """Return the current draw, (len(NAMES),)."""
        t = self.theta
        logit = np.empty(RATE_PAIRS)
        predict_rows(self._pair[0], self._pair[1], self.users.vector, self.items.vector, logit)
        rates = expit(self.base).mean(), expit(logit).mean()
        return np.array(
            [t[BETA] / t[SCALE], t[ALPHA], np.exp(-t[DECAY]), expit(t[MEMORY]), 1 / t[SCALE], *rates]
        )

    def row_chances(self, table: SlateTable, pairs: Pairs) -> Floats:
        """Return the log-likelihood of each row of another table at the current draw, (n,)."""
        base, bored, drift, out = np.empty((4, len(table)))
        self._predict(table, base)
        t = self.theta
        boredom_rows(pairs.start, pairs.near, pairs.age, expit(t[MEMORY]), 1 / t[SCALE], bored)
        drift[:] = 0.0
        if t[ALPHA] != 0.0:
            taste, factor = balanced(self.users.vector[:, 1:], self.items.vector[:, 1:])
            drift_rows(
                table.slate_start, table.session_start, table.session_user, table.item, table.clicked, table.surprise,
                taste, factor, t[ALPHA], self._back, drift,
            )  # fmt: skip
        log_chances(
            base, bored, drift, table.position, table.clicked, self._noticed(t), 0.0, t[BETA] / t[SCALE], out
        )
        return out

    def _noticed(self, theta: Floats) -> Floats:
        return np.asarray(np.exp(-theta[DECAY] * self._places))

    def _effects(self, theta: Floats, bored: Floats, drift: Floats) -> float:
        """Write boredom and drift at `theta`; return the log of the target there."""
        pairs = self.pairs
        if theta[SCALE] <= 1e-3 or theta[DECAY] < 0.0:
            return -np.inf
        if theta[BETA] != 0.0:
            boredom_rows(pairs.start, pairs.near, pairs.age, expit(theta[MEMORY]), 1 / theta[SCALE], bored)
        self._drift(theta[ALPHA], drift)
        chance = log_chance(
            self.base, bored, drift, self.table.position, self.table.clicked, self._noticed(theta), theta[SHIFT],
            theta[BETA] / theta[SCALE],
        )  # fmt: skip
        return float(chance) + log_prior(theta)

    def _drift(self, rate: float, out: Floats) -> None:
        table = self.table
        if rate == 0.0:
            out[:] = 0.0
            return
        drift_rows(
            table.slate_start, table.session_start, table.session_user, table.item, table.clicked, table.surprise,
            self._taste, self._factor, rate, self._back, out,
        )  # fmt: skip

    def _draw_effects(self) -> None:
        """Draw the effects by Metropolis steps, in two ways by turns.

        All at once, from a Newton step off the reference point; or examination, drift and the size of boredom so, then
        memory and scale of boredom by a random walk, which moves where boredom is faint and its shape anybody's guess.
        """
        self._odd = not self._odd
        if self._odd or not self.free[MEMORY]:
            self._independent(self.reference, self.free)
            return
        reference, free = self.reference.copy(), self.free.copy()
        shape = [MEMORY, SCALE]
        reference[shape], free[shape] = self.theta[shape], False
        self._independent(reference, free)
        for _ in range(WALKS):
            self._walk()

    def _walk(self) -> None:
        """Move memory and scale of boredom by a random step, with either beta or its slope beta / s0 held where it is."""
        new, step = self.theta.copy(), self.random.choice([0.1, 0.6]) * self.random.standard_normal(2)
        moved = [SCALE, BETA] if self.random.random() < 0.5 else [SCALE]
        new[MEMORY] += step[0]
        new[moved] *= float(np.exp(step[1]))
        here = self._effects(self.theta, self.bored, self.drift)
        there = self._effects(new, self._work[0], self._work[1])
        # In (beta / s0, 1 / s0), a step of log s0 stretches each coordinate that moves with it.
        if np.log(self.random.random()) < there - here + len(moved) * step[1]:
            self._accept(new)

    def _independent(self, reference: Floats, free: npt.NDArray[np.bool_]) -> None:
        """Take an independence Metropolis step; what it adds to the intercept moves into the users' biases."""
        mean, root = self._proposal(reference, free)
        current, spread = self.theta.copy(), np.sqrt(FREEDOM / self.random.chisquare(FREEDOM))
        here = self._effects(current, self.bored, self.drift)
        new = current.copy()
        new[free] = mean + spread * np.linalg.solve(root.T, self.random.standard_normal(int(free.sum())))
        there = self._effects(new, self._work[0], self._work[1])
        gain = there - here + _log_student(current[free], mean, root) - _log_student(new[free], mean, root)
        self.proposed += 1
        if np.log(self.random.random()) < gain:
            self.accepted += 1
            self._accept(new)

    def _accept(self, theta: Floats) -> None:
        self.theta = theta
        self.bored, self._work[0] = self._work[0].copy(), self.bored
        self.drift, self._work[1] = self._work[1].copy(), self.drift
        self._settle(self.theta)

    def _search(self) -> None:
        mean, _ = self._proposal(self.reference, self.free)
        free = self.free
        self.theta[free] += np.clip(mean - self.theta[free], -STRIDE[free], STRIDE[free])
        self.theta[SCALE] = max(self.theta[SCALE], 0.05)
        self.theta[DECAY] = max(self.theta[DECAY], 0.0)
        self._settle(self.theta)
        self._effects(self.theta, self.bored, self.drift)
        self.reference = self.theta.copy()

    def _settle(self, theta: Floats) -> None:
        """Move the intercept of the effects into the users' biases."""
        self.users.vector[:, 0] += theta[SHIFT]
        self.users.link[0, 0] += theta[SHIFT]
        self.base += theta[SHIFT]
        theta[SHIFT] = 0.0

    def _proposal(self, t: Floats, free: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return mean and root of the precision of the proposal: one Newton step off the point `t`."""
        pairs, slopes = self.pairs, self._slopes
        memory, scale, beta = expit(t[MEMORY]), 1 / t[SCALE], t[BETA] / t[SCALE]
        bored, by_memory, by_scale = self._work
        slope_rows(pairs.start, pairs.near, pairs.age, memory, scale, bored, by_memory, by_scale)
        slopes[:, BETA] = -bored * scale
        slopes[:, MEMORY] = -beta * memory * (1 - memory) * by_memory
        slopes[:, SCALE] = beta * scale * (bored + by_scale)
        if self.free[ALPHA]:
            self._drift(1e-3, by_scale)
            slopes[:, ALPHA] = by_scale * 1e3
        offset = t[SHIFT] - beta * bored + t[ALPHA] * slopes[:, ALPHA]
        score, information = np.empty(6), np.empty((6, 6))
        score_rows(
            self.base, offset, slopes, self.table.position, self.table.clicked, self._noticed(t), DECAY, score,
            information,
        )  # fmt: skip
        score[DECAY] *= -1.0  # the coordinate is minus the logarithm
        information[DECAY] *= -1.0
        information[:, DECAY] *= -1.0
        gradient, curvature = _prior_slopes(t)
        precision = (information + np.diag(curvature))[np.ix_(free, free)]
        mean = t[free] + np.linalg.solve(precision, (score + gradient)[free])
        return np.asarray(mean, np.float64), np.asarray(np.linalg.cholesky(precision), np.float64)

    def _draw_noticed(self, logit: Floats) -> npt.NDArray[np.bool_]:
        chance, e = expit(logit), self._noticed(self.theta)[self.table.position]
        unseen = e * (1 - chance) / np.maximum(1 - e * chance, 1e-12)
        return np.asarray(self.table.clicked | (self.random.random(len(e)) < unseen))


def balanced(user: Floats, item: Floats) -> tuple[Floats, Floats]:
    """Return factors centred and balanced, as those of a fitted world: (U, F) and (I, F)."""
    left, right = compress(user - user.mean(0), item - item.mean(0), user.shape[1])
    return np.ascontiguousarray(left), np.ascontiguousarray(right)


def log_prior(theta: Floats) -> float:
    """Return the log prior density of the effects in their coordinates; needs theta[SCALE] > 0."""
    beta, scale = theta[BETA] / theta[SCALE], -np.log(theta[SCALE]) - np.log(DynamicsSettings().boredom_scale)
    total = -0.5 * (
        (beta / BETA_SPREAD) ** 2 + (theta[ALPHA] / ALPHA_SPREAD) ** 2 + (scale / SCALE_SPREAD) ** 2
    )
    total -= 2 * np.log(theta[SCALE])  # the volume of (beta, log s0) in these coordinates
    total += -theta[DECAY] - theta[MEMORY] - 2 * np.log1p(np.exp(-theta[MEMORY]))
    return float(total)


def _prior_slopes(theta: Floats) -> tuple[Floats, Floats]:
    """Return gradient (by differences) and a bound of the negative curvature of `log_prior`."""
    gradient, curvature = np.zeros(6), np.zeros(6)
    for place in range(6):
        step = np.zeros(6)
        step[place] = 1e-4
        up, down = log_prior(theta + step), log_prior(theta - step)
        gradient[place] = (up - down) / 2e-4
        curvature[place] = max(-(up - 2 * log_prior(theta) + down) / 1e-8, 0.05)
    curvature[SHIFT] = 1e-6
    return gradient, curvature


def _log_student(x: Floats, mean: Floats, root: Floats) -> float:
    away = float(((root.T @ (x - mean)) ** 2).sum())
    return -0.5 * (FREEDOM + len(x)) * float(np.log1p(away / FREEDOM))
