"""Models by their name on the Hugging Face hub: fetched once, whole, no pickles; found again offline."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recworld.errors import CorruptError, InputError, UnavailableError
from recworld.progress import quiet, say
from recworld.storage import cache_root, content_hash, read_json, write_json

FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
NOT_FILES = ["onnx/*", "openvino/*", "coreml/*"]
TIMEOUT = 5.0
"""Seconds that the hub has to answer the first question."""
HINT = "The default model (leave encoder.model out) works without a hub."


def hub_folder(name: str) -> Path:
    """Return the local copy of the model `name`, fetching it when it is not there.

    Raises:
        InputError: the hub has no such public model, or `name` cannot be one.
        UnavailableError: the hub cannot be reached and there is no local copy.
    """
    from huggingface_hub import HfApi, errors, snapshot_download

    whole = _whole_copy(name)
    if whole is not None:
        return whole
    try:
        with _calm():
            HfApi().model_info(name, timeout=TIMEOUT)  # asks once; the downloader would try again and again
            say(f"Fetching {name} from the Hugging Face hub ...")
            folder = Path(
                snapshot_download(name, etag_timeout=TIMEOUT, allow_patterns=FILES, ignore_patterns=NOT_FILES)
            )
    except errors.HFValidationError:
        raise InputError(f"encoder.model: {name!r} is neither a folder nor a possible hub name.") from None
    except errors.GatedRepoError:
        raise InputError(f"encoder.model: {name!r} asks for a login on the hub. {HINT}") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"encoder.model: {name!r} is neither a folder nor a public model on the Hugging Face hub. "
            "Examples: bert-base-uncased, sentence-transformers/all-mpnet-base-v2."
        ) from None
    except Exception as error:  # errors of several HTTP libraries come through
        local = _any_copy(name)
        if local is not None:
            return local
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnavailableError(
            f"encoder.model: {name!r} is neither a folder nor fetched already, and the Hugging Face hub "
            f"cannot be reached ({lines[0][:100]}). {HINT}"
        ) from error
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    write_json(_note(name), {"name": name, "folder": str(folder), "files": files})
    return folder


def _note(name: str) -> Path:
    """Return where it is noted that a model was fetched to the end."""
    return cache_root() / "hub" / f"{content_hash(name)}.json"


def _whole_copy(name: str) -> Path | None:
    """Return the folder of a fetch that came to its end, while all its files are there."""
    try:
        note: Any = read_json(_note(name))
        folder, files = Path(note["folder"]), list(note["files"])
    except (CorruptError, KeyError, TypeError):
        return None
    return folder if files and all((folder / file).is_file() for file in files) else None


def _any_copy(name: str) -> Path | None:
    """Return what another program left in the hub's own cache, if it looks like a model."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None
    return folder if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) else None


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Keep the hub library's advice off the screen, and its download bars too when bars are off."""
    import huggingface_hub.utils

    library: Any = huggingface_hub.utils  # parts of it are untyped
    level, bars = library.logging.get_verbosity(), not library.are_progress_bars_disabled()
    library.logging.set_verbosity_error()
    if quiet() and bars:
        library.disable_progress_bars()
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        if quiet() and bars:
            library.enable_progress_bars()
