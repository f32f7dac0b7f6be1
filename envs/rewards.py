"""What a step is worth: clicks, ratings, a mixture, or a function of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.errors import InputError, did_you_mean
from recworld.registry import load_object

RewardFunction = Callable[[dict[str, npt.NDArray[Any]]], npt.ArrayLike]
"""``function(info) -> (N,)``; `info` holds the arrays of a step (item, click, rating, has_rating, satisfaction, ...)."""
RewardSpec = str | Mapping[str, float] | RewardFunction

REWARDS: dict[str, tuple[float, float]] = {"click": (1.0, 0.0), "rating": (0.0, 1.0)}
"""Weight of a click and of a normalised rating (r - mid) / (half range), summed over the clicked items."""


@dataclass(frozen=True)
class Reward:
    """A reward that was checked.

    Attributes:
        name: for people and settings files.
        weights: of a click and of a normalised rating; also what the recommender's own estimate aims at.
        function: takes the place of the weights when given.
    """

    name: str
    weights: tuple[float, float]
    function: RewardFunction | None = None

    @property
    def by_click(self) -> bool:
        """Whether only clicks count, so that the click logit ranks as the expected reward does."""
        return self.weights[1] == 0.0


def make_reward(spec: RewardSpec) -> Reward:
    """Return the reward that `spec` names.

    Args:
        spec: "click", "rating", weights such as {"click": 1, "rating": 0.5}, "module:function", or a function.

    Raises:
        InputError: unknown name, weights that are no finite numbers or all 0, or a function that cannot be imported.
    """
    if callable(spec):
        return Reward(getattr(spec, "__qualname__", "custom"), REWARDS["click"], spec)
    if isinstance(spec, Mapping):
        for name, weight in spec.items():
            if name not in REWARDS:
                raise InputError(f"The reward has no part {name!r}. {did_you_mean(str(name), REWARDS)}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not np.isfinite(weight):
                raise InputError(
                    f"The weight of {name!r} in the reward must be a finite number. Got {weight!r} instead."
                )
        weights = float(spec.get("click", 0.0)), float(spec.get("rating", 0.0))
        if weights == (0.0, 0.0):
            raise InputError(f"The reward must have a weight that is not 0. Got {dict(spec)!r} instead.")
        return Reward(f"click {weights[0]:g}, rating {weights[1]:g}", weights)
    if not isinstance(spec, str):
        raise InputError(
            f"The reward must be a name, weights or a function. Got {type(spec).__name__} instead."
        )
    if spec.lstrip().startswith("{"):
        try:
            weights_given = json.loads(spec)
        except ValueError as error:
            raise InputError(f"The reward {spec!r} is not JSON: {error}.") from None
        return make_reward(weights_given)
    if spec in REWARDS:
        return Reward(spec, REWARDS[spec])
    if ":" in spec:
        function = load_object(spec, "reward")
        if not callable(function):
            raise InputError(
                f"The reward {spec!r} must be a function. Got {type(function).__name__} instead."
            )
        return Reward(spec, REWARDS["click"], function)
    raise InputError(f"Unknown reward {spec!r}. {did_you_mean(spec, REWARDS)}")
