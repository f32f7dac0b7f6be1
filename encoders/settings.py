"""`EncoderSettings`: which encoder, which weights, how wide."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recworld.settings import Settings


class EncoderSettings(Settings):
    """How texts become vectors."""

    kind: Literal["bert", "tfidf", "id"] = "bert"
    """bert: a language model; tfidf: weighted word counts; id: random vectors, no text (for ablation)."""
    model: str | None = Field(default=None, min_length=1)
    """Weights for bert: a folder or a name on the hub; none: all-MiniLM-L6-v2, installed by pip."""
    width: int | None = Field(default=64, ge=1, le=65536)
    """D, the width of the vectors after reduction; none, or the model's own width or more: no reduction."""
    batch_size: int = Field(default=16, ge=1, le=65536)
    """Texts that go through the language model at once; it changes speed and memory, not the vectors."""
    max_length: int | None = Field(default=None, ge=3, le=1_000_000)
    """Tokens read of each text, the rest is cut off; none: what the model's folder says (default: 256)."""
    device: str = "auto"
    """Where the language model runs: auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the id vectors and of the tfidf decomposition; bert has no randomness."""
