"""Bring a language model's folder into memory: safetensors only, no code from the folder, nothing printed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recworld.encoders.weights import WEIGHTS, ModelFolder
from recworld.errors import InputError, RecworldError, UnavailableError
from recworld.storage import read_json

TorchBackend = Literal["torch", "torch-int8", "half"]

ACTIVATIONS = ("GELU", "Identity", "ReLU", "Tanh")
ON_DISK: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class LoadedModel:
    """A transformer, its tokenizer and the dense layers after pooling, on a torch device.

    The dense layers are float32, and the transformer too, unless the backend is torch-int8 or half.
    """

    transformer: Any
    tokenizer: Any
    dense: tuple[Any, ...]
    device: Any


def load_model(folder: ModelFolder, device_name: str, backend: TorchBackend = "torch") -> LoadedModel:
    """Load what `folder` describes.

    Raises:
        InputError: the folder cannot be loaded, there is no such device, or the backend does not compute on it.
        CorruptError: the default weights are not those that were published.
        UnavailableError: the device cannot hold the model, or has no 8-bit products.
    """
    import torch

    from recworld.encoders.adapters import attach_stored

    folder.check()
    device = _device("cpu" if backend == "torch-int8" and device_name == "auto" else device_name)
    if backend == "torch-int8" and device.type != "cpu":
        raise InputError(
            f"encoder.device must be auto or cpu with encoder.backend torch-int8. Got {device_name!r}."
        )
    # The random start of heads that the file lacks, and that nobody uses, must not move the global stream.
    with _silence(), torch.random.fork_rng(devices=[]):
        try:
            tokenizer, transformer = _from_pretrained(folder.path)
            attach_stored(transformer, folder.path)
            dense = tuple(_dense(path) for path in folder.dense)
        except RecworldError:
            raise
        except Exception as error:  # transformers lets through whatever its parts raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"encoder.model: {folder.path} cannot be loaded: {reason}") from error
    try:
        if getattr(transformer, "pooler", None) is not None:
            # A head for whole sentences, which no pooling here reads.
            transformer.pooler = torch.nn.Identity()
        transformer = transformer.float().eval()
        if backend != "torch":
            from recworld.encoders.precision import halve, quantize_linears

            if backend == "half":
                transformer = halve(transformer, device)
            else:
                quantize_linears(transformer)
        transformer = transformer.to(device)
        return LoadedModel(transformer, tokenizer, tuple(layer.to(device) for layer in dense), device)
    except RuntimeError as error:
        reason = str(error)[:160]
        raise UnavailableError(f"encoder.device {device_name!r} cannot hold the model: {reason}") from error


def load_tokenizer(folder: ModelFolder) -> Any:
    """Load the tokenizer of a folder alone.

    Raises:
        InputError: the folder cannot be loaded.
    """
    with _silence():
        try:
            return _tokenizer(folder.path)
        except Exception as error:  # transformers lets through whatever its parts raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"encoder.model: {folder.path} cannot be loaded: {reason}") from error


def _tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, **ON_DISK)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _from_pretrained(path: Path) -> tuple[Any, Any]:
    """Return tokenizer and transformer; the file must hold every weight that pooling over tokens uses."""
    from transformers import AutoModel

    tokenizer = _tokenizer(path)
    transformer, info = AutoModel.from_pretrained(
        path, use_safetensors=True, output_loading_info=True, **ON_DISK
    )
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:  # transformers would go on with random numbers in their place
        raise InputError(
            f"encoder.model: {path} lacks {len(missing)} of its weights, {missing[0]} the first."
        )
    return tokenizer, transformer


def _dense(path: Path) -> Any:
    """Return a dense layer as sentence-transformers stores it: config.json and safetensors."""
    import torch
    from safetensors.torch import load_file

    config = read_json(path / "config.json")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if name not in ACTIVATIONS:
        raise InputError(f"encoder.model: {path} has activation {name!r}. Known: {', '.join(ACTIVATIONS)}.")
    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    stored = load_file(path / WEIGHTS[0])
    linear.load_state_dict({name.removeprefix("linear."): value for name, value in stored.items()})
    return torch.nn.Sequential(linear, getattr(torch.nn, name)()).float().eval()


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"encoder.device must be auto, cpu or a device here. Got {name!r}: {reason}"
        ) from None
    return device


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers from printing bars, advice and warnings while a model is loaded."""
    from transformers.utils import logging

    library: Any = logging  # parts of it are untyped
    level, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.set_verbosity(level)
        if bars:
            library.enable_progress_bar()
