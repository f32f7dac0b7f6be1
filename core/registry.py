"""Names for interchangeable parts (data sets, agents), resolved lazily so that importing costs nothing."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from recworld.errors import InputError, did_you_mean


def load_object(spec: str, what: str) -> Any:
    """Import ``package.module:attribute``; the working directory counts as a place to import from.

    Raises:
        InputError: the module or the attribute does not exist, or importing the module fails.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise InputError(f"{what} {spec!r} is not of the form 'package.module:Name'.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"{what} {spec!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            public = [name for name in dir(target) if not name.startswith("_")]
            raise InputError(
                f"{what} {spec!r}: {module_name!r} has no {part!r}. {did_you_mean(part, public)}"
            )
        target = getattr(target, part)
    return target


class Registry:
    """Maps short names to ``module:attribute`` strings or objects.

    Args:
        what: the kind of thing, as it reads in an error: "algorithm", "data set".
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: dict[str, Any] = {}

    def register(self, name: str, target: Any) -> None:
        """Add `target` (an object, or ``module:attribute`` to import on first use) under `name`.

        Raises:
            InputError: the name is taken by something else.
        """
        if name in self._entries and self._entries[name] != target:
            raise InputError(f"{self.what} {name!r} is registered already.")
        self._entries[name] = target

    def names(self) -> list[str]:
        """Return the registered names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str) -> Any:
        """Return what `name` stands for; a name with a colon is imported as ``module:attribute``.

        Raises:
            InputError: nothing is registered under `name`.
        """
        if name in self._entries:
            target = self._entries[name]
            return load_object(target, self.what) if isinstance(target, str) else target
        if ":" in name:
            return load_object(name, self.what)
        raise InputError(f"Unknown {self.what} {name!r}. {did_you_mean(name, self._entries)}")
