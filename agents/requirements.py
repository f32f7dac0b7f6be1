"""What every learner asks of its settings, of an environment and of a stored folder: one wording for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium.vector import AutoresetMode

from recworld.errors import CorruptError, InputError
from recworld.settings import Settings, validate
from recworld.storage import read_json

if TYPE_CHECKING:
    from recworld.envs import RecVectorEnv

FORMAT = 1
"""Of stored agents and of checkpoints."""


def chosen_settings(
    settings_type: type[Settings], settings: Settings | None, options: dict[str, Any], kind: str
) -> Any:
    """Return the settings that were given, whole or as single options.

    Raises:
        InputError: both were given, settings of another class, an unknown setting or a value out of range.
    """
    if settings is not None and options:
        raise InputError(f"Give settings or single options, not both. Got both, with {sorted(options)}.")
    if settings is not None and not isinstance(settings, settings_type):
        raise InputError(f"The settings must be {settings_type.__name__}. Got {type(settings).__name__}.")
    return settings or validate(settings_type, options, f"options of {kind}")


def check_steps(total_steps: int) -> None:
    """Check the number of steps that `learn` is asked for.

    Raises:
        InputError: it is below 1.
    """
    if total_steps < 1:
        raise InputError(f"total_steps must be at least 1. Got {total_steps}.")


def check_resets_itself(env: RecVectorEnv, who: str) -> None:
    """Check that an environment to learn in starts new episodes by itself.

    Raises:
        InputError: it does not.
    """
    if env.autoreset_mode is not AutoresetMode.SAME_STEP:
        raise InputError(
            f"{who} must learn in an environment with autoreset_mode SAME_STEP. Got {env.autoreset_mode.name}."
        )


def check_resumed(env: RecVectorEnv, resumed: Any) -> None:
    """Check that `learn` after `resume` got the environment whose state was put back.

    Raises:
        InputError: it is another one.
    """
    if resumed is not env:
        raise InputError("learn after resume must get the environment that resume got.")


def stored_settings(path: Path, kind: str) -> dict[str, Any]:
    """Return the settings in the JSON file of a stored agent.

    Raises:
        InputError: there is none, or it is of another kind of agent.
        CorruptError: it is broken.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} holds no {kind} agent: it has no {path.name}.")
    meta = read_json(path)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CorruptError(f"{path} is not of format {FORMAT}.")
    if meta.get("kind") != kind:
        raise InputError(f"{path.parent} holds an agent of kind {meta.get('kind')!r}, not {kind!r}.")
    return dict(meta["settings"])
