"""A smaller language model out of a larger one: some of its layers, written as a folder that `find_model` takes.

The layers of a language model refine what the ones before made of a text; of short texts, like titles and a few words about
people, the first ones tell nearly all. What is cut away is put right by `recworld.encoders.distilling`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from recworld.encoders.loading import LoadedModel, load_model
from recworld.encoders.weights import POOLINGS, WEIGHTS, ModelFolder
from recworld.errors import InputError
from recworld.storage import atomic_path, read_json, write_json

LayerChoice = Literal["first", "alternate"]
Precision = Literal["float32", "float16"]
TOKENIZER = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
)
"""Files of a folder that belong to its tokenizer."""
COUNTS = ("num_hidden_layers", "n_layers", "num_layers")
"""What models call the number of their layers."""
PARTS = "sentence_transformers.models."


@dataclass(frozen=True)
class Student:
    """A smaller model in memory.

    Attributes:
        source: folder of the model that it was made from; tokenizer, pooling and lengths are taken from there.
        model: its transformer, tokenizer and dense layers.
    """

    source: ModelFolder
    model: LoadedModel


def kept_layers(total: int, layers: int, choice: LayerChoice) -> tuple[int, ...]:
    """Return the numbers of the layers that stay.

    Args:
        total: layers of the model.
        layers: how many stay.
        choice: "first": the first ones; "alternate": evenly spread from the first on, every second where half of them stay.

    Raises:
        InputError: the model has fewer layers.
    """
    if not 1 <= layers <= total:
        raise InputError(f"--layers must be 1 to {total}, the layers of this model. Got {layers}.")
    return tuple(n * total // layers if choice == "alternate" else n for n in range(layers))


def prune(folder: ModelFolder, layers: int, choice: LayerChoice, device: str = "cpu") -> Student:
    """Load a model and take layers out of it.

    Args:
        folder: the model.
        layers: how many layers stay.
        choice: which.
        device: as `encoder.device`.

    Raises:
        InputError: the model cannot be loaded, has fewer layers, or has none that can be taken out.
    """
    named = read_json(folder.path / "config.json")
    total = next((named[name] for name in COUNTS if name in named), None)
    if isinstance(total, int):
        kept_layers(total, layers, choice)  # before the long wait for the model
    loaded = load_model(folder, device)
    transformer = loaded.transformer
    parent, name = _stack(transformer, folder)
    stack = getattr(parent, name)
    kept = kept_layers(len(stack), layers, choice)
    config = transformer.config
    types = getattr(config, "layer_types", None)
    if isinstance(types, list) and len(types) == len(stack):
        config.layer_types = [types[n] for n in kept]
    setattr(parent, name, type(stack)(stack[n] for n in kept))
    config.num_hidden_layers = layers
    return Student(folder, loaded)


def _stack(transformer: Any, folder: ModelFolder) -> tuple[Any, str]:
    """Return the module that holds the list of layers, and the list's name in it."""
    import torch

    total = transformer.config.num_hidden_layers
    found = [
        (parent, name)
        for parent in transformer.modules()
        for name, child in parent.named_children()
        if isinstance(child, torch.nn.ModuleList) and len(child) == total
    ]
    if len(found) != 1:
        raise InputError(
            f"encoder.model: {folder.path} ({transformer.config.model_type}) cannot be made smaller: it must have one list "
            f"of its {total} layers. Got {len(found)}."
        )
    return found[0]


def with_dense(student: Student, weight: Any, bias: Any) -> Student:
    """Return the student with one linear layer after pooling, (W, hidden) and (W,) tensors, in place of all others."""
    import torch

    linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    dense = torch.nn.Sequential(linear, torch.nn.Identity()).to(student.model.device)
    return replace(student, model=replace(student.model, dense=(dense,)))


def write_model(student: Student, path: Path, precision: Precision = "float32") -> None:
    """Write a student into an existing folder: config, weights, tokenizer, and what stands after the transformer.

    Args:
        student: the model.
        path: the folder.
        precision: of the weights on disk; they are computed with in float32 either way, unless `encoder.backend` says half.
    """
    import torch

    from recworld.encoders.adapters import FILE, split

    source, dtype = student.source, getattr(torch, precision)
    for pattern in TOKENIZER:
        for file in sorted(source.path.glob(pattern)):
            shutil.copyfile(file, path / file.name)
    plain, added = split(student.model.transformer.state_dict())
    _write_tensors(path / WEIGHTS[0], plain, dtype)
    if added:
        _write_tensors(path / FILE, added, dtype)
    config = student.model.transformer.config
    described = {name: value for name, value in config.to_dict().items() if not name.startswith("_")}
    write_json(path / "config.json", described | {"dtype": precision})
    write_json(
        path / "sentence_bert_config.json",
        {"max_seq_length": source.max_length, "do_lower_case": source.lower_case},
    )
    flags = {f"pooling_mode_{flag}": name == source.pooling for name, flag in POOLINGS.items()}
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    _write_part(path / "1_Pooling", {"word_embedding_dimension": config.hidden_size, **flags})
    for n, dense in enumerate(student.model.dense, len(parts)):
        linear, activation = dense[0], dense[1]
        parts.append((f"{n}_Dense", "Dense"))
        _write_part(
            path / parts[-1][0],
            {
                "in_features": linear.in_features,
                "out_features": linear.out_features,
                "bias": linear.bias is not None,
                "activation_function": f"{type(activation).__module__}.{type(activation).__name__}",
            },
        )
        named = {f"linear.{name}": value for name, value in linear.state_dict().items()}
        _write_tensors(path / parts[-1][0] / WEIGHTS[0], named, dtype)
    modules = [
        {"idx": n, "name": str(n), "path": place, "type": PARTS + kind}
        for n, (place, kind) in enumerate([*parts, (f"{len(parts)}_Normalize", "Normalize")])
    ]
    write_json(path / "modules.json", modules)


def _write_part(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir()
    write_json(folder / "config.json", config)


def _write_tensors(path: Path, tensors: dict[str, Any], dtype: Any) -> None:
    from safetensors.torch import save_file

    def stored(value: Any) -> Any:
        value = value.detach().cpu()
        return (value.to(dtype) if value.is_floating_point() else value).contiguous().clone()

    with atomic_path(path) as temporary:
        save_file(
            {name: stored(value) for name, value in tensors.items()}, temporary, metadata={"format": "pt"}
        )
