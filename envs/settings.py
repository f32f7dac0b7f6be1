"""Settings of an environment, as they stand in YAML files and flags; `RecVectorEnv` takes the same names."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recworld.settings import Settings


class EnvSettings(Settings):
    """What is shown, how much of it, and what it is worth."""

    slate_size: int = Field(5, ge=1)
    """K, items shown at once."""
    num_candidates: int = Field(100, ge=1)
    """C, items to choose from in each step (I with candidates "all")."""
    candidates: Literal["random", "popular", "all", "retrieved"] = "random"
    """At random, the most popular, the whole catalogue, or the best by the recommender's own estimate."""
    retrieval: Literal["exact", "index"] = "exact"
    """How "retrieved" finds its candidates: by a scan of the catalogue, or nearly all of the same by an index, tens of times
    as fast among a million items (reward "click" only; needs pip install "recworld[index]")."""
    observation: Literal["ids", "features"] = "ids"
    """Item numbers to look up in `env.tables`, or the text vectors themselves."""
    reward: str | dict[str, float] = "click"
    """The names "click" or "rating", weights such as {"click": 1, "rating": 0.5}, or "module:function"."""
    horizon: int = Field(20, ge=1)
    """T, slates in an episode at most; reaching it is truncation."""
    history_length: int = Field(20, ge=1)
    """H, consumed items in an observation."""
    repeats: bool = False
    """Whether consumed items may be offered again."""
    fold_in: float = Field(0.1, ge=0, le=1)
    """Step size of the recommender's own estimate within an episode; the same for every agent and baseline."""
