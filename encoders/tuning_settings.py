"""`TuningSettings`: how a language model learns from a log."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recworld.errors import InputError
from recworld.logs.log import RatingScale
from recworld.settings import Settings

Method = Literal["full", "lora", "adalora", "adapter"]
RATES: dict[Method, float] = {"full": 1e-4, "lora": 1e-3, "adalora": 2e-3, "adapter": 1e-3}
"""Learning rates where none is given: few added weights take larger steps than all."""


class TuningSettings(Settings):
    """How a language model learns from a log."""

    method: Method = "lora"
    """full: all weights of the layers that learn; lora, adalora: low-rank additions (peft), merged into the weights at the
    end; adapter: small layers with a bottleneck after each block (Houlsby et al. 2019), kept beside the weights."""
    objective: Literal["rating", "contrastive"] = "rating"
    """rating: predict ratings, or clicks, from both texts; contrastive: items that the same people consumed come near each
    other (needs no ratings)."""
    towers: Literal["shared", "separate"] = "shared"
    """shared: one model reads users and items; separate: one each, both starting from the same weights."""
    loss: Literal["auto", "squared", "ordinal", "click"] = "auto"
    """squared: error of the rating; ordinal: thresholds between the levels; click: against items that were not consumed;
    auto: click where the log holds clicks, else squared."""
    layers: int | None = Field(None, ge=1)
    """Upper layers that learn; what the ones below make of each text is computed once. None: all."""
    batches: Literal["sides", "pairs"] = "sides"
    """sides: a batch is all pairs of a few texts of one side, those of the other side are looked up in a table made anew at
    each turn of sides; pairs: random pairs, both texts encoded, each distinct one once."""
    batch_texts: int = Field(64, ge=1)
    """Texts of one side in a batch (sides), and pairs of items (contrastive)."""
    batch_pairs: int = Field(2048, ge=1)
    """Pairs in a batch (pairs)."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are added up before a step."""
    user_passes: int = Field(1, ge=0)
    """Times an epoch goes through the texts of users (sides); 0: they are not learnt from."""
    item_passes: int = Field(1, ge=0)
    """The same of items."""
    user_rate: float = Field(1.0, gt=0)
    """Share of the learning rate with which texts of users are learnt from (sides)."""
    item_rate: float = Field(1.0, gt=0)
    """The same of items."""
    epochs: int = Field(6, ge=0)
    """Epochs at most; 0: the head alone, on the frozen model."""
    patience: int = Field(2, ge=1)
    """Epochs without a better error on validation rows before training stops."""
    validation: Literal["items", "users", "rows"] = "items"
    """Whose rows are held out to choose the epoch and the penalties: those of new items, of new users, or any."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Share of the items (users, rows) held out."""
    learning_rate: float | None = Field(None, gt=0)
    """Of the language model; none: 1e-4 for full, 1e-3 for lora and adapter, 2e-3 for adalora."""
    head_learning_rate: float = Field(1e-4, gt=0)
    """Of the head, which starts at the best one on the frozen vectors."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's, on the language model."""
    interaction_penalty: float = Field(0.01, ge=0)
    """Squared norm of the head's products of user and item, times this."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in the language model while it learns."""
    rank: int = Field(8, ge=1, le=512)
    """Rank of lora (and what adalora ends with), width of an adapter's bottleneck."""
    factors: int = Field(8, ge=0, le=256)
    """Products of user and item in the head, beside one term for each; 0: none."""
    temperature: float = Field(0.05, gt=0)
    """Of the contrastive softmax over the batch."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the language model's products while it learns; auto: bfloat16 on a GPU, else float32."""

    @property
    def rate(self) -> float:
        """The learning rate of the language model."""
        return self.learning_rate or RATES[self.method]


def learnt_kind(scale: RatingScale, settings: TuningSettings) -> str:
    """Return what is learnt from a log of this scale: squared, ordinal, click or contrastive.

    Raises:
        InputError: the loss does not go with the scale.
    """
    if settings.objective == "contrastive":
        return "contrastive"
    if settings.loss == "auto":
        return "click" if scale.kind == "click" else "squared"
    if settings.loss == "ordinal" and scale.kind != "discrete":
        raise InputError(f"--tuning.loss ordinal needs ratings of levels. This log holds {scale.describe()}.")
    if settings.loss == "click" and scale.kind != "click":
        raise InputError(f"--tuning.loss click needs a log of clicks. This log holds {scale.describe()}.")
    return settings.loss
