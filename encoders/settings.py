"""`EncoderSettings`: which encoder, which weights, how wide."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from recworld.errors import did_you_mean
from recworld.settings import Settings

Backend = Literal["torch", "torch-int8", "half", "onnx", "onnx-int8"]
SHARED_SCALES = ("torch-int8", "onnx-int8")
"""Backends with which the texts of a batch share the scales of their activations."""


class EncoderSettings(Settings):
    """How texts become vectors."""

    kind: Literal["bert", "tfidf", "id", "given"] = "bert"
    """bert: a language model; tfidf: weighted word counts; id: random vectors, no text (for ablation); given: no text, only
    the vectors of files (user_vectors, item_vectors)."""
    model: str | None = Field(default=None, min_length=1)
    """Weights for bert: a folder or a name on the hub; none: all-MiniLM-L6-v2, installed by pip."""
    user_model: str | None = Field(default=None, min_length=1)
    """Weights that read the texts of users, of the same width as those of `model`; none: the same weights."""
    backend: Backend = "torch"
    """What computes bert: torch; torch-int8: 8-bit matrix products (CPU); half: float16 weights, on a GPU computed with as
    they are; onnx: ONNX Runtime; onnx-int8: the same with 8-bit weights, faster, nearly the same vectors. The last two need
    pip install "recworld[onnx]" and a CPU."""
    width: int | None = Field(default=64, ge=1, le=65536)
    """D, the width of the vectors after reduction; none, or the model's own width or more: no reduction."""
    whiten: bool = False
    """Whether the directions that the reduction keeps are brought to equal variance, and not left as the texts have them."""
    batch_size: int = Field(default=16, ge=1, le=65536)
    """Texts that go through the language model at once; changes speed and memory, vectors only with int8."""
    max_length: int | None = Field(default=None, ge=3, le=1_000_000)
    """Tokens that the language model reads at once; none: what its folder says (default: 256)."""
    long_texts: Literal["chunk", "cut"] = "chunk"
    """Texts of more tokens than that: chunk: read in overlapping windows, whose vectors are averaged; cut: the rest is not
    read. Texts that fit have the same vectors either way."""
    max_windows: int = Field(default=16, ge=1, le=4096)
    """Windows read of a long text at most (chunk); what lies beyond is not read, and said."""
    user_profile: Literal["never", "auto", "always"] = "never"
    """A text of what each user liked and disliked in the early part of the log: auto: where the log describes no user;
    always: after the text that describes them."""
    profile_items: int = Field(default=8, ge=1, le=1000)
    """Titles of each kind, liked and disliked, in a user's profile at most."""
    profile_order: Literal["recent", "extreme"] = "recent"
    """Which ones: the most recent, or those with the highest and lowest ratings."""
    user_vectors: str | None = Field(default=None, min_length=1)
    """File of vectors of users made elsewhere, laid beside those of the texts and reduced together with them: .npz or
    .safetensors (arrays id and vector), .parquet or .csv (a column id, then numbers), .npy (rows in the log's order)."""
    item_vectors: str | None = Field(default=None, min_length=1)
    """The same of items: of images, sound, another model."""
    vectors_weight: float = Field(default=1.0, gt=0, le=1000)
    """Spread of the given vectors, in those of the texts: 1: both say as much."""
    noise: float = Field(default=0.0, ge=0, le=1000)
    """Length of the noise added to the vectors of users (of length 1) before anything is made of them, so that they tell
    less of the texts. Drawn from a key in the cache folder. No differential privacy: see docs/privacy.md."""
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
