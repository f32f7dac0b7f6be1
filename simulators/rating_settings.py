"""Settings of the rating model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recworld.settings import Settings


class RatingSettings(Settings):
    """The rating model: Bayesian factorisation with text and implicit sets as side information."""

    source: Literal["factors", "text"] = "factors"
    """factors: users and items have factors of their own beside their texts; text: both texts alone tell a rating, best with
    a language model that was fine-tuned on ratings (fit_encoder.py)."""
    rank: int = Field(8, ge=1, le=64)
    """Factors of one posterior sample, beside the biases."""
    width: int = Field(16, ge=1, le=64)
    """Fr: factors of a member, onto which its averaged samples are compressed; a simulator step costs O(K Fr)."""
    samples_per_member: int = Field(32, ge=1, le=256)
    """Thinned posterior samples averaged in a member: few give diverse members, many give accurate ones."""
    thinning: int = Field(3, ge=1, le=50)
    """Iterations from one kept sample to the next."""
    burn_in: int = Field(30, ge=1)
    """Iterations before the first sample is kept."""
    max_iterations: int = Field(200, ge=1)
    """Most iterations of a chain; the number used is chosen on validation rows."""
    patience: int = Field(4, ge=1)
    """Checks (one per `thinning` iterations) without improvement of the validation error before a chain stops."""
    improvement: float = Field(1e-3, ge=0)
    """Relative improvement of the validation error that counts."""
    folds: int = Field(4, ge=2, le=20)
    """Parts of the rows that are predicted in turn from the rest: for early stopping and the spread of predictions."""
    text_rank: int = Field(32, ge=0, le=512)
    """Principal components of the text vectors used as side features; 0 leaves text out."""
    implicit_rank: int = Field(64, ge=0, le=512)
    """Rank of the implicit sets (who met what) used as side features; 0 leaves them out."""
    noise_freedom: float = Field(20.0, gt=0)
    """Degrees of freedom that tie a user's noise to the common noise; large means the same noise for all."""
    link_precision: float = Field(1.0, gt=0)
    """Prior mean of the precision of the links from side features to factors."""
    ordinal: bool = True
    """On a discrete scale, ratings are latent normals cut at thresholds, not numbers."""
    moments: bool = False
    """Where rows have times: what a user's ratings of one moment, and of moments beside it, have in common is modelled.
    For predictions at known times only: simulated users rate at no date."""
    threads: int = Field(2, ge=1, le=64)
    """Chains that run at the same time; results do not depend on it."""
