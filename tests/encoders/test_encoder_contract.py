"""What every encoder promises, held against every implementation."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recworld.encoders
from recworld.encoders import BertEncoder, CachedEncoder, Encoder, EncoderSettings, IdEncoder, TfidfEncoder
from recworld.encoders.base import clean_texts, unit_rows
from recworld.errors import InputTypeError

CLOSE = {"rtol": 0.0, "atol": 1e-5}


def test_satisfies_the_protocol(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.fingerprint == encoder.fingerprint != ""


def test_shape_dtype_and_unit_length(encoder: Encoder, corpus: list[str]) -> None:
    vectors = encoder.encode(corpus)
    assert vectors.shape == (len(corpus), encoder.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, **CLOSE)


def test_is_deterministic_and_hands_out_fresh_arrays(encoder: Encoder, corpus: list[str]) -> None:
    first = encoder.encode(corpus)
    kept = first.copy()
    second = encoder.encode(corpus)
    np.testing.assert_array_equal(first, second)
    second[:] = 7
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(encoder.encode(corpus), kept)


def test_order_does_not_matter(encoder: Encoder, corpus: list[str]) -> None:
    order = np.random.default_rng(0).permutation(len(corpus))
    np.testing.assert_allclose(
        encoder.encode([corpus[n] for n in order]), encoder.encode(corpus)[order], **CLOSE
    )


def test_single_equals_batch(encoder: Encoder, corpus: list[str]) -> None:
    single = np.concatenate([encoder.encode([text]) for text in corpus])
    np.testing.assert_allclose(single, encoder.encode(corpus), **CLOSE)


def test_no_texts(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.width)


def test_empty_text_is_zero(encoder: Encoder, corpus: list[str]) -> None:
    vectors = encoder.encode(["", corpus[0], " \t\n"])
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()
    assert not encoder.encode([""]).any()


def test_duplicates_have_one_vector(encoder: Encoder, corpus: list[str]) -> None:
    vectors = encoder.encode([corpus[3], corpus[0], corpus[3], f"  {corpus[3]} "])
    for row in (2, 3):
        np.testing.assert_array_equal(vectors[row], vectors[0])
    assert not np.array_equal(vectors[0], vectors[1])


def test_strange_and_very_long_texts(encoder: Encoder) -> None:
    strange = [
        "日本語の映画",
        "🎬🎭",
        "\x00\x01",
        "a\ud800b",
        "e" * 50_000,
        "word " * 20_000,
        "ß" * 3,
        "\u200b",
    ]
    vectors = encoder.encode(strange)
    assert np.isfinite(vectors).all()
    norms = np.linalg.norm(vectors, axis=1)
    assert (np.isclose(norms, 1, atol=1e-5) | (norms == 0)).all()


@pytest.mark.parametrize("wrong", ["one string", ["ok", None], ["ok", float("nan")], [3]])
def test_wrong_types_are_named(encoder: Encoder, wrong: Any) -> None:
    with pytest.raises(InputTypeError, match=r"^The text.* must be .* Got "):
        encoder.encode(wrong)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=40), max_size=8))
def test_any_texts(texts: list[str], corpus: list[str]) -> None:
    for encoder in (TfidfEncoder.fit([*corpus, *texts]), IdEncoder(8)):
        vectors = encoder.encode(texts)
        assert vectors.shape == (len(texts), encoder.width)
        assert np.isfinite(vectors).all()


def test_each_distinct_text_goes_through_the_model_once(minilm: BertEncoder, monkeypatch: Any) -> None:
    seen: list[int] = []
    forward = minilm._forward
    monkeypatch.setattr(minilm, "_forward", lambda ids: (seen.append(len(ids)), forward(ids))[1])
    minilm.encode(["a film"] * 40 + ["another film"] * 40)
    assert sum(seen) == 2


def test_batch_size_changes_nothing(tiny_bert: Any, corpus: list[str]) -> None:
    one, all_ = (
        BertEncoder(EncoderSettings(model=str(tiny_bert), batch_size=size)).encode(corpus) for size in (1, 64)
    )
    np.testing.assert_allclose(one, all_, **CLOSE)


def test_encoding_leaves_torch_as_it_was(tiny_bert: Any, corpus: list[str]) -> None:
    import torch

    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    BertEncoder(EncoderSettings(model=str(tiny_bert))).encode(corpus)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["minilm", "tfidf"])
def test_comedy_is_nearer_to_comedy_than_to_war(kind: str, minilm: BertEncoder, corpus: list[str]) -> None:
    vectors = (minilm if kind == "minilm" else TfidfEncoder.fit(corpus)).encode(corpus[:6])
    products = vectors @ vectors.T
    within = [products[a, b] for g in ((0, 1, 2), (3, 4, 5)) for a in g for b in g if a < b]
    between = products[:3, 3:]
    assert np.mean(within) > between.max()


def test_minilm_knows_meaning_beyond_words(minilm: BertEncoder) -> None:
    joke, laugh, battle = minilm.encode(
        ["a hilarious movie", "a film that makes you laugh", "soldiers in battle"]
    )
    assert joke @ laugh > joke @ battle + 0.2


def test_known_vector_of_the_default_model(minilm: BertEncoder) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    peer = sentence_transformers.SentenceTransformer(str(minilm.folder.path), device="cpu")
    texts = ["Toy Story (1995). Animation, Children's, Comedy", "24-year-old man, technician"]
    np.testing.assert_allclose(minilm.encode(texts), peer.encode(texts, show_progress_bar=False), **CLOSE)


def test_id_vectors_carry_no_text_and_depend_on_the_seed() -> None:
    vectors = IdEncoder(256, seed=1).encode([f"user/{n}" for n in range(200)])
    products = vectors @ vectors.T - np.eye(200)
    assert abs(products.mean()) < 0.002
    assert products.std() == pytest.approx(1 / 16, rel=0.1)
    assert not np.allclose(vectors[:1], IdEncoder(256, seed=2).encode(["user/0"]))


def test_tfidf_state_round_trip(corpus: list[str]) -> None:
    encoder = TfidfEncoder.fit(corpus)
    back = TfidfEncoder.from_state(*encoder.state())
    assert back.fingerprint == encoder.fingerprint
    new = ["A Comedy about War", "unknownword"]
    np.testing.assert_array_equal(back.encode(new), encoder.encode(new))
    assert not encoder.encode(["unknownword"]).any()


def test_tfidf_of_texts_without_words() -> None:
    encoder = TfidfEncoder.fit(["!!!", "", "?"])
    assert not encoder.encode(["!!!", "word"]).any()


def test_tfidf_of_many_words_is_projected() -> None:
    texts = [f"film{n} genre{n % 7} year{n % 50}" for n in range(400)]
    encoder = TfidfEncoder.fit(texts)
    assert encoder.width == 256
    vectors = encoder.encode(texts)
    assert vectors[0] @ vectors[350] > vectors[0] @ vectors[1] + 0.1  # same genre and year; nothing in common


def test_unit_rows_leave_noise_at_zero() -> None:
    rows = unit_rows(np.array([[3, 4], [1e-9, 0], [0, 0]], np.float32), floor=1e-6)
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 0]], atol=1e-7)


def test_clean_texts_keep_inner_space() -> None:
    assert clean_texts([" a  b ", "\udc80"]) == ["a  b", "?"]


def test_public_names_resolve() -> None:
    for name in recworld.encoders.__all__:
        assert getattr(recworld.encoders, name).__name__ == name
    assert CachedEncoder.__name__ in dir(recworld.encoders)
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = recworld.encoders.nothing_here


def test_tfidf_keeps_no_word_and_gives_the_vectors_of_the_words(corpus: list[str]) -> None:
    encoder = TfidfEncoder.fit(corpus)
    meta, arrays = encoder.state()
    assert not {word.lower() for text in corpus for word in text.split()} & set(meta["words"])
    words = sorted({word for text in corpus for word in re.findall(r"\b\w+\b", text.lower())})
    earlier = TfidfEncoder.from_state({"words": words}, arrays)  # as folders of earlier versions have it
    assert earlier.state()[0] == {"words": words, "hashed": False}
    assert earlier.fingerprint == TfidfEncoder.from_state(*earlier.state()).fingerprint
    np.testing.assert_array_equal(earlier.encode(corpus), encoder.encode(corpus))
