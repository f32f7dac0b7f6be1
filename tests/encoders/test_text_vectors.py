"""From a log's texts to unit vectors of width D, and new texts later from a saved folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recworld.encoders import BertEncoder, EncoderSettings, Reduction, TextVectors, encode_log
from recworld.errors import CorruptError, InputError
from recworld.logs.log import InteractionLog
from recworld.settings import validate

USERS = (
    "24-year-old man, technician",
    "53-year-old woman, librarian",
    "",
    "24-year-old man, technician",
    "war",
)
ITEMS = (
    "Airplane! Comedy",
    "Platoon. War",
    "Aliens. Action",
    "Amélie. Comedy",
    "",
    "Toy Story. Children's, Comedy",
)


@pytest.fixture
def log(make_log: Callable[..., InteractionLog]) -> InteractionLog:
    return make_log(USERS, ITEMS)


@pytest.fixture(params=["bert", "tfidf", "id"])
def settings(request: pytest.FixtureRequest, tiny_bert: Path) -> EncoderSettings:
    model = str(tiny_bert) if request.param == "bert" else None
    return EncoderSettings(kind=request.param, model=model, width=8, device="cpu")


def _check_rows(vectors: Any, empty: list[int], width: int) -> None:
    assert vectors.dtype == np.float32
    assert vectors.shape[1] == width
    norms = np.linalg.norm(vectors, axis=1)
    expected = np.ones(len(vectors))
    expected[empty] = 0
    np.testing.assert_allclose(norms, expected, atol=1e-5)


def test_unit_rows_and_zero_for_empty_text(log: InteractionLog, settings: EncoderSettings) -> None:
    vectors = encode_log(log, settings)
    has_text = settings.kind != "id"
    _check_rows(vectors.user, [2] if has_text else [], 8)
    _check_rows(vectors.item, [4] if has_text else [], 8)
    assert vectors.width == 8
    assert np.array_equal(vectors.user[0], vectors.user[3]) == has_text  # two users, one text
    again = encode_log(log, settings)
    np.testing.assert_array_equal(again.user, vectors.user)
    assert again.fingerprint == vectors.fingerprint


def test_saved_and_loaded(log: InteractionLog, settings: EncoderSettings, tmp_path: Path) -> None:
    vectors = encode_log(log, settings)
    vectors.save(tmp_path)
    back = TextVectors.load(tmp_path)
    assert back.fingerprint == vectors.fingerprint
    assert back.settings == settings
    new = ["a woman who likes war films", "", USERS[1]]
    encoded = back.encode_new(new)
    np.testing.assert_array_equal(encoded, vectors.encode_new(new))
    if settings.kind == "id":
        assert not encoded.any()
        assert encoded.shape == (3, 8)
    else:
        _check_rows(encoded, [1], 8)
        np.testing.assert_allclose(encoded[2], vectors.user[1], atol=1e-5)
        np.testing.assert_allclose(back.encode_new([ITEMS[1]], "item")[0], vectors.item[1], atol=1e-5)
    assert back.encode_new([]).shape == (0, 8)


def test_no_reduction(log: InteractionLog, tiny_bert: Path) -> None:
    for width in (None, 32, 1000):
        vectors = encode_log(log, EncoderSettings(model=str(tiny_bert), width=width))
        assert vectors.width == 32
    # Without a projection the angles between centred vectors are kept exactly.
    raw = BertEncoder(EncoderSettings(model=str(tiny_bert))).encode(ITEMS)[[0, 1, 2, 3, 5]]
    centred = raw - raw.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors.item[[0, 1, 2, 3, 5]], centred, atol=1e-5)


def test_catalogue_smaller_than_the_width(make_log: Callable[..., InteractionLog], tiny_bert: Path) -> None:
    for kind in ("bert", "tfidf"):
        vectors = encode_log(
            make_log(("one user",), ("one item",)),
            EncoderSettings(kind=kind, model=str(tiny_bert) if kind == "bert" else None, width=16),
        )
        _check_rows(vectors.user, [], 16)
        _check_rows(vectors.item, [], 16)
        assert np.count_nonzero(np.abs(vectors.item[0]) > 1e-6) <= 2
        assert np.isfinite(vectors.encode_new(["another user"])).all()


def test_log_without_any_text(make_log: Callable[..., InteractionLog], settings: EncoderSettings) -> None:
    vectors = encode_log(make_log(("", ""), ("", "", "")), settings)
    assert vectors.user.shape == (2, 8)
    assert vectors.user.any() == (settings.kind == "id")
    assert np.isfinite(vectors.encode_new(["text"])).all()


def test_items_only(make_log: Callable[..., InteractionLog], tiny_bert: Path) -> None:
    vectors = encode_log(make_log(("", ""), ITEMS), EncoderSettings(model=str(tiny_bert), width=4))
    _check_rows(vectors.item, [4], 4)
    assert not vectors.user.any()


def test_second_run_imports_no_model_library(
    log: InteractionLog, tiny_bert: Path, own_cache: Path, tmp_path: Path
) -> None:
    settings = EncoderSettings(model=str(tiny_bert), width=8)
    vectors = encode_log(log, settings)
    vectors.save(tmp_path)
    code = f"""
import sys
from pathlib import Path
from recworld.encoders import TextVectors
loaded = TextVectors.load(Path({str(tmp_path)!r}))
from recworld.encoders.vectors import encode_log
from types import SimpleNamespace
texts = SimpleNamespace(user_text={USERS!r}, item_text={ITEMS!r}, num_users={len(USERS)})
assert encode_log(texts, loaded.settings).fingerprint == loaded.fingerprint
loaded.encode_new({list(USERS)!r})
print([m for m in ("torch", "transformers", "sklearn", "huggingface_hub") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_only_new_texts_are_encoded(
    make_log: Callable[..., InteractionLog], tiny_bert: Path, monkeypatch: Any
) -> None:
    seen: list[int] = []
    tokens = BertEncoder._tokens

    def counted(self: BertEncoder, texts: list[str]) -> Any:
        seen.append(len(texts))
        return tokens(self, texts)

    monkeypatch.setattr(BertEncoder, "_tokens", counted)
    settings = EncoderSettings(model=str(tiny_bert), width=8)
    encode_log(make_log(USERS, ITEMS), settings)
    encode_log(make_log(USERS, (*ITEMS, "a new film")), settings)
    assert seen == [8, 1]  # 3 user texts, 5 item texts


def test_another_model_under_the_same_path_is_refused(
    log: InteractionLog, write_bert: Callable[..., Path], tmp_path: Path
) -> None:
    model = write_bert(tmp_path / "model")
    encode_log(log, EncoderSettings(model=str(model), width=8)).save(tmp_path)
    write_bert(model, seed=1)
    with pytest.raises(InputError, match="its files have changed"):
        TextVectors.load(tmp_path).encode_new(["text"])


def test_folders_that_hold_no_vectors(log: InteractionLog, settings: EncoderSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no text vectors"):
        TextVectors.load(tmp_path)
    encode_log(log, settings).save(tmp_path)
    meta = json.loads((tmp_path / "text.json").read_text())
    for change, match in (({"format": 99}, "format 99"), ({"settings": None}, "EncoderSettings")):
        (tmp_path / "text.json").write_text(json.dumps(meta | change))
        with pytest.raises((CorruptError, InputError), match=match):
            TextVectors.load(tmp_path)
    (tmp_path / "text.json").write_text(json.dumps(meta))
    (tmp_path / "text.safetensors").write_bytes(b"junk")
    with pytest.raises(CorruptError, match="cannot be read as safetensors"):
        TextVectors.load(tmp_path)


class TestReduction:
    """Known answers for the projection."""

    @staticmethod
    def _two_clouds() -> tuple[Any, Any]:
        """Users vary along axis 1, items (far away, ten times as many, wider) along axes 2 and 3."""
        rng = np.random.default_rng(0)
        user = np.zeros((50, 6), np.float32)
        item = np.zeros((500, 6), np.float32)
        user[:, 0], user[:, 1] = 5, rng.standard_normal(50) * 0.1
        item[:, 0], item[:, 2], item[:, 3] = -5, rng.standard_normal(500), rng.standard_normal(500) * 0.9
        return user, item

    def test_both_roles_keep_their_variance_and_the_offset_goes(self) -> None:
        user, item = self._two_clouds()
        reduction = Reduction.fit(user, item, 2)
        assert reduction.kept(user, "user") > 0.9  # though items hold 99.9 % of the pooled variance
        assert reduction.kept(item, "item") > 0.5
        vectors = reduction.apply(item, "item")
        assert abs(vectors.mean()) < 0.1
        assert reduction.components is not None
        np.testing.assert_allclose(reduction.components @ reduction.components.T, np.eye(2), atol=1e-6)

    def test_products_of_users_and_items_follow_the_text(self) -> None:
        """One hidden direction ('children') in both roles: those who have it go together."""
        rng = np.random.default_rng(1)
        axis, noise = np.eye(16, dtype=np.float32)[4], 0.1
        user = rng.standard_normal((40, 16)) * noise + np.repeat([[1], [-1]], 20, 0) * axis + 3
        item = rng.standard_normal((60, 16)) * noise + np.repeat([[1], [-1]], 30, 0) * axis - 3
        user, item = user.astype(np.float32), item.astype(np.float32)
        reduction = Reduction.fit(user, item, 4)
        products = reduction.apply(user, "user") @ reduction.apply(item, "item").T
        assert products[:20, :30].min() > 0 > products[:20, 30:].max()
        assert products[20:, 30:].min() > 0 > products[20:, :30].max()

    def test_signs_do_not_depend_on_the_order_of_rows(self) -> None:
        user, item = self._two_clouds()
        one, two = Reduction.fit(user, item, 3), Reduction.fit(user[::-1].copy(), item[::-1].copy(), 3)
        np.testing.assert_allclose(one.apply(item, "item"), two.apply(item, "item"), atol=1e-4)

    def test_arrays_round_trip(self) -> None:
        for width in (3, None):
            reduction = Reduction.fit(*self._two_clouds(), width)
            back = Reduction.from_arrays(reduction.arrays())
            assert back.fingerprint == reduction.fingerprint
            assert back.width == reduction.width == (width or 6)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kind": "berd"}, "kind"),
        ({"width": 0}, "width"),
        ({"batchsize": 3}, "Did you mean 'batch_size'"),
        ({"max_length": 1}, "max_length"),
        ({"model": ""}, "model"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        validate(EncoderSettings, values, "--config")


def test_every_setting_is_described() -> None:
    for name, field in EncoderSettings.model_fields.items():
        assert field.description, name
