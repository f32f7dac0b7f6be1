"""What agents share that learn from every step at once, without torch: acting, the loop, storing, going on after a kill.

A class says what it reads off an observation (`context`), how it values the candidates (`values`), and what it learns from
the slots it showed (`take`). `learn` calls back every `report_every` steps; there a checkpoint is a few small arrays and the
state of the environment, and what follows is bit-identical to an unbroken run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from recworld import packing
from recworld.agents.base import Callback, Observation
from recworld.agents.baselines_common import FloatArray, IntArray, top_k
from recworld.agents.baselines_static import reward_weights, slot_reward
from recworld.agents.figures import TrainingFigures, of_step
from recworld.agents.requirements import (
    FORMAT,
    check_resets_itself,
    check_resumed,
    check_steps,
    chosen_settings,
    stored_settings,
)
from recworld.errors import CorruptError, InputError
from recworld.packing import Arrays
from recworld.seeding import child_seed, generator
from recworld.settings import Settings, validate
from recworld.storage import read_arrays, read_json, write_arrays, write_json

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

SLOT_NAMES = ("item", "click", "rating", "has_rating")


class OnlineSettings(Settings):
    """What all agents can be told that learn from every step."""

    num_envs: int = Field(64, ge=1, le=65536)
    """N: users simulated side by side in the training environment, which `recworld train` builds."""
    report_every: int = Field(2048, ge=1)
    """User steps between two reports to the callback."""


class OnlineAgent:
    """Base: `Agent`, `Learner`, `Persistent` and `Resumable`.

    Args:
        env: gives the tables, the slate size and the reward; any N, and not kept.
        seed: of every draw the agent makes.
        settings: of the class's `settings_type`.
        options: single settings by name, instead of `settings`.

    Raises:
        InputError: an unknown setting or a value out of range.
    """

    settings_type: ClassVar[type[OnlineSettings]] = OnlineSettings
    kind: ClassVar[str] = "online"

    def __init__(
        self, env: RecVectorEnv, seed: int = 0, settings: OnlineSettings | None = None, **options: Any
    ) -> None:
        self.settings: Any = chosen_settings(self.settings_type, settings, options, self.kind)
        self.seed, self.slate_size = int(seed), int(env.slate_size)
        self._act_random = generator(self.seed, self.kind, "act")
        self._learn_random = generator(self.seed, self.kind, "learn")
        self._learns = self._done = self._reported = 0
        self._observation: Observation = {}
        self._env: RecVectorEnv | None = None
        self._figures: TrainingFigures | None = None
        self._resumed = False
        self.build(env)

    def build(self, env: RecVectorEnv) -> None:
        """Set up the untrained state from the settings."""
        raise NotImplementedError

    def context(self, observation: Observation) -> npt.NDArray[Any]:
        """Return what the agent reads off an observation about each candidate, (N, C) or (N, C, ...)."""
        raise NotImplementedError

    def values(self, context: npt.NDArray[Any], random: np.random.Generator | None) -> npt.NDArray[Any]:
        """Return a value per candidate, (N, C): the posterior mean without `random`, else with exploration."""
        raise NotImplementedError

    def take(
        self, context: npt.NDArray[Any], slates: IntArray, reward: FloatArray, click: FloatArray, shown: Any
    ) -> float:
        """Learn from one step.

        Args:
            context: of the observation acted on.
            slates: (N, K) positions that were chosen.
            reward: (N, K) what each slot earned.
            click: (N, K) 0 or 1.
            shown: (N, K) bool, false where the slot stayed empty: it counts for nothing.

        Returns:
            Mean squared error of what was foretold for the shown slots.
        """
        raise NotImplementedError

    def arrays(self) -> Arrays:
        """Return everything that was learnt."""
        raise NotImplementedError

    def load_arrays(self, arrays: Arrays) -> None:
        """Take what `arrays` gave; a KeyError or ValueError where it does not fit."""
        raise NotImplementedError

    def explore(
        self, context: npt.NDArray[Any], mask: npt.NDArray[Any], random: np.random.Generator
    ) -> IntArray:
        """Return the slates (N, K) that learning shows."""
        return top_k(self.values(context, random), mask, self.slate_size)

    def act(self, observation: Observation, deterministic: bool = True) -> npt.NDArray[np.int64]:
        """Return (N, K) positions: greedy on the posterior mean, or as `learn` explores."""
        context, mask = self.context(observation), observation["action_mask"]
        if deterministic:
            return top_k(self.values(context, None), mask, self.slate_size)
        return self.explore(context, mask, self._act_random)

    def learn(self, env: RecVectorEnv, total_steps: int, callback: Callback | None = None) -> None:
        """Act and learn for `total_steps` user steps, rounded up to whole steps of all users.

        The first call after `resume` finishes the interrupted one; any other goes on from what was learnt, with fresh
        episodes.

        Args:
            env: the training environment; it resets itself.
            total_steps: the sum over its N users.
            callback: called every `report_every` steps and at the end; false stops.

        Raises:
            InputError: total_steps is below 1, `env` does not reset itself or shows slates of another size, or is not the
                one that was given to `resume`.
        """
        check_steps(total_steps)
        check_resets_itself(env, self.kind)
        if env.slate_size != self.slate_size:
            raise InputError(f"The slate size must be {self.slate_size}, as built. Got {env.slate_size}.")
        if not self._resumed:
            self._learns += 1
            self._done = self._reported = 0
            self._figures = TrainingFigures(env.num_envs, len(env.tables.item_vector) - 1)
            seed = child_seed(self.seed, self.kind, "episodes", self._learns)
            self._observation, _ = env.reset(seed=seed)
        else:
            check_resumed(env, self._env)
        self._env, self._resumed = env, False
        weights, go_on = reward_weights(env), True
        errors: list[float] = []
        while go_on and self._done < total_steps:
            errors.append(self._step(env, weights))
            if self._done - self._reported >= self.settings.report_every or self._done >= total_steps:
                self._reported = self._done
                figures = self._figures.report() if self._figures else {}
                figures["loss/error"] = float(np.mean(errors))
                errors.clear()
                go_on = callback is None or callback(self._done, figures) is not False

    def _step(self, env: RecVectorEnv, weights: tuple[float, float] | None) -> float:
        context = self.context(self._observation)
        slates = self.explore(context, self._observation["action_mask"], self._learn_random)
        self._observation, reward, terminated, truncated, info = env.step(slates)
        stepped = {name: of_step(info, name) for name in SLOT_NAMES}
        earned = slot_reward(env, weights, reward, stepped)
        shown = stepped["item"] < env.world.num_items
        error = self.take(context, slates, earned, stepped["click"].astype(np.float64), shown)
        if self._figures:
            self._figures.add(reward, terminated | truncated, info)
        self._done += env.num_envs
        return error

    def save(self, folder: Path) -> None:
        """Write ``bandit.safetensors`` and ``bandit.json`` into an existing folder."""
        write_arrays(folder / "bandit.safetensors", self.arrays())
        meta = {"format": FORMAT, "kind": self.kind, "settings": self.settings.model_dump(mode="json")}
        write_json(folder / "bandit.json", meta)

    def load(self, folder: Path, env: RecVectorEnv) -> None:
        """Take settings and what was learnt from a folder that `save` wrote; the slate size is that of `env`.

        Raises:
            InputError: the folder holds another kind of agent, or none.
            CorruptError: it is broken, or was made for another catalogue.
        """
        settings = stored_settings(folder / "bandit.json", self.kind)
        self.settings = validate(self.settings_type, settings, str(folder / "bandit.json"))
        self.slate_size = int(env.slate_size)
        self.build(env)
        try:
            self.load_arrays(read_arrays(folder / "bandit.safetensors"))
        except (KeyError, ValueError) as error:
            raise CorruptError(
                f"{folder / 'bandit.safetensors'} does not fit this agent and catalogue: {error}."
            ) from error

    def checkpoint(self, folder: Path) -> None:
        """Write the agent and the state of its learning into an existing folder; call it inside the callback or after.

        Raises:
            InputError: nothing was learnt yet.
        """
        if self._env is None or self._figures is None:
            raise InputError("There is no training to checkpoint: call learn first.")
        self.save(folder)
        arrays = packing.prefixed("env", self._env.state())
        arrays |= packing.prefixed("observation", self._observation)
        arrays |= packing.prefixed("episodes", self._figures.arrays())
        write_arrays(folder / "training.safetensors", arrays)
        meta = {
            "format": FORMAT,
            "steps": self._done,
            "learns": self._learns,
            "random": [packing.numpy_state(r) for r in (self._act_random, self._learn_random)],
        }
        write_json(folder / "training.json", meta)

    def resume(self, folder: Path, env: RecVectorEnv) -> int:
        """Take the state that `checkpoint` wrote; the next `learn` goes on as if it had never stopped.

        Args:
            folder: the checkpoint.
            env: built with the same arguments as the one of the interrupted training; its state is replaced.

        Returns:
            The user steps already done.

        Raises:
            InputError: the folder is not a checkpoint of this kind of agent, or `env` is built otherwise.
            CorruptError: it is broken.
        """
        if not (folder / "training.json").is_file():
            raise InputError(f"{folder} is not a checkpoint: it has no training.json.")
        self.load(folder, env)
        meta, arrays = read_json(folder / "training.json"), read_arrays(folder / "training.safetensors")
        try:
            env.restore(packing.below("env", arrays))
            self._observation = packing.below("observation", arrays)
            self._figures = TrainingFigures(env.num_envs, len(env.tables.item_vector) - 1)
            self._figures.load(packing.below("episodes", arrays))
            self._done = self._reported = int(meta["steps"])
            self._learns = int(meta["learns"])
            for random, state in zip((self._act_random, self._learn_random), meta["random"], strict=True):
                packing.load_numpy_state(random, state)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise CorruptError(
                f"{folder} is not a whole checkpoint: {type(error).__name__} {error}."
            ) from error
        self._env, self._resumed = env, True
        return self._done
