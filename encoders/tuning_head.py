"""The head of the text-only model: what two vectors say about a rating, fitted in closed form and learnt with the model.

    eta = mu + <w, f'> + <v, g'> + <A f', B g'>     f', g': centred and scaled vectors of the user's and the item's text

squared: the rating is eta. ordinal: P(r <= c) = sigmoid(threshold_c - eta), the proportional-odds model (McCullagh 1980).
click: P(click) = sigmoid(eta).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recworld.encoders.tuning_data import Pairs
from recworld.logs.log import FloatArray, RatingScale

Floats = npt.NDArray[np.float64]
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of each side's squared weights on centred unit vectors, beside the sum of squared errors."""
ROUNDS = 6


@dataclass(frozen=True)
class Additive:
    """mu + <user, f> + <item, g>: weights on (W,) vectors as they are, and the penalties that they were fitted with."""

    mean: float
    user: Floats
    item: Floats
    penalties: tuple[float, float]

    def predict(self, user: Floats, item: Floats, pairs: Pairs) -> Floats:
        """Return (n,) predictions of pairs, from (., W) vectors of the distinct texts."""
        own = self.mean + (user @ self.user)[pairs.user] + (item @ self.item)[pairs.item]
        return np.asarray(own, np.float64)


def fit_additive(
    user: Floats, item: Floats, pairs: Pairs, target: Floats, penalties: tuple[float, float]
) -> Additive:
    """Fit by ridge regression, one side after the other until both settle.

    Args:
        user: (., W) centred vectors of the distinct user texts.
        item: (., W) of the item texts.
        pairs: n pairs.
        target: (n,) what is to be predicted.
        penalties: of the squared weights, by side.
    """
    mean = float(target.mean())
    weights = [np.zeros(user.shape[1]), np.zeros(item.shape[1])]
    sides = ((user, pairs.user), (item, pairs.item))
    solvers = []
    for (vectors, own), penalty in zip(sides, penalties, strict=True):
        count = np.bincount(own, minlength=len(vectors)).astype(np.float64)
        system = vectors.T @ (count[:, None] * vectors) + penalty * np.eye(vectors.shape[1])
        solvers.append(np.linalg.solve(system, vectors.T))
    for _ in range(ROUNDS):
        for n in (1, 0):
            other, index = sides[1 - n]
            rest = target - mean - (other @ weights[1 - n])[index]
            vectors, own = sides[n]
            weights[n] = solvers[n] @ np.bincount(own, weights=rest, minlength=len(vectors))
    return Additive(mean, weights[0], weights[1], penalties)


def choose_additive(
    vectors: tuple[Floats, Floats], train: Pairs, target: Floats, held: Pairs, held_target: Floats,
    least: float = 0.0,
) -> Additive:  # fmt: skip
    """Return the best regression over penalties of both sides on held rows.

    One penalty after the other goes down the list while the other stands; twice is enough.

    Args:
        vectors: (., W) centred vectors of the distinct texts of users and of items.
        train: pairs to fit to.
        target: what is to be predicted of them.
        held: pairs to choose by.
        held_target: what is to be predicted of those.
        least: penalties below this are not tried.
    """
    tried: dict[tuple[float, float], tuple[float, Additive]] = {}
    penalties = (max(1.0, least), max(30.0, least))
    for n in (0, 1, 0, 1):
        for penalty in PENALTIES:
            key = (penalty, penalties[1]) if n == 0 else (penalties[0], penalty)
            if penalty >= least and key not in tried:
                fit = fit_additive(*vectors, train, target, key)
                tried[key] = (float(np.mean((fit.predict(*vectors, held) - held_target) ** 2)), fit)
        penalties = min(tried, key=lambda key: tried[key][0])
    return tried[penalties][1]


class Head(nn.Module):
    """The head as a module.

    Args:
        centres: (W,) means of the users' and of the items' vectors, kept as they are.
        spreads: spread of a component of each.
        factors: products of user and item.
        levels: (R,) levels of an ordinal scale, else None.
        generator: of the factors' start.
    """

    def __init__(
        self, centres: tuple[Any, Any], spreads: tuple[float, float], factors: int, levels: Any,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()
        width = len(centres[0])
        for name, centre, spread in zip(("user", "item"), centres, spreads, strict=True):
            self.register_buffer(f"{name}_centre", torch.as_tensor(centre, dtype=torch.float32))
            self.register_buffer(f"{name}_spread", torch.tensor(float(spread)))
        self.mean = nn.Parameter(torch.zeros(()))
        self.user = nn.Parameter(torch.zeros(width))
        self.item = nn.Parameter(torch.zeros(width))
        self.user_factors = nn.Parameter(0.05 * torch.randn(width, factors, generator=generator))
        self.item_factors = nn.Parameter(torch.zeros(width, factors))
        self.thresholds = None if levels is None else nn.Parameter(torch.zeros(len(levels) - 1))
        if levels is not None:
            self.register_buffer("levels", torch.as_tensor(levels, dtype=torch.float32))

    def _scaled(self, vectors: torch.Tensor, name: str) -> torch.Tensor:
        scaled: torch.Tensor = (vectors - getattr(self, f"{name}_centre")) / getattr(self, f"{name}_spread")
        return scaled

    def forward(self, user: Any, item: Any, users: Any, items: Any) -> torch.Tensor:
        """Return eta (n,) of pairs: (., W) vectors of texts, (n,) numbers of texts."""
        f, g = self._scaled(user, "user"), self._scaled(item, "item")
        eta: torch.Tensor = self.mean + (f @ self.user)[users] + (g @ self.item)[items]
        if self.user_factors.shape[1]:
            eta = eta + ((f @ self.user_factors)[users] * (g @ self.item_factors)[items]).sum(dim=1)
        return eta

    def penalty(self) -> torch.Tensor:
        """Return the squared norm of the factors."""
        total: torch.Tensor = self.user_factors.square().sum() + self.item_factors.square().sum()
        return total

    def start(self, fit: Additive, gain: float = 1.0, shift: float = 0.0) -> None:
        """Take the weights of a regression; eta becomes gain (prediction - shift)."""
        with torch.no_grad():
            self.mean.fill_(gain * (fit.mean - shift))
            for own, found, name in ((self.user, fit.user, "user"), (self.item, fit.item, "item")):
                weights = torch.as_tensor(gain * found, dtype=torch.float32).to(own.device)
                # The regression read centred vectors that were not scaled.
                own.copy_(weights * getattr(self, f"{name}_spread"))

    def loss(self, eta: torch.Tensor, value: torch.Tensor, kind: str) -> torch.Tensor:
        """Return the sum of the losses of pairs."""
        if kind == "squared":
            return (eta - value).square().sum()
        if kind == "click":
            return nn.functional.binary_cross_entropy_with_logits(eta, value, reduction="sum")
        return -self.log_odds(eta).gather(1, self._level(value)[:, None]).sum()

    def log_odds(self, eta: torch.Tensor) -> torch.Tensor:
        """Return (n, R) log probabilities of the levels."""
        below = torch.sigmoid(self._ordered() - eta[:, None])
        ends = torch.zeros_like(eta)[:, None]
        whole = torch.cat([ends, below, ends + 1], dim=1)
        return (whole[:, 1:] - whole[:, :-1]).clamp(min=1e-7).log()

    def _ordered(self) -> torch.Tensor:
        """Return the thresholds, rising: the first, then positive steps."""
        assert self.thresholds is not None
        steps = nn.functional.softplus(self.thresholds[1:])
        return torch.cat([self.thresholds[:1], self.thresholds[:1] + steps.cumsum(0)])

    def _level(self, value: torch.Tensor) -> torch.Tensor:
        levels: torch.Tensor = self.levels
        return (value[:, None] - levels).abs().argmin(dim=1)

    def start_thresholds(self, value: FloatArray, eta: torch.Tensor) -> None:
        """Place the thresholds where the shares of the levels say, for etas of this mean and spread."""
        assert self.thresholds is not None
        level = self._level(torch.as_tensor(value)).cpu().numpy()
        share = np.cumsum(np.bincount(level, minlength=len(self.levels)))[:-1] / len(level)
        share = np.clip(share, 1e-3, 1 - 1e-3)
        spread = float(np.sqrt(1 + 3 * float(eta.var()) / np.pi**2))
        places = float(eta.mean()) + spread * np.log(share / (1 - share))
        steps = np.maximum(np.diff(places), 1e-2)
        with torch.no_grad():
            self.thresholds.copy_(torch.as_tensor([places[0], *np.log(np.expm1(steps))], dtype=torch.float32))

    def predicted(self, eta: torch.Tensor, kind: str, scale: RatingScale) -> torch.Tensor:
        """Return expected ratings (n,) in the scale's bounds; of clicks the probability."""
        if kind == "click":
            return torch.sigmoid(eta)
        if kind == "ordinal":
            levels: torch.Tensor = self.levels
            return self.log_odds(eta).exp() @ levels
        return eta.clamp(scale.low, scale.high)
