"""What the joint chain is told of users and items beforehand: texts of items, and who was shown what."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recworld.seeding import child_seed
from recworld.simulators.calibration_table import SlateTable
from recworld.simulators.side_features import SideFeatures, truncated_svd

Floats = npt.NDArray[np.float64]

TEXT_RANK, SHOWN_RANK = 32, 8
"""Principal components of the texts, and of what was shown to whom."""


def chain_features(
    table: SlateTable, vector: npt.NDArray[np.float32], num_users: int, seed: int
) -> tuple[SideFeatures, SideFeatures]:
    """Return the features of users and items: texts of items, and who was shown what.

    A logging policy that knows something of the tastes shows a user what they like. Given what was shown, a taste or a
    popularity is not that of a random user or item: its prior mean follows it (correlated random effects: Mundlak 1978). How
    much a user was shown stays out: it depends on how much they clicked, which is the outcome.
    """
    pair = np.unique(table.user.astype(np.int64) * len(vector) + table.item)
    own, partner = pair // len(vector), pair % len(vector)
    count = np.bincount(own, minlength=num_users)
    of_users, of_items = [np.ones((num_users, 1))], [np.ones((len(vector), 1))]
    of_items.append(_principal(vector.astype(np.float64)))
    if min((count > 0).sum(), len(np.unique(partner))) > 4 * SHOWN_RANK:
        matrix = sp.csr_array((1 / np.sqrt(count[own]), (own, partner)), shape=(num_users, len(vector)))
        left, size, right = truncated_svd(matrix, SHOWN_RANK, child_seed(seed, "shown"))
        often = np.log1p(np.bincount(partner, minlength=len(vector)))
        of_users.append(_scaled(left * size))
        of_items += [_scaled(right * size), _scaled(often[:, None])]
    return _blocks(of_users), _blocks(of_items)


def _blocks(parts: list[Floats]) -> SideFeatures:
    block = np.concatenate([np.full(part.shape[1], number) for number, part in enumerate(parts)])
    values = np.concatenate(parts, axis=1)
    return SideFeatures(values=values, expected=values, block=block.astype(np.int64))


def _principal(words: Floats) -> Floats:
    """Return the principal components of texts, mean squared row norm 1; (n, at most TEXT_RANK)."""
    axes, size, _ = np.linalg.svd(words - words.mean(0), full_matrices=False)
    keep = min(TEXT_RANK, int((size > 1e-6 * max(size[0], 1e-12)).sum()))
    return _scaled(axes[:, :keep] * size[:keep])


def _scaled(block: Floats) -> Floats:
    """Return a block centred, with mean squared row norm 1."""
    centred = block - block.mean(0)
    size = np.sqrt((centred**2).sum(1).mean())
    return centred / size if size > 1e-9 else np.zeros_like(centred)
