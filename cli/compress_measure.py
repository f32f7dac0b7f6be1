"""Ways to encode a log's texts, measured side by side: size, speed, nearness to the original, held-out errors of ratings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recworld.cli.compress_settings import CompressSettings
from recworld.cli.prepare import stage
from recworld.encoders.base import clean_texts
from recworld.encoders.bert import BertEncoder
from recworld.encoders.cache import CachedEncoder
from recworld.encoders.onnx_graph import FILE, graph_folder, require_onnx
from recworld.encoders.profiles import user_texts
from recworld.encoders.settings import Backend, EncoderSettings
from recworld.encoders.vectors import encode_log
from recworld.encoders.weights import WEIGHTS, ModelFolder
from recworld.errors import InputError
from recworld.logs.log import FloatArray, InteractionLog
from recworld.logs.splits import split_by_item, split_random, validation_rows
from recworld.progress import bar, say
from recworld.seeding import child_seed, generator
from recworld.simulators.accuracy import rmse
from recworld.simulators.rating import RatingRows, fit_rating
from recworld.storage import cache_root

Rows = npt.NDArray[np.integer[Any]]
CUTS = ("known", "unmet")
"""Held-out rows: of users and items that the fit knows; of items that it knows by their text alone."""
EARLY = 0.5
"""Share of each user's log that a profile may tell of, as in `encode_log`."""
NEAR = 5000
"""Texts whose nearness to the original is measured, at most."""
WARM = 64
"""Texts that an encoder has seen before it is timed."""
SHARE = 0.2
"""Share of the rows, and of the items, that is held out."""


@dataclass(frozen=True)
class Variant:
    """One way to encode.

    Attributes:
        name: for people.
        settings: the encoder.
        own: whether the language model differs from the one before it, so that size, speed and nearness are measured.
    """

    name: str
    settings: EncoderSettings
    own: bool = True


@dataclass(frozen=True)
class Row:
    """What was measured of a variant.

    Attributes:
        name: of the variant.
        megabytes: of the weights, or of the graph.
        rates: texts a second in each round.
        cosine: mean and least cosine to the original, over the distinct texts.
        errors: RMSE on held-out rows by cut, for each seed.
    """

    name: str
    megabytes: float | None
    rates: tuple[float, ...]
    cosine: tuple[float, float] | None
    errors: dict[str, tuple[float, ...]]


def plan(settings: CompressSettings, folders: dict[str, str]) -> list[Variant]:
    """Return the variants of the table, the original first.

    Args:
        settings: what to compress, and how.
        folders: smaller models by name, the one to be used last.
    """
    whole = settings.encoder.model_copy(update={"backend": "torch"})
    backends: list[tuple[Backend, str]] = [("torch-int8", "torch int8"), *_onnx()]
    variants = [Variant("original", whole), Variant("original, half", _with(whole, "half"))]
    variants += [Variant(f"original, {name}", _with(whole, backend)) for backend, name in backends]
    for name, folder in folders.items():
        small = whole.model_copy(update={"model": folder, "max_length": None})
        label = f"{name}, {settings.layers} layers ({settings.layer_choice})"
        variants.append(Variant(label, small))
    variants += [Variant(f"{label}, {name}", _with(small, backend)) for backend, name in backends]
    for width in settings.widths:
        variants.append(Variant(f"original, width {width}", whole.model_copy(update={"width": width}), False))
    variants.append(Variant("original, whitened", whole.model_copy(update={"whiten": True}), False))
    return variants


def _onnx() -> list[tuple[Backend, str]]:
    try:
        require_onnx("onnx")
    except InputError as error:
        say(f"No rows of ONNX Runtime: {error}")
        return []
    return [("onnx", "onnx"), ("onnx-int8", "onnx int8")]


def _with(settings: EncoderSettings, backend: Backend) -> EncoderSettings:
    device = settings.device if backend == "half" else "cpu"
    return settings.model_copy(update={"backend": backend, "device": device})


def measure(settings: CompressSettings, log: InteractionLog, variants: Sequence[Variant]) -> list[Row]:
    """Measure all variants."""
    users = user_texts(log, settings.encoder, EARLY)
    texts = [text for text in dict.fromkeys(clean_texts([*users, *log.item_text])) if text]
    texts = [texts[n] for n in generator(settings.seed, "compress", "texts").permutation(len(texts))[:NEAR]]
    own = [variant for variant in variants if variant.own]
    with stage(f"Nearness: {len(texts)} texts, {len(own)} encoders"):
        vectors = {
            variant.name: CachedEncoder(BertEncoder(variant.settings), cache_root() / "vectors").encode(texts)
            for variant in own
        }
    timed = texts[: settings.texts]
    with stage(f"Speed: {len(timed)} texts, {settings.rounds} rounds"):
        rates = speeds({v.name: v.settings for v in own}, timed, settings.rounds)
    errors: dict[str, dict[str, tuple[float, ...]]] = {variant.name: {} for variant in variants}
    if settings.fits:
        with stage(f"Ratings: {settings.held} rows, {settings.fits} cuts"):
            errors = held_out({v.name: v.settings for v in variants}, log, settings)
    return [
        Row(
            variant.name,
            megabytes(variant.settings) if variant.own else None,
            rates.get(variant.name, ()),
            nearness(vectors.get(variant.name), vectors[variants[0].name]),
            errors[variant.name],
        )
        for variant in variants
    ]


def nearness(vectors: FloatArray | None, original: FloatArray) -> tuple[float, float] | None:
    """Return mean and least cosine of (n, W) unit vectors to the original's; None for another width."""
    if vectors is None or vectors.shape != original.shape:
        return None
    cosine = (vectors * original).sum(axis=1)
    return float(cosine.mean()), float(cosine.min())


def speeds(
    settings: dict[str, EncoderSettings], texts: list[str], rounds: int
) -> dict[str, tuple[float, ...]]:
    """Return texts a second of each encoder in each round; they take turns, so that other work meets all alike."""
    encoders = {name: BertEncoder(each) for name, each in settings.items()}
    for encoder in encoders.values():
        encoder.encode(texts[:WARM])
    rates: dict[str, list[float]] = {name: [] for name in encoders}
    with bar(rounds * len(encoders), "Timing", "runs") as shown:
        for _ in range(rounds):
            for name, encoder in encoders.items():
                began = time.perf_counter()
                encoder.encode(texts)
                rates[name].append(len(texts) / (time.perf_counter() - began))
                shown.update(1)
    return {name: tuple(each) for name, each in rates.items()}


def megabytes(settings: EncoderSettings) -> float:
    """Return the size of a model's weights in the form that its backend takes, in MB."""
    encoder = BertEncoder(settings)
    folder, backend = encoder.folder, settings.backend
    if backend == "onnx" or backend == "onnx-int8":
        graph = graph_folder(folder, backend)
        return sum(file.stat().st_size for file in graph.glob(f"{FILE}*")) / 1e6
    return sum(_stored(file, backend) for file in _weight_files(folder)) / 1e6


def _weight_files(folder: ModelFolder) -> list[Path]:
    places = [folder.path, *folder.dense]
    return [file for place in places for file in sorted(place.glob(WEIGHTS[0].replace("model.", "*.")))]


def _stored(file: Path, backend: Backend) -> int:
    """Return the bytes of a file of weights; half: two a number; torch-int8: one a number of a linear layer's matrix."""
    from safetensors import safe_open

    if backend == "torch":
        return file.stat().st_size
    total = 0
    with safe_open(file, "numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118
            shape = tensors.get_slice(name).get_shape()
            matrix = len(shape) == 2 and "embedding" not in name
            width = 2 if backend == "half" else 1 if matrix else 4
            total += int(np.prod(shape)) * width
    return total


def cut(log: InteractionLog, name: str, held: Literal["validation", "test"], seed: int) -> tuple[Rows, Rows]:
    """Return the rows of the fit and the held-out rows; validation rows are cut from what the test leaves.

    Args:
        log: the log.
        name: one of `CUTS`.
        held: which rows are held out.
        seed: of the cut.
    """
    split = split_random if name == "known" else split_by_item
    rest, test = split(log, SHARE, seed)
    if held == "test":
        return rest, test
    if name == "known":
        return validation_rows(log, rest, SHARE, seed)
    items = generator(seed, "compress", "items").permutation(np.unique(log.item[rest]))
    chosen = np.isin(log.item[rest], items[: max(1, round(SHARE * len(items)))])
    return rest[~chosen], rest[chosen]


def fit_seed(seed: int, n: int) -> int:
    """Return the seed of the n-th cut and of the fits on it."""
    return child_seed(seed, "compress", "fit", n) % 2**31


def held_out_error(
    log: InteractionLog, encoder: EncoderSettings, settings: CompressSettings, part: str, seed: int
) -> float:
    """Return the RMSE of a rating model of one member on the held-out rows of a cut."""
    text = encode_log(log, encoder)
    rows = RatingRows(log.user, log.item, log.rating)
    train, test = (rows.take(chosen) for chosen in cut(log, part, settings.held, seed))
    fit = fit_rating(train, text.user, text.item, log.scale, settings.rating, 1, seed)
    return rmse(fit.predict(test.user, test.item), test.rating.astype(np.float64))


def held_out(
    encoders: dict[str, EncoderSettings], log: InteractionLog, settings: CompressSettings,
    note: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, tuple[float, ...]]]:  # fmt: skip
    """Return the RMSE of the rating model by encoder and cut, for each seed; all cuts and seeds alike."""
    errors: dict[str, dict[str, list[float]]] = {name: {each: [] for each in CUTS} for name in encoders}
    with bar(len(encoders) * len(CUTS) * settings.fits, "Rating models", "fits") as shown:
        for n in range(settings.fits):
            seed = fit_seed(settings.seed, n)
            for part in CUTS:
                for name, encoder in encoders.items():
                    error = held_out_error(log, encoder, settings, part, seed)
                    errors[name][part].append(error)
                    note(f"  seed {n}, {part}: {name} {error:.4f}")
                    shown.update(1)
    return {name: {part: tuple(each[part]) for part in CUTS} for name, each in errors.items()}
