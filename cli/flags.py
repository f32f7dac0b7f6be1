"""Flags of the command line as nested values: ``--env.slate-size 3`` is ``{"env": {"slate_size": "3"}}``.

The values stay text here and are checked by the settings classes, so that a wrong value in a flag and in a
YAML file is refused in the same words; tyro draws ``--help`` from the same classes (its own parser reports a
mistake over several lines).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import pydantic

from recworld.errors import InputError, did_you_mean
from recworld.settings import Settings, Verbatim

Path = tuple[str, ...]


def leaves(model: type[pydantic.BaseModel]) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the type of every single setting below `model`."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            yield from (((name, *path), leaf) for path, leaf in leaves(kind))
        else:
            yield (name,), kind


def groups(model: type[pydantic.BaseModel]) -> dict[str, type[Settings]]:
    """Return the nested settings classes of `model` by their name."""
    kinds = {name: field.annotation for name, field in model.model_fields.items()}
    return {n: k for n, k in kinds.items() if isinstance(k, type) and issubclass(k, Settings)}


def _parts(kind: Any) -> set[Any]:
    """Return the classes that a type is made of: ``list[int] | None`` gives list and NoneType."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return {part for inner in typing.get_args(kind) for part in _parts(inner)}
    if origin is typing.Annotated:
        return _parts(typing.get_args(kind)[0])
    return {origin or kind}


def _verbatim(kind: Any) -> bool:
    """Tell whether the texts of a list are taken as they are: a pattern may hold a comma."""
    if isinstance(kind, Verbatim):
        return True
    return any(_verbatim(part) for part in (*typing.get_args(kind), *getattr(kind, "__metadata__", ())))


class FlagReader:
    """Reads the flags of one settings class.

    A flag names a setting by its path, dashes or underscores alike; where only one setting has the last part
    of that path as its name, the last part alone will do. A group that has presets takes a preset's name.
    """

    def __init__(self, model: type[Settings]) -> None:
        self.kinds: dict[Path, Any] = dict(leaves(model))
        for name, group in groups(model).items():
            if "preset" in group.model_fields:
                self.kinds[(name,)] = str

    def find(self, flag: str) -> Path:
        """Return the path of the setting that `flag` names.

        Raises:
            InputError: no setting, or several, are meant.
        """
        path = tuple(flag.removeprefix("--").replace("-", "_").split("."))
        if path in self.kinds:
            return path
        by_name = [known for known in self.kinds if len(path) == 1 and known[-1] == path[0]]
        by_name = [known for known in by_name if len(known) == min(map(len, by_name))]
        if len(by_name) == 1:
            return by_name[0]
        if by_name:
            raise InputError(f"{flag} could be any of {', '.join(map(_flag, by_name))}: write one.")
        raise InputError(f"Unknown flag {flag}. {self._near(path)}")

    def _near(self, path: Path) -> str:
        known = {_flag(known): known for known in self.kinds}
        hint = did_you_mean(_flag(path), known)
        if hint.startswith("Did"):
            return hint.replace("'", "")
        short = did_you_mean(path[-1], [p[-1] for p in self.kinds])
        if short.startswith("Did"):
            word = short.split("'")[1]
            return f"Did you mean {next(flag for flag, p in known.items() if p[-1] == word)}?"
        return "See --help for all flags."

    def read(self, tokens: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Return the nested values of all flags, and the words that belong to none.

        Raises:
            InputError: an unknown flag, or one without its value.
        """
        values: dict[str, Any] = {}
        words: list[str] = []
        rest = list(tokens)
        while rest:
            token = rest.pop(0)
            if not token.startswith("-") or token == "-":
                words.append(token)
                continue
            if not token.startswith("--"):
                raise InputError(f"Unknown flag {token}. Flags start with two dashes; see --help.")
            flag, has_value, value = token.partition("=")
            path, negated = self._find_switch(flag)
            taken = [value] if has_value else self._take(path, rest)
            if taken and _verbatim(self.kinds[path]):
                # Given twice, the flag adds: no pattern is lost.
                taken = [*_got(values, path), *taken]
            _put(
                values,
                path,
                _switch(flag, taken, negated) if self._is_switch(path) else self._value(flag, path, taken),
            )
        return values, words

    def divide(self, tokens: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the words that are flags of this class with their values, and all others, for another reader."""
        own: list[str] = []
        others: list[str] = []
        current = others
        for token in tokens:
            if _is_flag(token):
                name = token.partition("=")[0].removeprefix("--").replace("-", "_")
                current = own if (name,) in self.kinds else others
            current.append(token)
        return own, others

    def _is_switch(self, path: Path) -> bool:
        return _parts(self.kinds[path]) == {bool}

    def _find_switch(self, flag: str) -> tuple[Path, bool]:
        """Find a flag; ``--no-x`` and ``--group.no-x`` switch x off."""
        try:
            return self.find(flag), False
        except InputError:
            parts = flag.removeprefix("--").replace("-", "_").split(".")
            for n, part in enumerate(parts):
                if part.startswith("no_"):
                    positive = ".".join([*parts[:n], part.removeprefix("no_"), *parts[n + 1 :]])
                    try:
                        path = self.find("--" + positive)
                    except InputError:
                        continue
                    if self._is_switch(path):
                        return path, True
            raise

    def _take(self, path: Path, rest: list[str]) -> list[str]:
        """Take the values that follow a flag: none or true/false for a switch, all for a list, else one."""
        if self._is_switch(path):
            return [rest.pop(0)] if rest and rest[0].lower() in ("true", "false") else []
        many = bool(_parts(self.kinds[path]) & {list, tuple, set, dict})
        taken: list[str] = []
        while rest and not _is_flag(rest[0]) and (many or not taken):
            taken.append(rest.pop(0))
        return taken

    def _value(self, flag: str, path: Path, taken: list[str]) -> Any:
        parts = _parts(self.kinds[path])
        if not taken:
            raise InputError(f"{flag} needs a value.")
        if taken == ["none"] and type(None) in parts:
            return None
        if dict in parts and all("=" in word for word in taken):
            return dict(word.split("=", 1) for word in taken)
        if _verbatim(self.kinds[path]):
            return taken
        if parts & {list, tuple, set} and not (len(taken) == 1 and str in parts):
            return [word for text in taken for word in text.split(",") if word]
        return taken[0]


def _switch(flag: str, taken: list[str], negated: bool) -> bool:
    word = taken[0].lower() if taken else "true"
    if word not in ("true", "false", "yes", "no", "1", "0"):
        raise InputError(f"{flag} takes true or false. Got {taken[0]!r}.")
    return (word in ("true", "yes", "1")) != negated


def _is_flag(token: str) -> bool:
    """Tell a flag from a value: ``-0.5`` and ``-`` are values."""
    return token.startswith("--") or (len(token) > 1 and token[0] == "-" and token[1].isalpha())


def _flag(path: Path) -> str:
    return "--" + ".".join(path).replace("_", "-")


def _got(values: dict[str, Any], path: Path) -> list[str]:
    """Return the values that a flag given before has left at a path."""
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found or []


def _put(values: dict[str, Any], path: Path, value: Any) -> None:
    """Set a value at a path; a group's preset stays when single values of the group follow."""
    *above, last = path
    for name in above:
        inner = values.get(name)
        values[name] = {"preset": inner} if isinstance(inner, str) else (inner or {})
        values = values[name]
    if isinstance(values.get(last), dict) and isinstance(value, str):
        values[last]["preset"] = value
    else:
        values[last] = value
