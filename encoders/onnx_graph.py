"""A language model as an ONNX graph for ONNX Runtime: exported from its safetensors weights, kept, checked when read.

Graphs stand under ``cache_root()/onnx`` in folders named by what they were made from: the content of the model's
files and the versions of the libraries. Nothing in them can execute code: a graph is operators and numbers.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recworld.encoders.weights import ModelFolder
from recworld.errors import InputError, RecworldError, UnavailableError
from recworld.logs.log import FloatArray
from recworld.progress import say
from recworld.storage import cache_root, cached_folder, content_hash

OnnxBackend = Literal["onnx", "onnx-int8"]

FILE = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUTS = ("input_ids", "attention_mask")
ONE_FILE_BYTES = 1_500_000_000
"""Weights up to here go into the graph's file, whose format ends at 2 GB; larger ones into a file beside it."""
SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""ONNX Runtime's fused sum and layer norm takes 5 times what the two apart take (1.32, AVX2): 13 % of all time."""


@dataclass(frozen=True)
class OnnxModel:
    """A graph in ONNX Runtime and the tokenizer of its folder; the device is torch's name of the CPU."""

    session: Any
    tokenizer: Any
    device: Any

    def forward(self, ids: list[list[int]]) -> FloatArray:
        """Return (B, W) float32 vectors of one batch of B token rows, padded to the longest of them."""
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="np", verbose=False)
        try:
            vectors: FloatArray = self.session.run(None, {name: batch[name] for name in INPUTS})[0]
        except Exception as error:  # ONNX Runtime's errors share no base of their own
            if "alloc" not in str(error):
                raise
            raise UnavailableError("Too little memory to encode: lower encoder.batch_size.") from error
        return vectors


def load_onnx(folder: ModelFolder, backend: OnnxBackend, device_name: str) -> OnnxModel:
    """Load the graph of `folder`, made on first use, into ONNX Runtime: one thread to each batch.

    Raises:
        InputError: a package is missing, the device is not the CPU, or the model cannot be exported.
        UnavailableError: the cache cannot be written.
    """
    require_onnx(backend)
    if device_name not in ("auto", "cpu"):
        raise InputError(
            f"encoder.device must be auto or cpu with encoder.backend {backend}. Got {device_name!r}."
        )
    import onnxruntime
    import torch

    from recworld.encoders.loading import load_tokenizer

    path = graph_folder(folder, backend) / FILE
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
    )
    return OnnxModel(session, load_tokenizer(folder), torch.device("cpu"))


def require_onnx(backend: str) -> None:
    """Check that the packages of the extra are installed.

    Raises:
        InputError: one is missing; the line says how to install it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"encoder.backend {backend} needs {' and '.join(missing)}. Install it: "
            'python -m pip install "recworld[onnx]", or use --encoder.backend torch.'
        )


def graph_folder(folder: ModelFolder, backend: OnnxBackend) -> Path:
    """Return the cache folder of the graph of a model, exported when there is none or a damaged one.

    Raises:
        InputError: the model cannot be exported.
        UnavailableError: the cache cannot be written.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", *PACKAGES)]
    path = cache_root() / "onnx" / content_hash("onnx/1", backend, folder.fingerprint, *versions)
    make = _export if backend == "onnx" else _quantize

    def fill(into: Path) -> None:
        try:
            with _quiet():
                make(folder, into / FILE)
        except (RecworldError, OSError):
            raise
        except Exception as error:  # the exporter lets through whatever its parts raise
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"encoder.backend {backend}: {folder.path} cannot be exported, use torch: {reason}"
            ) from error

    return cached_folder(path, fill)


def _export(folder: ModelFolder, path: Path) -> None:
    """Write the graph from token numbers to pooled vectors, float32."""
    import torch

    from recworld.encoders.bert import pool
    from recworld.encoders.loading import load_model

    say("Exporting the language model to ONNX, once ...")
    loaded = load_model(folder, "cpu")
    # Plain operators, which ONNX Runtime fuses in its own way; the fused attention of torch leaves more of them.
    if hasattr(loaded.transformer, "set_attn_implementation"):
        loaded.transformer.set_attn_implementation("eager")

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer, self.dense = loaded.transformer, torch.nn.Sequential(*loaded.dense)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.dense(pool(states, attention_mask, folder.pooling))

    module = Pooled().eval()
    rows = loaded.tokenizer.pad(
        {"input_ids": [[1, 2, 3, 4, 5], [1, 2, 3]]}, return_tensors="pt", verbose=False
    )
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}  # B, L
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    with torch.no_grad():
        torch.onnx.export(
            module,
            tuple(rows[name] for name in INPUTS),
            path,
            input_names=list(INPUTS),
            output_names=["pooled"],
            dynamic_shapes=dict.fromkeys(INPUTS, free),
            external_data=size > ONE_FILE_BYTES,
            dynamo=True,
            verbose=False,
        )


def _quantize(folder: ModelFolder, path: Path) -> None:
    """Write the graph with int8 weights, one scale to each output channel; activations are quantised as they come.

    With one scale to a whole matrix the vectors of all-MiniLM-L6-v2 have cosine .96 to those of torch, with one to each
    channel .99. Weights use 7 of the 8 bits: on CPUs without VNNI the sum of two products of 8 bits overflows its 16.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = graph_folder(folder, "onnx") / FILE
    quantize_dynamic(
        source,
        path,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        use_external_data_format=any(source.parent.glob("*.data")),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporter and quantiser from printing advice, and from adding a handler to the root logger."""
    root = logging.getLogger()
    handlers, disabled = list(root.handlers), root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            root.removeHandler(handler)
