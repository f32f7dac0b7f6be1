"""A language model as encoder: any BERT-like folder, pooled over tokens, computed by torch or by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from recworld.encoders import chunks
from recworld.encoders.base import clean_texts, scatter, unit_rows
from recworld.encoders.settings import SHARED_SCALES, EncoderSettings
from recworld.encoders.weights import find_model
from recworld.errors import InputError, UnavailableError
from recworld.logs.log import FloatArray
from recworld.progress import say
from recworld.storage import content_hash

if TYPE_CHECKING:
    from recworld.encoders.loading import LoadedModel
    from recworld.encoders.onnx_graph import OnnxModel

BATCH_TOKENS = 16384
"""Padded tokens in a batch at most, so that long texts do not multiply the memory."""
CHARS_PER_TOKEN = 100
"""Characters looked at per token allowed: more than any tokenizer puts into one."""


class BertEncoder:
    """Vectors of a transformers model: tokens pooled (mean, unless the folder says otherwise), unit rows.

    torch, transformers and the weights are loaded by the first `encode`, and stay. With an int8 backend a
    batch shares the scales of its activations, so that requirement 1 of `Encoder` holds up to their rounding only: the
    same set of texts gives the same bits in any order, but a vector alone and in a batch have cosine .99.

    Args:
        settings: which model, where it runs, how much at once.

    Raises:
        InputError: the model is not known or cannot be used.
        UnavailableError: the weights are not there and cannot be fetched.
    """

    def __init__(self, settings: EncoderSettings | None = None) -> None:
        self._settings = settings or EncoderSettings()
        self.folder = find_model(self._settings.model)
        self.width = self.folder.width
        limit, asked = self.folder.max_length, self._settings.max_length
        if asked is not None and asked > limit:
            raise InputError(f"encoder.max_length must be at most {limit} for this model. Got {asked}.")
        self.max_length = asked or limit
        parts = [
            "bert/1", self.folder.fingerprint, str(self.max_length), *_backend_parts(self._settings)
        ]  # fmt: skip
        self._chunk = self._settings.long_texts == "chunk"
        self._how_chunked = [chunks.FORMAT, str(self._settings.max_windows)] if self._chunk else []
        self.cache_name = content_hash(*parts)
        self.fingerprint = content_hash(*parts, *self._how_chunked)
        self.tally = chunks.Tally(self.max_length, self._chunk)

    @cached_property
    def _loaded(self) -> LoadedModel | OnnxModel:
        say(f"Loading the language model {self._settings.model or 'all-MiniLM-L6-v2'} ...")
        backend, device = self._settings.backend, self._settings.device
        if backend == "onnx" or backend == "onnx-int8":
            from recworld.encoders.onnx_graph import load_onnx

            return load_onnx(self.folder, backend, device)
        from recworld.encoders.loading import load_model

        return load_model(self.folder, device, backend)

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts, (n, W) float32 unit rows; empty texts give zero rows.

        Raises:
            InputError: the model cannot be loaded, or gives numbers that are not finite.
            UnavailableError: the device has too little memory.
        """
        cleaned = clean_texts(texts)
        distinct = [text for text in dict.fromkeys(cleaned) if text]
        if self._settings.backend in SHARED_SCALES:
            distinct.sort()  # who shares a batch must not depend on the order
        vectors = np.zeros((0, self.width), np.float32)
        if distinct:
            ids = self._tokens(distinct)
            long = self._long(distinct, ids)
            # As if long texts were cut, so that those that fit share their batches, and have the same bits, either way.
            vectors = self._vectors(ids)
            if self._chunk and long:
                others = self._vectors([row for text in long.values() for row in text.rows[1:]])
                vectors[list(long)] = chunks.join(vectors[list(long)], others, list(long.values()))
        self.tally.tell()
        if not np.isfinite(vectors).all():
            raise InputError(f"encoder.model: {self.folder.path} gives vectors with NaN or infinity.")
        return scatter(cleaned, distinct, unit_rows(vectors))

    def cache_text(self, text: str) -> str:
        """Return what stands for a text in a cache named `cache_name`.

        A text that surely fits has the same vector whatever becomes of long texts, so it has one entry for both.
        """
        if not self._chunk or chunks.surely_fits(text, self.max_length):
            return text
        return "\x00".join([*self._how_chunked, text])

    def _vectors(self, ids: list[list[int]]) -> FloatArray:
        """Return the (n, W) float32 vectors of n rows of tokens, not yet scaled to unit length."""
        vectors = np.zeros((len(ids), self.width), np.float32)
        batches = list(_batches([len(row) for row in ids], self._settings.batch_size))
        results = self._map([[ids[n] for n in rows] for rows in batches]) if batches else []
        for rows, result in zip(batches, results, strict=True):
            vectors[rows] = result
        return vectors

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        """Return the token numbers of each text, special tokens included, cut to `max_length`."""
        return self._tokenized(
            [text[: CHARS_PER_TOKEN * self.max_length] for text in texts],
            truncation=True,
            max_length=self.max_length,
        )

    def _tokenized(self, texts: list[str], **options: Any) -> list[list[int]]:
        if self.folder.lower_case:
            texts = [text.lower() for text in texts]
        ids: list[list[int]] = self._loaded.tokenizer(
            texts, return_attention_mask=False, verbose=False, **options
        )["input_ids"]
        return ids

    def _long(self, texts: list[str], ids: list[list[int]]) -> dict[int, chunks.Windows]:
        """Return the texts with more than `max_length` tokens by number, and count them."""
        looked_at = CHARS_PER_TOKEN * self.max_length
        rows = [n for n, row in enumerate(ids) if len(row) >= self.max_length or len(texts[n]) > looked_at]
        found: dict[int, chunks.Windows] = {}
        looked_at *= self._settings.max_windows
        for n in rows:
            shown = [texts[n][:looked_at]]
            (full,) = self._tokenized(shown, truncation=False)
            (bare,) = self._tokenized(shown, truncation=False, add_special_tokens=False)
            most = self._settings.max_windows if self._chunk else 1
            windows, whole = chunks.divide(full, bare, self.max_length, most), len(texts[n]) <= looked_at
            if self._chunk:
                ids[n] = windows.rows[0]
            if len(windows.rows) > 1 or windows.lost or not whole:
                found[n] = windows
                self.tally.add(windows, whole)
        return found

    def _map(self, batches: list[list[list[int]]]) -> list[Any]:
        """Return `_forward` of each batch; on a CPU one thread works on each batch, as many as there are cores.

        Small batches split over cores spend their time waiting for each other: measured on two busy cores, 3 to 10
        times slower. And a batch on one thread gives the same bits however many cores there are.
        """
        import torch

        workers = min(torch.get_num_threads(), len(batches)) if self._loaded.device.type == "cpu" else 1
        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return list(pool.map(self._forward, batches))
        finally:
            torch.set_num_threads(threads)

    def _forward(self, ids: list[list[int]]) -> Any:
        """Return (B, W) float32 vectors of one batch of B token rows."""
        import torch

        from recworld.encoders.onnx_graph import OnnxModel

        loaded = self._loaded
        if isinstance(loaded, OnnxModel):
            return loaded.forward(ids)
        try:
            with torch.inference_mode():
                batch = loaded.tokenizer.pad({"input_ids": ids}, return_tensors="pt", verbose=False)
                batch = batch.to(loaded.device)
                states = loaded.transformer(**batch).last_hidden_state.float()  # (B, L, hidden)
                pooled = pool(states, batch["attention_mask"], self.folder.pooling)  # (B, hidden)
                for layer in loaded.dense:
                    pooled = layer(pooled)
                return pooled.float().cpu().numpy()
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            raise UnavailableError("Too little memory to encode: lower encoder.batch_size.") from error


def _backend_parts(settings: EncoderSettings) -> list[str]:
    """Return what a backend adds to the fingerprint; torch adds nothing, as before there were others."""
    if settings.backend == "torch":
        return []
    return [settings.backend, *([str(settings.batch_size)] if settings.backend in SHARED_SCALES else [])]


def pool(states: Any, mask: Any, pooling: str) -> Any:
    """Return (B, hidden) from token states (B, L, hidden) and attention mask (B, L)."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "max":
        return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)
    return (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _batches(lengths: list[int], batch_size: int) -> Iterator[list[int]]:
    """Yield row numbers by batch, longest texts first, so that little is padded and memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
    start = 0
    while start < len(order):
        size = max(1, min(batch_size, BATCH_TOKENS // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size
