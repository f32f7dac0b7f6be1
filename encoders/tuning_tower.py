"""A language model that learns: which of its weights, in which form, and the vectors of texts with their gradients."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from recworld.encoders.adapters import attach
from recworld.encoders.bert import CHARS_PER_TOKEN, pool
from recworld.encoders.loading import LoadedModel, load_model
from recworld.encoders.pruning import COUNTS
from recworld.encoders.tuning_settings import TuningSettings
from recworld.encoders.weights import ModelFolder
from recworld.errors import InputError
from recworld.progress import say
from recworld.storage import read_json

CHUNK = 64
"""Texts that go through the model at once, sorted by length."""
KEPT_BYTES = 2 << 30
"""Of what the lower layers made of all texts, at most; beyond it they are computed at every batch."""
LAYER = re.compile(r"(?:^|\.)(?:layers?|h|block)\.(\d+)\.")


class Tower:
    """A language model, and the texts that it reads.

    Args:
        folder: the model that it starts from.
        settings: what of it learns.
        device: as `encoder.device`.
        steps: steps of the optimiser in all, which adalora wants to know.

    Raises:
        InputError: the model cannot be loaded, has too few layers, or does not know the method.
    """

    def __init__(self, folder: ModelFolder, settings: TuningSettings, device: str, steps: int) -> None:
        self.folder, self.settings = folder, settings
        self.loaded: LoadedModel = load_model(folder, device)
        self.device = self.loaded.device
        self._peft: Any = None
        self._low: dict[str, list[torch.Tensor]] = {}
        self._ids: dict[str, list[list[int]]] = {}
        self._frozen_layers = frozen_layers(folder, settings.layers)
        self._prepare(steps)

    def _prepare(self, steps: int) -> None:
        """Choose the weights that learn."""
        model, method = self.loaded.transformer, self.settings.method
        for weight in model.parameters():
            weight.requires_grad_(method == "full")
        if method == "adapter":
            attach(model, self.settings.rank)
            model.to(self.device)
        elif method in ("lora", "adalora"):
            self._peft = _with_peft(model, self.settings, steps)
        model.get_input_embeddings().weight.requires_grad_(False)  # words of no text would stay behind
        for name, weight in model.named_parameters():
            found = LAYER.search(name)
            if self._frozen_layers and (found is None or int(found.group(1)) < self._frozen_layers):
                weight.requires_grad_(False)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = self.settings.dropout
        for layer in self.loaded.dense:
            for weight in layer.parameters():
                weight.requires_grad_(False)
        model.eval()

    def read(self, name: str, texts: Sequence[str]) -> None:
        """Turn the texts of one side into tokens; what goes beyond the model's length is not read."""
        limit = self.folder.max_length
        shown = [text[: CHARS_PER_TOKEN * limit] for text in texts]
        if self.folder.lower_case:
            shown = [text.lower() for text in shown]
        self._ids[name] = (
            self.loaded.tokenizer(
                shown, truncation=True, max_length=limit, return_attention_mask=False, verbose=False
            )["input_ids"]
            if shown
            else []
        )
        full = sum(len(ids) >= limit for ids in self._ids[name])
        if full:
            say(
                f"{full:,} of {len(texts):,} {name} texts fill the {limit} tokens that the model reads at once: it learns "
                "from their start alone."
            )
        tokens = sum(map(len, self._ids[name]))
        width = int(self.loaded.transformer.config.hidden_size)
        if self._frozen_layers and _splits(self.loaded.transformer) and 4 * tokens * width <= KEPT_BYTES:
            self._low[name] = self._lower(name)

    def learnt(self) -> list[nn.Parameter]:
        """Return the weights that learn."""
        return [weight for weight in self._base().parameters() if weight.requires_grad]

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights that learn, by name, copied."""
        return {
            name: weight.detach().clone()
            for name, weight in self._base().named_parameters()
            if weight.requires_grad
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take weights that `state` gave."""
        own = dict(self._base().named_parameters())
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def _base(self) -> Any:
        return self.loaded.transformer

    def train(self, learning: bool) -> None:
        """Switch dropout on or off."""
        self._base().train(learning)

    def after_step(self, step: int) -> None:
        """Let adalora share out its ranks anew, after a step of the optimiser and before the gradients are cleared."""
        if self.settings.method == "adalora":
            self._peft.base_model.update_and_allocate(step)

    def penalty(self) -> torch.Tensor | float:
        """Return how far adalora's factors are from orthogonal (Zhang et al. 2023, equation 4); of other methods 0."""
        if self.settings.method != "adalora":
            return 0.0
        parts = []
        for name, weight in self._base().named_parameters():
            if "lora_A" in name or "lora_B" in name:
                product = weight @ weight.T if "lora_A" in name else weight.T @ weight
                parts.append((product - torch.eye(len(product), device=product.device)).square().sum())
        return 0.5 * torch.stack(parts).sum() / len(parts)

    def vectors(self, name: str, numbers: Any) -> torch.Tensor:
        """Return (n, W) unit rows of texts of one side, with gradients where they are on."""
        ids = self._ids[name]
        order = sorted(range(len(numbers)), key=lambda n: len(ids[numbers[n]]))
        parts = []
        for at in range(0, len(order), CHUNK):
            rows = [int(numbers[n]) for n in order[at : at + CHUNK]]
            with self._products():
                states, mask = self._states(name, rows)
            pooled = pool(states.float(), mask, self.folder.pooling)
            for layer in self.loaded.dense:
                pooled = layer(pooled)
            parts.append(nn.functional.normalize(pooled, dim=1))
        back = torch.as_tensor(np.argsort(order), device=self.device)
        return torch.cat(parts)[back]

    def all(self, name: str) -> torch.Tensor:
        """Return the vectors of all texts of one side, without gradients or dropout."""
        learning = self._base().training
        self.train(False)
        with torch.no_grad():
            found = self.vectors(name, np.arange(len(self._ids[name])))
        self.train(learning)
        return found

    def _products(self) -> Any:
        half = self.settings.precision
        if half == "float32" or (half == "auto" and self.device.type != "cuda"):
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _states(self, name: str, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token states (B, L, hidden) of the last layer, and the mask (B, L)."""
        if name in self._low:
            kept = [self._low[name][n] for n in rows]
            states = nn.utils.rnn.pad_sequence(kept, batch_first=True)
            lengths = torch.tensor([len(k) for k in kept], device=self.device)
            mask = (torch.arange(states.shape[1], device=self.device) < lengths[:, None]).long()
            with self._upper():
                out = self._base()(inputs_embeds=states, attention_mask=mask).last_hidden_state
            return out, mask
        batch = self.loaded.tokenizer.pad(
            {"input_ids": [self._ids[name][n] for n in rows]}, return_tensors="pt", verbose=False
        ).to(self.device)
        return self._base()(**batch).last_hidden_state, batch["attention_mask"]

    def _lower(self, name: str) -> list[torch.Tensor]:
        """Return for each text what the layers below those that learn make of its tokens, (L, hidden) each."""
        model, out = self._base(), []
        layers = model.encoder.layer
        model.encoder.layer = nn.ModuleList(list(layers)[: self._frozen_layers])
        try:
            with torch.no_grad():
                for at in range(0, len(self._ids[name]), CHUNK):
                    states, mask = self._states(name, list(range(at, min(at + CHUNK, len(self._ids[name])))))
                    # Padding stands at either end; what is kept is what the mask shows.
                    out += [row[shown.bool()].clone() for row, shown in zip(states, mask, strict=True)]
        finally:
            model.encoder.layer = layers
        return out

    def _upper(self) -> Any:
        return _Upper(self._base(), self._frozen_layers)

    def merged(self) -> LoadedModel:
        """Return the model as it has learnt, low-rank additions merged; the tower is of no use afterwards."""
        model = self._base()
        if self._peft is not None:
            model = self._peft.merge_and_unload()
        return replace(self.loaded, transformer=model.eval())


def frozen_layers(folder: ModelFolder, layers: int | None) -> int:
    """Return how many of a model's layers stay as they are when the upper `layers` learn.

    Raises:
        InputError: it has fewer.
    """
    config = read_json(folder.path / "config.json")
    total = next((int(config[name]) for name in COUNTS if name in config), 0)
    if layers is None:
        return 0
    if layers > total:
        raise InputError(f"--tuning.layers must be at most {total}, the layers of this model. Got {layers}.")
    return total - layers


class _Upper:
    """While it is open, a transformer takes what its lower layers made as input, and has the upper ones alone."""

    def __init__(self, model: Any, below: int) -> None:
        self._model, self._below = model, below

    def __enter__(self) -> None:
        model = self._model
        self._embeddings, self._layers = model.embeddings, model.encoder.layer
        model.embeddings = _Through()
        model.encoder.layer = nn.ModuleList(list(self._layers)[self._below :])

    def __exit__(self, *_: object) -> None:
        self._model.embeddings, self._model.encoder.layer = self._embeddings, self._layers


class _Through(nn.Module):
    """In place of the embeddings: gives back what it is given."""

    def forward(self, *_: Any, inputs_embeds: Any = None, **__: Any) -> Any:
        return inputs_embeds


def _splits(model: Any) -> bool:
    """Return whether a transformer can be cut in two: embeddings, then a list of layers, as BERT and its kin."""
    encoder = getattr(model, "encoder", None)
    if hasattr(model, "embeddings_project") or getattr(encoder, "conv", None) is not None:
        return False  # something stands between them
    return hasattr(model, "embeddings") and isinstance(getattr(encoder, "layer", None), nn.ModuleList)


def _with_peft(model: Any, settings: TuningSettings, steps: int) -> Any:
    """Put low-rank additions into a transformer, in place, and return what merges them."""
    import peft

    common: dict[str, Any] = {"target_modules": "all-linear", "lora_alpha": 2 * settings.rank}
    if settings.method == "lora":
        config = peft.LoraConfig(r=settings.rank, lora_dropout=settings.dropout, **common)
    else:
        # Ranks start half as large again, are given up between a tenth and seven tenths of the way, and then stay.
        config = peft.AdaLoraConfig(
            init_r=settings.rank + max(1, settings.rank // 2),
            target_r=settings.rank,
            total_step=max(10, steps),
            tinit=max(1, steps // 10),
            tfinal=max(1, 3 * steps // 10),
            deltaT=1,
            lora_dropout=settings.dropout,
            **common,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names in transformers that peft still uses
        return peft.get_peft_model(model, config)
