"""Settings that come with the package, as YAML: one file per algorithm, one per data set."""

from __future__ import annotations

from importlib.resources import files


def config_names() -> list[str]:
    """Return the names of the files, without their ending, sorted."""
    return sorted(f.name.removesuffix(".yaml") for f in files(__name__).iterdir() if f.name.endswith(".yaml"))


def config_text(name: str) -> str:
    """Return the YAML text that comes with the package under `name`; nothing ("") where there is none.

    >>> "ml-100k" in config_names()
    True
    >>> config_text("no-such-name")
    ''
    """
    return (files(__name__) / f"{name}.yaml").read_text(encoding="utf-8") if name in config_names() else ""
