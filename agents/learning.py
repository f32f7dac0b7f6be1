"""What the torch agents share: settings, acting, storing, and going on bit-exactly after a kill.

`learn` reaches a *border* after each update of the weights, where nothing is half done; there it reports to the callback,
and there (inside the callback, or after `learn`) `checkpoint` writes everything that the rest of training depends on.
Stable-Baselines3 seeds and draws from the global generators of python, numpy and torch; here every draw comes from a
generator of the agent's own, so that two agents in one process do not disturb each other and a state can be stored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from stable_baselines3.common.logger import Logger
from torch import nn

from recworld import packing
from recworld.agents.facts import to_tensors
from recworld.agents.figures import TrainingFigures
from recworld.agents.requirements import FORMAT, check_resumed, check_steps, chosen_settings, stored_settings
from recworld.agents.scorer import NetworkSettings
from recworld.errors import CorruptError, InputError
from recworld.packing import Arrays
from recworld.seeding import child_seed
from recworld.settings import Settings, validate
from recworld.storage import read_arrays, read_json, write_arrays, write_json

if TYPE_CHECKING:
    from recworld.agents.base import Callback, Observation
    from recworld.envs import RecVectorEnv


TAGS = {
    "train/policy_gradient_loss": "loss/policy",
    "train/policy_loss": "loss/policy",
    "train/value_loss": "loss/value",
    "train/entropy_loss": "loss/entropy",
    "train/approx_kl": "loss/approx_kl",
    "train/clip_fraction": "loss/clip_fraction",
    "train/explained_variance": "loss/explained_variance",
    "train/learning_rate": "loss/learning_rate",
}
"""What Stable-Baselines3 calls a figure, and what it is called here."""


class LearnerSettings(Settings):
    """What all torch agents can be told."""

    num_envs: int = Field(64, ge=1, le=65536)
    """N: users simulated side by side in the training environment, which `recworld train` builds."""
    device: str = "cpu"
    """Where the network computes: cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."""
    network: NetworkSettings = NetworkSettings()
    """Size of the scorer."""


def pick_device(name: str) -> torch.device:
    """Return the torch device of that name.

    Raises:
        InputError: no such device, or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise InputError(
            f"The device must be cpu, cuda, cuda:N, mps or auto. Got {name!r}: {reason}."
        ) from error
    return device


class BorderMixin:
    """Before a Stable-Baselines3 algorithm in the bases: silent, without global random state, reporting at borders."""

    figures: TrainingFigures
    callback: Callback | None = None
    stopped: bool = False

    def set_random_seed(self, seed: int | None = None) -> None:
        """Do nothing: the generators are the agent's own."""

    def dump_logs(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: figures go to the callback."""

    def border(self: Any) -> None:
        """Report to the callback; a false answer stops training before the next rollout."""
        logged = {TAGS.get(name, name): value for name, value in self.logger.name_to_value.items()}
        self.logger.name_to_value.clear()
        self.logger.name_to_count.clear()
        self.logger.name_to_excluded.clear()
        figures = self.figures.report()
        figures |= {name: float(value) for name, value in logged.items() if name.startswith("loss/")}
        if self.callback is not None:
            finite = {name: value for name, value in figures.items() if math.isfinite(value)}
            self.stopped = self.callback(int(self.num_timesteps), finite) is False

    def generators(self) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators that training draws from."""
        raise NotImplementedError

    def extra_arrays(self) -> Arrays:
        """Return more arrays that a checkpoint must hold."""
        return {}

    def load_extra(self, arrays: Arrays) -> None:
        """Take the arrays of `extra_arrays` back."""


def silent_logger() -> Logger:
    """Return a Stable-Baselines3 logger that collects figures and writes nothing."""
    return Logger(folder=None, output_formats=[])


class TorchAgent:
    """Base of `PPOAgent`, `A2CAgent` and `DQNAgent`: `Agent`, `Learner`, `Persistent` and `Resumable`.

    Args:
        env: gives the tables, the slate size and the horizon; any N, and not kept.
        seed: of the start weights and of every draw the agent makes.
        settings: of the class's `settings_type`.
        options: single settings by name, instead of `settings`.

    Raises:
        InputError: an unknown setting or a value out of range.
    """

    settings_type: ClassVar[type[LearnerSettings]] = LearnerSettings
    kind: ClassVar[str] = "agent"

    def __init__(
        self, env: RecVectorEnv, seed: int = 0, settings: LearnerSettings | None = None, **options: Any
    ) -> None:
        self.settings: Any = chosen_settings(self.settings_type, settings, options, self.kind)
        self.seed = int(seed)
        self.slate_size = int(env.slate_size)
        self.device = pick_device(self.settings.device)
        self._act_random = packing.torch_generator(child_seed(self.seed, "act"), self.device)
        self._algorithm: Any = None
        self._learns = 0
        self._resumed = False
        self._set_network(env)

    def _set_network(self, env: RecVectorEnv) -> None:
        with torch.random.fork_rng(devices=[]):  # torch initialises weights from the global generator only
            torch.manual_seed(child_seed(self.seed, "weights") % 2**63)
            self.network = self.build_network(env).to(self.device)

    def build_network(self, env: RecVectorEnv) -> nn.Module:
        """Return the untrained network."""
        raise NotImplementedError

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> Any:
        """Return the Stable-Baselines3 algorithm that trains `network` on `env`."""
        raise NotImplementedError

    def choose(self, observation: dict[str, torch.Tensor], deterministic: bool) -> torch.Tensor:
        """Return slates (N, K) for an observation of tensors."""
        raise NotImplementedError

    def act(self, observation: Observation, deterministic: bool = True) -> npt.NDArray[np.int64]:
        """Return (N, K) positions; see `Agent.act`."""
        with torch.no_grad():
            slates = self.choose(to_tensors(observation, self.device), deterministic)
        return np.asarray(slates.cpu().numpy(), np.int64)

    def learn(self, env: RecVectorEnv, total_steps: int, callback: Callback | None = None) -> None:
        """Train for `total_steps` user steps, rounded up to whole rollouts.

        The first call after `resume` finishes the interrupted one: steps before the checkpoint count towards
        `total_steps`. Any other call starts from the weights there are, with fresh episodes, optimiser and schedule.

        Args:
            env: the training environment.
            total_steps: the sum over its N users.
            callback: called at every border with the steps done and the figures; false stops.

        Raises:
            InputError: total_steps is below 1, or `env` is not the one that was given to `resume`.
        """
        check_steps(total_steps)
        fresh = not self._resumed
        if fresh:
            self._learns += 1
            self._start(env)
        else:
            check_resumed(env, self._algorithm.env.env)
        algorithm, self._resumed = self._algorithm, False
        algorithm.callback = callback
        algorithm.stopped = False
        remaining = total_steps if fresh else total_steps - algorithm.num_timesteps
        if remaining > 0:
            algorithm.learn(remaining, log_interval=None, reset_num_timesteps=fresh)
        algorithm.callback = None

    def _start(self, env: RecVectorEnv) -> None:
        algorithm = self.build_algorithm(env, child_seed(self.seed, "learn", self._learns))
        algorithm.set_logger(silent_logger())
        algorithm.figures = TrainingFigures(env.num_envs, len(env.tables.item_vector) - 1)
        self._algorithm = algorithm

    def save(self, folder: Path) -> None:
        """Write ``network.safetensors`` and ``network.json`` into an existing folder."""
        write_arrays(folder / "network.safetensors", packing.module_arrays(self.network))
        meta = {"format": FORMAT, "kind": self.kind, "settings": self.settings.model_dump(mode="json")}
        write_json(folder / "network.json", meta)

    def load(self, folder: Path, env: RecVectorEnv) -> None:
        """Take settings and weights from a folder that `save` wrote; the slate size is that of `env`.

        Raises:
            InputError: the folder holds another kind of agent, or none.
            CorruptError: it is broken, or was made for text vectors of another width.
        """
        settings = stored_settings(folder / "network.json", self.kind) | {"device": self.settings.device}
        self.settings = validate(self.settings_type, settings, str(folder / "network.json"))
        self.slate_size = int(env.slate_size)
        self._set_network(env)
        packing.load_module(self.network, read_arrays(folder / "network.safetensors"), str(folder))

    def checkpoint(self, folder: Path) -> None:
        """Write the agent and the whole state of its training into an existing folder; call it at a border.

        Raises:
            InputError: nothing was learnt yet.
        """
        algorithm = self._algorithm
        if algorithm is None:
            raise InputError("There is no training to checkpoint: call learn first.")
        self.save(folder)
        torch_random, numpy_random = algorithm.generators()
        arrays = (
            packing.prefixed("optimiser", packing.optimiser_arrays(algorithm.policy.optimizer))
            | packing.prefixed("env", algorithm.env.state())
            | packing.prefixed("observation", algorithm._last_obs)
            | packing.prefixed("episodes", algorithm.figures.arrays())
            | packing.prefixed("extra", algorithm.extra_arrays())
            | {"episode_starts": np.array(algorithm._last_episode_starts, bool)}
            | {"random/train": packing.generator_array(torch_random)}
            | {"random/act": packing.generator_array(self._act_random)}
        )
        write_arrays(folder / "training.safetensors", arrays)
        meta = {
            "format": FORMAT,
            "steps": int(algorithm.num_timesteps),
            "updates": int(algorithm._n_updates),
            "learns": self._learns,
            "random": packing.numpy_state(numpy_random),
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
            InputError: the folder is not a checkpoint of this kind of agent.
            CorruptError: it is broken, or does not fit `env`.
        """
        if not (folder / "training.json").is_file():
            raise InputError(f"{folder} is not a checkpoint: it has no training.json.")
        self.load(folder, env)
        meta, arrays = read_json(folder / "training.json"), read_arrays(folder / "training.safetensors")
        try:
            self._learns = int(meta["learns"])
            self._start(env)
            algorithm = self._algorithm
            algorithm.env.restore(packing.below("env", arrays))
            algorithm._last_obs = packing.below("observation", arrays)
            algorithm._last_episode_starts = arrays["episode_starts"]
            algorithm.num_timesteps, algorithm._n_updates = int(meta["steps"]), int(meta["updates"])
            algorithm.figures.load(packing.below("episodes", arrays))
            algorithm.load_extra(packing.below("extra", arrays))
            packing.load_optimiser(
                algorithm.policy.optimizer, packing.below("optimiser", arrays), str(folder)
            )
            torch_random, numpy_random = algorithm.generators()
            packing.load_generator(torch_random, arrays["random/train"])
            packing.load_generator(self._act_random, arrays["random/act"])
            packing.load_numpy_state(numpy_random, meta["random"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise CorruptError(
                f"{folder} is not a whole checkpoint: {type(error).__name__} {error}."
            ) from error
        self._resumed = True
        return int(algorithm.num_timesteps)
