"""Plackett-Luce: a distribution over ordered slates without replacement, with masks; a place may see the places before it.

A slate (a_1, ..., a_K) has probability  prod_k exp(l_k[a_k]) / sum_{j not in a_1..a_{k-1}} exp(l_k[j]).  Plain
Plackett-Luce has one l for all places; adding independent Gumbel noise to it and taking the K largest draws from it exactly
(Yellott 1977; Kool, van Hoof and Welling 2019). With an `Interaction`, l_k also depends on a_1..a_{k-1}: the slate is filled
place by place, each choice an exact draw given the places before, so that a policy can spread a slate, which independent
scores cannot.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

HIDDEN = -1e9
"""Logit of what cannot be chosen: finite, so that no gradient becomes NaN when nothing else is left."""


class Interaction(Protocol):
    """What items that a slate already holds do to the logits of the next place."""

    def beside(self, positions: Tensor) -> Tensor:
        """Return facts on all candidates beside each of the given ones, (N, J, C, X), for positions (N, J)."""
        ...

    def shift(self, before: Tensor) -> Tensor:
        """Return what is added to the logits, (N, C), given the facts (N, J, C, X) on the J > 0 places before."""
        ...


class PlackettLuce:
    """Ordered slates of `size` distinct candidates, independently for N rows.

    A row with fewer than `size` unmasked candidates fills the places that are left with masked positions: they are empty
    slots for the environment, their choice is no choice, and they add nothing to `log_prob`.

    Args:
        logits: (N, C) float.
        mask: (N, C) bool, true where a candidate may be chosen.
        size: K.
        interaction: makes a place depend on the places before it.
        positions: (N, C) int64, what the candidates are called outside: slates are given and returned in these numbers.
    """

    def __init__(
        self,
        logits: Tensor,
        mask: Tensor,
        size: int,
        interaction: Interaction | None = None,
        positions: Tensor | None = None,
    ) -> None:
        self.positions = positions
        self.mask = mask.bool()
        self.logits = logits.masked_fill(~self.mask, HIDDEN)  # (N, C)
        self.size = size
        self.interaction = interaction if size > 1 else None

    def mode(self) -> Tensor:
        """Return the slate whose every place holds what is most probable given the places before, (N, K) int64.

        Without an interaction that is the most probable slate: the candidates with the K largest logits, in order.
        """
        if self.interaction is None:
            return self._named(self.logits.topk(self.size, dim=1).indices)
        return self._named(self._fill(self.interaction, self.logits))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return a drawn slate for every row, (N, K) int64."""
        noise = torch.empty_like(self.logits).exponential_(generator=generator)
        gumbel = -noise.clamp_min(1e-30).log()  # (N, C)
        # Noise is at most 70, so a masked candidate never passes an unmasked one.
        if self.interaction is None:
            return self._named((self.logits + gumbel).topk(self.size, dim=1).indices)
        return self._named(self._fill(self.interaction, self.logits + gumbel, generator))

    def _named(self, local: Tensor) -> Tensor:
        return local if self.positions is None else self.positions.gather(1, local)

    def _fill(
        self, interaction: Interaction, first: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Fill place by place: the first by `first`, later ones with noise of their own where there is a generator."""
        chosen = [first.argmax(1, keepdim=True)]  # (N, 1) each
        held = torch.zeros_like(self.mask).scatter(1, chosen[0], True)
        beside = []
        for _ in range(self.size - 1):
            beside.append(interaction.beside(chosen[-1]))
            logits = self.logits + interaction.shift(torch.cat(beside, 1))
            logits = logits.masked_fill(~self.mask, HIDDEN)
            if generator is not None:
                noise = torch.empty_like(logits).exponential_(generator=generator)
                logits = logits - noise.clamp_min(1e-30).log()
            chosen.append(logits.masked_fill(held, 2 * HIDDEN).argmax(1, keepdim=True))
            held = held.scatter(1, chosen[-1], True)
        return torch.cat(chosen, 1)

    def log_prob(self, slates: Tensor) -> Tensor:
        """Return the log-probability of ordered slates of distinct positions.

        Args:
            slates: (N, K) int64 positions; masked positions only after the unmasked ones.

        Returns:
            (N,) float.
        """
        slates = place_among(self.positions, slates)
        counts = self.mask.gather(1, slates)  # (N, K)
        return self.place_log_probs(slates).masked_fill(~counts, 0.0).sum(1)

    def place_log_probs(self, slates: Tensor) -> Tensor:
        """Return each place's log-probability given the places before, (N, K), of local slates; nonsense where masked."""
        if self.interaction is not None:
            return self._place_by_place(self.interaction, slates)
        # One pass over the C candidates: what is not in the slate is summed once, the slate's own terms are added from the
        # last place to the first. Nothing is subtracted, so it is exact also where one candidate has nearly all the mass.
        chosen = self.logits.gather(1, slates)  # (N, K)
        others = self.logits.scatter(1, slates, HIDDEN).logsumexp(1, keepdim=True)  # (N, 1)
        later = chosen.flip(1).logcumsumexp(1).flip(1)  # (N, K): places k..K
        return chosen - torch.logaddexp(later, others)

    def _place_by_place(self, interaction: Interaction, slates: Tensor) -> Tensor:
        beside = interaction.beside(slates[:, :-1])  # (N, K-1, C, X)
        held, terms = torch.zeros_like(self.mask), []
        for place in range(self.size):
            logits = self.logits
            if place:
                logits = logits + interaction.shift(beside[:, :place])
            logits = logits.masked_fill(held | ~self.mask, HIDDEN)
            own = slates[:, place : place + 1]
            terms.append(logits.gather(1, own) - logits.logsumexp(1, keepdim=True))
            held = held.scatter(1, own, True)
        return torch.cat(terms, 1)

    def entropy(self) -> Tensor:
        """Return the entropy of the *first* choice, (N,), in nats.

        The entropy of the whole slate has no closed form below C!/(C-K)! terms; the first place's is exact, and as all
        places share one set of logits, it spreads the whole slate when it is rewarded.
        """
        log_p = self.logits.log_softmax(1)
        return -(log_p.exp() * log_p.masked_fill(~self.mask, 0.0)).sum(1)


def place_among(positions: Tensor | None, slates: Tensor) -> Tensor:
    """Return where the numbers of slates (N, K) stand among the `positions` (N, C); the slates where there are none."""
    if positions is None:
        return slates
    return (positions[:, None, :] == slates[:, :, None]).int().argmax(-1)
