"""One scorer for every learner: shared weights over candidates, any C and any N, both observation forms.

What a candidate is told about itself (letters of the dimension legend; P is the width of the projection):

* its agent-side score: raw, and standardised within the row's unmasked candidates;
* its own projection, its product with the projected user, and its product with what it attends to in the history;
* attention over the history, weighted by learned functions of feedback and age: the feedback and age attended to;
* text similarity to what was consumed in this episode: sums that decay at several rates, the largest, and the mean; and
  to the candidates that score best (how crowded its corner is). Similarities are cosines of *centred* vectors, as texts of
  one catalogue all resemble each other. They are facts, not weights: nothing has to be learnt before they can be used.

An item number is only ever looked up in the table of text vectors; nothing is learnt per item or per user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recworld.agents.plackett_luce import HIDDEN
from recworld.settings import Settings

if TYPE_CHECKING:
    from recworld.agents.base import Observation
    from recworld.envs import RecVectorEnv

Tensors = dict[str, Tensor]


class NetworkSettings(Settings):
    """Size of the scorer."""

    projection: int = Field(16, ge=1, le=1024)
    """P: width that text vectors are projected to."""
    hidden: int = Field(32, ge=1, le=4096)
    """Width of the two hidden layers over a candidate."""
    decays: tuple[float, ...] = (0.5, 0.8, 0.95)
    """Decay rates per step of the similarity to what was consumed in the episode."""


@dataclass
class Context:
    """What candidates of a row share and what each of them is told; C candidates, or the K that are looked at.

    Attributes:
        mask: (N, C) bool, true where a candidate may be chosen.
        score: (N, C) agent-side score.
        standard: (N, C) the same, standardised within the mask; 0 where masked.
        candidate: (N, C, P) projected candidates.
        similar: (N, C, S) text similarities, see the module's text; no gradient.
        user: (N, P) projected user.
        history: (N, H, P) projected history.
        attend: (N, H) attention bias of each history place; HIDDEN at padding.
        memory: (N, H, 2) feedback and age.
        summary: (N, B) facts about the row as a whole; no gradient.
    """

    mask: Tensor
    score: Tensor
    standard: Tensor
    candidate: Tensor
    similar: Tensor
    user: Tensor
    history: Tensor
    attend: Tensor
    memory: Tensor
    summary: Tensor


def to_tensors(observation: Observation, device: torch.device | str) -> Tensors:
    """Return the arrays of an observation as tensors on `device` (no copy where none is needed)."""
    return {name: torch.as_tensor(array, device=device) for name, array in observation.items()}


def centred_unit(vectors: Tensor, mean: Tensor) -> Tensor:
    """Return (vectors - mean) scaled to length 1; zero rows (padding) and rows at the mean become zero."""
    there = vectors.abs().sum(-1, keepdim=True) > 0
    moved = (vectors - mean) * there
    length = moved.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, moved / length.clamp_min(1e-6), torch.zeros_like(moved))


class CandidateEncoder(nn.Module):
    """Turns an observation into `Context`, and a context into a hidden vector per candidate.

    Args:
        env: gives the tables of text vectors and the horizon.
        settings: sizes.
    """

    item_table: Tensor
    item_centred: Tensor
    item_mean: Tensor
    user_table: Tensor
    rates: Tensor

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings) -> None:
        super().__init__()
        items = torch.as_tensor(np.array(env.tables.item_vector, np.float32))  # (I+1, D)
        mean = items[:-1].mean(0)
        # Not persistent: tables come from the environment, a run's weights hold what was learnt.
        self.register_buffer("item_table", items, persistent=False)
        self.register_buffer("item_mean", mean, persistent=False)
        self.register_buffer("item_centred", centred_unit(items, mean), persistent=False)
        users = torch.as_tensor(np.array(env.tables.user_vector, np.float32))
        self.register_buffer("user_table", users, persistent=False)
        self.register_buffer("rates", torch.tensor(settings.decays, dtype=torch.float32), persistent=False)
        self.horizon = int(env.horizon)
        self.width = items.shape[1]
        wide, hidden = settings.projection, settings.hidden
        self.num_similar = len(settings.decays) + 4
        self.num_summary = 7 + self.num_similar
        self.item_projection = nn.Linear(self.width, wide, bias=False)
        self.user_projection = nn.Linear(self.width, wide, bias=False)
        self.attention_bias = nn.Linear(2, 1)
        self.from_facts = nn.Linear(3 + self.num_similar + 2, hidden)
        self.from_projections = nn.Linear(3 * wide, hidden, bias=False)
        self.from_summary = nn.Linear(self.num_summary, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)

    def _vectors(self, observation: Tensors, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return projected user, history and candidates, and the centred vectors of history and all candidates."""
        user, history, candidates = (observation[name] for name in ("user", "history", "candidates"))
        looked_at = candidates
        if candidates.is_floating_point():
            if positions is not None:
                looked_at = _take(candidates, positions)
            unit = [centred_unit(v, self.item_mean) for v in (history, candidates)]
            return self.user_projection(user), self.item_projection(history), self.item_projection(looked_at), *unit
        history, candidates = history.long(), candidates.long()
        looked_at = candidates if positions is None else candidates.gather(1, positions)
        table = self.item_projection(self.item_table)  # (I+1, P): cheaper than projecting N x C vectors
        embed = nn.functional.embedding
        return (
            self.user_projection(self.user_table[user.long().reshape(-1)]),
            embed(history, table),
            embed(looked_at, table),
            embed(history, self.item_centred),
            embed(candidates, self.item_centred),
        )

    def context(self, observation: Tensors, positions: Tensor | None = None) -> Context:
        """Return what the candidates of each row share, and their own inputs.

        Args:
            observation: tensors of either observation form.
            positions: (N, K) int64, the candidates to look at, all when None. The row's own facts (mean score, crowding)
                always come from all C.
        """
        user, history, candidate, history_unit, candidate_unit = self._vectors(observation, positions)
        mask = observation["action_mask"] > 0  # (N, C)
        score = observation["candidate_score"].float() * mask
        feedback = observation["history_feedback"].float()
        age = observation["history_age"].float()
        with torch.no_grad():
            count = mask.sum(1, keepdim=True).clamp_min(1)
            mean = score.sum(1, keepdim=True) / count
            spread = (((score - mean) * mask).square().sum(1, keepdim=True) / count).sqrt()
            standard = (score - mean) * mask / (spread + 1e-3)
            present = history_unit.abs().sum(-1) > 0  # (N, H)
            current = (age < 1) & present
            best = torch.where(mask, score, mean).topk(min(5, score.shape[1]), dim=1).values.mean(1, keepdim=True)
            share = (2 * standard).masked_fill(~mask, HIDDEN).softmax(1)  # (N, C): a soft greedy choice
            favourite = share[:, None] @ candidate_unit  # (N, 1, D)
            if positions is not None:
                candidate_unit = _take(candidate_unit, positions)
                mask, score, standard = (part.gather(1, positions) for part in (mask, score, standard))
            weights = self._memory_weights(current, age, feedback)
            similar = self._similar(candidate_unit, favourite, history_unit, current, weights)
            outlook = self._similar(favourite, favourite, history_unit, current, weights).squeeze(1)
            recent = current * 0.7 ** (age * self.horizon)
            facts = (
                observation["step"].float().reshape(-1, 1),
                mean.clamp(-10, 10) / 4,
                spread.clamp(0, 10),
                best.clamp(-10, 10) / 4,
                current.float().mean(1, keepdim=True),
                recent.sum(1, keepdim=True) / 4,
                (recent * feedback).sum(1, keepdim=True) / 4,
                outlook,
            )
        memory = torch.stack((feedback, age), -1)  # (N, H, 2)
        attend = self.attention_bias(memory).squeeze(-1).masked_fill(~present, HIDDEN)
        summary = torch.cat(facts, 1)
        return Context(mask, score, standard, candidate, similar, user, history, attend, memory, summary)

    def _memory_weights(self, current: Tensor, age: Tensor, feedback: Tensor) -> Tensor:
        """Return (N, H, W) weights of the history: decayed, mean of the episode, mean by feedback over all."""
        steps = age * self.horizon
        weights = [current * rate**steps for rate in self.rates]
        weights.append(current / current.sum(1, keepdim=True).clamp_min(1))
        weights.append(feedback / feedback.abs().sum(1, keepdim=True).clamp_min(1e-3))
        return torch.stack(weights, -1)

    def _similar(
        self, candidate: Tensor, favourite: Tensor, history: Tensor, current: Tensor, weights: Tensor
    ) -> Tensor:
        """Return the (N, C, S) similarities: weighted sums over the history, the largest, and to what is favoured."""
        cosine = candidate @ history.transpose(1, 2)  # (N, C, H)
        largest = cosine.masked_fill(~current[:, None], 0.0).amax(-1, keepdim=True)
        return torch.cat((cosine @ weights, largest, candidate @ favourite.transpose(1, 2)), -1)

    def hidden(self, context: Context) -> Tensor:
        """Return a hidden vector per candidate of the context, (N, C, hidden)."""
        own, score = context.candidate, context.score
        logits = own @ context.history.transpose(1, 2) + context.attend[:, None]  # (N, C, H)
        weights = logits.softmax(-1)
        recalled = weights @ context.history  # (N, C, P)
        felt = weights @ context.memory  # (N, C, 2)
        level = torch.stack((context.standard, score.clamp(-10, 10) / 4, score.sigmoid()), -1)
        facts = torch.cat((level, context.similar, felt), -1)
        products = torch.cat((own, own * context.user[:, None], own * recalled), -1)  # (N, C, 3P)
        first = self.from_facts(facts) + self.from_projections(products) + self.from_summary(context.summary)[:, None]
        return nn.functional.silu(self.second(nn.functional.silu(first)))


def _take(part: Tensor, positions: Tensor) -> Tensor:
    """Return rows (N, K, X) of (N, C, X) at (N, K) positions."""
    return part.gather(1, positions[..., None].expand(-1, -1, part.shape[-1]))


class SlatePolicyNetwork(nn.Module):
    """Logits of the candidates and the value of the state.

    logit = scale * standardised score + residual(hidden); the residual starts at zero, so an untrained policy is a soft
    form of greedy on the agent-side score. The value reads the mean, the largest and the policy's own average of the
    candidates' hidden vectors, and the summary of the row.

    Args:
        env: gives tables and horizon.
        settings: sizes.
        scale: start of the learned scale; larger is closer to greedy.
    """

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings, scale: float) -> None:
        super().__init__()
        self.encoder = CandidateEncoder(env, settings)
        hidden = settings.hidden
        self.features_dim = hidden  # read by stable_baselines3
        self.log_scale = nn.Parameter(torch.full((1,), float(np.log(scale))))
        self.residual = nn.Linear(hidden, 1)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)
        self.pooled = nn.Linear(3 * hidden + self.encoder.num_summary, hidden)
        self.value = nn.Linear(hidden, 1)

    def forward(self, observation: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (N, C), mask (N, C) bool and value (N, 1)."""
        context = self.encoder.context(observation)
        hidden = self.encoder.hidden(context)  # (N, C, hidden)
        logits = self.log_scale.exp() * context.standard + self.residual(hidden).squeeze(-1)
        mask = context.mask[..., None]
        count = mask.sum(1).clamp_min(1)
        share = logits.detach().masked_fill(~context.mask, HIDDEN).softmax(1)
        parts = (
            (hidden * mask).sum(1) / count,
            hidden.masked_fill(~mask, -1e3).amax(1),
            (share[:, None] @ hidden).squeeze(1),
            context.summary,
        )
        return logits, context.mask, self.value(nn.functional.silu(self.pooled(torch.cat(parts, 1))))


@dataclass
class Looked:
    """What `SlateQNetwork` says about a slate; see `recworld.agents.dqn`.

    Attributes:
        baseline: (N,) B(s).
        item_value: (N, K) Q_i.
        attraction: (N, K) logit of p.
        examined: (K,) e_k.
    """

    baseline: Tensor
    item_value: Tensor
    attraction: Tensor
    examined: Tensor


class SlateQNetwork(nn.Module):
    """Choice model and item-wise values over one `CandidateEncoder`.

    Untrained, the logit of a click is the agent-side click logit (standardised where the score is none) and every click
    is worth one scaled reward, so the best slate is the greedy one.

    Args:
        env: gives tables, horizon, slate size and reward kind.
        settings: sizes.
        reward_scale: what one reward is worth in training.
    """

    def __init__(self, env: RecVectorEnv, settings: NetworkSettings, reward_scale: float) -> None:
        super().__init__()
        self.encoder = CandidateEncoder(env, settings)
        self.is_click_logit = env.reward_kind == "click"
        self.reward_scale = reward_scale
        self.slope = nn.Parameter(torch.ones(1))
        self.place = nn.Parameter(torch.full((int(env.slate_size),), 2.0))  # logit of e_k
        self.heads = nn.Linear(settings.hidden, 2)
        nn.init.zeros_(self.heads.weight)
        with torch.no_grad():
            self.heads.bias.copy_(torch.tensor([0.0 if self.is_click_logit else -1.5, 1.0]))
        self.state = nn.Linear(self.encoder.num_summary, settings.hidden)
        self.baseline = nn.Linear(settings.hidden, 1)

    def _items(self, context: Context) -> tuple[Tensor, Tensor]:
        """Return logit of p and Q_i, (N, C) each."""
        out = self.heads(self.encoder.hidden(context))
        score = context.score if self.is_click_logit else context.standard
        return self.slope * score + out[..., 0], self.reward_scale * out[..., 1]

    def worth(self, observation: Tensors) -> Tensor:
        """Return p Q_i of every candidate, (N, C); HIDDEN where masked."""
        context = self.encoder.context(observation)
        attraction, value = self._items(context)
        return (attraction.sigmoid() * value).masked_fill(~context.mask, HIDDEN)

    def look(self, observation: Tensors, slates: Tensor) -> Looked:
        """Return what the network says about slates (N, K)."""
        context = self.encoder.context(observation, slates)
        attraction, value = self._items(context)
        baseline = self.baseline(nn.functional.silu(self.state(context.summary))).squeeze(-1)
        return Looked(baseline, value, attraction, self.place.sigmoid())

    def slate_value(self, observation: Tensors, slates: Tensor) -> Tensor:
        """Return Q(s, A) = B + sum_k e_k p Q_i, (N,); masked positions add nothing."""
        looked = self.look(observation, slates)
        open_places = observation["action_mask"].gather(1, slates) > 0
        return looked.baseline + (looked.examined * looked.attraction.sigmoid() * looked.item_value * open_places).sum(1)
