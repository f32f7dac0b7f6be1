"""What an agent learns about single items: corrections to the recommender's estimate, one row per item.

    correction(u, i) = b_i + <p_u, d_i>        p_u: the recommender's own factors of the user, `user_estimate`

The recommender's factors come from the early log. Thousands of training users then show which items are better than it
thought, and for whom: b and d are that knowledge, learnt as a factorisation learns its items, with p_u given. Both start
at zero, so an item that was never shown keeps the recommender's estimate, and a penalty on both (a normal prior around it)
holds back items that were shown seldom.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from recworld.seeding import generator

MAX_ITEMS = 50_000
"""Largest catalogue for which a row per item is kept unless asked for: each update touches the whole table."""


class ItemLookup(nn.Module):
    """Item numbers of candidates in either observation form; items that share a text share the lowest number.

    In the features form a text vector is found by a 64-bit hash of its bits; one that is not in the catalogue gets the
    number I of padding, about which nothing is ever learnt.

    Args:
        item_vector: (I + 1, D) float32, the last row zeros (padding).
    """

    canonical: Tensor
    words: Tensor
    hashes: Tensor
    first: Tensor

    def __init__(self, item_vector: Tensor) -> None:
        super().__init__()
        width = item_vector.shape[1]
        odd = generator(0, "item numbers").integers(-(2**61), 2**61, size=width, dtype=np.int64) * 2 + 1
        self.register_buffer("words", torch.as_tensor(odd), persistent=False)
        hashes, inverse = torch.unique(self._hash(item_vector), return_inverse=True)
        numbers = torch.arange(len(item_vector))
        first = torch.full((len(hashes),), len(item_vector), dtype=torch.int64)
        first.scatter_reduce_(0, inverse, numbers, "amin")
        first[inverse[-1]] = len(item_vector) - 1  # a text of zeros is padding, whatever else has it
        self.register_buffer("hashes", hashes, persistent=False)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("canonical", first[inverse], persistent=False)

    def _hash(self, vectors: Tensor) -> Tensor:
        bits = (
            (vectors.float() + 0.0).contiguous().view(torch.int32).long()
        )  # + 0.0 makes one of the two zeros
        return (bits * self.words).sum(-1)  # wraps modulo 2^64, as hashes do

    def forward(self, candidate: Tensor) -> Tensor:
        """Return numbers (N, C) int64 of candidates (N, C) or (N, C, D)."""
        if not candidate.is_floating_point():
            return self.canonical[candidate.long()]
        found = self._hash(candidate)
        place = torch.searchsorted(self.hashes, found).clamp_max(len(self.hashes) - 1)
        return torch.where(self.hashes[place] == found, self.first[place], len(self.canonical) - 1)


class ItemMemory(nn.Module):
    """A bias and a row of factors per item; see the module's text.

    Args:
        num_items: I; one more row, which stays zero, is padding.
        width: G, width of the recommender's factors.
    """

    def __init__(self, num_items: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_items + 1, width + 1, padding_idx=num_items)
        nn.init.zeros_(self.table.weight)

    def forward(self, number: Tensor, estimate: Tensor) -> Tensor:
        """Return the correction, (N, C).

        Args:
            number: (N, C) of `ItemLookup`.
            estimate: (N, G).
        """
        rows = self.table(number)  # (N, C, G + 1)
        correction: Tensor = (rows[..., 1:] @ estimate[..., None]).squeeze(-1) + rows[..., 0]
        return correction

    def penalty(self, number: Tensor) -> Tensor:
        """Return the mean over items looked up of b^2 / 2 + |d|^2, a scalar."""
        rows = self.table(number)
        return (rows[..., 1:].square().sum(-1) + 0.5 * rows[..., 0].square()).mean()
