"""Smaller language models: layers cut away, what is left taught, fewer bits, whitened directions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.encoders import BertEncoder, EncoderSettings, Reduction, loading
from recworld.encoders.distilling import Distilled, DistilSettings, distil, variant, variants
from recworld.encoders.loading import load_model
from recworld.encoders.pruning import Precision, Student, kept_layers, prune, write_model
from recworld.encoders.weights import describe
from recworld.errors import InputError

KINDS = ("comedy", "war", "action", "drama")
PEOPLE = ("technician", "librarian")
ITEMS = [
    f"the {a} {b} ({year})" for a in KINDS for b in ("gun", "line", "man", "metal") for year in (1980, 1988)
]
USERS = [f"{age}-year-old {who}" for age in (24, 53) for who in PEOPLE]


def _encoder(model: Path, **options: Any) -> BertEncoder:
    return BertEncoder(EncoderSettings(model=str(model), device="cpu", **options))


def _written(student: Student, folder: Path, precision: Precision = "float32") -> Path:
    folder.mkdir()
    write_model(student, folder, precision)
    return folder


@pytest.fixture(scope="module")
def four_layers(write_bert: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of four layers whose modules.json asks for the first token, and which reads 40 tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

    two = write_bert(tmp_path_factory.mktemp("models") / "two")
    folder = two.parent / "four"
    config = BertConfig(**AutoModel.from_pretrained(two).config.to_dict() | {"num_hidden_layers": 4})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(two).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in parts]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}))
    return folder


@pytest.mark.parametrize(
    ("total", "layers", "choice", "expected"),
    [
        (6, 3, "first", (0, 1, 2)),
        (6, 3, "alternate", (0, 2, 4)),
        (12, 6, "alternate", (0, 2, 4, 6, 8, 10)),
        (6, 2, "alternate", (0, 3)),
        (6, 6, "alternate", (0, 1, 2, 3, 4, 5)),
        (5, 1, "alternate", (0,)),
    ],
)
def test_which_layers_stay(total: int, layers: int, choice: Any, expected: tuple[int, ...]) -> None:
    assert kept_layers(total, layers, choice) == expected


@pytest.mark.parametrize("layers", [0, 5])
def test_no_more_layers_than_there_are(layers: int) -> None:
    with pytest.raises(InputError, match=rf"--layers must be 1 to 4, the layers of this model. Got {layers}"):
        kept_layers(4, layers, "first")


@pytest.mark.parametrize(("choice", "kept"), [("first", (0, 1)), ("alternate", (0, 2))])
def test_a_cut_folder_is_the_model_without_the_layers(
    four_layers: Path, tmp_path: Path, corpus: list[str], choice: Any, kept: tuple[int, int]
) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    whole = describe(four_layers)
    folder = _written(prune(whole, 2, choice), tmp_path / "cut")
    cut = describe(folder)
    assert (cut.pooling, cut.max_length, cut.width) == ("cls", 40, whole.width)
    assert str(four_layers) not in (folder / "config.json").read_text()
    by_hand = BertModel.from_pretrained(four_layers).eval()
    by_hand.encoder.layer = torch.nn.ModuleList(by_hand.encoder.layer[n] for n in kept)
    tokenizer = AutoTokenizer.from_pretrained(four_layers)
    with torch.inference_mode():
        rows = [by_hand(**tokenizer(text, return_tensors="pt"))[0][0, 0].numpy() for text in corpus]
    expected = np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(_encoder(folder).encode(corpus), expected, rtol=0, atol=1e-5)
    assert np.abs(_encoder(four_layers).encode(corpus) - expected).max() > 1e-3


def test_half_the_bytes_on_disk(tiny_bert: Path, tmp_path: Path, corpus: list[str]) -> None:
    student = prune(describe(tiny_bert), 1, "first")
    full, half = (_written(student, tmp_path / name, name) for name in ("float32", "float16"))  # type: ignore[arg-type]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    np.testing.assert_allclose(_encoder(half).encode(corpus), _encoder(full).encode(corpus), atol=5e-3)


def test_layers_that_are_shared_cannot_be_cut(tmp_path: Path, tiny_bert: Path) -> None:
    from transformers import AlbertConfig, AlbertModel, AutoTokenizer

    config = AlbertConfig(
        vocab_size=200, embedding_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=64,
    )  # fmt: skip
    AlbertModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"\(albert\) cannot be made smaller: it must have one list of its 3"
    ):
        prune(describe(tmp_path), 1, "first")


def _learn(model: Path, epochs: int, target: Any = "full") -> Distilled:
    teacher = _encoder(model)
    settings = DistilSettings(
        batch_size=8, learning_rate=5e-4, held_out=0.25, target=target, patience=epochs + 1
    )
    return distil(prune(describe(model), 1, "first"), teacher.encode, USERS, ITEMS, epochs, settings, 0, 8)


@pytest.mark.parametrize("target", ["full", "reduced"])
def test_what_is_taught_comes_nearer_on_texts_never_seen(
    tiny_bert: Path, tmp_path: Path, target: Any
) -> None:
    learnt = _learn(tiny_bert, 12, target)
    assert min(learnt.losses) < 0.85 * learnt.losses[0] < 0.85
    assert learnt.texts[1] == round(0.25 * (len(USERS) + len(ITEMS)))
    folder = _written(learnt.student, tmp_path / "taught")
    plain = _written(prune(describe(tiny_bert), 1, "first"), tmp_path / "cut")
    fresh = [f"the {a} {b} man (1980)" for a in KINDS for b in KINDS]
    goal = _encoder(tiny_bert).encode(fresh)
    near, far = ((_encoder(model).encode(fresh) * goal).sum(axis=1).mean() for model in (folder, plain))
    assert near > far + 0.05
    # The folder gives what the model in memory did, with the layer after pooling in it.
    assert describe(folder).width == 32
    assert [path.name for path in describe(folder).dense] == ["2_Dense"]


def test_the_same_seed_gives_the_same_bits(tiny_bert: Path, tmp_path: Path) -> None:
    folders = [_written(_learn(tiny_bert, 2).student, tmp_path / name) for name in "ab"]
    files = [[path / "model.safetensors", path / "2_Dense" / "model.safetensors"] for path in folders]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    assert describe(folders[0]).fingerprint == describe(folders[1]).fingerprint


def test_the_training_stops_and_keeps_the_best(tiny_bert: Path) -> None:
    teacher = _encoder(tiny_bert)
    settings = DistilSettings(batch_size=4, learning_rate=1.0, held_out=0.25, patience=2)  # much too high
    learnt = distil(prune(describe(tiny_bert), 1, "first"), teacher.encode, USERS, ITEMS, 20, settings, 0)
    assert len(learnt.losses) <= 20
    assert len(learnt.losses) - 1 - int(np.argmin(learnt.losses)) >= 2
    held_cosine = 1 - learnt.cosine  # of the best, not of the last
    assert held_cosine < 0.5


def test_no_more_texts_than_asked_for(tiny_bert: Path) -> None:
    settings = DistilSettings(max_texts=12, variants=0, held_out=0.25)
    learnt = distil(
        prune(describe(tiny_bert), 1, "first"), _encoder(tiny_bert).encode, USERS, ITEMS, 0, settings, 0
    )
    assert learnt.texts == (9, 3)
    assert len(learnt.losses) == 1


def test_too_few_texts_to_learn_from(tiny_bert: Path) -> None:
    student = prune(describe(tiny_bert), 1, "first")
    with pytest.raises(InputError, match=r"at least 10 distinct texts\. Got 2"):
        distil(student, _encoder(tiny_bert).encode, ["a", ""], ["b", "b"], 1, DistilSettings(), 0)


def test_changed_copies_are_made_of_the_words_there_are() -> None:
    rng = np.random.default_rng(0)
    words = {word for text in ITEMS for word in text.split()}
    made = variants(ITEMS, 3, rng)
    assert len(set(made)) == len(made) > len(ITEMS)
    assert not set(made) & set(ITEMS)
    assert all(text and set(text.split()) <= words for text in made)
    assert {variant("one", "two", rng) for _ in range(50)} == {"one", "one two"}
    assert variants([], 3, rng) == []


@pytest.mark.parametrize(("backend", "least"), [("torch-int8", 0.97), ("half", 0.9999)])
def test_fewer_bits_give_nearly_the_same(
    tiny_bert: Path, corpus: list[str], backend: Any, least: float
) -> None:
    whole, small = _encoder(tiny_bert), _encoder(tiny_bert, backend=backend)
    assert small.fingerprint != whole.fingerprint
    vectors = small.encode(corpus)
    cosine = (vectors * whole.encode(corpus)).sum(axis=1)
    assert cosine.mean() >= least
    assert np.abs(vectors - whole.encode(corpus)).max() > 1e-6  # it is not float32 under another name
    order = np.random.default_rng(0).permutation(len(corpus))
    np.testing.assert_allclose(
        _encoder(tiny_bert, backend=backend).encode([corpus[n] for n in order]), vectors[order], atol=1e-6
    )


def test_8_bit_products_are_those_of_the_cpu(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(loading, "_device", torch.device)
    with pytest.raises(InputError, match=r"must be auto or cpu with encoder.backend torch-int8\. Got 'cuda'"):
        load_model(describe(tiny_bert), "cuda", "torch-int8")
    assert load_model(describe(tiny_bert), "auto", "torch-int8").device.type == "cpu"


def test_no_head_is_computed_that_nobody_reads(tiny_bert: Path) -> None:
    assert not list(load_model(describe(tiny_bert), "cpu").transformer.pooler.parameters())


class TestWhitening:
    def _clouds(self) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        spread = np.geomspace(1, 1e-2, 12)
        turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
        user, item = (
            rng.standard_normal((n, 12)) * spread @ turn + shift for n, shift in ((300, 1), (500, -1))
        )
        return user.astype(np.float32), item.astype(np.float32)

    @pytest.mark.parametrize("width", [5, 12, None])
    def test_kept_directions_have_the_same_variance_before_the_rows_are_scaled(
        self, width: int | None
    ) -> None:
        user, item = self._clouds()
        reduction = Reduction.fit(user, item, width, whiten=True)
        assert reduction.components is not None
        total: Any = 0
        for vectors in (user.astype(np.float64), item.astype(np.float64)):
            centred = vectors - vectors.mean(axis=0)
            scatter = centred.T @ centred
            total = total + reduction.components @ (scatter / np.trace(scatter)) @ reduction.components.T
        np.testing.assert_allclose(total, np.eye(reduction.width), atol=1e-3)
        plain = Reduction.fit(user, item, width)
        assert reduction.kept(user, "user") == pytest.approx(plain.kept(user, "user"), abs=1e-5)

    def test_the_default_is_what_it_was(self, make_log: Any, tiny_bert: Path) -> None:
        from recworld.encoders import encode_log

        user, item = self._clouds()
        for width in (5, None):
            plain, named = Reduction.fit(user, item, width), Reduction.fit(user, item, width, whiten=False)
            assert plain.fingerprint == named.fingerprint
        log = make_log(tuple(USERS), tuple(ITEMS))
        settings = EncoderSettings(model=str(tiny_bert), width=6, device="cpu")
        plain, white = (
            encode_log(log, settings.model_copy(update={"whiten": flag})) for flag in (False, True)
        )
        assert encode_log(log, settings).fingerprint == plain.fingerprint != white.fingerprint

        def spreads(rows: Any) -> Sequence[float]:
            return np.sort((rows.item**2).mean(axis=0))  # type: ignore[no-any-return]

        assert spreads(white)[-1] / spreads(white)[0] < spreads(plain)[-1] / spreads(plain)[0]

    def test_directions_that_no_text_spans_stay_zero(self) -> None:
        flat = np.zeros((50, 4), np.float32)
        flat[:, 0] = np.linspace(-1, 1, 50)
        reduction = Reduction.fit(flat, flat, 3, whiten=True)
        assert reduction.components is not None
        assert np.isfinite(reduction.components).all()
        assert not reduction.components[1:].any()
