"""`encode_log`: the texts of a log as unit vectors of width D, and new texts encoded the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recworld.encoders.base import Encoder, clean_texts
from recworld.encoders.reduction import Reduction, Role
from recworld.encoders.settings import EncoderSettings
from recworld.errors import CorruptError, InputError
from recworld.logs.log import FloatArray, InteractionLog
from recworld.settings import validate
from recworld.storage import (
    MANIFEST,
    cache_root,
    check_folder,
    content_hash,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)

FORMAT = 1
FILES = ("text.json", "text.safetensors")


@dataclass(frozen=True)
class TextVectors:
    """The text vectors of a log.

    Attributes:
        user: (U, D) float32 unit rows; zero for an empty text.
        item: (I, D) float32 unit rows; zero for an empty text.
        settings: how they were made.
        reduction: from the encoder's width to D; None for id vectors, which have width D from the start.
        encoder_fingerprint: of the encoder they were made with.
        tfidf: what rebuilds a TF-IDF encoder (JSON-ready part, arrays), else None.
    """

    user: FloatArray
    item: FloatArray
    settings: EncoderSettings
    reduction: Reduction | None
    encoder_fingerprint: str
    tfidf: tuple[dict[str, Any], dict[str, Any]] | None = None

    @property
    def width(self) -> int:
        """D."""
        return int(self.item.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the vectors and of the way that new texts take."""
        reduction = self.reduction.fingerprint if self.reduction else "none"
        return content_hash("text/1", self.user, self.item, self.encoder_fingerprint, reduction)

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = _rebuild(self.settings, self.tfidf)
        if encoder.fingerprint != self.encoder_fingerprint:
            raise InputError(
                f"encoder.model {self.settings.model or 'default'!r} is not the model that these vectors were "
                "made with: its files have changed. Bring the old ones back, or fit anew."
            )
        return encoder

    def encode_new(self, texts: Sequence[str], role: Role = "user", *, keep: bool = True) -> FloatArray:
        """Return the vectors of texts that describe new users (or items), (n, D) float32 unit rows.

        A text of the log gets the vector that it has there. The language model is loaded when a text is not
        in the cache. Id vectors know nothing about a stranger: every row is zero.

        Args:
            texts: n texts.
            role: what they describe; users and items are centred apart.
            keep: remember what a language model made of them; false for thousands of texts that nobody will ask for again.

        Raises:
            InputError: the model is not the one that the vectors were made with.
        """
        if self.reduction is None:
            return np.zeros((len(clean_texts(texts)), self.width), np.float32)
        encoder = self._encoder if keep else getattr(self._encoder, "inner", self._encoder)
        return self.reduction.apply(encoder.encode(texts), role)

    def save(self, folder: Path) -> None:
        """Write ``text.json`` and ``text.safetensors`` into an existing folder; no language model."""
        arrays: dict[str, Any] = {"user": self.user, "item": self.item}
        if self.reduction:
            arrays |= {f"reduction.{name}": array for name, array in self.reduction.arrays().items()}
        meta = {
            "format": FORMAT,
            "settings": self.settings.model_dump(mode="json"),
            "encoder_fingerprint": self.encoder_fingerprint,
            "tfidf": self.tfidf[0] if self.tfidf else None,
        }
        arrays |= {f"tfidf.{name}": array for name, array in (self.tfidf[1] if self.tfidf else {}).items()}
        write_arrays(folder / FILES[1], arrays)
        write_json(folder / FILES[0], meta)

    @classmethod
    def load(cls, folder: Path) -> TextVectors:
        """Read what `save` wrote.

        Raises:
            InputError: the folder holds no text vectors.
            CorruptError: it does, but broken or of another format.
        """
        if not (folder / FILES[0]).is_file():
            raise InputError(f"{folder} holds no text vectors: it has no {FILES[0]}.")
        if (folder / MANIFEST).is_file():
            check_folder(folder)
        meta, arrays = read_json(folder / FILES[0]), read_arrays(folder / FILES[1])
        try:
            if meta["format"] != FORMAT:
                raise CorruptError(f"{folder} has text format {meta['format']}, this version reads {FORMAT}.")
            reduction = _part(arrays, "reduction.")
            return cls(
                user=arrays["user"],
                item=arrays["item"],
                settings=validate(EncoderSettings, meta["settings"], str(folder / FILES[0])),
                reduction=Reduction.from_arrays(reduction) if reduction else None,
                encoder_fingerprint=meta["encoder_fingerprint"],
                tfidf=(meta["tfidf"], _part(arrays, "tfidf.")) if meta["tfidf"] else None,
            )
        except (KeyError, TypeError) as error:
            raise CorruptError(
                f"{folder} does not hold whole text vectors: {type(error).__name__} {error}."
            ) from error


def encode_log(log: InteractionLog, settings: EncoderSettings | None = None) -> TextVectors:
    """Return the text vectors of a log's users and items.

    Encoded texts are kept under ``cache_root()/vectors``; a second call loads no language model.

    Args:
        log: U users and I items with their texts.
        settings: how to encode; the defaults where none.

    Raises:
        InputError: the encoder's model is not known or cannot be used.
        UnavailableError: it cannot be fetched, or the cache cannot be written.
    """
    settings = settings or EncoderSettings()
    if settings.kind == "id":
        encoder = _rebuild(settings, None)
        user = encoder.encode([f"user/{key}" for key in log.user_keys])
        item = encoder.encode([f"item/{key}" for key in log.item_keys])
        return TextVectors(user, item, settings, None, encoder.fingerprint)
    tfidf = None
    if settings.kind == "tfidf":
        from recworld.encoders.tfidf import TfidfEncoder

        tfidf = TfidfEncoder.fit([*log.user_text, *log.item_text], settings.seed).state()
    encoder = _rebuild(settings, tfidf)
    raw = encoder.encode([*log.user_text, *log.item_text])  # (U + I, W)
    user, item = raw[: log.num_users], raw[log.num_users :]
    reduction = Reduction.fit(_distinct(user, log.user_text), _distinct(item, log.item_text), settings.width)
    return TextVectors(
        reduction.apply(user, "user"),
        reduction.apply(item, "item"),
        settings,
        reduction,
        encoder.fingerprint,
        tfidf,
    )


def _rebuild(settings: EncoderSettings, tfidf: tuple[dict[str, Any], dict[str, Any]] | None) -> Encoder:
    if settings.kind == "id":
        from recworld.encoders.ids import IdEncoder

        return IdEncoder(settings.width, settings.seed)
    if tfidf is not None:
        from recworld.encoders.tfidf import TfidfEncoder

        return TfidfEncoder.from_state(*tfidf)
    from recworld.encoders.bert import BertEncoder
    from recworld.encoders.cache import CachedEncoder

    return CachedEncoder(BertEncoder(settings), cache_root() / "vectors")


def _distinct(vectors: FloatArray, texts: Sequence[str]) -> FloatArray:
    """Return the rows of the distinct non-empty texts, in order of first appearance."""
    first = {text: n for n, text in reversed(list(enumerate(clean_texts(texts)))) if text}
    return vectors[sorted(first.values())]


def _part(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
