"""Logs of people using a catalogue: reading them, splitting them, and drawing them from a known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recworld.lazy import lazy_names

if TYPE_CHECKING:
    from recworld.logs.loading import DATASETS as DATASETS
    from recworld.logs.loading import load_log as load_log
    from recworld.logs.log import Exposures as Exposures
    from recworld.logs.log import InteractionLog as InteractionLog
    from recworld.logs.log import RatingScale as RatingScale
    from recworld.logs.movielens import canonical_fold as canonical_fold
    from recworld.logs.settings import LogSettings as LogSettings
    from recworld.logs.settings import SyntheticSettings as SyntheticSettings
    from recworld.logs.splits import check_log as check_log
    from recworld.logs.splits import split_by_item as split_by_item
    from recworld.logs.splits import split_by_time as split_by_time
    from recworld.logs.splits import split_by_user as split_by_user
    from recworld.logs.splits import split_early_late as split_early_late
    from recworld.logs.splits import split_random as split_random
    from recworld.logs.splits import split_users as split_users
    from recworld.logs.splits import validation_rows as validation_rows
    from recworld.logs.synthetic import SyntheticTruth as SyntheticTruth
    from recworld.logs.synthetic import synthetic_truth as synthetic_truth

_HOMES = {
    "loading": ("DATASETS", "load_log"),
    "log": ("Exposures", "InteractionLog", "RatingScale"),
    "movielens": ("canonical_fold",),
    "settings": ("LogSettings", "SyntheticSettings"),
    "splits": (
        "check_log",
        "split_by_item",
        "split_by_time",
        "split_by_user",
        "split_early_late",
        "split_random",
        "split_users",
        "validation_rows",
    ),
    "synthetic": ("SyntheticTruth", "synthetic_truth"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)

__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
