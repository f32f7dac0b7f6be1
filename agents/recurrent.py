"""PPO with a recurrent policy: a gated recurrent unit reads what was consumed, in order.

`sb3_contrib.RecurrentPPO` carries the state of an LSTM from step to step outside the observation. An agent here is a
function of the observation alone: the same one gets the same slate whoever asked before, N may change between two calls,
and a stored agent goes on with any user. What a recurrent state could remember stands in the observation: the last H
consumed items with feedback and age. So the recurrence runs over these inside the network, afresh for every observation,
and the algorithm is plain PPO; nothing is carried, and a resumed training is that of an unbroken one.
What is lost against a carried state: what was shown and not clicked, and what lies more than H consumed items back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from recworld.agents.learning import LearnerSettings
from recworld.agents.networks import SlatePolicyNetwork, zero_linear
from recworld.agents.ppo import PPOAgent, PPOSettings
from recworld.agents.scorer import NetworkSettings

if TYPE_CHECKING:
    from recworld.agents.facts import Facts, Tensors
    from recworld.envs import RecVectorEnv


class RecurrentPPOSettings(PPOSettings):
    """Settings of PPO with a recurrent policy."""

    recurrent: int = Field(32, ge=1, le=4096)
    """Width of the recurrent state."""


class RecurrentPolicyNetwork(SlatePolicyNetwork):
    """The shared policy network plus what a gated recurrent unit (Cho et al. 2014) makes of the history.

    logit += <projected item, W h>,  value += <w, h>,  h the state after the newest consumed item. W and w start at zero:
    untrained, the policy is that of `SlatePolicyNetwork`.

    Args:
        env, settings, scale: as for `SlatePolicyNetwork`.
        width: of the recurrent state.
    """

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings, scale: float, width: int) -> None:
        super().__init__(env, settings, scale)
        self.letter = nn.Linear(self.reader.items.shape[1], settings.projection, bias=False)
        self.cell = nn.GRUCell(settings.projection + 2, width)
        self.taste = zero_linear(width, settings.projection)
        self.outlook = zero_linear(width, 1)

    def letters(self, items: Tensor) -> Tensor:
        """Return projected text vectors (..., P) of item numbers (...) or of vectors (..., D)."""
        if items.is_floating_point():
            projected: Tensor = self.letter(items)
            return projected
        return nn.functional.embedding(items.long(), self.letter(self.reader.items))

    def recall(self, facts: Facts) -> Tensor:
        """Return the recurrent state after the history, (N, width); padding leaves it as it is."""
        inputs = torch.cat((self.letters(facts.history), facts.memory), -1)  # (N, H, P + 2)
        state = inputs.new_zeros(len(inputs), self.cell.hidden_size)
        for place in range(inputs.shape[1]):
            state = torch.where(facts.present[:, place, None], self.cell(inputs[:, place], state), state)
        return state

    def forward(self, observation: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, C), mask (N, C) bool and value (N, 1)."""
        logits, mask, value = super().forward(observation)
        facts = self.reader(observation)
        state = self.recall(facts)
        wanted = self.taste(state)[..., None]  # (N, P, 1)
        liked = (self.letters(facts.candidate) @ wanted).squeeze(-1)
        return logits + liked, mask, value + self.outlook(state)


class RecurrentPPOAgent(PPOAgent):
    """PPO whose policy reads the history in order; see the module's text and `RecurrentPPOSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = RecurrentPPOSettings
    kind: ClassVar[str] = "recurrent_ppo"
    network: RecurrentPolicyNetwork

    def build_network(self, env: RecVectorEnv) -> RecurrentPolicyNetwork:
        """Return an untrained network, soft-greedy on the agent-side score."""
        s = self.settings
        return RecurrentPolicyNetwork(env, s.network, s.start_scale, s.recurrent)
