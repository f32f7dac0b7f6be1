"""Bilinear predictors: biases and factors of one member, and the compressed average of many samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recworld.logs.log import IntArray

Floats = npt.NDArray[np.float64]

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Factors:
    """eta(u,i) = user_bias[u] + item_bias[i] + <user[u], item[i]>.

    Attributes:
        user_bias: (U,), the common mean included.
        item_bias: (I,).
        user: (U, F), mean zero over users.
        item: (I, F), mean zero over items.
    """

    user_bias: Floats
    item_bias: Floats
    user: Floats
    item: Floats

    def predict(self, user: IntArray, item: IntArray) -> Floats:
        """Return eta of each (user, item) pair, (n,)."""
        out = self.user_bias[user] + self.item_bias[item]
        for at in range(0, len(out), _CHUNK):
            part = slice(at, at + _CHUNK)
            out[part] += np.einsum("nf,nf->n", self.user[user[part]], self.item[item[part]])
        return out

    def centred(self) -> Factors:
        """Return the same predictor with factors of mean zero on both sides; their means move into the biases.

        A direction that all items share says nothing about taste: left in the factors, a click on any item
        would pull the taste towards every item.
        """
        user_mean, item_mean = self.user.mean(0), self.item.mean(0)
        return Factors(
            self.user_bias + self.user @ item_mean,
            self.item_bias + (self.item - item_mean) @ user_mean,
            self.user - user_mean,
            self.item - item_mean,
        )

    def personal(self, scale: float) -> Factors:
        """Return the predictor with its personal part <user, item> scaled."""
        root = np.sqrt(scale)
        return Factors(self.user_bias, self.item_bias, self.user * root, self.item * root)


def compress(user: Floats, item: Floats, width: int) -> tuple[Floats, Floats]:
    """Return the best approximation of ``user @ item.T`` with `width` factors, balanced between both sides.

    The truncated singular value decomposition by way of two QR factorisations: no U x I matrix is formed.
    Columns that the product does not need are zero.
    """
    left, small_left = np.linalg.qr(user)
    right, small_right = np.linalg.qr(item)
    u, size, v = np.linalg.svd(small_left @ small_right.T)
    keep = min(width, len(size))
    root = np.sqrt(size[:keep])
    out_user, out_item = np.zeros((len(user), width)), np.zeros((len(item), width))
    out_user[:, :keep] = left @ u[:, :keep] * root
    out_item[:, :keep] = right @ v[:keep].T * root
    # A singular vector's sign is arbitrary: fix it, so that equal products give equal factors.
    sign = np.where(np.take_along_axis(out_item, np.abs(out_item).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)
    return out_user * sign, out_item * sign


class Mixture:
    """Averages samples of (bias, factors) vectors into one `Factors` of a given width."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._user: list[Floats] = []
        self._item: list[Floats] = []

    def add(self, user_vector: Floats, item_vector: Floats) -> None:
        """Take a sample: (U, 1 + rank) and (I, 1 + rank), bias first."""
        self._user.append(user_vector.copy())
        self._item.append(item_vector.copy())

    def factors(self, centre: float, unit: float) -> Factors:
        """Return the compressed average in units of the rating: ``centre + unit * mean(predictors)``."""
        count = len(self._user)
        user_bias = unit * np.mean([v[:, 0] for v in self._user], axis=0) + centre
        item_bias = unit * np.mean([v[:, 0] for v in self._item], axis=0)
        user = np.concatenate([v[:, 1:] for v in self._user], axis=1) * (unit / count)
        item = np.concatenate([v[:, 1:] for v in self._item], axis=1)
        whole = Factors(user_bias, item_bias, user, item).centred()
        left, right = compress(whole.user, whole.item, self.width)
        return Factors(whole.user_bias, whole.item_bias, left, right)
