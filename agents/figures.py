"""What happened in training since the last report, as figures by TensorBoard tag."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.packing import Arrays


def of_step(info: dict[str, Any], name: str) -> npt.NDArray[Any]:
    """Return an info array of the step that was taken, (N, ...).

    Where an episode ended and the next began in the same step, the step's own info stands under ``final_info``.
    """
    array = np.asarray(info[name])
    ended = info.get("_final_info")
    if ended is None:
        return array
    rows = np.asarray(ended, bool)
    return np.where(rows.reshape(-1, *[1] * (array.ndim - 1)), info["final_info"][name], array)


class TrainingFigures:
    """Sums over the steps since the last `report`, and the return and length so far of every running episode.

    Args:
        num_envs: N.
        num_items: I, for the coverage.
    """

    def __init__(self, num_envs: int, num_items: int) -> None:
        self.num_items = num_items
        self.running_return = np.zeros(num_envs)
        self.running_length = np.zeros(num_envs, np.int64)
        self._clear()

    def _clear(self) -> None:
        self.started = time.perf_counter()
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self.sums = dict.fromkeys(
            ("shown", "clicks", "steps", "satisfaction", "boredom", "rating", "rated"), 0.0
        )
        self.seen = np.zeros(self.num_items + 1, bool)

    def add(self, reward: npt.NDArray[Any], done: npt.NDArray[Any], info: dict[str, Any]) -> None:
        """Count one step of N users.

        Args:
            reward: (N,) as the environment gave it.
            done: (N,) bool, terminated or truncated.
            info: the batched info of `RecVectorEnv`.
        """
        self.running_return += reward
        self.running_length += 1
        ended = np.flatnonzero(done)
        self.returns += self.running_return[ended].tolist()
        self.lengths += self.running_length[ended].tolist()
        self.running_return[ended] = 0.0
        self.running_length[ended] = 0
        item, click = of_step(info, "item"), of_step(info, "click")
        self.seen[item.reshape(-1)] = True
        rated = of_step(info, "has_rating") > 0
        for name, value in (
            ("steps", len(reward)),
            ("shown", np.count_nonzero(item < self.num_items)),
            ("clicks", click.sum()),
            ("rating", of_step(info, "rating")[rated].sum()),
            ("rated", np.count_nonzero(rated)),
            ("satisfaction", of_step(info, "satisfaction").sum()),
            ("boredom", of_step(info, "boredom").sum()),
        ):
            self.sums[name] += float(value)

    def report(self) -> dict[str, float]:
        """Return the figures since the last report and start the next; a figure without a basis is left out."""
        sums, out = self.sums, {}
        if self.returns:
            out["train/return"] = float(np.mean(self.returns))
            out["train/session_length"] = float(np.mean(self.lengths))
        if sums["steps"]:
            out["train/click_rate"] = sums["clicks"] / max(sums["shown"], 1.0)
            out["train/coverage"] = float(self.seen[:-1].mean())
            out["train/satisfaction"] = sums["satisfaction"] / sums["steps"]
            out["train/boredom"] = sums["boredom"] / sums["steps"]
            out["time/steps_per_second"] = sums["steps"] / max(time.perf_counter() - self.started, 1e-9)
        if sums["rated"]:
            out["train/mean_rating"] = sums["rating"] / sums["rated"]
        self._clear()
        return out

    def arrays(self) -> Arrays:
        """Return what must outlive a checkpoint: the running episodes (a checkpoint follows a report)."""
        return {"running_return": self.running_return.copy(), "running_length": self.running_length.copy()}

    def load(self, arrays: Arrays) -> None:
        """Take the running episodes from `arrays`."""
        self.running_return = np.array(arrays["running_return"], np.float64)
        self.running_length = np.array(arrays["running_length"], np.int64)
