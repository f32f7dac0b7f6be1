"""Which world an environment runs on: an object, a folder, or the small one that is bundled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recworld.errors import InputError
from recworld.settings import validate
from recworld.simulators.calibration import fitted_dynamics
from recworld.simulators.dynamics import FITTED, DynamicsSettings, dynamics_preset
from recworld.simulators.world import World


def resolve_world(
    world: World | str | Path | None,
    dynamics: DynamicsSettings | dict[str, Any] | str | None,
    members: list[int] | None,
) -> World:
    """Return the world an environment is to run on.

    Raises:
        InputError: no such folder, preset or member.
    """
    if world is None:
        from recworld.simulators.bundled import bundled_world

        found = bundled_world()
    elif isinstance(world, World):
        found = world
    elif isinstance(world, str | Path):
        found = World.load(Path(world))
    else:
        raise InputError(
            f"world must be a World, the folder of one, or None. Got {type(world).__name__} instead."
        )
    if members is not None:
        found = found.with_members(list(members))
    if dynamics == FITTED:
        dynamics = fitted_dynamics(found)
    elif isinstance(dynamics, str):
        dynamics = dynamics_preset(dynamics)
    elif isinstance(dynamics, dict):
        dynamics = validate(DynamicsSettings, dynamics, "dynamics")
    elif dynamics is not None and not isinstance(dynamics, DynamicsSettings):
        raise InputError(
            f"dynamics must be a preset's name or settings. Got {type(dynamics).__name__} instead."
        )
    return found if dynamics is None else found.with_dynamics(dynamics)
