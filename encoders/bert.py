"""A language model as encoder: any BERT-like folder, pooled over tokens."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from recworld.encoders.base import clean_texts, scatter, unit_rows
from recworld.encoders.settings import EncoderSettings
from recworld.encoders.weights import ModelFolder, find_model
from recworld.errors import InputError, UnavailableError
from recworld.logs.log import FloatArray
from recworld.progress import say
from recworld.storage import content_hash

BATCH_TOKENS = 16384
"""Padded tokens in a batch at most, so that long texts do not multiply the memory."""
CHARS_PER_TOKEN = 100
"""Characters looked at per token allowed: more than any tokenizer puts into one."""


class BertEncoder:
    """Vectors of a transformers model: tokens pooled (mean unless the folder says otherwise), dense layers, unit length.

    torch, transformers and the weights are loaded by the first `encode`, and stay.

    Args:
        settings: which model, where it runs, how much at once.

    Raises:
        InputError: the model is not known or cannot be used.
        UnavailableError: the weights are not there and cannot be fetched.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        self.folder: ModelFolder = find_model(settings.model)
        self.width = self.folder.width
        limit = self.folder.max_length
        if settings.max_length is not None and settings.max_length > limit:
            raise InputError(
                f"encoder.max_length must be at most {limit} for this model. Got {settings.max_length}."
            )
        self.max_length = settings.max_length or limit
        self.fingerprint = content_hash("bert/1", self.folder.fingerprint, str(self.max_length))
        self._settings = settings
        self._parts: tuple[Any, Any, list[Any], Any] | None = None
        self._said_cut = False

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts, (n, W) float32 unit rows; empty texts give zero rows."""
        import torch

        cleaned = clean_texts(texts)
        distinct = [text for text in dict.fromkeys(cleaned) if text]
        vectors = np.zeros((len(distinct), self.width), np.float32)
        if distinct:
            ids = self._tokens(distinct)
            with torch.inference_mode():
                for rows in _batches([len(row) for row in ids], self._settings.batch_size):
                    vectors[rows] = self._forward([ids[n] for n in rows])
        if not np.isfinite(vectors).all():
            raise InputError(f"encoder.model: {self.folder.path} gives vectors with NaN or infinity.")
        return scatter(cleaned, distinct, unit_rows(vectors))

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Return the token numbers of each text, special tokens included, cut to `max_length`."""
        _, tokenizer, _, _ = self._load()
        shown = [text[: CHARS_PER_TOKEN * self.max_length] for text in texts]
        if self.folder.lower_case:
            shown = [text.lower() for text in shown]
        ids: list[list[int]] = tokenizer(
            shown, truncation=True, max_length=self.max_length, return_attention_mask=False, verbose=False
        )["input_ids"]
        if not self._said_cut and any(len(row) >= self.max_length for row in ids):
            self._said_cut = True
            say(f"Some texts are longer than {self.max_length} tokens; the rest of them is not read.")
        return ids

    def _forward(self, ids: list[list[int]]) -> Any:
        """Return (B, W) float32 vectors of one batch of B token rows."""
        import torch

        model, tokenizer, dense, device = self._load()
        batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt", verbose=False).to(device)
        states = model(**batch).last_hidden_state  # (B, L, hidden)
        mask = batch["attention_mask"].unsqueeze(-1)  # (B, L, 1)
        if self.folder.pooling == "cls":
            pooled = states[torch.arange(len(ids)), mask[..., 0].argmax(dim=1)]
        elif self.folder.pooling == "max":
            pooled = states.masked_fill(mask == 0, float("-inf")).amax(dim=1)
        else:
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
        for layer in dense:
            pooled = layer(pooled)
        return pooled.float().cpu().numpy()

    def _load(self) -> tuple[Any, Any, list[Any], Any]:
        """Return model, tokenizer, dense layers and device."""
        if self._parts is None:
            say(f"Loading the language model {self._settings.model or 'all-MiniLM-L6-v2'} ...")
            self.folder.check()
            self._parts = _load_parts(self.folder, self._settings.device)
        return self._parts


def _load_parts(folder: ModelFolder, device_name: str) -> tuple[Any, Any, list[Any], Any]:
    import torch

    device = _device(device_name)
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    # The random start of heads that the file does not hold, and that are not used, must not move the global stream.
    with _silence(), torch.random.fork_rng(devices=[]):
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder.path, **where)
            model = AutoModel.from_pretrained(folder.path, use_safetensors=True, **where)
        except Exception as error:  # transformers raises whatever its parts raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"encoder.model: {folder.path} cannot be loaded: {reason}") from error
        dense = [_dense(path) for path in folder.dense]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        return model.float().eval().to(device), tokenizer, [layer.to(device) for layer in dense], device
    except RuntimeError as error:
        raise UnavailableError(
            f"The model does not fit on device {device_name!r}: {str(error)[:160]}"
        ) from error


def _dense(path: Any) -> Any:
    """Return a dense layer as sentence-transformers stores it: config.json and safetensors."""
    import torch
    from safetensors.torch import load_file

    from recworld.storage import read_json

    config = read_json(path / "config.json")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    known = {
        "Tanh": torch.nn.Tanh,
        "Identity": torch.nn.Identity,
        "ReLU": torch.nn.ReLU,
        "GELU": torch.nn.GELU,
    }
    if name not in known:
        raise InputError(f"encoder.model: {path} has activation {name!r}. Known: {', '.join(sorted(known))}.")
    linear = torch.nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    linear.load_state_dict(
        {k.removeprefix("linear."): v for k, v in load_file(path / "model.safetensors").items()}
    )
    return torch.nn.Sequential(linear, known[name]()).float().eval()


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InputError(
            f"encoder.device must be auto, cpu or a device that is here. Got {name!r}: {reason}"
        ) from None
    return device


def _batches(lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """Yield row numbers batch by batch, longest texts first, so that little is padded and memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    start = 0
    while start < len(order):
        size = max(1, min(batch_size, BATCH_TOKENS // lengths[order[start]]))
        yield order[start : start + size]
        start += size


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers from printing bars and advice while a model is loaded."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
