"""`encode_log`: the texts of a log as unit vectors of width D, and new texts encoded the same way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recworld.encoders.base import Encoder, clean_texts
from recworld.encoders.given import GivenBlock, beside, given_fingerprint, read_given
from recworld.encoders.noise import noise_key, noisy
from recworld.encoders.profiles import say_missing, user_texts
from recworld.encoders.reduction import Reduction, Role
from recworld.encoders.settings import EncoderSettings
from recworld.encoders.stream import by_blocks, encoded
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
FIT_ROWS = 1 << 17
"""Distinct texts of each role that the directions of the reduction are fitted to at most."""

Files = tuple[GivenBlock | None, GivenBlock | None]


@dataclass(frozen=True)
class TextVectors:
    """The text vectors of a log.

    Attributes:
        user: (U, D) float32 unit rows; zero for an empty text.
        item: (I, D) float32 unit rows; zero for an empty text.
        settings: how they were made.
        reduction: from the width of the encoder, and of given vectors beside it, to D; None for id vectors, which have
            width D from the start.
        encoder_fingerprint: of the encoder they were made with.
        tfidf: what rebuilds a TF-IDF encoder (JSON-ready part, arrays), else None.
        given: content hash of the files of vectors beside those of the texts, else None.
    """

    user: FloatArray
    item: FloatArray
    settings: EncoderSettings
    reduction: Reduction | None
    encoder_fingerprint: str
    tfidf: tuple[dict[str, Any], dict[str, Any]] | None = None
    given: str | None = None

    @property
    def width(self) -> int:
        """D."""
        return int(self.item.shape[1])

    @property
    def reads_text(self) -> bool:
        """Whether a text says anything: not with id vectors, nor with the vectors of files alone."""
        return self.reduction is not None and self.settings.kind not in ("id", "given")

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the vectors and of the way that new texts take."""
        reduction = self.reduction.fingerprint if self.reduction else "none"
        given = [self.given] if self.given else []
        return content_hash("text/1", self.user, self.item, self.encoder_fingerprint, reduction, *given)

    @cached_property
    def _encoders(self) -> dict[Role, Encoder]:
        encoders = _towers(self.settings, self.tfidf)
        if _fingerprint(encoders) != self.encoder_fingerprint:
            raise InputError(
                f"encoder.model {self.settings.model or 'default'!r} is not the model that these vectors were "
                "made with: its files have changed. Bring the old ones back, or fit anew."
            )
        return encoders

    def encode_new(self, texts: Sequence[str], role: Role = "user", *, keep: bool = True) -> FloatArray:
        """Return the vectors of texts that describe new users (or items), (n, D) float32 unit rows.

        A text of the log gets the vector that it has there (a user's: before noise). The language model is loaded when a
        text is not in the cache. Id vectors know nothing about a stranger: every row is zero. Nothing is known of the
        vectors of files that a stranger would have: they stand at the centre of those.

        Args:
            texts: n texts.
            role: what they describe; users and items are centred apart.
            keep: remember what a language model made of them; false for thousands of texts that nobody will ask for again.

        Raises:
            InputError: the model is not the one that the vectors were made with.
        """
        if self.reduction is None or not self.reads_text:
            return np.zeros((len(clean_texts(texts)), self.width), np.float32)
        encoder = self._encoders[role]
        encoder = encoder if keep else getattr(encoder, "inner", encoder)
        raw = encoder.encode(texts)
        beside_it = len(self.reduction.user_centre) - raw.shape[1]
        return self.reduction.apply(np.pad(raw, ((0, 0), (0, beside_it))) if beside_it else raw, role)

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
            "given": self.given,
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
                settings=validate(EncoderSettings, _settings_of(meta["settings"]), str(folder / FILES[0])),
                reduction=Reduction.from_arrays(reduction) if reduction else None,
                encoder_fingerprint=meta["encoder_fingerprint"],
                tfidf=(meta["tfidf"], _part(arrays, "tfidf.")) if meta["tfidf"] else None,
                given=meta.get("given"),
            )
        except (KeyError, TypeError) as error:
            raise CorruptError(
                f"{folder} does not hold whole text vectors: {type(error).__name__} {error}."
            ) from error


def encode_log(
    log: InteractionLog, settings: EncoderSettings | None = None, early_share: float = 0.5
) -> TextVectors:
    """Return the text vectors of a log's users and items, and of what files give beside them.

    Encoded texts are kept under ``cache_root()/vectors``; a second call loads no language model.

    Args:
        log: U users and I items with their texts.
        settings: how to encode; the defaults where none.
        early_share: share of each user's interactions, in time, that a profile may tell of (`WorldSettings`).

    Raises:
        InputError: the encoder's model is not known or cannot be used, or a file of vectors does not fit the log.
        UnavailableError: it cannot be fetched, or the cache cannot be written.
    """
    settings = settings or EncoderSettings()
    files = read_given(log, settings)
    with contextlib.ExitStack() as scratch:
        return _reduced(_raw(log, settings, early_share, scratch), settings, files)


def _reduced(raw: _Raw, settings: EncoderSettings, files: Files) -> TextVectors:
    given = None
    if any(files):
        given = given_fingerprint(files, settings.vectors_weight)
        user, item = beside((raw.user, raw.item), files, settings.vectors_weight)
        raw = replace(raw, user=user, item=item, told=(_rows(user), _rows(item)))
    elif settings.kind == "id":
        return TextVectors(raw.user, raw.item, settings, None, raw.fingerprint)
    reduction = Reduction.fit(*_sample(raw), settings.width, settings.whiten)
    user = by_blocks(raw.user, lambda rows: reduction.apply(rows, "user"))
    return TextVectors(
        noisy(user, settings.noise, noise_key()) if settings.noise else user,
        by_blocks(raw.item, lambda rows: reduction.apply(rows, "item")),
        settings,
        reduction,
        raw.fingerprint,
        raw.tfidf,
        given,
    )


@dataclass(frozen=True)
class _Raw:
    """Vectors as an encoder gives them: (U, W) and (I, W), and which rows of each a reduction is fitted to."""

    user: FloatArray
    item: FloatArray
    told: tuple[npt.NDArray[Any], npt.NDArray[Any]]
    fingerprint: str
    tfidf: tuple[dict[str, Any], dict[str, Any]] | None = None


def _sample(raw: _Raw) -> tuple[FloatArray, FloatArray]:
    """Return the rows that a reduction is fitted to: of very many, evenly spaced ones."""
    steps = [-(-len(rows) // FIT_ROWS) or 1 for rows in raw.told]
    return raw.user[raw.told[0][:: steps[0]]], raw.item[raw.told[1][:: steps[1]]]


def _raw(
    log: InteractionLog, settings: EncoderSettings, early_share: float, scratch: contextlib.ExitStack
) -> _Raw:
    nothing = np.zeros(0, np.int64)
    if settings.kind == "given":
        user, item = (np.zeros((n, 0), np.float32) for n in (log.num_users, log.num_items))
        return _Raw(user, item, (nothing, nothing), "given")
    if settings.kind == "id":
        encoder = _rebuild(settings, None)
        user = encoder.encode([f"user/{key}" for key in log.user_keys])
        item = encoder.encode([f"item/{key}" for key in log.item_keys])
        return _Raw(user, item, (nothing, nothing), encoder.fingerprint)
    users, items = user_texts(log, settings, early_share), log.item_text
    say_missing(users, items, settings)
    tfidf = None
    if settings.kind == "tfidf":
        from recworld.encoders.tfidf import TfidfEncoder

        tfidf = TfidfEncoder.fit([*users, *items], settings.seed).state()
    told = (_distinct(users), _distinct(items))
    towers = _towers(settings, tfidf)
    if towers["user"] is towers["item"]:
        raw = scratch.enter_context(encoded([*users, *items], towers["item"]))  # (U + I, W)
        parts = (raw[: len(users)], raw[len(users) :])
    else:
        parts = (
            scratch.enter_context(encoded(users, towers["user"])),
            scratch.enter_context(encoded(items, towers["item"])),
        )
    return _Raw(*parts, told, _fingerprint(towers), tfidf)


def _towers(
    settings: EncoderSettings, tfidf: tuple[dict[str, Any], dict[str, Any]] | None
) -> dict[Role, Encoder]:
    """Return what reads the texts of users and of items: one encoder twice, or one each.

    Raises:
        InputError: their widths differ.
    """
    items = _rebuild(settings, tfidf)
    if settings.user_model is None or settings.kind != "bert":
        return {"user": items, "item": items}
    users = _rebuild(settings.model_copy(update={"model": settings.user_model}), None)
    if users.width != items.width:
        raise InputError(
            f"encoder.user_model must give vectors of the same width as encoder.model, {items.width}. Got {users.width}."
        )
    return {"user": users, "item": items}


def _fingerprint(towers: dict[Role, Encoder]) -> str:
    user, item = towers["user"], towers["item"]
    return item.fingerprint if user is item else content_hash("towers", user.fingerprint, item.fingerprint)


def _settings_of(values: Any) -> Any:
    """Return stored settings; before there was a choice, long texts were cut."""
    return {"long_texts": "cut", **values} if isinstance(values, dict) else values


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


def _distinct(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the rows of the distinct non-empty texts, in order of first appearance."""
    first = {text: n for n, text in reversed(list(enumerate(clean_texts(texts)))) if text}
    return np.array(sorted(first.values()), np.int64)


def _rows(vectors: FloatArray) -> npt.NDArray[np.int64]:
    """Return the numbers of rows that are not zero."""
    return np.flatnonzero(vectors.any(axis=1))


def _part(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
