"""Encoders to test: each kind once per session, and a tiny BERT made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from recworld.encoders import BertEncoder, CachedEncoder, Encoder, EncoderSettings, IdEncoder, TfidfEncoder
from recworld.logs.log import InteractionLog, RatingScale

CORPUS = [
    "Airplane! (1980). Comedy",
    "Dumb and Dumber (1994). Comedy",
    "The Naked Gun (1988). Comedy",
    "Platoon (1986). Drama, War",
    "Full Metal Jacket (1987). War, Action",
    "The Thin Red Line (1998). War, Drama",
    "24-year-old man, technician",
    "53-year-old woman, librarian",
    "Amélie — コメディ 🎬",
    "a",
]
WORDS = sorted({word for text in CORPUS for word in text.lower().replace(".", " ").replace(",", " ").split()})


def _write_tiny_bert(folder: Path, seed: int = 0, safe: bool = True, width: int = 32) -> Path:
    """Write a two-layer BERT with random weights; `safe` false: only as a pickle."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    letters = [f"{mark}{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789" for mark in ("", "##")]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*letters, *WORDS])]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(
            BertConfig(
                vocab_size=len(words), hidden_size=width, num_hidden_layers=2, num_attention_heads=4,
                intermediate_size=64, max_position_embeddings=64, initializer_range=0.5,
            )
        )  # fmt: skip
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    model.save_pretrained(folder)
    if not safe:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def _make_log(user_text: tuple[str, ...], item_text: tuple[str, ...]) -> InteractionLog:
    """Return a log in which each user liked the first item."""
    users, items = len(user_text), len(item_text)
    return InteractionLog(
        name="made up",
        user=np.arange(users, dtype=np.int32),
        item=np.zeros(users, np.int32),
        rating=np.full(users, 5, np.float32),
        time=None,
        user_keys=np.array([f"u{n}" for n in range(users)]),
        item_keys=np.array([f"i{n}" for n in range(items)]),
        user_text=user_text,
        item_text=item_text,
        scale=RatingScale("discrete", (1, 2, 3, 4, 5), 1, 5),
    )


@pytest.fixture(scope="session")
def corpus() -> list[str]:
    return list(CORPUS)


@pytest.fixture(scope="session")
def write_bert() -> Callable[..., Path]:
    return _write_tiny_bert


@pytest.fixture(scope="session")
def make_log() -> Callable[..., InteractionLog]:
    return _make_log


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_tiny_bert(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def minilm() -> BertEncoder:
    return BertEncoder(EncoderSettings(device="cpu"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own for every test."""
    monkeypatch.setenv("RECWORLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["minilm", "tiny", "cached", "tfidf", "id"])
def encoder(request: pytest.FixtureRequest, tiny_bert: Path, minilm: BertEncoder, tmp_path: Path) -> Encoder:
    """Every implementation of the contract."""
    kind = request.param
    if kind == "minilm":
        return minilm
    if kind == "tiny":
        return BertEncoder(EncoderSettings(model=str(tiny_bert), batch_size=3))
    if kind == "cached":
        return CachedEncoder(BertEncoder(EncoderSettings(model=str(tiny_bert))), tmp_path / "vectors")
    return TfidfEncoder.fit(CORPUS) if kind == "tfidf" else IdEncoder(24, seed=3)
