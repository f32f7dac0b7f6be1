"""Behaviour cloning: a policy that offers what people in the early log went on to take; it learns without any reward.

A softmax over the candidates is fitted by cross-entropy to the item that was taken (multinomial logit, McFadden 1974), which
is behaviour cloning (Pomerleau 1989) of the log's consumption. What was taken is not what was best: in most logs it is what
was popular and was offered. So the clone tells how far imitation goes; an agent that learns from rewards should beat it.
See `recworld.agents.logged` for what is read, and for why popularity takes the place of the recommender's estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from recworld import packing
from recworld.agents.base import Observation
from recworld.agents.baselines_common import ItemNumbers
from recworld.agents.facts import to_tensors
from recworld.agents.learning import LearnerSettings, TorchAgent
from recworld.agents.logged import LoggedChoices
from recworld.agents.networks import SlatePolicyNetwork
from recworld.agents.plackett_luce import HIDDEN, PlackettLuce
from recworld.agents.rounds import Rounds
from recworld.seeding import child_seed, generator

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class CloneSettings(LearnerSettings):
    """Settings of behaviour cloning; a step is one choice of the log, drawn with replacement."""

    batch_size: int = Field(256, ge=1)
    """Choices per gradient step."""
    learning_rate: float = Field(3e-3, gt=0)
    """Step size at the start."""
    learning_rate_end: float = Field(0.1, ge=0, le=1)
    """Share of the step size that is left at the end; it falls linearly."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are scaled down to this length."""
    most_candidates: int = Field(200, ge=1)
    """Most items that a taken one is set against, however many candidates the environment offers."""
    report_every: int = Field(5120, ge=1)
    """Choices between two reports to the callback."""


class CloneTraining(Rounds):
    """Cross-entropy of the taken item; see the module's text.

    Args:
        env: gives the log; no step is taken in it.
        network: trained in place.
        settings: of the agent.
        seed: of the batches.
        device: of the network.
    """

    def __init__(
        self, env: RecVectorEnv, network: nn.Module, settings: CloneSettings, seed: int, device: torch.device
    ) -> None:
        super().__init__(env, network, settings, uses_env=False)
        self.choices = LoggedChoices(env, settings.most_candidates)
        self.random, self.device = generator(seed, "batches"), device
        self._unused = packing.torch_generator(seed)

    def generators(self) -> tuple[torch.Generator, np.random.Generator]:
        """Return the generators that training draws from; no torch one is in use."""
        return self._unused, self.random

    def round(self) -> None:
        """Take as many gradient steps as fill one report."""
        s, losses, missed = self.settings, [], []
        until = min(self.num_timesteps + s.report_every, self.total)
        while self.num_timesteps < until:
            batch = to_tensors(self.choices.batch(s.batch_size, self.random), self.device)
            logits, mask, _ = self.network(batch)
            logits = logits.masked_fill(~mask, HIDDEN)
            taken = torch.zeros(len(logits), dtype=torch.long, device=self.device)
            loss = nn.functional.cross_entropy(logits, taken)
            self.gradient_step(loss)
            self.num_timesteps += s.batch_size
            losses.append(loss.item())
            missed.append((logits[:, 1:].amax(1) >= logits[:, 0]).float().mean().item())
        self.logger.record("loss/cross_entropy", float(np.mean(losses)))
        self.logger.record("loss/not_first", float(np.mean(missed)))


class CloneAgent(TorchAgent):
    """Offers what the log's users went on to take, see the module's text and `CloneSettings`.

    `learn` reads the early log of the users that its environment draws. Untrained, it is popularity.
    """

    settings_type: ClassVar[type[LearnerSettings]] = CloneSettings
    kind: ClassVar[str] = "clone"
    network: SlatePolicyNetwork

    def _set_network(self, env: RecVectorEnv) -> None:
        super()._set_network(env)
        self._numbers = ItemNumbers(env.tables.item_vector)
        self._popularity = np.log1p(np.asarray(env.tables.popularity, np.float64)).astype(np.float32)

    def build_network(self, env: RecVectorEnv) -> SlatePolicyNetwork:
        """Return an untrained network, soft-greedy on popularity."""
        return SlatePolicyNetwork(env, self.settings.network, 1.0)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> CloneTraining:
        """Return the training of the agent's network on the log behind `env`."""
        return CloneTraining(env, self.network, self.settings, child_seed(seed, "log"), self.device)

    def act(self, observation: Observation, deterministic: bool = True) -> npt.NDArray[np.int64]:
        """Return (N, K) positions; the recommender's own estimate is not looked at."""
        numbers = self._numbers(observation["candidates"])
        seen = {
            **observation,
            "candidate_score": self._popularity[numbers] * (observation["action_mask"] != 0),
        }
        if "user_estimate" in seen:
            seen["user_estimate"] = np.zeros_like(observation["user_estimate"])
        return super().act(seen, deterministic)

    def choose(self, observation: dict[str, torch.Tensor], deterministic: bool) -> torch.Tensor:
        """Return the most probable slates, or drawn ones."""
        logits, mask, _ = self.network(observation)
        distribution = PlackettLuce(logits, mask, self.slate_size)
        return distribution.mode() if deterministic else distribution.sample(self._act_random)
