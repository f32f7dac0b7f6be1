"""Learnt state as plain arrays and JSON, and back: modules, optimisers, random generators. Nothing here executes code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from recworld.errors import CorruptError

Arrays = dict[str, npt.NDArray[Any]]


def module_arrays(module: nn.Module) -> Arrays:
    """Return the persistent parameters and buffers of a module by name."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def load_module(module: nn.Module, arrays: Mapping[str, npt.NDArray[Any]], where: str) -> None:
    """Put arrays made by `module_arrays` into a module.

    Raises:
        CorruptError: a name is missing or unknown, or a shape differs.
    """
    own = module.state_dict()
    for name in sorted(set(own) ^ set(arrays)):
        raise CorruptError(f"{where}: weight {name!r} is {'missing' if name in own else 'unknown'}.")
    for name, array in arrays.items():
        if tuple(own[name].shape) != array.shape:
            raise CorruptError(
                f"{where}: weight {name!r} has shape {array.shape}, expected {tuple(own[name].shape)}."
            )
    module.load_state_dict({name: torch.as_tensor(np.array(array)) for name, array in arrays.items()})


def optimiser_arrays(optimiser: torch.optim.Optimizer) -> Arrays:
    """Return the running state of an optimiser: an array per parameter number and name, "3.exp_avg", "3.step.scalar"."""
    out: Arrays = {}
    for number, entries in optimiser.state_dict()["state"].items():
        for name, value in entries.items():
            if value is None:
                continue
            array = np.array(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
            if array.ndim:
                out[f"{number}.{name}"] = array
            else:
                out[f"{number}.{name}.scalar"] = array.reshape(
                    1
                )  # arrays without axes do not survive storage
    return out


def load_optimiser(
    optimiser: torch.optim.Optimizer, arrays: Mapping[str, npt.NDArray[Any]], where: str
) -> None:
    """Put arrays made by `optimiser_arrays` into an optimiser of the same kind over the same parameters.

    Raises:
        CorruptError: an entry belongs to no parameter or has another shape than it.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, array in arrays.items():
        number, name, *scalar = key.split(".")
        if not number.isdigit() or int(number) >= len(parameters):
            raise CorruptError(f"{where}: optimiser entry {key!r} belongs to no weight.")
        if array.shape != ((1,) if scalar else tuple(parameters[int(number)].shape)):
            raise CorruptError(f"{where}: optimiser entry {key!r} has shape {array.shape}.")
        value = torch.as_tensor(np.array(array))
        state.setdefault(int(number), {})[name] = value.reshape(()) if scalar else value
    whole = optimiser.state_dict()
    whole["state"] = state
    optimiser.load_state_dict(whole)


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator of its own, seeded; the global one is never touched."""
    return torch.Generator(device=device).manual_seed(seed)


def generator_array(generator: torch.Generator) -> npt.NDArray[np.uint8]:
    """Return the state of a torch generator as bytes."""
    return np.array(generator.get_state().cpu().numpy(), np.uint8)


def load_generator(generator: torch.Generator, state: npt.NDArray[np.uint8]) -> None:
    """Put a state made by `generator_array` into a torch generator.

    Raises:
        CorruptError: it is not such a state.
    """
    try:
        generator.set_state(torch.as_tensor(np.array(state, np.uint8)))
    except (RuntimeError, TypeError) as error:
        raise CorruptError(f"The stored random state does not fit this device: {error}.") from error


def numpy_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return the state of a numpy generator as JSON-ready values."""
    return dict(generator.bit_generator.state)


def load_numpy_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Put a state made by `numpy_state` into a numpy generator.

    Raises:
        CorruptError: it is not such a state.
    """
    try:
        generator.bit_generator.state = dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"The stored random state is not one: {error}.") from error


def prefixed(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays with ``prefix/`` before every name."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def below(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return the arrays whose name starts with ``prefix/``, without it."""
    start = f"{prefix}/"
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}
