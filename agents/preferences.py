"""What a trained agent thinks of each candidate, as a number: for looking inside, not for acting.

Text vectors may be others than the catalogue's: each candidate then keeps its number, so that what was learnt about single
items stays with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.agents.base import Observation
from recworld.agents.baselines_common import Baseline

Floats = npt.NDArray[np.float64]

ROWS = 64
"""Rows of an observation looked at together."""


@dataclass(frozen=True)
class Preference:
    """An agent's preferences among candidates, before a place looks at the places before it.

    Attributes:
        meaning: what the numbers are.
        shortlist: (C,) bool of the candidates that the agent looks at closely, of an observation of one row.
        read: numbers (N, C) of observations in the features form and item numbers (N, C).
    """

    meaning: str
    shortlist: Callable[[Observation], npt.NDArray[np.bool_]]
    read: Callable[[Observation, npt.NDArray[Any]], Floats]

    def __call__(self, observation: Observation, numbers: npt.NDArray[Any]) -> Floats:
        """Return the preferences, (N, C) float64; NaN where masked.

        Args:
            observation: of N rows, in the features form.
            numbers: (N, C) item numbers of the candidates, I where masked.
        """
        parts = []
        for start in range(0, len(numbers), ROWS):
            rows = slice(start, start + ROWS)
            few = {name: array[rows] for name, array in observation.items()}
            parts.append(np.where(few["action_mask"] == 1, self.read(few, numbers[rows]), np.nan))
        return np.concatenate(parts)


def preference_of(agent: Any) -> Preference | None:
    """Return the preferences of an agent: a policy's logits, worths of items, or a baseline's scores.

    Args:
        agent: with a network that reads facts off an observation, or with a method ``scores``.

    Returns:
        None where the agent says nothing about single items, or follows the environment instead of the observation.
    """
    network = getattr(agent, "network", None)
    if network is not None:
        return _of_network(agent, network)
    scores = getattr(agent, "scores", None)
    silent = getattr(type(agent), "scores", None) is Baseline.scores
    if silent or not callable(scores) or getattr(agent, "is_upper_line", False):
        return None

    def read(observation: Observation, numbers: npt.NDArray[Any]) -> Floats:
        return np.asarray(scores(observation | {"candidates": numbers}), np.float64)

    return Preference("its score", lambda seen: seen["action_mask"][0] == 1, read)


def _of_network(agent: Any, network: Any) -> Preference | None:
    import torch

    from recworld.agents.facts import POSITIONS, FactReader, to_tensors
    from recworld.agents.networks import SlatePolicyNetwork

    reader = getattr(network, "reader", None)
    is_policy = isinstance(network, SlatePolicyNetwork)
    # A clone hides the estimate from its network, and a wish has no opinion on single items.
    if not isinstance(reader, FactReader) or not (is_policy or hasattr(network, "worth")):
        return None
    if agent.kind == "clone":
        return None

    def shortlist(observation: Observation) -> npt.NDArray[np.bool_]:
        with torch.no_grad():
            tensors = to_tensors(observation, agent.device)
            short = network.shortlisted(tensors) if hasattr(network, "shortlisted") else tensors
        chosen = observation["action_mask"][0] == 1
        if POSITIONS in short:
            near = np.zeros_like(chosen)
            near[short[POSITIONS][0].cpu().numpy()] = True
            chosen = chosen & near
        return np.asarray(chosen)

    def read(observation: Observation, numbers: npt.NDArray[Any]) -> Floats:
        with torch.no_grad():
            tensors = to_tensors(observation, agent.device)
            number = torch.as_tensor(numbers, dtype=torch.int64, device=agent.device)
            facts = replace(reader(tensors), number=reader.lookup.canonical[number])
            known = tensors | facts.arrays()
            values = network(known)[0] if is_policy else network.worth(known)
        return np.asarray(values.double().cpu().numpy())

    return Preference("logit of being chosen" if is_policy else "its value", shortlist, read)
