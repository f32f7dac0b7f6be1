"""Base of every settings class: frozen, checked, unknown names refused; and YAML files of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from recworld.errors import InputError, did_you_mean

S = TypeVar("S", bound="Settings")


class Verbatim:
    """Mark of a text, as ``list[Annotated[str, VERBATIM]]``, that a flag takes as it is: a comma divides nothing."""


VERBATIM = Verbatim()


class Settings(pydantic.BaseModel):
    """Frozen pydantic model that refuses unknown names, values out of range, NaN and infinity."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    def fingerprint_text(self) -> str:
        """Return the settings as canonical JSON, for content hashes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def _walk(model: type[pydantic.BaseModel], path: tuple[Any, ...]) -> tuple[list[str], list[str]]:
    """Follow `path` down `model`: return the fields passed, and the names known where it leaves them."""
    current: Any = model
    passed: list[str] = []
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            break
        passed.append(str(part))
        current = field.annotation
    return passed, list(getattr(current, "model_fields", {}))


def validate(model: type[S], values: dict[str, Any], where: str, flags: bool = False) -> S:
    """Build `model` from `values`, turning pydantic's report into one line.

    Args:
        model: the settings class.
        values: names and values, nested as the class is.
        where: what the values came from, as it reads in the error: a file's name, "--config".
        flags: whether the names were typed as flags, and are shown so.

    Raises:
        InputError: an unknown name, a wrong type or a value out of range.
    """
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = tuple(first["loc"])
        passed, known = _walk(model, path)
        head = "" if flags else f"{where}: "
        if first["type"] == "extra_forbidden":
            name = ".".join(str(part) for part in path)
            raise InputError(
                f"{head}unknown setting {shown(name, flags)}. {did_you_mean(str(path[-1]), known)}"
            ) from None
        text = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        text += "" if text.endswith("?") else "."
        if not passed:
            raise InputError(f"{head}{text}") from None
        name, got = shown(".".join(passed), flags), _short(first.get("input"))
        raise InputError(f"{head}setting {name} got {got}: {text[:1].lower()}{text[1:]}") from None


def shown(name: str, flags: bool) -> str:
    """Return a setting's name as it reads in an error: as a flag, or quoted as it stands in a file."""
    return "--" + name.replace("_", "-") if flags else repr(name)


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def merge(base: dict[str, Any], over: dict[str, Any], group_key: str = "preset") -> dict[str, Any]:
    """Return `base` with the values of `over` laid on it, group by group.

    A group written as one word stands for its `group_key`: ``dynamics: static`` is ``dynamics: {preset:
    static}``, and a later layer that changes one value of the group keeps the word.

    >>> merge({"env": {"horizon": 20}, "dynamics": "static"}, {"dynamics": {"boredom": 1}})
    {'env': {'horizon': 20}, 'dynamics': {'preset': 'static', 'boredom': 1}}
    """
    out = dict(base)
    for name, value in over.items():
        old = out.get(name)
        if isinstance(old, str) and isinstance(value, dict):
            old = {group_key: old}
        out[name] = (
            merge(old, value, group_key) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return out


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the mapping that a YAML text holds; tags that would build objects are refused.

    Raises:
        InputError: it is not YAML, or holds something else than names and values.
    """
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{where} is not plain YAML{line}: {problem}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"{where} must hold names and values (name: value). Got {type(values).__name__}.")
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings.

    Raises:
        InputError: it does not exist, cannot be read, or is not a YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    return parse_yaml(text, str(path))


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write a YAML file that is whole or absent."""
    import yaml

    from recworld.storage import write_text

    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
