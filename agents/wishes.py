"""Wishes: a candidate as a few coordinates, the state as one short vector, and the slate nearest to a wish.

Algorithms for continuous actions name a point where they would like an item to stand; the K candidates with the largest
scalar product with it are shown, as `recworld.envs.wrappers.WishedItemVectorWrapper` does with whole text vectors. Text
vectors of an encoder have hundreds of numbers, too many to act in, so wishes live in their principal components: W of them,
centred, all divided by one number (the largest of them becomes 1, so that angles keep their meaning). The mean that is
taken off is the same for all candidates of a row, so without the score the slate is the wrapper's for the wish turned back
into a text vector (`WishReader.text_vector`).
One more coordinate is the agent-side score, standardised within the row: a wish may lean on it as much as it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from recworld.agents.facts import FactReader, Tensors, take
from recworld.agents.plackett_luce import HIDDEN

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

STATE = "state"
"""Name of the state vector beside, or in the place of, an observation."""

SCORE_BOUND = 3.0
"""Standard deviations of the agent-side score at which its coordinate ends."""


def principal_components(vectors: np.ndarray, width: int) -> np.ndarray:
    """Return the `width` directions of largest variance of rows (I, D), as columns (D, width), the largest first.

    Fewer where there are fewer directions. The sign of each is such that its largest entry is positive.
    """
    centred = np.asarray(vectors, np.float64) - vectors.mean(0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    top = directions[:, ::-1][:, : min(width, *vectors.shape)]
    largest = top[np.abs(top).argmax(0), np.arange(top.shape[1])]
    return np.asarray(top * np.where(largest < 0, -1.0, 1.0), np.float32)


class WishReader(nn.Module):
    """Reads coordinates of candidates and a state vector off an observation of either form; learns nothing.

    The components are stored with the weights, as a network trained on them is of no use with others.

    Args:
        env: gives tables and horizon.
        width: components at most.
        decays: rates of the similarities among the facts.
        use_score: whether the agent-side score is a coordinate.
    """

    components: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self, env: RecVectorEnv, width: int, decays: tuple[float, ...], use_score: bool = True
    ) -> None:
        super().__init__()
        self.facts = FactReader(env, decays)
        items = np.asarray(env.tables.item_vector[:-1], np.float32)
        components = principal_components(items, width)
        largest = np.abs((items - items.mean(0)) @ components).max()
        self.register_buffer("components", torch.as_tensor(components))
        self.register_buffer("mean", torch.as_tensor(items.mean(0)))
        self.register_buffer("scale", torch.tensor([1.0 / max(float(largest), 1e-6)]))
        self.use_score = use_score
        self.num_components = components.shape[1]
        self.num_coordinates = self.num_components + int(use_score)
        self.num_state = 3 * self.num_components + self.facts.num_summary

    def text_vector(self, wish: Tensor) -> Tensor:
        """Return wishes (N, W) as wished-for text vectors (N, D); a weight on the score has no counterpart there."""
        return wish[:, : self.num_components] @ self.components.T * self.scale

    def _place(self, items: Tensor, table: Tensor) -> Tensor:
        """Return components (..., W) of text vectors (..., D), or of rows of a table (rows, D) by number (...)."""
        if items.is_floating_point():
            return (items - self.mean) @ self.components * self.scale
        placed = (table - self.mean) @ self.components * self.scale
        return nn.functional.embedding(items.long(), placed)

    @torch.no_grad()
    def state(self, observation: Tensors) -> Tensor:
        """Return the state, (N, S).

        It is the user's place, the mean place of the history weighted by feedback, the mean place of what was consumed
        lately in the episode, and the summary of `Facts`. Where an environment has put it beside the observation under
        `STATE`, as those of this package's training do, it is not worked out again.

        Args:
            observation: tensors of either observation form.
        """
        if STATE in observation:
            return observation[STATE]
        facts = self.facts(observation)
        user = self._place(facts.user, self.facts.users)
        history = self._place(facts.history, self.facts.items) * facts.present[..., None]
        feedback, age = facts.memory.unbind(-1)
        lately = ((age < 1) & facts.present) * 0.7 ** (age * self.facts.horizon)
        weights = torch.stack(
            (
                feedback / feedback.abs().sum(1, keepdim=True).clamp_min(1e-3),
                lately / lately.sum(1, keepdim=True).clamp_min(1),
            ),
            1,
        )  # (N, 2, H)
        return torch.cat((user, (weights @ history).flatten(1), facts.summary), 1)

    @torch.no_grad()
    def coordinates(self, observation: Tensors, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return coordinates (N, C, W) and mask (N, C) bool.

        Args:
            observation: tensors of either observation form.
            positions: (N, K) the candidates to look at, all when None.
        """
        candidates, mask = observation["candidates"], observation["action_mask"] > 0
        score = observation["candidate_score"].float() * mask
        count = mask.sum(1, keepdim=True).clamp_min(1)
        centred = (score - score.sum(1, keepdim=True) / count) * mask
        score = centred / ((centred.square().sum(1, keepdim=True) / count).sqrt() + 1e-3)
        if positions is not None:
            candidates, mask, score = (take(part, positions) for part in (candidates, mask, score))
        placed = self._place(candidates, self.facts.items)
        if self.use_score:
            placed = torch.cat((placed, score.clamp(-SCORE_BOUND, SCORE_BOUND)[..., None]), -1)
        return placed * mask[..., None], mask


def closeness(wish: Tensor, coordinates: Tensor, mask: Tensor) -> Tensor:
    """Return the scalar product of a wish (N, W) with each candidate (N, C, W), (N, C); HIDDEN where masked."""
    return (coordinates @ wish[..., None]).squeeze(-1).masked_fill(~mask, HIDDEN)


def nearest_slates(wish: Tensor, coordinates: Tensor, mask: Tensor, size: int) -> Tensor:
    """Return the K candidates nearest to a wish, nearest first, (N, K) int64; masked ones only where no other is left."""
    return closeness(wish, coordinates, mask).topk(size, dim=1).indices
