"""Base of every settings class: frozen, ranges checked, unknown names refused."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import pydantic
from recworld.errors import InputError, did_you_mean

S = TypeVar("S", bound="Settings")


class Settings(pydantic.BaseModel):
    """Frozen pydantic model that refuses unknown names and values out of range."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def fingerprint_text(self) -> str:
        """Return the settings as canonical JSON, for content hashes."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def _at(model: type[pydantic.BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the field names known where `path` points to, below `model`."""
    current: Any = model
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = field.annotation
    return list(getattr(current, "model_fields", {}))


def validate(model: type[S], values: dict[str, Any], where: str) -> S:
    """Build `model` from `values`, turning pydantic's report into one line.

    Args:
        model: the settings class.
        values: names and values, nested as the class is.
        where: what the values came from, as it reads in the error: a file's name, "--config".

    Raises:
        InputError: an unknown name, a wrong type or a value out of range.
    """
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = tuple(first["loc"])
        name = ".".join(str(part) for part in path)
        if first["type"] == "extra_forbidden":
            known = _at(model, path[:-1])
            raise InputError(
                f"{where}: unknown setting {name!r}. {did_you_mean(str(path[-1]), known)}"
            ) from None
        got = first.get("input")
        raise InputError(f"{where}: setting {name!r} got {got!r}: {first['msg']}.") from None
