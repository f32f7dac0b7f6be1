"""QR-DQN over slates: quantile regression (Dabney et al. 2018) with the click decomposition of `recworld.agents.dqn`.

Instead of the mean of the return, its quantiles at the levels tau_j = (j + 1/2) / J are learnt:

    Z_j(s, A) = B_j(s) + sum_{clicked k} Q_j(s, a_k)

Quantiles of a sum are the sum of quantiles where its parts rise and fall together: that is assumed of the clicked items of a
slate and the state's own part. The target is a sample of the return's distribution and not its mean: the clicks of the next
slate are drawn from the agent's own choice model, and the quantiles of B' and of the clicked Q' stand for what follows:

    y_j = r + gamma (B'_j(s') + sum_k c_k Q'_j(s', a'_k)),   c_k ~ Bernoulli(e_k p(s', a'_k))

The loss is the quantile Huber loss. Slates are chosen by the mean of the quantiles, as in DQN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from sb3_contrib.common.utils import quantile_huber_loss
from torch import Tensor, nn

from recworld.agents.dqn import DQNAgent, DQNSettings, SlateDQN, best_slates
from recworld.agents.facts import Facts, Tensors
from recworld.agents.learning import LearnerSettings
from recworld.agents.networks import Looked, Remembering, zero_linear
from recworld.agents.plackett_luce import HIDDEN
from recworld.agents.replay import part
from recworld.agents.scorer import CandidateScorer, NetworkSettings

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


class QRDQNSettings(DQNSettings):
    """Settings of QR-DQN."""

    quantiles: int = Field(25, ge=1, le=1000)
    """J: quantiles of the return."""
    choice_weight: float = Field(1.0, ge=0)
    """Weight of the choice model's cross-entropy beside the quantile loss, which is a sum over quantiles."""


class QuantileSlateNetwork(Remembering):
    """Choice model and quantiles of item-wise values over one `CandidateScorer`.

    Untrained, the logit of a click is the agent-side click logit (standardised where the score is none) and every click
    is worth one scaled reward in all quantiles, so the best slate is the greedy one.

    Args:
        env: gives tables, horizon and reward kind.
        settings: sizes.
        reward_scale: what one reward is worth in training.
        quantiles: J.
    """

    def __init__(
        self, env: RecVectorEnv, settings: NetworkSettings, reward_scale: float, quantiles: int
    ) -> None:
        super().__init__(env, settings)
        self.scorer = CandidateScorer(self.reader, settings)
        self.reward_scale = reward_scale
        self.slope = nn.Parameter(torch.ones(1))
        self.place = nn.Parameter(torch.full((1,), 2.0))  # logit of going on from one place to the next
        self.attraction = zero_linear(settings.hidden, 1)
        self.values = zero_linear(settings.hidden, quantiles)
        with torch.no_grad():
            self.attraction.bias.fill_(0.0 if self.is_click_logit else -1.5)
            self.values.bias.fill_(1.0)
        self.state = nn.Linear(self.reader.num_summary, settings.hidden)
        self.baseline = nn.Linear(settings.hidden, quantiles)

    def _items(self, facts: Facts) -> tuple[Tensor, Tensor]:
        """Return logit of p, (N, C), and Q_j, (N, C, J)."""
        hidden = self.scorer(facts, self.reader)
        score = facts.score if self.is_click_logit else facts.standard
        logit = self.slope * score + self.attraction(hidden).squeeze(-1) + self.remembered(facts)
        return logit, self.reward_scale * self.values(hidden)

    def worth(self, observation: Tensors) -> Tensor:
        """Return p Q of every candidate, Q the mean of its quantiles, (N, C); HIDDEN where masked."""
        facts = self.reader(observation)
        attraction, values = self._items(facts)
        return (attraction.sigmoid() * values.mean(-1)).masked_fill(~facts.mask, HIDDEN)

    def look(self, observation: Tensors, slates: Tensor) -> Looked:
        """Return what the network says about slates (N, K), with `baseline` (N, J) and `item_value` (N, K, J)."""
        facts = self.reader(observation, slates)
        attraction, values = self._items(facts)
        baseline = self.baseline(nn.functional.silu(self.state(facts.summary)))
        examined = self.place.sigmoid() ** torch.arange(slates.shape[1], device=slates.device)
        return Looked(facts.mask, baseline, values, attraction, examined, self.memory_penalty(facts))

    def slate_value(self, observation: Tensors, slates: Tensor) -> Tensor:
        """Return the expected Q(s, A), (N,): the mean over quantiles, clicks by their probabilities."""
        looked = self.look(observation, slates)
        chance = looked.examined * looked.attraction.sigmoid() * looked.mask
        return looked.baseline.mean(-1) + (chance * looked.item_value.mean(-1)).sum(1)


class QuantileDQN(SlateDQN):
    """`SlateDQN` with quantiles in the place of means; see the module's text."""

    def targets(self, batch: Tensors) -> Tensor:
        """Return y_j, (B, J): nothing after a user left, the value after a time limit."""
        reward = (batch["reward"] * self.settings.reward_scale)[:, None]
        online, target = self.policy.network, self.policy.target
        with torch.no_grad():
            following = part(batch, "next")
            slates = best_slates(online, following, self.size)
            looked = target.look(following, slates)
            chance = looked.examined * looked.attraction.sigmoid() * looked.mask
            drawn = torch.rand(chance.shape, generator=self.random, device=chance.device) < chance
            value = looked.baseline + (drawn[..., None] * looked.item_value).sum(1)
        return reward + self.gamma * value * ~batch["terminated"][:, None]

    def value_error(self, looked: Looked, click: Tensor, batch: Tensors) -> Tensor:
        """Return the quantile Huber loss of the slates that were looked at, with their clicks (B, K)."""
        predicted = looked.baseline + (click[..., None] * looked.item_value).sum(1)
        return quantile_huber_loss(predicted, self.targets(batch), sum_over_quantiles=True)


class QRDQNAgent(DQNAgent):
    """Quantile regression DQN over slates, see the module's text and `QRDQNSettings`."""

    settings_type: ClassVar[type[LearnerSettings]] = QRDQNSettings
    kind: ClassVar[str] = "qrdqn"

    def build_network(self, env: RecVectorEnv) -> QuantileSlateNetwork:
        """Return an untrained network, greedy on the agent-side score."""
        s = self.settings
        return QuantileSlateNetwork(env, s.network, s.reward_scale, s.quantiles)

    def build_algorithm(self, env: RecVectorEnv, seed: int) -> QuantileDQN:
        """Return a fresh QuantileDQN over the agent's network."""
        from recworld.envs import Sb3VecEnv

        return QuantileDQN(Sb3VecEnv(env), self.network, self.settings, self.slate_size, seed, self.device)
