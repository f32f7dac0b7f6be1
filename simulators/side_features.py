"""Side features of users and items: their text, and whom they met in the log (the implicit set), in low rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from recworld.seeding import generator

Floats = npt.NDArray[np.float64]

_PRIOR_ROWS = 20.0  # rows that the text's word on the implicit set is worth: a set of one row says little
_IMPUTATION_RIDGE = 10.0  # in members, on text features of mean squared row norm 1


@dataclass(frozen=True)
class SideFeatures:
    """Features of one side of the log.

    Attributes:
        values: (n, P) float64; the first column is constant 1.
        expected: (n, P) float64: the same for someone of whom only the text is known.
        block: (P,) number of the block that a column belongs to: 0 constant, 1 text, 2 implicit set, 3 its size.
    """

    values: Floats
    expected: Floats
    block: npt.NDArray[np.int64]


def truncated_svd(matrix: sp.csr_array, rank: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Return (U, s, V) with ``matrix ~ U diag(s) V'``, by a seeded randomised range finder.

    Source: Halko, Martinsson & Tropp (2011), algorithm 4.4 with four power iterations.
    """
    short = min(matrix.shape)
    rank = max(1, min(rank, short))
    sketch = generator(seed, "sketch").standard_normal((matrix.shape[1], min(rank + 10, short)))
    basis = np.linalg.qr(matrix @ sketch)[0]
    for _ in range(4):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    left, values, right = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return (basis @ left)[:, :rank], values[:rank], right[:rank].T


def _scaled(block: Floats, weight: Floats | None = None) -> Floats:
    """Return a block centred (on its weighted mean), with mean squared row norm 1; 0 where the block is constant."""
    centred = block - np.average(block, axis=0, weights=weight)
    size = np.sqrt((centred**2).sum(1).mean())
    return centred / size if size > 1e-9 else np.zeros_like(centred)


def _met(part: Floats, told: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Return features that only rows tell, scaled, and what the text makes one expect of them.

    The former are drawn towards the latter where rows are few: an item of one rating is as likely new as unpopular.

    Expectations are over rows, not over members (weight: rows of a member): an item about to be met for the first time is
    like the item of a random row, while most items of a catalogue are rarely met, and rated lower.

    Args:
        part: (n, P) features; those of members without rows are not read.
        told: (n, Q) text features.
        count: (n,) rows of each member.
    """
    seen, weight = count > 0, count[count > 0] / count[count > 0].mean()
    out, expected = np.zeros_like(part), np.zeros_like(part)
    out[seen] = _scaled(part[seen], weight)
    if told.shape[1]:
        middle = np.average(told[seen], axis=0, weights=weight)
        known = told[seen] - middle
        gram = known.T @ (weight[:, None] * known) + _IMPUTATION_RIDGE * np.eye(told.shape[1])
        link = np.linalg.solve(gram, known.T @ (weight[:, None] * out[seen]))
        expected = (told - middle) @ link
    share = (count / (count + _PRIOR_ROWS))[:, None]
    return share * out + (1 - share) * expected, expected


def side_features(
    own: npt.NDArray[np.int32], partner: npt.NDArray[np.int32], num_own: int, num_partner: int,
    text: npt.NDArray[np.float32], text_rank: int, implicit_rank: int, seed: int,
) -> SideFeatures:  # fmt: skip
    """Build the features of users (or, with the arguments swapped, of items) from training rows and text.

    The implicit part is the truncated SVD of |N|^-1/2 1{in N}: the set term of SVD++ (Koren 2008) in low
    rank, so memory is linear in the log. Its right singular vectors stand for the y_j; a link matrix on U
    diag(s) with a common prior is the same as independent y_j of one variance.

    Args:
        own: (n,) numbers of this side, training rows only.
        partner: (n,) numbers of the other side.
        num_own: how many there are on this side.
        num_partner: how many there are on the other side.
        text: (num_own, D) text vectors; zeros where there is no text.
        text_rank: principal components of the text to keep.
        implicit_rank: rank of the implicit part; 0 leaves it out.
        seed: seed of the randomised SVD.
    """
    told = np.zeros((num_own, 0))
    words = _scaled(text.astype(np.float64))
    if words.any() and text_rank > 0:
        axes, size, _ = np.linalg.svd(words, full_matrices=False)
        keep = min(text_rank, int((size > 1e-6 * size[0]).sum()))
        told = axes[:, :keep] * size[:keep] * np.sqrt(num_own / (size[:keep] ** 2).sum())
    parts = [np.ones((num_own, 1)), told]
    expected = list(parts)
    block = [0] + [1] * told.shape[1]
    if implicit_rank > 0 and len(own):
        count = np.bincount(own, minlength=num_own).astype(np.float64)
        values = 1.0 / np.sqrt(count[own])
        left, size, _ = truncated_svd(
            sp.csr_array((values, (own, partner)), shape=(num_own, num_partner)), implicit_rank, seed
        )
        for number, part in ((2, left * size), (3, np.log1p(count)[:, None])):
            known, blind = _met(part, told, count)
            parts.append(known)
            expected.append(blind)
            block += [number] * part.shape[1]
    return SideFeatures(np.concatenate(parts, axis=1), np.concatenate(expected, axis=1), np.array(block))
