"""Texts longer than the language model reads: windows, cutting, and what is said of either."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.encoders import BertEncoder, CachedEncoder, EncoderSettings, TextVectors, encode_log
from recworld.encoders.chunks import divide, surely_fits
from recworld.storage import read_json, write_json

LONG = " ".join(["thin comedy war drama action man woman technician librarian red line"] * 20)
SHORT = ["war drama", "a comedy", "comedy " * 62, "war " * 61]


def _encoder(model: Path, **options: Any) -> BertEncoder:
    return BertEncoder(EncoderSettings(model=str(model), device="cpu", **options))


def test_windows_overlap_and_hold_every_token() -> None:
    bare = list(range(100, 150))
    windows = divide([1, *bare, 2], bare, 18, 99)
    assert all(row[0] == 1 and row[-1] == 2 and len(row) <= 18 for row in windows.rows)
    parts = [row[1:-1] for row in windows.rows]
    assert parts[0] == bare[:16]
    assert all(set(one) & set(two) for one, two in itertools.pairwise(parts))
    assert sorted(set().union(*parts)) == bare
    assert windows.weights == [len(part) for part in parts]
    assert windows.lost == 0


@pytest.mark.parametrize(
    ("tokens", "most", "count", "lost"),
    [(16, 9, 1, 0), (17, 9, 2, 0), (30, 9, 2, 0), (31, 9, 3, 0), (50, 2, 2, 20), (50, 1, 1, 34)],
)
def test_numbers_of_windows(tokens: int, most: int, count: int, lost: int) -> None:
    bare = list(range(tokens))
    windows = divide([-1, *bare, -2], bare, 18, most)
    assert (len(windows.rows), windows.lost) == (count, lost)


def test_the_vector_is_the_weighted_mean_of_the_windows(tiny_bert: Path) -> None:
    encoder = _encoder(tiny_bert, max_length=10)
    words = LONG.split()[:18]  # each of them one token
    got = encoder.encode([" ".join(words), "war"])[0]
    windows = [words[0:8], words[7:15], words[14:18]]
    own = encoder.encode([" ".join(window) for window in windows])
    expected = np.array([8, 8, 4], np.float32) @ own
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-5)


def test_the_end_of_a_long_text_counts(tiny_bert: Path) -> None:
    chunk, cut = (_encoder(tiny_bert, long_texts=how) for how in ("chunk", "cut"))
    texts = [LONG, LONG + " war war war war war"]
    assert np.abs(np.subtract(*chunk.encode(texts))).max() > 1e-3
    np.testing.assert_allclose(*cut.encode(texts), atol=1e-6)


def test_texts_that_fit_have_the_same_bits_either_way(tiny_bert: Path) -> None:
    chunk, cut = (_encoder(tiny_bert, long_texts=how).encode([*SHORT, LONG]) for how in ("chunk", "cut"))
    np.testing.assert_array_equal(chunk[: len(SHORT)], cut[: len(SHORT)])
    assert not np.allclose(chunk[-1], cut[-1])
    assert _encoder(tiny_bert).fingerprint != _encoder(tiny_bert, long_texts="cut").fingerprint
    assert _encoder(tiny_bert).fingerprint != _encoder(tiny_bert, max_windows=3).fingerprint


def test_short_texts_in_the_cache_serve_both(tiny_bert: Path, tmp_path: Path, monkeypatch: Any) -> None:
    cut = CachedEncoder(_encoder(tiny_bert, long_texts="cut"), tmp_path)
    before = cut.encode(["war drama", LONG])
    seen: list[str] = []
    tokens = BertEncoder._tokens
    monkeypatch.setattr(
        BertEncoder, "_tokens", lambda self, texts: (seen.extend(texts), tokens(self, texts))[1]
    )
    after = CachedEncoder(_encoder(tiny_bert), tmp_path).encode(["war drama", LONG])
    assert seen == [LONG]  # what was cut is never taken for what is read whole
    np.testing.assert_array_equal(after[0], before[0])
    assert not np.allclose(after[1], before[1])
    np.testing.assert_array_equal(cut.encode([LONG])[0], before[1])


@pytest.mark.parametrize(
    "text", ["", "war " * 60, "ﷺ" * 3, "각" * 12, "日本語の映画 " * 5, "İ" * 20, "🎬" * 9]
)
def test_what_surely_fits_does_fit(text: str, tiny_bert: Path) -> None:
    encoder = _encoder(tiny_bert)
    for length in range(len(text) + 1):
        if surely_fits(text[:length], 64):
            assert len(encoder._tokens([text[:length]])[0]) <= 64


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "2 texts are longer than 64 tokens: read in 8 overlapping windows."),
        ({"max_windows": 2}, "read in 4 overlapping windows. Of 2 of them 207 tokens are not read"),
        ({"long_texts": "cut"}, "2 texts are longer than 64 tokens: 317 tokens are not read"),
    ],
)
def test_said_once(
    options: dict[str, Any], expected: str, tiny_bert: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    monkeypatch.setattr("recworld.encoders.cache.GROUP", 1)
    encoder = CachedEncoder(_encoder(tiny_bert, **options), tmp_path)
    encoder.encode([LONG, "a", LONG + " war", "b", LONG])
    lines = [line for line in capsys.readouterr().err.splitlines() if "longer than" in line]
    assert len(lines) == 1
    assert expected in lines[0]
    encoder.encode(["a", "c"])
    assert "longer" not in capsys.readouterr().err


def test_a_text_beyond_all_windows_is_said(tiny_bert: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    encoder = _encoder(tiny_bert, max_length=4, max_windows=2)
    vectors = encoder.encode(["e" * 900 + " war", "e" * 500 + " war", "e" * 500 + " drama"])
    assert "at least" in capsys.readouterr().err
    assert np.isfinite(vectors).all()
    assert not np.allclose(
        vectors[1], vectors[2]
    )  # one word of 500 letters is one token; what follows is read


def test_vectors_saved_before_there_were_windows_are_read_as_cut(
    tiny_bert: Path, tmp_path: Path, make_log: Callable[..., Any]
) -> None:
    settings = EncoderSettings(model=str(tiny_bert), width=4, long_texts="cut")
    vectors = encode_log(make_log(("a man", "a woman"), ("war", LONG)), settings)
    vectors.save(tmp_path)
    meta = read_json(tmp_path / "text.json")
    for name in ("long_texts", "max_windows"):
        meta["settings"].pop(name)
    write_json(tmp_path / "text.json", meta)
    back = TextVectors.load(tmp_path)
    np.testing.assert_allclose(back.encode_new([LONG], "item")[0], vectors.item[1], atol=1e-5)


def test_other_scripts_by_a_multilingual_model(tiny_bert: Path, tmp_path: Path) -> None:
    """A folder whose vocabulary has other scripts gives different texts different vectors, long ones too."""
    import shutil

    from transformers import BertModel, BertTokenizerFast

    folder = Path(shutil.copytree(tiny_bert, tmp_path / "multilingual"))
    words = (
        (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
        if (folder / "vocab.txt").exists()
        else []
    )
    words += [c for c in dict.fromkeys("日本語の映画面白戦争кинокомедиявойна한국어") if c not in words]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    model = BertModel.from_pretrained(folder)
    model.resize_token_embeddings(len(words), mean_resizing=False)
    (folder / "tokenizer.json").unlink(missing_ok=True)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64, strip_accents=False).save_pretrained(
        folder
    )
    model.save_pretrained(folder)
    texts = ["日本語の映画", "面白の映画", "戦争の映画", "日本語の映画" * 40]
    vectors = _encoder(folder).encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors @ vectors.T)[np.triu_indices(4, 1)].max() < 0.99999
