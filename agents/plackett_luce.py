"""Plackett-Luce: a distribution over ordered slates without replacement, with masks.

A slate (a_1, ..., a_K) has probability  prod_k exp(l[a_k]) / sum_{j not in a_1..a_{k-1}} exp(l[j]),  l the logits of the
unmasked candidates. Adding independent Gumbel noise to the logits and taking the K largest draws from it exactly
(Yellott 1977; Kool, van Hoof and Welling 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -1e9
"""Logit of what cannot be chosen: finite, so that no gradient becomes NaN when nothing else is left."""


class PlackettLuce:
    """Ordered slates of `size` distinct candidates, independently for N rows.

    A row with fewer than `size` unmasked candidates fills the places that are left with masked positions: they are empty
    slots for the environment, their choice is no choice, and they add nothing to `log_prob`.

    Args:
        logits: (N, C) float.
        mask: (N, C) bool, true where a candidate may be chosen.
        size: K.
    """

    def __init__(self, logits: Tensor, mask: Tensor, size: int) -> None:
        self.mask = mask.bool()
        self.logits = logits.masked_fill(~self.mask, HIDDEN)  # (N, C)
        self.size = size

    def mode(self) -> Tensor:
        """Return the most probable slate of every row, (N, K) int64: the candidates with the K largest logits, in order."""
        return self.logits.topk(self.size, dim=1).indices

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Return a drawn slate for every row, (N, K) int64."""
        noise = torch.empty_like(self.logits).exponential_(generator=generator)
        gumbel = -noise.clamp_min(1e-30).log()  # (N, C)
        # Noise is at most 70, so a masked candidate never passes an unmasked one.
        return (self.logits + gumbel).topk(self.size, dim=1).indices

    def log_prob(self, slates: Tensor) -> Tensor:
        """Return the log-probability of ordered slates of distinct positions.

        One pass over the C candidates: what is not in the slate is summed once, the slate's own terms are added from the
        last place to the first. Nothing is subtracted, so it is exact also where one candidate has nearly all the mass.

        Args:
            slates: (N, K) int64 positions; masked positions only after the unmasked ones.

        Returns:
            (N,) float.
        """
        chosen = self.logits.gather(1, slates)  # (N, K)
        counts = self.mask.gather(1, slates)  # (N, K)
        others = self.logits.scatter(1, slates, HIDDEN).logsumexp(1, keepdim=True)  # (N, 1)
        later = chosen.flip(1).logcumsumexp(1).flip(1)  # (N, K): places k..K
        terms = chosen - torch.logaddexp(later, others)
        return terms.masked_fill(~counts, 0.0).sum(1)

    def entropy(self) -> Tensor:
        """Return the entropy of the *first* choice, (N,), in nats.

        The entropy of the whole slate has no closed form below C!/(C-K)! terms; the first place's is exact, and as all
        places share one set of logits, it spreads the whole slate when it is rewarded.
        """
        log_p = self.logits.log_softmax(1)
        return -(log_p.exp() * log_p.masked_fill(~self.mask, 0.0)).sum(1)
