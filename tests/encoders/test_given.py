"""Vectors from files: read in every form, matched by identifier, laid beside those of the texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from recworld.cli.settings import resolve_train
from recworld.encoders import EncoderSettings, TextVectors, encode_log
from recworld.encoders.given import GivenBlock, beside, read_block, read_vectors
from recworld.errors import InputError
from recworld.logs.log import InteractionLog

KEYS = np.array(["i0", "i1", "i2", "i3"])
USERS = ("a man", "a woman", "", "a man")
ITEMS = ("war film", "comedy", "drama and war", "")
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3) ** 2


def _write(path: Path, ids: Any = KEYS, vectors: Any = VECTORS) -> Path:
    if path.suffix == ".npz":
        np.savez(path, item_id=ids, image=vectors)
    elif path.suffix == ".safetensors":
        save_file({"vector": np.asarray(vectors)}, path, {"id": json.dumps([str(key) for key in ids])})
    elif path.suffix == ".npy":
        np.save(path, vectors)
    elif path.name.startswith("list"):
        pd.DataFrame({"id": ids, "vector": list(vectors)}).to_parquet(path)
    else:
        frame = pd.DataFrame(vectors, columns=[f"x{n}" for n in range(vectors.shape[1])])
        frame.insert(0, "id", ids)
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.fixture
def log(make_log: Callable[..., InteractionLog]) -> InteractionLog:
    return make_log(USERS, ITEMS)


@pytest.mark.parametrize("name", ["v.npz", "v.safetensors", "v.csv", "v.parquet", "list.parquet"])
def test_rows_go_by_identifier_in_every_form(name: str, tmp_path: Path) -> None:
    order = [2, 0, 3]
    block = read_block(
        _write(tmp_path / name, KEYS[order], VECTORS[order]), KEYS, "encoder.item_vectors", "items"
    )
    np.testing.assert_array_equal(block.vectors, np.where([[True], [False], [True], [True]], VECTORS, 0))
    np.testing.assert_array_equal(block.present, [True, False, True, True])


@pytest.mark.parametrize("name", ["v.npz", "v.csv", "v.parquet"])
def test_whole_numbers_are_identifiers(name: str, tmp_path: Path) -> None:
    path = _write(tmp_path / name, np.array([3, 1]), VECTORS[:2])
    assert read_vectors(path)[0] == ["3", "1"]


def test_safetensors_with_whole_numbers(tmp_path: Path) -> None:
    save_file({"id": np.array([7, 5]), "v": VECTORS[:2].astype(np.float16)}, tmp_path / "v.safetensors")
    ids, vectors = read_vectors(tmp_path / "v.safetensors")
    assert ids == ["7", "5"]
    assert vectors.dtype == np.float32


def test_without_identifiers_the_order_is_the_logs_and_said(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    block = read_block(_write(tmp_path / "v.npy"), KEYS, "encoder.item_vectors", "items")
    np.testing.assert_array_equal(block.vectors, VECTORS)
    assert "order of the log's items" in capsys.readouterr().err
    with pytest.raises(InputError, match="has no identifiers and 4 rows; the log has 3 items"):
        read_block(tmp_path / "v.npy", KEYS[:3], "encoder.item_vectors", "items")


def _nan() -> Any:
    vectors = VECTORS.copy()
    vectors[2, 1] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("name", "ids", "vectors", "match"),
    [
        ("v.npz", KEYS, _nan(), "NaN or infinity, first in the vector of 'i2'"),
        ("v.csv", KEYS, _nan(), "column 'x1' must hold numbers|NaN or infinity"),
        ("v.npy", KEYS, _nan(), "NaN or infinity, first in the vector of row 2"),
        (
            "v.npz",
            np.array(["i0", "i9", "x", "i1"]),
            VECTORS,
            r"names 2 items that the log does not have, first 'i9'",
        ),
        ("v.npz", np.array(["i0", "i1", "i0", "i2"]), VECTORS, "holds 'i0' more than once"),
        ("v.npz", KEYS[:3], VECTORS, "3 identifiers and 4 vectors"),
        ("v.npz", KEYS, VECTORS[:, 0], "must hold identifiers of shape"),
        ("v.npy", KEYS, VECTORS[0], r"shape \(n, width\). Got \(3,\)"),
        ("v.npz", KEYS.astype(object), VECTORS, "holds objects"),
        ("v.npz", KEYS, VECTORS.astype(str), "must hold numbers"),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, ids: Any, vectors: Any, match: str, tmp_path: Path) -> None:
    path = _write(tmp_path / name, ids, vectors)
    with pytest.raises(InputError, match=match) as error:
        read_block(path, KEYS, "encoder.item_vectors", "items")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("encoder.item_vectors: ")


@pytest.mark.parametrize("name", ["v.npz", "v.npy", "v.safetensors", "v.csv", "v.parquet"])
def test_broken_and_missing_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        read_vectors(tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00\x01junk")
    with pytest.raises(InputError) as error:
        read_vectors(tmp_path / name)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="must end in one of"):
        read_vectors(_write(tmp_path / "v.npy").rename(tmp_path / "v.bin"))


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "ran"), "w"))

    np.save(tmp_path / "v.npy", np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(InputError, match="pickle"):
        read_vectors(tmp_path / "v.npy")
    assert not (tmp_path / "ran").exists()


def _settings(tiny_bert: Path, tmp_path: Path, **options: Any) -> EncoderSettings:
    path = _write(tmp_path / "v.npz", KEYS[[3, 0, 1]], VECTORS[[3, 0, 1]])
    kind = options.setdefault("kind", "bert")
    model = str(tiny_bert) if kind == "bert" else None
    return EncoderSettings(model=model, device="cpu", item_vectors=str(path), **options)


def test_beside_the_texts_both_count_and_what_is_missing_says_nothing() -> None:
    rng = np.random.default_rng(0)
    text = rng.standard_normal((5, 4)).astype(np.float32)
    text[3:] = 0  # two items without text
    vectors = (1000 + 70 * rng.standard_normal((5, 3))).astype(np.float32)
    present = np.array([True, False, True, True, False])
    vectors[~present] = 0
    user, item = beside((text[:2], text), (None, GivenBlock(vectors, present, "f")), 2.0)
    assert user.shape == (2, 7)
    assert not user[:, 4:].any()
    np.testing.assert_array_equal(item[:3, :4], text[:3])
    np.testing.assert_allclose(item[3, :4], text[:3].mean(0), atol=1e-6)
    assert not item[4].any()
    assert not item[1, 4:].any()
    length = np.sqrt((np.square(item[present, 4:]).sum(1)).mean())
    spread = np.sqrt(np.square(text[:3] - text[:3].mean(0)).sum(1).mean())
    assert length == pytest.approx(2 * spread, rel=1e-4)
    np.testing.assert_allclose(item[present, 4:].mean(0), 0, atol=1e-5)


def test_columns_are_shared_where_the_widths_agree() -> None:
    blocks = [GivenBlock(np.eye(3, w, dtype=np.float32), np.ones(3, np.bool_), "f") for w in (2, 2, 5)]
    none = np.zeros((3, 0), np.float32)
    assert beside((none, none), (blocks[0], blocks[1]), 1.0)[1].shape == (3, 2)
    user, item = beside((none, none), (blocks[0], blocks[2]), 1.0)
    assert user.shape == item.shape == (3, 7)
    assert not user[:, 2:].any()
    assert not item[:, :2].any()


@pytest.mark.parametrize("kind", ["bert", "tfidf", "id", "given"])
def test_encoded_saved_loaded(kind: str, log: InteractionLog, tiny_bert: Path, tmp_path: Path) -> None:
    settings = _settings(tiny_bert, tmp_path, kind=kind, width=4)
    vectors = encode_log(log, settings)
    norms = np.linalg.norm(vectors.item, axis=1)
    expected = [1, 1, 0 if kind == "given" else 1, 1]  # the third has no vector, the last no text
    np.testing.assert_allclose(norms, expected, atol=1e-5)
    vectors.save(tmp_path)
    (tmp_path / "v.npz").unlink()  # a run stands without the file
    back = TextVectors.load(tmp_path)
    assert back.fingerprint == vectors.fingerprint
    new = back.encode_new(["a comedy", ""], "item")
    assert new.shape == (2, vectors.width)
    assert bool(new[0].any()) == (kind in ("bert", "tfidf"))
    assert not new[1].any()
    if kind in ("bert", "tfidf"):  # the third item's text, which has no vector in the file
        np.testing.assert_allclose(back.encode_new([ITEMS[2]], "item")[0], vectors.item[2], atol=1e-5)


def test_given_vectors_change_the_vectors_and_the_fingerprint(
    log: InteractionLog, tiny_bert: Path, tmp_path: Path
) -> None:
    settings = _settings(tiny_bert, tmp_path, width=4)
    one = encode_log(log, settings)
    heavy = encode_log(log, settings.model_copy(update={"vectors_weight": 50.0}))
    _write(tmp_path / "v.npz", KEYS, VECTORS[::-1])
    other = encode_log(log, settings)
    without = encode_log(log, settings.model_copy(update={"item_vectors": None}))
    assert len({vectors.fingerprint for vectors in (one, heavy, other, without)}) == 4
    assert without.given is None


def test_given_alone_keeps_its_angles(log: InteractionLog, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    users, items = (rng.standard_normal((4, 5)).astype(np.float32) for _ in range(2))
    np.save(tmp_path / "users.npy", users)
    np.save(tmp_path / "items.npy", items)
    settings = EncoderSettings(
        kind="given",
        width=None,
        user_vectors=str(tmp_path / "users.npy"),
        item_vectors=str(tmp_path / "items.npy"),
    )
    vectors = encode_log(log, settings)
    centred = items - items.mean(0)
    np.testing.assert_allclose(
        vectors.item, centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-5
    )


def test_given_without_a_file_is_refused(log: InteractionLog) -> None:
    with pytest.raises(InputError, match=r"encoder\.kind given needs encoder\.user_vectors or"):
        encode_log(log, EncoderSettings(kind="given"))


def test_every_part_has_its_flag() -> None:
    asked: dict[str, Any] = {
        "kind": "given", "item_vectors": "a.npz", "user_vectors": "b.csv", "vectors_weight": 2.0, "user_profile": "auto",
        "profile_items": 3, "profile_order": "extreme", "long_texts": "cut", "max_windows": 4,
    }  # fmt: skip
    flags = [
        word for name, value in asked.items() for word in (f"--encoder.{name.replace('_', '-')}", str(value))
    ]
    assert resolve_train(flags).encoder == EncoderSettings(**asked)
    with pytest.raises(InputError, match=r"--encoder\.long-texts got 'chop'"):
        resolve_train(["--long-texts", "chop"])
