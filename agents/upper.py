"""Upper lines: policies that read what no recommender can know. They show what is left to gain and never compete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Observation
from recworld.agents.baselines_common import Baseline
from recworld.errors import InputError

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class ShortTermOracle(Baseline):
    """The K candidates with the highest *true* expected immediate reward; sees taste and boredom, not the future.

    Args:
        env: the environment it acts in; the oracle reads its state at every step, so it must be this very object.
        seed: unused; the oracle draws nothing.
    """

    is_upper_line = True

    def __init__(self, env: RecVectorEnv, seed: int = 0) -> None:
        super().__init__(env, seed)
        self._env = env

    def scores(self, observation: Observation) -> npt.NDArray[Any]:
        """Return `env.true_scores()`, (N, C).

        Raises:
            InputError: the observation is not of the environment that the oracle was built with.
        """
        scores = np.asarray(self._env.true_scores(), np.float64)
        if scores.shape != observation["action_mask"].shape:
            raise InputError(
                f"ShortTermOracle must act in the environment it was built with. Got an observation of shape "
                f"{observation['action_mask'].shape} for an environment of shape {scores.shape}."
            )
        return scores
