"""Learning by contrast: items that the same people consumed come near each other; no ratings are needed."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recworld.encoders.tuning_data import Ints, Pairs, TuningData
from recworld.logs.log import FloatArray
from recworld.seeding import generator

CHOICES = 100
"""Pairs of which one is to be found among all."""
MEASURED = 5000
"""Held-out pairs measured at most."""


def consumed_together(data: TuningData, rng: np.random.Generator) -> Ints:
    """Return (n, 2) numbers of item texts that one user consumed, about one pair for each training row.

    A user has as many pairs as rows, and not as the square of them.
    """
    return _companions(data.members[0], data.train.item, rng)


def _companions(user: Ints, text: Ints, rng: np.random.Generator) -> Ints:
    order = np.lexsort((rng.random(len(user)), user))
    user, text = user[order], text[order]
    follows = np.flatnonzero((user[1:] == user[:-1]) & (text[1:] != text[:-1]))
    return rng.permutation(np.stack([text[follows], text[follows + 1]], axis=1))


def contrast(vectors: torch.Tensor, numbers: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the summed loss of pairs of items, each against the other items of the batch, both ways.

    Multiple negatives ranking in its symmetric form, as sentence-transformers has it, except that an item of the batch with
    the same text as the right one stands against nobody. Source: Henderson et al. (2017), "Efficient natural language
    response suggestion for Smart Reply", section 4.

    Args:
        vectors: (., W) unit rows of distinct texts.
        numbers: (n, 2) rows of `vectors`.
        temperature: that cosines are divided by.
    """
    left, right = vectors[numbers[:, 0]], vectors[numbers[:, 1]]
    logits = left @ right.T / temperature
    itself = torch.eye(len(numbers), dtype=torch.bool, device=vectors.device)
    goal = torch.arange(len(numbers), device=vectors.device)
    total = torch.zeros((), device=vectors.device)
    for side, scores in ((1, logits), (0, logits.T)):
        same = (numbers[:, side][:, None] == numbers[:, side][None, :]) & ~itself
        total = total + nn.functional.cross_entropy(scores.masked_fill(same, -1e9), goal, reduction="sum")
    return 0.5 * total


def reciprocal_rank(table: FloatArray, users: Ints, held: Pairs, seed: int) -> float:
    """Return the mean reciprocal rank of an item's companion among those of `CHOICES` held-out pairs; 0 without any.

    Args:
        table: (., W) unit rows of the distinct item texts.
        users: (n,) numbers of the users of held-out pairs.
        held: held-out pairs.
        seed: of the pairs.
    """
    pairs = _companions(users, held.item, generator(seed, "tuning", "contrast"))[:MEASURED]
    found = []
    for at in range(0, len(pairs), CHOICES):
        part = pairs[at : at + CHOICES]
        score = table[part[:, 0]] @ table[part[:, 1]].T
        better = (score > np.diag(score)[:, None]).sum(axis=1)
        found.append(1.0 / (1 + better))
    return float(np.mean(np.concatenate(found))) if found else 0.0
