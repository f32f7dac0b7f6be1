"""How much faster is a smaller language model, and what does that cost in held-out ratings?

    python benchmarks/compression.py                     # MovieLens-100K, two threads
    python benchmarks/compression.py --layers 1 2 3 --seeds 10

Needs pip install "recworld[onnx]". Models of a few layers are taught the vectors of the whole one on the log's own texts
(of all items: the texts of a catalogue are known before anybody rates). Chosen is the fastest way to encode whose RMSE on
*validation* rows rises by at most half a percent, both for known users and items and for items never met. Reported are
*test* rows, over seeds of cut and sampler: the error of the original and of the chosen one, and the relative rise, paired,
with a 95 % interval. Speed: rounds in which all take turns, so that other work on the machine meets all alike; medians of
ratios.
Models that are in --folder already are not made again. --unread N: in the first N seeds, the chosen kind of model is taught
once more without the texts of the items that are never met: what a catalogue that grows would see.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from recworld.cli.compress import teach
from recworld.cli.compress_measure import (
    CUTS,
    cut,
    fit_seed,
    held_out,
    held_out_error,
    megabytes,
    nearness,
    speeds,
)
from recworld.cli.compress_settings import CompressSettings
from recworld.encoders import BertEncoder, CachedEncoder, EncoderSettings
from recworld.encoders.base import clean_texts
from recworld.encoders.pruning import prune, write_model
from recworld.encoders.settings import Backend
from recworld.encoders.weights import find_model
from recworld.evaluation.intervals import mean_interval
from recworld.logs import load_log
from recworld.logs.log import InteractionLog
from recworld.seeding import generator
from recworld.storage import cache_root, write_folder

MOST = 0.5
"""Rise of the validation RMSE, in %, up to which a model may be chosen."""


def made(layers: int, settings: CompressSettings, path: Path, log: InteractionLog) -> str:
    """Return the folder of a model with so many layers, made where there is none."""
    if not path.is_dir():
        chosen = settings.model_copy(update={"layers": layers})
        student = prune(find_model(settings.encoder.model), layers, settings.layer_choice)
        student = teach(student, chosen, log)
        write_folder(path, lambda into: write_model(student, into))
    return str(path)


def rises(errors: dict[str, dict[str, tuple[float, ...]]], name: str) -> dict[str, np.ndarray]:
    """Return the relative rise of the RMSE over the original in %, for each seed, by cut."""
    return {part: 100 * (np.array(errors[name][part]) / errors["original"][part] - 1) for part in CUTS}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--backends", nargs="+", default=["torch-int8", "onnx-int8"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--texts", type=int, default=256, help="texts of the sample that is timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--choose", type=int, default=1, help="seeds on validation rows")
    parser.add_argument("--seeds", type=int, default=5, help="seeds on test rows")
    parser.add_argument(
        "--unread", type=int, default=0, help="seeds with models that never read what is held out"
    )
    parser.add_argument("--folder", type=Path, default=cache_root() / "compressed", help="of the models")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    settings = CompressSettings(
        dataset=options.dataset, distil_epochs=options.epochs, encoder=EncoderSettings(device="cpu")
    )
    log = load_log(options.dataset)
    encoders = {"original": settings.encoder}
    for layers in options.layers:
        folder = made(layers, settings, options.folder / f"layers-{layers}", log)
        for backend in options.backends:
            encoders[f"{layers} layers, {backend}"] = EncoderSettings(
                model=folder, backend=_backend(backend), device="cpu"
            )
    texts = [text for text in dict.fromkeys(clean_texts([*log.user_text, *log.item_text])) if text]
    sample = generator(0, "texts").permutation(len(texts))[: options.texts]
    print(
        f"{len(sample)} of {len(texts)} texts, {options.threads} threads, load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    rates = speeds(encoders, [texts[n] for n in sample], options.rounds)
    ratios = {
        name: float(np.median(np.array(rate) / np.array(rates["original"]))) for name, rate in rates.items()
    }
    vectors = {
        name: CachedEncoder(BertEncoder(each), cache_root() / "vectors").encode(texts)
        for name, each in encoders.items()
    }
    for name, each in encoders.items():
        mean, least = nearness(vectors[name], vectors["original"]) or (0.0, 0.0)
        print(
            f"  {name:22} {megabytes(each):6.1f} MB, {np.median(rates[name]):6.0f} texts/s, {ratios[name]:.2f} times the "
            f"original, cosine {mean:.4f} (least {least:.4f})",
            flush=True,
        )
    print("Validation rows:", flush=True)
    chosen_by = settings.model_copy(update={"fits": options.choose})
    errors = held_out(encoders, log, chosen_by, _note)
    allowed = [name for name in encoders if all(rise.mean() <= MOST for rise in rises(errors, name).values())]
    chosen = max(allowed, key=lambda name: ratios[name])
    print(f"Chosen: {chosen} ({ratios[chosen]:.2f} times the original). Test rows:", flush=True)
    reported = settings.model_copy(update={"fits": options.seeds, "held": "test", "seed": 1})
    errors = held_out({name: encoders[name] for name in {"original": 0, chosen: 0}}, log, reported, _note)
    for part, rise in rises(errors, chosen).items():
        interval = mean_interval(rise)
        print(
            f"  {part}: original {np.mean(errors['original'][part]):.4f}, chosen {np.mean(errors[chosen][part]):.4f}, "
            f"rise {interval.mean:+.3f} % (95 % interval {interval.low:+.3f} to {interval.high:+.3f})"
        )
    unread(options.unread, chosen, encoders, reported, options.folder, log, errors["original"]["unmet"])


def unread(
    count: int, chosen: str, encoders: dict[str, EncoderSettings], settings: CompressSettings, folder: Path,
    log: InteractionLog, original: Sequence[float],
) -> None:  # fmt: skip
    """Print errors for items never met, with models that were taught without their texts."""
    layers, rise = int(chosen.split()[0]), []
    for n in range(count):
        seed = fit_seed(settings.seed, n)
        hidden = set(log.item[cut(log, "unmet", settings.held, seed)[1]].tolist())
        texts = tuple("" if item in hidden else text for item, text in enumerate(log.item_text))
        path = made(layers, settings, folder / f"layers-{layers}-unread-{n}", replace(log, item_text=texts))
        encoder = encoders[chosen].model_copy(update={"model": path})
        error = held_out_error(log, encoder, settings, "unmet", seed)
        rise.append(100 * (error / original[n] - 1))
        print(f"  seed {n}, unmet and unread: {chosen} {error:.4f}, original {original[n]:.4f}", flush=True)
    if rise:
        interval = mean_interval(rise)
        print(
            f"  unmet and unread: rise {interval.mean:+.3f} % (95 % interval {interval.low:+.3f} to {interval.high:+.3f})"
        )


def _backend(name: str) -> Backend:
    return EncoderSettings.model_validate({"backend": name}).backend


def _note(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
