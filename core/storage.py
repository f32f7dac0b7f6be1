"""Files that are whole or absent, folders checked when read, and the cache; nothing here can execute code.

Arrays are stored as safetensors, everything else as JSON. A folder written by `write_folder` appears in one
rename, with a manifest of SHA-256 sums that `check_folder` checks.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from recworld.errors import CorruptError, UnavailableError

MANIFEST = "manifest.json"

Arrays = dict[str, npt.NDArray[Any]]


def cache_root() -> Path:
    """Return the folder for fetched and computed files: RECWORLD_CACHE, else the user's cache folder."""
    chosen = os.environ.get("RECWORLD_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("recworld", appauthor=False))


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_hash(*parts: str | bytes | npt.NDArray[Any]) -> str:
    """Return a hexadecimal hash of texts, bytes and arrays (values, shape, dtype), aware of their borders."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            head = f"array {part.dtype.str} {part.shape}".encode()
            # Its bytes where they stand: a large array is not copied.
            body = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        else:
            head = b"text"
            body = memoryview(part.encode() if isinstance(part, str) else part)
        digest.update(f"{len(head)} {len(body)} ".encode() + head)
        digest.update(body)
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on a clean exit it replaces `path`, else it is removed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=_prefix(path) + f"{os.getpid()}-", suffix=".part"
        )
        os.close(handle)
    except OSError as error:
        raise UnavailableError(f"Cannot write {path}: {error.strerror}.") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise UnavailableError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """Name what this machine's processes write on the way to `path`; the process number follows."""
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    return f".{path.name}.{machine}-"


def _sweep(path: Path) -> None:
    """Remove what killed processes of this machine left beside `path`."""
    prefix = _prefix(path)
    for left in path.parent.glob(glob.escape(prefix) + "*"):
        number = left.name.removeprefix(prefix).split("-")[0]
        if number.isdigit() and not _alive(int(number)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or absent."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is whole or absent."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CorruptError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read as JSON: {error}.") from error


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays to a safetensors file that is whole or absent."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def read_arrays(path: Path) -> Arrays:
    """Read named arrays from a safetensors file.

    Raises:
        CorruptError: it is missing or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CorruptError(f"{path} cannot be read as safetensors: {error}.") from error


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write files into an empty folder, add a manifest, and move it to `path` in one rename.

    What stood at `path` before is replaced; where another process puts its own folder there meanwhile, the
    last one stays.
    """
    own = _prefix(path) + f"{os.getpid()}-"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=own, suffix=".part"))
    except OSError as error:
        raise UnavailableError(f"Cannot write {path}: {error.strerror}.") from error
    try:
        fill(temporary)
        sums = {
            str(f.relative_to(temporary)): sha256_file(f) for f in sorted(temporary.rglob("*")) if f.is_file()
        }
        write_json(temporary / MANIFEST, {"sha256": sums})
        temporary.chmod(0o777 & ~_umask())
        _replace_folder(temporary, path, own)
    except OSError as error:
        raise UnavailableError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(source: Path, path: Path, prefix: str) -> None:
    for _ in range(10):
        with contextlib.suppress(OSError):
            os.replace(source, path)  # onto nothing, or onto an empty folder
            return
        old = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix, suffix=".old"))
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, old / "gone")
        shutil.rmtree(old, ignore_errors=True)
    os.replace(source, path)


def check_folder(path: Path) -> None:
    """Check a folder against its manifest.

    Raises:
        CorruptError: a file is missing, was changed, or there is no manifest.
    """
    manifest = read_json(path / MANIFEST)
    sums = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(sums, dict):
        raise CorruptError(f"{path / MANIFEST} is not a manifest.")
    for name, expected in sums.items():
        file = path / name
        if not file.is_file():
            raise CorruptError(f"{file} is missing.")
        if sha256_file(file) != expected:
            raise CorruptError(f"{file} does not hold what was written to it.")


def cached_folder(path: Path, fill: Callable[[Path], None]) -> Path:
    """Return `path` when it is a whole cache folder, else make it with `fill` (anew if corrupt)."""
    if path.is_dir():
        try:
            check_folder(path)
        except CorruptError as error:
            from recworld.progress import say

            say(f"Cache entry dropped and made anew: {error}")
            shutil.rmtree(path, ignore_errors=True)
        else:
            return path
    write_folder(path, fill)
    return path
