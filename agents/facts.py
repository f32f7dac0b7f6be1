"""What an observation says by itself, before anything is learnt: levels of scores, text similarities, lookups.

Similarities are cosines of *centred* text vectors, as the texts of one catalogue all resemble each other. Sums over what was
consumed in the episode that decay at several rates need no learning to be of use: boredom follows such a sum.
Nothing is learnt here; what is learnt about single items stands in `recworld.agents.item_memory`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from recworld.agents.item_memory import ItemLookup
from recworld.agents.plackett_luce import HIDDEN

if TYPE_CHECKING:
    from recworld.agents.base import Observation
    from recworld.envs import RecVectorEnv

Tensors = dict[str, Tensor]

POSITIONS = "positions"
"""Key beside the observation's own of the positions (N, S) that a shortlisted observation was cut down to."""
KNOWN = "facts."
"""Start of the names of facts that stand beside an observation, so that they are not worked out again."""

NUM_LEVELS = 3
"""Levels of a candidate: standardised score, raw score, sigmoid of it."""


@dataclass
class Facts:
    """Facts about N rows and the candidates looked at (all C, or the K of a slate); no gradients.

    Attributes:
        mask: (N, C) bool, true where a candidate may be chosen.
        score: (N, C) agent-side score, 0 where masked.
        standard: (N, C) the same, standardised within the row's mask, 0 where masked.
        spread: (N, 1) standard deviation of the row's unmasked scores, above zero.
        similar: (N, C, S) text similarities: sums over the episode that decay at each rate, mean over the episode, mean over
            the history by feedback, largest in the episode, and to the candidates that score best (a crowded corner).
        levels: (N, C, 3) of the score.
        summary: (N, B) facts about the row as a whole: time, score level, what was consumed and liked lately, and the
            similarities of what scores best.
        present: (N, H) bool, false at padding.
        memory: (N, H, 2) feedback and age.
        user, history, candidate: item and user numbers, (N,), (N, H), (N, C) int64, or their text vectors.
        number: (N, C) int64 item numbers in either form, I where unknown.
        estimate: (N, G) the recommender's factors of the user.
    """

    mask: Tensor
    score: Tensor
    standard: Tensor
    spread: Tensor
    similar: Tensor
    levels: Tensor
    summary: Tensor
    present: Tensor
    memory: Tensor
    user: Tensor
    history: Tensor
    candidate: Tensor
    number: Tensor
    estimate: Tensor

    def arrays(self) -> Tensors:
        """Return the facts by the names under which a `FactReader` takes them back from an observation."""
        return {KNOWN + f.name: getattr(self, f.name) for f in fields(self)}

    def at(self, positions: Tensor) -> Facts:
        """Return the facts on the candidates at positions (N, K) only."""
        looked = ("mask", "score", "standard", "similar", "levels", "candidate", "number")
        return replace(self, **{name: take(getattr(self, name), positions) for name in looked})


def to_tensors(observation: Observation, device: torch.device | str) -> Tensors:
    """Return the arrays of an observation as tensors on `device` (no copy where none is needed)."""
    return {name: torch.as_tensor(array, device=device) for name, array in observation.items()}


def centred_row(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return values less their row's mean (N, C), 0 where masked; the mean; the standard deviation, above zero, (N, 1) each.

    Args:
        values: (N, C).
        mask: (N, C) bool, true for what counts.
    """
    count = mask.sum(1, keepdim=True).clamp_min(1)
    mean = (values * mask).sum(1, keepdim=True) / count
    centred = (values - mean) * mask
    return centred, mean, (centred.square().sum(1, keepdim=True) / count).sqrt() + 1e-3


def centred_unit(vectors: Tensor, mean: Tensor) -> Tensor:
    """Return (vectors - mean) scaled to length 1; zero rows (padding) and rows at the mean become zero."""
    there = vectors.abs().sum(-1, keepdim=True) > 0
    moved = (vectors - mean) * there
    length = moved.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-6, moved / length.clamp_min(1e-6), torch.zeros_like(moved))


def take(part: Tensor, positions: Tensor) -> Tensor:
    """Return rows (N, K, X) of (N, C, X), or (N, K) of (N, C), at (N, K) positions."""
    if part.ndim == 2:
        return part.gather(1, positions)
    return part.gather(1, positions[..., None].expand(-1, -1, part.shape[-1]))


class FactReader(nn.Module):
    """Reads `Facts` off an observation of either form; holds the tables of text vectors, learns nothing.

    Args:
        env: gives the tables and the horizon.
        decays: rates per step of the sums over the episode.
    """

    items: Tensor
    users: Tensor
    mean: Tensor
    centred: Tensor
    rates: Tensor

    def __init__(self, env: RecVectorEnv, decays: tuple[float, ...]) -> None:
        super().__init__()
        items = torch.as_tensor(np.array(env.tables.item_vector, np.float32))  # (I+1, D)
        users = torch.as_tensor(np.array(env.tables.user_vector, np.float32))  # (U, D)
        mean = items[:-1].mean(0)
        buffers = {"items": items, "users": users, "mean": mean, "centred": centred_unit(items, mean)}
        for name, tensor in (buffers | {"rates": torch.tensor(decays, dtype=torch.float32)}).items():
            # Not persistent: tables come from the environment, a run's weights hold what was learnt.
            self.register_buffer(name, tensor, persistent=False)
        self.lookup = ItemLookup(items)
        self.num_items, self.num_factors = len(items) - 1, env.tables.item_estimate.shape[1]
        self.horizon = int(env.horizon)
        self.num_similar = len(decays) + 4
        self.num_summary = 7 + self.num_similar

    def unit(self, vectors: Tensor) -> Tensor:
        """Return text vectors centred and scaled to length 1."""
        return centred_unit(vectors, self.mean)

    @torch.no_grad()
    def forward(self, observation: Tensors, positions: Tensor | None = None) -> Facts:
        """Return the facts.

        Args:
            observation: tensors of either observation form; where `Facts.arrays` stand beside them, these are taken.
            positions: (N, K) int64, the candidates to look at, all when None. What is said about the row as a whole
                always comes from all C.
        """
        if KNOWN + "mask" in observation:
            known = Facts(**{f.name: observation[KNOWN + f.name] for f in fields(Facts)})
            return known if positions is None else known.at(positions)
        user, history, candidate = (observation[name] for name in ("user", "history", "candidates"))
        if candidate.is_floating_point():
            history_unit, unit = centred_unit(history, self.mean), centred_unit(candidate, self.mean)
        else:
            user, history, candidate = user.long().reshape(-1), history.long(), candidate.long()
            history_unit, unit = nn.functional.embedding(history, self.centred), self.centred[candidate]
        mask = observation["action_mask"] > 0
        score = observation["candidate_score"].float() * mask
        feedback, age = observation["history_feedback"].float(), observation["history_age"].float()
        centred, mean, spread = centred_row(score, mask)
        standard = centred / spread
        best = torch.where(mask, score, mean).topk(min(5, score.shape[1]), dim=1).values.mean(1, keepdim=True)
        share = (2 * standard).masked_fill(~mask, HIDDEN).softmax(1)  # (N, C): a soft greedy choice
        favourite = share[:, None] @ unit  # (N, 1, D)
        if positions is not None:
            unit, candidate = take(unit, positions), take(candidate, positions)
            mask, score, standard = (take(part, positions) for part in (mask, score, standard))
        present = history_unit.abs().sum(-1) > 0
        current = (age < 1) & present
        weights = self._weights(current, age, feedback)
        similar = _similar(unit, favourite, history_unit, current, weights)
        outlook = _similar(favourite, favourite, history_unit, current, weights).squeeze(1)
        recent = current * 0.7 ** (age * self.horizon)
        summary = (
            observation["step"].float().reshape(-1, 1),
            mean.clamp(-10, 10) / 4,
            spread.clamp(0, 10),
            best.clamp(-10, 10) / 4,
            current.float().mean(1, keepdim=True),
            recent.sum(1, keepdim=True) / 4,
            (recent * feedback).sum(1, keepdim=True) / 4,
            outlook,
        )
        levels = torch.stack((standard, score.clamp(-10, 10) / 4, score.sigmoid()), -1)
        memory = torch.stack((feedback, age), -1)
        return Facts(
            mask, score, standard, spread, similar, levels, torch.cat(summary, 1), present, memory, user, history, candidate,
            self.lookup(candidate), observation["user_estimate"].float(),
        )  # fmt: skip

    def _weights(self, current: Tensor, age: Tensor, feedback: Tensor) -> Tensor:
        """Return (N, H, W) weights of the history: decayed, mean of the episode, mean by feedback over all."""
        steps = age * self.horizon
        weights = [current * rate**steps for rate in self.rates]
        weights.append(current / current.sum(1, keepdim=True).clamp_min(1))
        weights.append(feedback / feedback.abs().sum(1, keepdim=True).clamp_min(1e-3))
        return torch.stack(weights, -1)


def _similar(
    candidate: Tensor, favourite: Tensor, history: Tensor, current: Tensor, weights: Tensor
) -> Tensor:
    """Return the (N, C, S) similarities: weighted sums over the history, the largest, and to what is favoured."""
    cosine = candidate @ history.transpose(1, 2)  # (N, C, H)
    largest = cosine.masked_fill(~current[:, None], 0.0).amax(-1, keepdim=True)
    return torch.cat((cosine @ weights, largest, candidate @ favourite.transpose(1, 2)), -1)


def cut_down(observation: Tensors, rank: Tensor, size: int) -> Tensors:
    """Return the observation with no more than `size` candidates, those of the highest rank, and their `POSITIONS`.

    Args:
        observation: tensors of either form.
        rank: (N, C).
        size: S.
    """
    positions = rank.masked_fill(observation["action_mask"] == 0, HIDDEN).topk(size, dim=1).indices
    short = {
        name: take(observation[name], positions) for name in ("candidates", "candidate_score", "action_mask")
    }
    return observation | short | {POSITIONS: positions}
