"""Networks over the shared scorer: a policy with a value, and item-wise Q-values with a choice model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recworld.agents.baselines_static import reward_weights
from recworld.agents.facts import NUM_LEVELS, POSITIONS, FactReader, Facts, Tensors, centred_row, cut_down
from recworld.agents.item_memory import MAX_ITEMS, ItemMemory
from recworld.agents.plackett_luce import HIDDEN, PlackettLuce, place_among
from recworld.agents.scorer import CandidateScorer, NetworkSettings
from recworld.agents.spread import SlateSpread

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv


ESTIMATE = "estimate"
"""Key beside the observation's own, under which a rollout keeps `SlatePolicyNetwork.standard_estimate`."""


def choice_loss(attraction: Tensor, examined: Tensor, click: Tensor, shown: Tensor) -> Tensor:
    """Return the cross-entropy of clicks under  P(click in place k) = e_k sigmoid(attraction).

    Args:
        attraction: (N, K) logits of a click, when noticed.
        examined: (K,) e_k, probability that place k is noticed.
        click: (N, K) 0 or 1.
        shown: (N, K) 0 where the slot was empty: it counts for nothing.
    """
    chance = (examined * attraction.sigmoid()).clamp(1e-6, 1 - 1e-6)
    return nn.functional.binary_cross_entropy(chance, click, weight=shown)


class Remembering(nn.Module):
    """What the networks share that learn about single items: the memory, and a shortlist of many candidates.

    Args:
        env: gives the tables.
        settings: sizes.
    """

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.reader = FactReader(env, settings.decays)
        self.is_click_logit = env.reward_kind == "click"
        self.is_split = reward_weights(env) is not None and not self.is_click_logit
        wanted = settings.item_memory
        self.memory: ItemMemory | None = None
        if wanted if wanted is not None else self.reader.num_items <= MAX_ITEMS:
            self.memory = ItemMemory(self.reader.num_items, self.reader.num_factors)

    def remembered(self, facts: Facts) -> Tensor:
        """Return what was learnt about the items looked at, to be added to their scores, (N, C)."""
        if self.memory is None:
            return facts.score.new_zeros(())
        correction: Tensor = self.memory(facts.number, facts.estimate)
        return correction

    def memory_penalty(self, facts: Facts) -> Tensor:
        """Return the penalty on what was learnt about the items looked at, a scalar."""
        if self.memory is None:
            return facts.score.new_zeros(())
        return self.settings.memory_penalty * self.memory.penalty(facts.number)

    @torch.no_grad()
    def shortlisted(self, observation: Tensors) -> Tensors:
        """Return an observation with at most `NetworkSettings.shortlist` candidates; as it is where it has no more."""
        score = observation["candidate_score"]
        if POSITIONS in observation or score.shape[1] <= self.settings.shortlist:
            return observation
        rank = score.float()
        if self.memory is not None:
            number = self.reader.lookup(observation["candidates"])
            rank = rank + self.memory(number, observation["user_estimate"].float())
        return cut_down(observation, rank, self.settings.shortlist)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer whose weights and biases start at zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def told_over_time(facts: Facts) -> Tensor:
    """Return levels, similarities, and similarities by the time that is left, (N, C, 3 + 2 S)."""
    left = 1 - facts.summary[:, :1, None]
    return torch.cat((facts.levels, facts.similar, left * facts.similar), -1)


class SlatePolicyNetwork(Remembering):
    """Logits of the candidates and the value of the state.

    logit = scale * (score + correction) / spread + residual

    The residual is learnt by policy gradient. The correction has a scorer of its own and is learnt by supervision, from what
    the agent observes of the items it shows (`feedback_loss`): it makes the agent-side score a better estimate of the
    immediate reward, so that what bores is known from thousands of shown items and not from a handful of returns. Both
    start at zero: an untrained policy is a soft form of greedy on the score. The value reads the mean, the largest and the
    policy's own average of the candidates' hidden vectors, and the summary of the row.

    Args:
        env: gives tables, horizon and reward kind.
        settings: sizes.
        scale: start of the learned scale; larger is closer to greedy.
    """

    interacts: ClassVar[bool] = True
    """Whether each place of a slate is chosen in view of the places before it."""

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings, scale: float) -> None:
        super().__init__(env, settings)
        self.scorer = CandidateScorer(self.reader, settings)
        hidden = settings.hidden
        self.features_dim = hidden  # read by stable_baselines3
        self.log_scale = nn.Parameter(torch.full((1,), float(np.log(scale))))
        self.residual = zero_linear(hidden, 1)
        self.plain = zero_linear(NUM_LEVELS + 2 * self.reader.num_similar, 1)
        self.estimator = CandidateScorer(self.reader, settings)
        self.correction = zero_linear(
            hidden, 2
        )  # of the score, or of the attraction; of what a click is worth
        self.worth_memory = (
            ItemMemory(self.reader.num_items, self.reader.num_factors) if self.is_split else None
        )
        if self.is_split:
            with torch.no_grad():
                self.correction.bias.copy_(torch.tensor([-1.5, 0.5]))
        self.place = nn.Parameter(torch.full((1,), 2.0))  # logit of going on from one place to the next
        self.spread = SlateSpread(self.reader, settings.projection) if self.interacts else None
        self.pooled = nn.Linear(3 * hidden + self.reader.num_summary, hidden)
        self.value = nn.Linear(hidden, 1)

    def estimate(self, facts: Facts) -> Tensor:
        """Return the corrected score, (N, C), in the score's units."""
        if self.is_split:
            attraction, worth = self.parts(facts)
            return attraction.sigmoid() * worth
        own = self.correction(self.estimator(facts, self.reader))[..., 0]
        return facts.score + own + self.remembered(facts)

    def parts(self, facts: Facts) -> tuple[Tensor, Tensor]:
        """Return the logit of a click and what a click is worth, (N, C) each, where the score is their product."""
        own = self.correction(self.estimator(facts, self.reader))
        attraction = facts.standard + own[..., 0] + self.remembered(facts)
        worth = own[..., 1]
        if self.worth_memory is not None and self.memory is not None:
            worth = worth + self.worth_memory(facts.number, facts.estimate)
        return attraction, worth

    @torch.no_grad()  # the correction answers to what was observed, not to the policy's gradient
    def standard_estimate(self, facts: Facts) -> Tensor:
        """Return the corrected score in standard deviations of the row's own scores, (N, C)."""
        centred, _, _ = centred_row(self.estimate(facts), facts.mask)
        return centred / facts.spread

    def forward(self, observation: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, C), mask (N, C) bool and value (N, 1).

        Args:
            observation: of either form; under `ESTIMATE` may stand the (N, C) of `standard_estimate`, which does not
                change while the policy learns from one rollout.
        """
        facts = self.reader(observation)
        estimate = observation[ESTIMATE] if ESTIMATE in observation else self.standard_estimate(facts)
        hidden = self.scorer(facts, self.reader)  # (N, C, hidden)
        logits = self.log_scale.exp() * estimate + self.residual(hidden).squeeze(-1) + self.foresight(facts)
        mask = facts.mask[..., None]
        share = logits.detach().masked_fill(~facts.mask, HIDDEN).softmax(1)
        parts = (
            (hidden * mask).sum(1) / mask.sum(1).clamp_min(1),
            hidden.masked_fill(~mask, -1e3).amax(1),
            (share[:, None] @ hidden).squeeze(1),
            facts.summary,
        )
        return logits, facts.mask, self.value(nn.functional.silu(self.pooled(torch.cat(parts, 1))))

    def soft_greedy(self, observation: Tensors, size: int) -> PlackettLuce:
        """Return the distribution over slates without what policy gradients have taught: soft greedy on the corrected score.

        Args:
            observation: with the rollout's `ESTIMATE` beside it.
            size: K.
        """
        facts = self.reader(observation)
        logits = self.log_scale.exp() * observation[ESTIMATE]
        return PlackettLuce(logits, facts.mask, size, positions=observation.get(POSITIONS))

    def distribution(self, observation: Tensors, size: int) -> tuple[PlackettLuce, Tensor]:
        """Return the distribution over slates of `size` items, and the value (N, 1)."""
        observation = self.shortlisted(observation)
        facts = self.reader(observation)
        logits, mask, value = self(observation | facts.arrays())
        bound = None if self.spread is None or size == 1 else self.spread.bind(facts, self.reader)
        return PlackettLuce(logits, mask, size, bound, observation.get(POSITIONS)), value

    def foresight(self, facts: Facts) -> Tensor:
        """Return the part of the logits that is linear in the facts, and in the facts by the time that is left, (N, C)."""
        logits: Tensor = self.plain(told_over_time(facts)).squeeze(-1)
        return logits

    def slow_parameters(self) -> list[nn.Parameter]:
        """Return the many weights of the residual: returns are too noisy to move them as fast as the few others."""
        modules = [self.scorer, self.residual]
        return [parameter for module in modules for parameter in module.parameters()]

    def feedback_loss(
        self, observation: Tensors, slates: Tensor, click: Tensor, shown: Tensor, reward: Tensor
    ) -> Tensor:
        """Return how badly the corrected score foretold what followed: cross-entropy of clicks, or squared error of reward.

        Args:
            observation: B rows of a rollout.
            slates: (B, K) what was chosen, in the numbers of the environment.
            click: (B, K) 0 or 1.
            shown: (B, K) 0 where the slot stayed empty.
            reward: (B, K) what each slot brought, used where the score is no click logit; where the reward is a function of
                the slate, a share of it.
        """
        slates = place_among(observation.get(POSITIONS), slates)
        facts = self.reader(observation, slates)
        examined = self.place.sigmoid() ** torch.arange(slates.shape[1], device=slates.device)
        if self.is_split:
            attraction, worth = self.parts(facts)
            missed = nn.functional.mse_loss(
                worth, reward, reduction="none"
            )  # of clicked slots: only they say it
            loss = choice_loss(attraction, examined, click, shown) + (
                click * missed
            ).sum() / click.sum().clamp_min(1)
            if self.worth_memory is not None:
                loss = loss + self.settings.memory_penalty * self.worth_memory.penalty(facts.number)
        elif self.is_click_logit:
            loss = choice_loss(self.estimate(facts), examined, click, shown)
        else:
            expected = (examined * self.estimate(facts) * shown).sum(1)
            loss = nn.functional.mse_loss(expected, reward.sum(1))
        return loss + self.memory_penalty(facts)


@dataclass
class Looked:
    """What `SlateQNetwork` says about a slate; see `recworld.agents.dqn`.

    Attributes:
        mask: (N, K) bool, true where the position may be chosen.
        baseline: (N,) B(s).
        item_value: (N, K) Q_i.
        attraction: (N, K) logit of p.
        examined: (K,) e_k.
        penalty: scalar, of what is learnt about single items.
    """

    mask: Tensor
    baseline: Tensor
    item_value: Tensor
    attraction: Tensor
    examined: Tensor
    penalty: Tensor | float = 0.0


class SlateQNetwork(Remembering):
    """Choice model and item-wise values, each over a `CandidateScorer` of its own.

    The choice model is learnt by supervision and the values from noisy returns: neither disturbs the other. Untrained, the
    logit of a click is the agent-side click logit (standardised where the score is none) and every click is worth one scaled
    reward, so the best slate is the greedy one.

    Args:
        env: gives tables, horizon and reward kind.
        settings: sizes.
        reward_scale: what one reward is worth in training.
    """

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings, reward_scale: float) -> None:
        super().__init__(env, settings)
        self.chooser = CandidateScorer(self.reader, settings)
        self.scorer = CandidateScorer(self.reader, settings)
        self.reward_scale = reward_scale
        self.slope = nn.Parameter(torch.ones(1))
        self.place = nn.Parameter(torch.full((1,), 2.0))  # logit of going on from one place to the next
        self.attraction, self.value = zero_linear(settings.hidden, 1), zero_linear(settings.hidden, 1)
        self.plain = zero_linear(NUM_LEVELS + 2 * self.reader.num_similar, 1)
        with torch.no_grad():
            self.attraction.bias.fill_(0.0 if self.is_click_logit else -1.5)
            self.value.bias.fill_(1.0)
        self.state = nn.Linear(self.reader.num_summary, settings.hidden)
        self.baseline = nn.Linear(settings.hidden, 1)

    def _items(self, facts: Facts) -> tuple[Tensor, Tensor]:
        """Return logit of p and Q_i, (N, C) each."""
        score = facts.score if self.is_click_logit else facts.standard
        own = self.attraction(self.chooser(facts, self.reader)).squeeze(-1)
        value = self.value(self.scorer(facts, self.reader)) + self.plain(told_over_time(facts))
        return self.slope * score + own + self.remembered(facts), self.reward_scale * value.squeeze(-1)

    def worth(self, observation: Tensors) -> Tensor:
        """Return p Q_i of every candidate, (N, C); HIDDEN where masked."""
        facts = self.reader(observation)
        attraction, value = self._items(facts)
        return (attraction.sigmoid() * value).masked_fill(~facts.mask, HIDDEN)

    def look(self, observation: Tensors, slates: Tensor) -> Looked:
        """Return what the network says about slates (N, K)."""
        facts = self.reader(observation, slates)
        attraction, value = self._items(facts)
        baseline = self.baseline(nn.functional.silu(self.state(facts.summary))).squeeze(-1)
        examined = self.place.sigmoid() ** torch.arange(slates.shape[1], device=slates.device)
        return Looked(facts.mask, baseline, value, attraction, examined, self.memory_penalty(facts))

    def slate_value(self, observation: Tensors, slates: Tensor) -> Tensor:
        """Return Q(s, A) = B + sum_k e_k p Q_i, (N,); masked positions add nothing."""
        looked = self.look(observation, slates)
        worth = looked.examined * looked.attraction.sigmoid() * looked.item_value
        return looked.baseline + (worth * looked.mask).sum(1)
