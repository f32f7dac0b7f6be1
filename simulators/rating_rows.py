"""The rows of a rating fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError
from recworld.logs.log import FloatArray, IntArray


@dataclass(frozen=True)
class RatingRows:
    """The rows of a fit.

    Attributes:
        user: (n,) int32 user numbers.
        item: (n,) int32 item numbers.
        rating: (n,) float32.
        weight: (n,) float32, positive: precision of a row against that of others, mean 1; None is 1 everywhere. A row of
            weight w counts as w rows.
        time: (n,) int64 time stamps in any unit, or None. Read only where `RatingSettings.moments` is on.

    Raises:
        InputError: weights or times of another shape, or weights that are not positive.
    """

    user: IntArray
    item: IntArray
    rating: FloatArray
    weight: FloatArray | None = None
    time: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for what, array in (("weights", self.weight), ("times", self.time)):
            if array is not None and array.shape != self.user.shape:
                raise InputError(f"Row {what} must have shape {self.user.shape}. Got {array.shape}.")
        if self.weight is not None and not (np.isfinite(self.weight).all() and (self.weight > 0).all()):
            raise InputError("Row weights must be positive and finite.")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[Any]) -> RatingRows:
        """Return the chosen rows (numbers or a mask)."""
        weight = None if self.weight is None else self.weight[rows]
        time = None if self.time is None else self.time[rows]
        return RatingRows(self.user[rows], self.item[rows], self.rating[rows], weight, time)
