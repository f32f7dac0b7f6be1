"""Settings of the attraction model."""

from __future__ import annotations

from pydantic import Field

from recworld.settings import Settings


class AttractionSettings(Settings):
    """The attraction model: how likely a shown and noticed item is taken up; a logistic factorisation."""

    width: int = Field(16, ge=1, le=64)
    """Fa: factors of the attraction; a simulator step costs O(K Fa)."""
    negatives: int = Field(4, ge=1, le=100)
    """Items not consumed that are sampled per consumed one, uniformly; unused where exposures are logged."""
    epochs: int = Field(30, ge=1)
    """Most passes over the rows; the number used is chosen on validation rows."""
    patience: int = Field(2, ge=1)
    """Passes without improvement of the validation log-loss before training stops."""
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    """Share of the rows of the fit that validates; the model is then fitted again on all of them."""
    learning_rate: float = Field(0.2, gt=0)
    """Step size of Adagrad."""
    shrinkage: float = Field(0.02, ge=0)
    """Pull of the factors of a row's user and item towards what their text says, at each row."""
    bias_shrinkage: float = Field(0.002, ge=0)
    """The same for the biases."""
    text_rank: int = Field(32, ge=0, le=512)
    """Principal components of the text vectors used as side features; 0 leaves text out."""
    link_ridge: float = Field(10.0, gt=0)
    """Ridge of the regression of factors on text, in rows."""
    rank: int = Field(8, ge=1, le=64)
    """Factors of one posterior sample, where exposures are logged."""
    burn_in: int = Field(40, ge=1)
    """Iterations of a chain over exposures before the first sample is kept."""
    samples: int = Field(24, ge=1, le=256)
    """Samples of a chain over exposures that are averaged in a member."""
    thinning: int = Field(4, ge=1, le=50)
    """Iterations from one kept sample to the next."""
    largest_weight: float = Field(1.0, ge=1)
    """Bound on the inverse-propensity weight of a shown row, relative to the mean; 1: all rows weigh the same."""
    threads: int = Field(2, ge=1, le=64)
    """Members trained at the same time; results do not depend on it."""
