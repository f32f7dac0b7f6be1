"""ONNX Runtime computes the same vectors as torch; int8 nearly the same, under a cache key of its own."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.cli.settings import TrainSettings
from recworld.encoders import BertEncoder, EncoderSettings, encode_log, onnx_graph
from recworld.errors import InputError
from recworld.settings import validate

REAL = [
    "24 year old man, technician",
    "53 year old woman, librarian",
    "Toy Story (1995). Animation, Children's, Comedy.",
    "GoldenEye (1995). Action, Adventure, Thriller.",
    "Scream of Stone (Schrei aus Stein) (1991). Drama.",
    "B. Monkey (1998). Romance, Thriller.",
    "Shanghai Triad (Yao a yao yao dao waipo qiao) (1995). Drama.",
    "Star Wars (1977). Action, Adventure, Romance, Sci-Fi, War.",
]
NEEDED = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_graph.PACKAGES),
    reason='needs the packages of pip install "recworld[onnx]"',
)


def _encoder(backend: Any, model: Path | None = None, **options: Any) -> BertEncoder:
    return BertEncoder(
        EncoderSettings(model=None if model is None else str(model), backend=backend, device="cpu", **options)
    )


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which graphs stay from one test to the next."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def shared(graphs: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECWORLD_CACHE", str(graphs))
    return graphs


@NEEDED
def test_near_to_torch_on_real_texts(shared: Path, minilm: BertEncoder) -> None:
    torch = minilm.encode(REAL)
    np.testing.assert_allclose(_encoder("onnx").encode(REAL), torch, rtol=0, atol=1e-5)
    cosine = (_encoder("onnx-int8").encode(REAL) * torch).sum(axis=1)
    assert cosine.mean() >= 0.98
    assert cosine.min() >= 0.95
    assert cosine.max() < 0.99999  # it is not float32 under another name


@NEEDED
@pytest.mark.parametrize("backend", ["onnx", "onnx-int8"])
def test_order_padding_and_doubles(shared: Path, backend: str, tiny_bert: Path, corpus: list[str]) -> None:
    encoder = _encoder(backend, tiny_bert, batch_size=4)
    vectors = encoder.encode(corpus)
    order = np.random.default_rng(0).permutation(len(corpus))
    shuffled = encoder.encode([corpus[n] for n in order])
    exact = backend == "onnx-int8"  # whose batches are the same whatever the order
    np.testing.assert_allclose(shuffled, vectors[order], rtol=0, atol=0 if exact else 1e-5)
    doubled = encoder.encode(["", *corpus, *corpus])
    np.testing.assert_array_equal(doubled[1:], np.concatenate([vectors, vectors]))
    assert not doubled[0].any()
    if backend == "onnx":
        np.testing.assert_allclose(encoder.encode(corpus[:1]), vectors[:1], rtol=0, atol=1e-5)
        torch, long = _encoder("torch", tiny_bert), [" ".join(corpus), " ".join(corpus * 3)]
        np.testing.assert_allclose(vectors, torch.encode(corpus), rtol=0, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(long), torch.encode(long), rtol=0, atol=1e-5)


@NEEDED
def test_a_damaged_graph_is_made_anew(shared: Path, tiny_bert: Path, corpus: list[str]) -> None:
    handlers = list(logging.getLogger().handlers)
    encoder = _encoder("onnx", tiny_bert)
    first = encoder.encode(corpus)
    graph = onnx_graph.graph_folder(encoder.folder, "onnx") / onnx_graph.FILE
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    np.testing.assert_array_equal(_encoder("onnx", tiny_bert).encode(corpus), first)
    assert len(graph.read_bytes()) == len(whole)
    assert logging.getLogger().handlers == handlers


def test_keys_of_the_cache(tiny_bert: Path) -> None:
    from recworld.storage import content_hash

    torch = _encoder("torch", tiny_bert)
    assert torch.cache_name == content_hash("bert/1", torch.folder.fingerprint, str(torch.max_length))
    assert torch.cache_text("a short text") == "a short text"  # as before long texts were read in windows
    assert torch.fingerprint == BertEncoder(EncoderSettings(model=str(tiny_bert))).fingerprint
    others = [_encoder("onnx", tiny_bert), _encoder("onnx-int8", tiny_bert)]
    others.append(_encoder("onnx-int8", tiny_bert, batch_size=64))
    assert len({encoder.fingerprint for encoder in [torch, *others]}) == 4


@pytest.mark.parametrize("backend", ["onnx", "onnx-int8"])
def test_a_missing_package_is_one_line(
    backend: str, make_log: Any, tiny_bert: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(onnx_graph, "PACKAGES", ("numpy", "onnx_that_nobody_has"))
    settings = EncoderSettings(model=str(tiny_bert), backend=backend)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs onnx_that_nobody_has.*recworld\[onnx\]") as error:
        encode_log(make_log(("one user",), ("one item",)), settings)
    assert "\n" not in str(error.value)


@NEEDED
def test_only_on_a_cpu(tiny_bert: Path) -> None:
    settings = EncoderSettings(model=str(tiny_bert), backend="onnx", device="cuda")
    with pytest.raises(InputError, match=r"must be auto or cpu with encoder.backend onnx. Got 'cuda'"):
        BertEncoder(settings).encode(["text"])


@pytest.mark.parametrize(
    ("got", "nearest"), [("onxx", "onnx"), ("onnx_int8", "onnx-int8"), ("pytorch", "torch")]
)
def test_an_unknown_backend_is_named(got: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"--encoder.backend got '{got}': did you mean '{nearest}'"):
        validate(TrainSettings, {"encoder": {"backend": got}}, "", flags=True)
