"""What the items that a slate already holds do to the logits of its next place: how a policy spreads a slate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recworld.agents.facts import FactReader, Facts, take

SHORT = 64
"""Width of the leading directions of the texts in which items of a slate are compared."""


class SlateSpread(nn.Module):
    """A learnt interaction between the places of a slate; see `recworld.agents.plackett_luce.Interaction`.

        shift_i = w_1 max_j cos(i, j) + w_2 mean_j cos(i, j) + mean_j <A x_i, B x_j>      j: places before

    x are the centred texts in their leading directions and cos their cosines there. All weights start at zero: an
    untrained policy chooses its places independently.

    Args:
        reader: gives the texts.
        width: of the learnt product.
    """

    short: Tensor
    directions: Tensor

    def __init__(self, reader: FactReader, width: int) -> None:
        super().__init__()
        texts = reader.centred[:-1].double()
        _, vectors = torch.linalg.eigh(texts.T @ texts)
        directions = vectors[:, -SHORT:].float()  # (D, X): the largest eigenvalues stand last
        self.register_buffer("directions", directions, persistent=False)
        self.register_buffer(
            "short", nn.functional.normalize(reader.centred @ directions, dim=1), persistent=False
        )
        self.similar = nn.Parameter(torch.zeros(2))
        self.own = nn.Linear(self.short.shape[1], width, bias=False)
        self.other = nn.Linear(self.short.shape[1], width, bias=False)
        nn.init.zeros_(self.own.weight)

    def bind(self, facts: Facts, reader: FactReader) -> BoundSpread:
        """Return the interaction between the candidates of an observation."""
        return BoundSpread(self, self.texts(facts, reader))

    def texts(self, facts: Facts, reader: FactReader) -> Tensor:
        """Return the candidates' texts in the leading directions, (N, C, X) of length 1; padding is zero."""
        if facts.candidate.is_floating_point():
            return nn.functional.normalize(reader.unit(facts.candidate) @ self.directions, dim=-1)
        return nn.functional.embedding(facts.candidate, self.short)


class BoundSpread:
    """`SlateSpread` for the candidates of one observation.

    Args:
        spread: the weights.
        texts: (N, C, X).
    """

    def __init__(self, spread: SlateSpread, texts: Tensor) -> None:
        self._texts, self._weights = texts, spread.similar
        self._own, self._spread = spread.own(texts), spread  # (N, C, P)

    def beside(self, positions: Tensor) -> Tensor:
        """Return cosine and learnt product of all candidates with each of the given ones, (N, J, C, 2)."""
        chosen = take(self._texts, positions)  # (N, J, X)
        cosine = chosen @ self._texts.transpose(1, 2)
        learnt = self._spread.other(chosen) @ self._own.transpose(1, 2)
        return torch.stack((cosine, learnt), -1)

    def shift(self, before: Tensor) -> Tensor:
        """Return what is added to the logits, (N, C)."""
        cosine, learnt = before[..., 0], before[..., 1]
        return self._weights[0] * cosine.amax(1) + self._weights[1] * cosine.mean(1) + learnt.mean(1)
