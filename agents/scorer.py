"""One scorer for every learner: weights shared over candidates, any C and any N, both observation forms.

What a candidate is told about itself (P is the width of the projection):

* the facts of `recworld.agents.facts`: its agent-side score, its text similarity to what was consumed and liked;
* its own projection, its product with the projected user, and its product with what it attends to in the history;
* attention over the history, biased by feedback and age: the feedback and age attended to;
* the summary of its row.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from recworld.agents.facts import NUM_LEVELS, FactReader, Facts
from recworld.agents.plackett_luce import HIDDEN
from recworld.settings import Settings


class NetworkSettings(Settings):
    """Size of the scorer."""

    projection: int = Field(16, ge=1, le=1024)
    """P: width that text vectors are projected to."""
    hidden: int = Field(32, ge=1, le=4096)
    """Width of the two hidden layers over a candidate."""
    decays: tuple[float, ...] = Field((0.5, 0.8, 0.95), min_length=1)
    """Decay rates per step of the similarity to what was consumed in the episode."""
    shortlist: int = Field(200, ge=1)
    """Candidates that are looked at closely: of more, those that the corrected estimate puts first; the rest is masked."""
    item_memory: bool | None = None
    """Whether corrections of the recommender's estimate are learnt per item; none: up to 50,000 items."""
    memory_penalty: float = Field(1e-3, ge=0)
    """Weight of the squared corrections per item beside the cross-entropy: holds back items that were shown seldom."""


class CandidateScorer(nn.Module):
    """A hidden vector per candidate.

    Args:
        reader: gives the sizes of the facts.
        settings: sizes.
    """

    def __init__(self, reader: FactReader, settings: NetworkSettings) -> None:
        super().__init__()
        width, wide, hidden = reader.items.shape[1], settings.projection, settings.hidden
        self.item_projection = nn.Linear(width, wide, bias=False)
        self.user_projection = nn.Linear(width, wide, bias=False)
        self.attention_bias = nn.Linear(2, 1)
        self.from_facts = nn.Linear(NUM_LEVELS + reader.num_similar + 2, hidden)
        self.from_projections = nn.Linear(3 * wide, hidden, bias=False)
        self.from_summary = nn.Linear(reader.num_summary, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)

    def _project(self, facts: Facts, reader: FactReader) -> tuple[Tensor, Tensor, Tensor]:
        """Return projected user (N, P), history (N, H, P) and candidates (N, C, P)."""
        if facts.candidate.is_floating_point():
            return (
                self.user_projection(facts.user),
                self.item_projection(facts.history),
                self.item_projection(facts.candidate),
            )
        table = self.item_projection(reader.items)  # (I+1, P): cheaper than projecting N x C vectors
        embed = nn.functional.embedding
        return (
            self.user_projection(reader.users[facts.user]),
            embed(facts.history, table),
            embed(facts.candidate, table),
        )

    def forward(self, facts: Facts, reader: FactReader) -> Tensor:
        """Return the hidden vectors of the candidates looked at, (N, C, hidden).

        Args:
            facts: of the observation.
            reader: what gave them; its tables are looked up.
        """
        user, history, own = self._project(facts, reader)
        bias = self.attention_bias(facts.memory).squeeze(-1).masked_fill(~facts.present, HIDDEN)  # (N, H)
        weights = (own @ history.transpose(1, 2) + bias[:, None]).softmax(-1)  # (N, C, H)
        recalled, felt = weights @ history, weights @ facts.memory  # (N, C, P), (N, C, 2)
        told = torch.cat((facts.levels, facts.similar, felt), -1)
        products = torch.cat((own, own * user[:, None], own * recalled), -1)  # (N, C, 3P)
        first = (
            self.from_facts(told)
            + self.from_projections(products)
            + self.from_summary(facts.summary)[:, None]
        )
        return nn.functional.silu(self.second(nn.functional.silu(first)))
