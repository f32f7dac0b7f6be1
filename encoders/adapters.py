"""Bottleneck adapters: small layers after the output of each block of a transformer, kept beside its weights.

    y = linear(x);  out = y + up(gelu(down(y)))

Source: Houlsby et al. (2019), "Parameter-efficient transfer learning for NLP", ICML. `up` starts at zero, so that the model
starts as it was. Unlike low-rank additions they cannot be merged into the weights: a folder with `FILE` in it holds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from recworld.errors import InputError

FILE = "adapter.safetensors"
OUTPUTS = (
    "attention.output.dense",
    "output.dense",
    "attention.out_lin",
    "ffn.lin2",
    "self_attn.o_proj",
    "mlp.down_proj",
)
"""Ends of the names of the linear layers that close a block: BERT and its kin, DistilBERT, decoders."""


class Adapted(nn.Module):
    """A linear layer and the adapter after it.

    Args:
        inner: the linear layer.
        width: of the bottleneck.
    """

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        size = int(inner.out_features)
        self.inner, self.down, self.up = inner, nn.Linear(size, width), nn.Linear(width, size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (..., out) of (..., in)."""
        out = self.inner(inputs)
        added: torch.Tensor = out + self.up(nn.functional.gelu(self.down(out)))
        return added


def attach(transformer: Any, width: int) -> None:
    """Put a fresh adapter after each block of a transformer, in place.

    Raises:
        InputError: none of its layers has a name that is known to close a block.
    """
    if any(isinstance(module, Adapted) for module in transformer.modules()):
        raise InputError(
            "--tuning.method adapter: this model has adapters already, and takes no second ones. Use lora or full."
        )
    places = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and any(f".{name}".endswith(f".{end}") for end in OUTPUTS)
    ]
    if not places:
        raise InputError(
            f"--tuning.method adapter does not know the layers of {type(transformer).__name__}. Use lora."
        )
    for place in places:
        parent, _, name = place.rpartition(".")
        holder = transformer.get_submodule(parent)
        setattr(holder, name, Adapted(getattr(holder, name), width))


def split(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the weights of the transformer as it was, and those of its adapters, out of a state dict."""
    adapted = {name.removesuffix(".inner.weight") for name in state if name.endswith(".inner.weight")}
    adapted = {place for place in adapted if f"{place}.down.weight" in state}
    plain, added = {}, {}
    for name, value in state.items():
        place, part, last = ["", "", *name.rsplit(".", 2)][-3:]
        if place not in adapted:
            plain[name] = value
        elif part == "inner":
            plain[f"{place}.{last}"] = value
        else:
            added[name] = value
    return plain, added


def attach_stored(transformer: Any, folder: Path) -> None:
    """Put the adapters that a folder holds into a transformer, in place; nothing where it holds none.

    Raises:
        InputError: they do not fit it.
    """
    if not (folder / FILE).is_file():
        return
    from safetensors.torch import load_file

    added = load_file(folder / FILE)
    width = next((len(value) for name, value in added.items() if name.endswith("down.bias")), 0)
    if width:
        attach(transformer, width)
    state = transformer.state_dict()
    own = split(state)[1]
    if set(added) != set(own) or any(own[name].shape != value.shape for name, value in added.items()):
        raise InputError(f"encoder.model: {folder / FILE} does not fit the model in its folder.")
    transformer.load_state_dict({**state, **added})
