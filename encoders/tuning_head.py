"""The head of the text-only model: what two vectors say about a rating, fitted in closed form and learnt with the model.

    eta = mu + <w, f'> + <v, g'> + <A f', B g'>     f', g': centred and scaled vectors of the user's and the item's text

squared: the rating is eta. ordinal: P(r <= c) = sigmoid(threshold_c - eta), the proportional-odds model (McCullagh 1980).
click: P(click) = sigmoid(eta).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from recworld.encoders.text_ridge import Additive
from recworld.logs.log import FloatArray, RatingScale


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
        return eta + self.products(user, item, users, items)

    def products(self, user: Any, item: Any, users: Any, items: Any) -> torch.Tensor:
        """Return the part of eta (n,) that is no term of one side alone: <A f', B g'>."""
        f, g = self._scaled(user, "user"), self._scaled(item, "item")
        part: torch.Tensor = ((f @ self.user_factors)[users] * (g @ self.item_factors)[items]).sum(dim=1)
        return part

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
        if self.thresholds is None:
            raise RuntimeError("thresholds belong to the ordinal loss")
        steps = nn.functional.softplus(self.thresholds[1:])
        return torch.cat([self.thresholds[:1], self.thresholds[:1] + steps.cumsum(0)])

    def _level(self, value: torch.Tensor) -> torch.Tensor:
        levels: torch.Tensor = self.levels
        return (value[:, None] - levels).abs().argmin(dim=1)

    def start_thresholds(self, value: FloatArray, eta: torch.Tensor) -> None:
        """Place the thresholds where the shares of the levels say, for etas of this mean and spread."""
        if self.thresholds is None:
            raise RuntimeError("thresholds belong to the ordinal loss")
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
