"""`RunFolder`: a training run as a folder that stands alone; it appears whole and can be killed at any time.

    settings.yaml    every setting, resolved          metrics.jsonl   what was measured, by step
    versions.json    of what it was made with         tensorboard/    the same as curves
    world/           the simulated users              checkpoints/    agent, optimiser, random states
    text/            how new texts become vectors     agent/          the trained agent
                                                      evaluation/     tables (JSON, Markdown) and a plot

Nothing in it is code: YAML, JSON, safetensors, PNG and TensorBoard's event files.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recworld.errors import CorruptError, InputError, UnavailableError
from recworld.progress import say
from recworld.settings import read_yaml, write_yaml
from recworld.storage import MANIFEST, check_folder, read_json, write_folder, write_json

FORMAT = 1
PACKAGES = (
    "gymnasium",
    "numba",
    "numpy",
    "recworld",
    "safetensors",
    "scipy",
    "stable-baselines3",
    "torch",
    "transformers",
)


@dataclass(frozen=True)
class RunFolder:
    """One run.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def create(
        cls,
        settings: dict[str, Any],
        fill: Callable[[Path], None],
        path: Path | None = None,
        stem: str = "run",
    ) -> RunFolder:
        """Make a run folder in one rename.

        Args:
            settings: all settings of the run, JSON-ready.
            fill: writes what else belongs into it (``world/``, ``text/``) into the folder it is given.
            path: the folder; without it the first free one of ``runs/<stem>-1``, ``runs/<stem>-2``, ...
            stem: start of its name when `path` is not given.

        Raises:
            InputError: `path` exists and is not an empty folder.
            UnavailableError: it cannot be written.
        """
        chosen = cls._free(path, stem)

        def everything(folder: Path) -> None:
            write_yaml(folder / "settings.yaml", settings)
            write_json(folder / "versions.json", {"format": FORMAT, **versions()})
            fill(folder)

        write_folder(chosen, everything)
        # The sums hold for what was written, not for a run that goes on; each checkpoint has its own.
        (chosen / MANIFEST).unlink(missing_ok=True)
        return cls(chosen)

    @staticmethod
    def _free(path: Path | None, stem: str) -> Path:
        if path is not None:
            RunFolder.check_free(path)
            return path
        number = 1
        while (chosen := Path("runs") / f"{stem}-{number}").exists():
            number += 1
        return chosen

    @staticmethod
    def check_free(path: Path) -> None:
        """Check that a new run can be laid at `path`.

        Raises:
            InputError: something is there.
        """
        if path.is_dir() and not any(path.iterdir()):
            return
        if (path / "settings.yaml").is_file():
            raise InputError(
                f"{path} holds a run already: go on with --resume {path}, or name another --run-dir."
            )
        if path.exists():
            raise InputError(f"{path} exists already: name another --run-dir.")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run folder.

        Raises:
            InputError: there is no such folder, or it is not a run.
            CorruptError: it is a run of another format.
        """
        if not path.is_dir():
            near = [str(p.parent) for p in Path("runs").glob("*/settings.yaml")]
            hint = f" Runs here: {', '.join(sorted(near)[:5])}." if near else ""
            what = "is not a folder" if path.exists() else "does not exist"
            raise InputError(f"The run folder {path} {what}.{hint}")
        if not (path / "settings.yaml").is_file() or not (path / "versions.json").is_file():
            missing = "settings.yaml" if not (path / "settings.yaml").is_file() else "versions.json"
            raise InputError(f"{path} is not a run folder: it has no {missing}.")
        held = read_json(path / "versions.json")
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise CorruptError(
                f"{path} has another run format than {FORMAT}, the one that this version reads."
            )
        return cls(path)

    @property
    def name(self) -> str:
        """Name of the run, for tables."""
        return self.path.resolve().name

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        """The metrics file, JSON lines."""
        return self.path / "metrics.jsonl"

    @property
    def world(self) -> Path:
        """Folder of the world."""
        return self.path / "world"

    @property
    def text(self) -> Path:
        """Folder of the text vectors and of the way that new texts take."""
        return self.path / "text"

    @property
    def agent(self) -> Path:
        """Folder of the trained agent; absent until training has ended."""
        return self.path / "agent"

    @property
    def evaluation(self) -> Path:
        """Folder of evaluation results."""
        return self.path / "evaluation"

    def settings(self) -> dict[str, Any]:
        """Return the settings of the run.

        Raises:
            InputError: the file is not plain YAML.
        """
        return read_yaml(self.path / "settings.yaml")

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Replace the settings of the run (a resumed run may be given more steps)."""
        write_yaml(self.path / "settings.yaml", settings)

    def save_checkpoint(self, step: int, fill: Callable[[Path], None], keep: int = 1) -> None:
        """Write a checkpoint; older ones are removed once the new one is whole.

        Args:
            step: user steps done.
            fill: writes the files into the folder it is given.
            keep: how many checkpoints stay, the newest included.
        """
        write_folder(self.path / "checkpoints" / f"{step:012d}", fill)
        for old in self._checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def _checkpoints(self) -> list[Path]:
        folder = self.path / "checkpoints"
        return sorted(p for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return the steps done and the folder of the newest whole checkpoint; None where there is none."""
        for path in reversed(self._checkpoints()):
            try:
                check_folder(path)
            except CorruptError as error:
                say(f"A checkpoint is left out: {error}")
            else:
                return int(path.name), path
        return None

    def trained(self) -> Path:
        """Return the folder of the trained agent, or of the newest checkpoint of a run that has not ended.

        Raises:
            CorruptError: a file of the agent was changed.
            InputError: the run has neither.
        """
        if self.agent.is_dir():
            check_folder(self.agent)
            return self.agent
        latest = self.latest_checkpoint()
        if latest is None:
            raise InputError(f"{self.path} holds no trained agent yet: go on with --resume {self.path}.")
        say(f"{self.path} has not ended: its agent of step {latest[0]:,} is used.")
        return latest[1]


def versions() -> dict[str, str]:
    """Return the versions of Python, of the machine's system and of the packages that a run depends on."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def check_writable(parent: Path) -> None:
    """Check early, before hours of work, that a folder can be written.

    Raises:
        UnavailableError: it cannot.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"Cannot write {parent}: {error.strerror}.") from error
    if not os.access(parent, os.W_OK):
        raise UnavailableError(f"Cannot write {parent}: permission denied.")
