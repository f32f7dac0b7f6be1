"""Which settings of an algorithm a search varies, and how far: one table by the name of the setting.

Only settings that the algorithm has are varied. The value that a run would take without a search always lies in the range.
A class may say it itself, with a static method ``search_space(trial)`` that asks the trial (of Optuna) for values and
returns options by name::

    @staticmethod
    def search_space(trial):
        return {"learning_rate": trial.suggest_float("learning_rate", 0.01, 1.0, log=True)}
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recworld.agents.registry import AGENTS, option_names
from recworld.errors import InputError, did_you_mean
from recworld.settings import Settings


@dataclass(frozen=True)
class Choice:
    """A few values, any of which may be taken.

    Attributes:
        values: in order.
    """

    values: tuple[Any, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that the trial shall take."""
        return trial.suggest_categorical(name, list(self.values))

    def around(self, given: Any, low: float, high: float) -> Choice | None:
        """Return the same with the given value among them, within the bounds of the setting."""
        numeric = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not numeric and given not in self.values:
            return None
        kept = {value for value in self.values if low <= value <= high} | {given} if numeric else self.values
        return Choice(tuple(sorted(kept)) if numeric else tuple(kept))


@dataclass(frozen=True)
class Factor:
    """From the given value divided by a factor to the given value times it, evenly in the logarithm.

    Attributes:
        factor: above 1.
        low: nothing below, whatever is given.
        high: nothing above.
    """

    factor: float
    low: float = 0.0
    high: float = float("inf")

    def suggest(self, trial: Any, name: str) -> Any:
        """Return the value that the trial shall take."""
        return trial.suggest_float(name, self.low, self.high, log=True)

    def around(self, given: Any, low: float, high: float) -> Factor | None:
        """Return the range about the given value within the bounds of the setting; None where it is not positive."""
        if not isinstance(given, (int, float)) or isinstance(given, bool) or given <= 0:
            return None
        return Factor(self.factor, max(given / self.factor, low), min(given * self.factor, high))


Range = Choice | Factor

RANGES: dict[str, Range] = {
    "learning_rate": Factor(10),
    "learning_rate_end": Choice((0.0, 0.1, 0.3, 1.0)),
    "gamma": Choice((0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99)),
    "gae_lambda": Choice((0.5, 0.8, 0.9, 0.95, 1.0)),
    "ent_coef": Choice((0.0, 1e-4, 1e-3, 3e-3, 1e-2)),
    "clip": Choice((0.1, 0.2, 0.3, 0.4)),
    "n_epochs": Choice((1, 2, 4, 8)),
    "n_steps": Choice((8, 16, 32, 64)),
    "batch_size": Choice((64, 128, 256, 512, 1024)),
    "feedback_epochs": Choice((0, 1, 2, 4)),
    "start_scale": Factor(3),
    "reward_scale": Factor(5),
    "tau": Factor(5),
    "epsilon": Choice((0.0, 0.02, 0.05, 0.1, 0.2)),
    "epsilon_start": Choice((0.1, 0.3, 1.0)),
    "epsilon_end": Choice((0.01, 0.05, 0.1)),
    "exploration": Factor(3),
    "choice_weight": Factor(5),
    "gradient_steps": Choice((1, 2, 4)),
    "target_kl": Choice((0.01, 0.03, 0.05, 0.1)),
    "warm_start": Choice((0.0, 0.25, 0.5, 0.75)),
    "critic_epochs": Choice((2, 4, 8)),
    "replay": Choice((1, 2, 3, 5)),
    "epochs": Choice((1, 2, 4)),
    "weight_cap": Choice((1.0, 2.0, 5.0)),
    "target_entropy": Choice((-2.0, -1.0, -0.5)),
    "noise": Choice((0.05, 0.1, 0.2, 0.4)),
    "neighbours": Choice((5, 10, 20, 40)),
    "actor_weight": Factor(5),
    "recurrent": Choice((16, 32, 64)),
    "alpha": Factor(10),
    "scale": Factor(10),
    "ridge": Factor(10),
    "prior_weight": Factor(5),
    "network.hidden": Choice((16, 32, 64, 128)),
    "network.projection": Choice((8, 16, 32)),
}
"""Ranges by the name of a setting. They start from the defaults here, which were chosen for slates of 5 from 100, and span
what the papers of the algorithms and the tuned settings of common collections take."""

Space = dict[str, Range]


def search_space(spec: Any, options: Mapping[str, Any], only: Sequence[str] | None = None) -> Space:
    """Return the range of every setting that is varied, by its dotted name; none for a class with its own `search_space`.

    Args:
        spec: a registered name, ``module:Class``, or a class.
        options: the settings that a run would take, nested.
        only: names of settings; the others keep the value they are given.

    Raises:
        InputError: no such algorithm, nothing to vary, or a name in `only` that cannot be varied.
    """
    target = AGENTS.get(spec) if isinstance(spec, str) else spec
    if own_space(target) is not None:
        if only:
            raise InputError(
                f"{spec} has a search_space of its own, which chooses what is searched. Got {only[0]}."
            )
        return {}
    found: Space = {}
    for name, given, low, high in _settings(target, options):
        known = RANGES.get(name)
        fitted = known.around(given, low, high) if known is not None else None
        if fitted is not None:
            found[name] = fitted
    if not found:
        raise InputError(
            f"{spec} has no setting with a known range. Known: {', '.join(RANGES)}; or give the class a static method "
            "search_space(trial) that returns its options."
        )
    for name in only or []:
        if name not in found:
            raise InputError(f"{name!r} is not searched for {spec}. {did_you_mean(name, list(found))}")
    return {name: one for name, one in found.items() if not only or name in only}


def own_space(target: Any) -> Any:
    """Return the class's own ``search_space(trial)``, None where it has none."""
    found = getattr(target, "search_space", None)
    return found if callable(found) else None


def start_values(spec: Any, options: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return the values that a run without a search would take, by the dotted names of the space."""
    target = AGENTS.get(spec) if isinstance(spec, str) else spec
    return {name: given for name, given, _, _ in _settings(target, options) if name in space}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted names as nested options.

    >>> nested({"gamma": 0.9, "network.hidden": 32})
    {'gamma': 0.9, 'network': {'hidden': 32}}
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        *above, last = name.split(".")
        inner = out
        for part in above:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return out


def _settings(target: Any, options: Mapping[str, Any]) -> Iterator[tuple[str, Any, float, float]]:
    """Yield name, value and bounds of every single setting."""
    kind = getattr(target, "settings_type", None)
    if kind is not None:
        yield from _fields(kind, options, "")
        return
    parameters = inspect.signature(target).parameters
    for name in option_names(target)[0]:
        default = parameters[name].default
        yield name, options.get(name, default), float("-inf"), float("inf")


def _fields(
    kind: type[Settings], options: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, Any, float, float]]:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        given = options.get(name, field.get_default(call_default_factory=True))
        if isinstance(inner, type) and issubclass(inner, Settings):
            values = given.model_dump() if isinstance(given, Settings) else given
            yield from _fields(inner, values, f"{prefix}{name}.")
            continue
        lows = [getattr(one, side) for one in field.metadata for side in ("ge", "gt") if hasattr(one, side)]
        highs = [getattr(one, side) for one in field.metadata for side in ("le", "lt") if hasattr(one, side)]
        yield prefix + name, given, max(lows, default=float("-inf")), min(highs, default=float("inf"))
