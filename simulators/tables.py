"""What leaves the models: plain float32 arrays. Nothing in the simulation loop needs torch, a log or a model object.

The rating factors (width Fr) and the attraction factors (width Fa) of a member stand side by side in one taste vector of
width F = Fr + Fa; items have the same layout. So one state vector z drifts, and both responses read it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.logs.log import FloatArray, IntArray

Levels = tuple[float, ...]


@dataclass(frozen=True)
class ResponseTables:
    """M fitted members of the response model, stacked.

    eta(u,i) = user_rating_bias[u] + item_rating_bias[i] + <taste[u, :Fr], item[i, :Fr]>
    attraction(u,i) = user_attraction_bias[u] + item_attraction_bias[i] + <taste[u, Fr:], item[i, Fr:]>   (logit)
    discrete scale: P(r <= levels[c]) = Phi(thresholds[c] + user_shift[u] - user_scale[u] * eta)
    continuous scale: r ~ Normal(eta, user_sigma[u]), clipped to the scale.

    Item rows stand at 0..I-1. All arrays are float32.

    Attributes:
        taste: (M, U, F).
        item: (M, I, F).
        user_rating_bias: (M, U), the global mean included.
        item_rating_bias: (M, I).
        user_attraction_bias: (M, U), logits, the intercept included.
        item_attraction_bias: (M, I), logits: the item's log-popularity effect in full, mean zero over items; the world
            applies `popularity_share` of it.
        thresholds: (M, R-1) rising; (M, 0) on a continuous or click scale.
        user_shift: (M, U).
        user_scale: (M, U), positive.
        user_sigma: (M, U), positive; used on a continuous scale.
        rating_width: Fr.
    """

    taste: FloatArray
    item: FloatArray
    user_rating_bias: FloatArray
    item_rating_bias: FloatArray
    user_attraction_bias: FloatArray
    item_attraction_bias: FloatArray
    thresholds: FloatArray
    user_shift: FloatArray
    user_scale: FloatArray
    user_sigma: FloatArray
    rating_width: int

    @property
    def num_members(self) -> int:
        """M, the number of members."""
        return len(self.taste)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rating_width"}

    def members(self, chosen: list[int]) -> ResponseTables:
        """Return the tables of the chosen members only."""
        return ResponseTables(
            **{k: v[chosen] for k, v in self.arrays().items()}, rating_width=self.rating_width
        )


@dataclass(frozen=True)
class AgentTables:
    """What a recommender knows at the time: fitted on the early parts of the log only, frozen, the same in every world.

    Attributes:
        response: the same form as the world's tables with M = 1.
        popularity: (I,) float32, number of early interactions of each item.
        history_start: (U + 1,) int64, offsets of each user's early interactions in the next arrays.
        history_item: early items by user, in time order, int32.
        history_feedback: normalised ratings of the same, [-1, 1], float32.
    """

    response: ResponseTables
    popularity: FloatArray
    history_start: npt.NDArray[np.int64]
    history_item: IntArray
    history_feedback: FloatArray
