"""`fidelity_report`: how far a world can be trusted, measured against the log that it was made from.

Everything about ratings and clicks is measured on rows that the fit did not see: the same model is fitted again to a part
of the log, and the rest is replayed through it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recworld.errors import InputError, RecworldError
from recworld.evaluation.fidelity_accuracy import accuracy, no_split
from recworld.evaluation.fidelity_classifier import classifier_lines
from recworld.evaluation.fidelity_exposures import exposed, why_no_replay
from recworld.evaluation.fidelity_lines import GROUPS, Line, shown, unknown
from recworld.evaluation.fidelity_marginals import Marginals, histogram_edges, marginals
from recworld.evaluation.fidelity_replay import Replayed, Sessions, logged_sessions
from recworld.evaluation.fidelity_responses import Responses
from recworld.evaluation.fidelity_result import FidelityReport
from recworld.evaluation.fidelity_sensitivity import RANGES, default_of, sensitivity
from recworld.evaluation.fidelity_sessions import SessionPairs, drawn_pairs, replayed_pairs, session_lines
from recworld.evaluation.fidelity_splits import SPLITS, TITLES, Split, make_split
from recworld.evaluation.fidelity_told import (
    SELECTION,
    calibration_lines,
    contradicted,
    selection_lines,
    told,
)
from recworld.logs.log import InteractionLog
from recworld.progress import say
from recworld.seeding import child_seed, generator
from recworld.simulators.anchor import sampled_slates
from recworld.simulators.build import FIT_FORMAT, WorldSettings, fit_response, usable_exposures
from recworld.simulators.selection_treatment import correlation_used
from recworld.simulators.tables import ResponseTables
from recworld.simulators.world import World
from recworld.storage import (
    cache_root,
    cached_folder,
    content_hash,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)

Fitted = tuple[ResponseTables, dict[str, Any]]
"""Tables of M members, and what the fit tells of selection."""
Fit = Callable[[Split, int, int], Fitted]
"""Fits M members to the training part of a split: (split, members, seed)."""

MOST_ROWS = 400_000
"""Rows of the log that the report fits to; of a larger log, whole users are drawn."""
FORMAT = 1
"""Raised whenever a fit to a part is kept in another form."""
COLD_MEMBERS = 2
"""Members that are fitted to the temporal and cold splits."""


def fidelity_report(
    world: World,
    log: InteractionLog,
    *,
    settings: WorldSettings | None = None,
    kind: Literal["full", "quick"] = "full",
    seed: int = 0,
    fit: Fit | None = None,
) -> FidelityReport:
    """Measure how far a world can be trusted.

    Args:
        world: fitted to the log, with the dynamics that it will be used with.
        log: the log.
        settings: how the world was fitted.
        kind: full: four splits, every assumption, two-sample classifiers; the model is fitted four times more. Quick: random
            rows only, one member, the main assumptions, no classifier.
        seed: the same seed gives the same report.
        fit: what fits a part of the log; that of `settings` by default. A known truth is judged by handing out its tables
            and an empty report.

    Raises:
        InputError: the log is not that of the world.
    """
    if (log.num_users, log.num_items) != (world.num_users, world.num_items):
        raise InputError(
            f"The log must be the world's own: {world.num_users} users and {world.num_items} items. "
            f"Got {log.num_users} and {log.num_items}."
        )
    made = fit or _cached_fit(world, settings or WorldSettings())
    return _Builder(world, log, kind, child_seed(seed, "fidelity"), made).build()


@dataclass
class _Builder:
    """Runs the groups one after the other; one that fails leaves a line that says so, never the others."""

    world: World
    log: InteractionLog
    kind: str
    seed: int
    fit: Fit
    lines: list[Line] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)

    def build(self) -> FidelityReport:
        log = _smaller(self.log, self.seed)
        reliability: dict[str, Any] = {}
        tables: dict[str, Fitted] = {}
        splits: dict[str, Split | str] = {}
        for name in SPLITS if self.kind == "full" else SPLITS[:1]:
            self._group("accuracy", partial(self._accuracy, name, log, splits, tables, reliability))
        self.curves["reliability"] = [{"title": title, **curve} for title, curve in reliability.items()]
        self.curves["accuracy"] = _accuracy_table(self.lines)
        split = splits.get("random", "the log could not be split")
        fitted = None
        if "random" in tables and isinstance(split, Split):
            fitted = _refitted(self.world, tables["random"], split)
        self._replays(log, split, fitted)
        self._group("sensitivity", self._sensitivity)
        self._group("calibration", lambda: calibration_lines(self.world.report, self.world.dynamics))
        self._group("selection", lambda: selection_lines(self.world.report))
        order = list(GROUPS)
        return FidelityReport(
            name=self.world.name,
            lines=tuple(sorted(self.lines, key=lambda line: order.index(line.group))),
            facts=self._facts(log),
            assumed=tuple(assumed_words(self.world)),
            curves={name: value for name, value in self.curves.items() if value},
            fit=self.world.report,
        )

    def _group(self, name: str, work: Callable[[], list[Line]]) -> None:
        try:
            self.lines += work()
        except Exception as error:
            if os.environ.get("RECWORLD_DEBUG", "") not in ("", "0") and not isinstance(error, RecworldError):
                raise
            why = " ".join(str(error).split())[:200]
            kind = "" if isinstance(error, RecworldError) else f"{type(error).__name__}: "
            self.lines.append(
                unknown(name, f"{name}_failed", GROUPS[name].split(":")[0], f"{kind}{why}", True)
            )

    def _accuracy(
        self, name: str, log: InteractionLog, splits: dict[str, Split | str], tables: dict[str, Fitted],
        reliability: dict[str, Any],
    ) -> list[Line]:  # fmt: skip
        split = splits[name] = make_split(log, name, self.seed)
        if isinstance(split, str):
            return no_split(name, split)
        members = self.world.truth.num_members
        if self.kind == "quick":
            members = 1
        elif name != "random":
            members = min(members, COLD_MEMBERS)
        say(f"  fidelity: fitting without {TITLES[name]} ({len(split.train):,} rows)")
        tables[name] = self.fit(split, members, child_seed(self.seed, "fit", name))
        refitted = _refitted(self.world, tables[name], split)
        found = accuracy(split, log, Responses(refitted), self.seed)
        reliability |= {f"{what}, {TITLES[name]}": curve for what, curve in found.curves.items()}
        return found.lines

    def _replays(self, log: InteractionLog, split: Split | str, fitted: World | None) -> None:
        """Run the groups that replay held-out rows: marginals, exposures, sessions, classifier."""
        if fitted is None or isinstance(split, str):
            why = split if isinstance(split, str) else "the model could not be fitted to a part of the log"
            names = ("marginals", "exposures", "sessions", *(("classifier",) if self.kind == "full" else ()))
            self.lines += [
                unknown(name, f"{name}_all", GROUPS[name].split(":")[0], why, True) for name in names
            ]
            return
        say("  fidelity: replaying what was held out")
        sessions: Sessions | None = None
        shown_rows = log.exposures
        if split.shown is not None and shown_rows is not None:
            sessions = logged_sessions(shown_rows, split.shown, log.num_items)
        kept: dict[str, Any] = {}
        self._group("marginals", lambda: self._marginals(log, fitted, split, sessions, kept))
        self._group("exposures", lambda: self._exposures(log, fitted, split, sessions, kept))
        self._group("sessions", lambda: self._sessions(log, fitted, split, sessions, kept))
        if self.kind == "full":
            self._group(
                "classifier",
                lambda: classifier_lines(
                    split.train, fitted, kept.get("ratings"), kept.get("pairs"), self.seed
                ),
            )

    def _marginals(
        self, log: InteractionLog, world: World, split: Split, sessions: Sessions | None, kept: dict[str, Any]
    ) -> list[Line]:  # fmt: skip
        found = marginals(log, world, split, sessions, self.seed)
        kept["ratings"] = found.rows
        self.curves["marginals"] = _marginal_curves(found, log)
        return found.lines

    def _exposures(
        self, log: InteractionLog, world: World, split: Split, sessions: Sessions | None, kept: dict[str, Any]
    ) -> list[Line]:  # fmt: skip
        why = why_no_replay(log, usable_exposures(log))
        found = exposed(world, sessions, why, split.unit, self.seed)
        kept["replayed"] = found.replayed
        self.curves["exposures"] = {
            k: v for k, v in (("positions", found.positions), ("survival", found.survival)) if v
        }
        return found.lines

    def _sessions(
        self, log: InteractionLog, world: World, split: Split, sessions: Sessions | None, kept: dict[str, Any]
    ) -> list[Line]:  # fmt: skip
        replayed: Replayed | None = kept.get("replayed")
        pairs: SessionPairs
        if sessions is not None and replayed is not None:
            pairs = replayed_pairs(sessions, replayed)
        else:
            pairs = drawn_pairs(log, world, split, self.seed)
        kept["pairs"] = pairs
        found = session_lines(world, pairs, "", self.seed)
        self.curves["transitions"] = found.transitions
        return found.lines

    def _sensitivity(self) -> list[Line]:
        found = sensitivity(self.world, told(self.world.report), self.seed, quick=self.kind == "quick")
        self.curves["sensitivity"] = found.table
        return found.lines

    def _facts(self, log: InteractionLog) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "users": self.world.num_users,
            "items": self.world.num_items,
            "interactions": len(self.log),
            "interactions_used": len(log),
            "exposures": 0 if self.log.exposures is None else len(self.log.exposures),
            "scale": self.log.scale.describe(),
            "members": self.world.truth.num_members,
            "dynamics": self.world.dynamics.model_dump(mode="json"),
        }


def _smaller(log: InteractionLog, seed: int) -> InteractionLog:
    """Return the log, or whole users of it at random where it is larger than the report fits to."""
    from recworld.evaluation.fidelity_splits import take

    size = max(len(log), 0 if log.exposures is None else len(log.exposures) // 4)
    if size <= MOST_ROWS:
        return log
    users = generator(seed, "smaller").permutation(log.num_users)[
        : max(int(log.num_users * MOST_ROWS / size), 3)
    ]
    kept = replace(log.select(np.isin(log.user, users)), exposures=None)
    if log.exposures is None:
        return kept
    return replace(kept, exposures=take(log.exposures, np.isin(log.exposures.user, users)))


def _refitted(world: World, fitted: Fitted, split: Split) -> World:
    """Return the world with tables that were fitted to the training part of a split, and anchored on its slates."""
    tables, told_of_selection = fitted
    known = world.shown is not None and usable_exposures(split.train)
    return replace(
        world,
        truth=tables,
        shown=sampled_slates(split.train, 0) if known else None,
        click_rating_correlation=correlation_used(told_of_selection),
        report=world.report | {SELECTION: told_of_selection},
    )


def _cached_fit(world: World, settings: WorldSettings) -> Fit:
    """Return what fits a part of the log as the world was fitted; a part that was fitted before is read from the cache."""
    vectors = (world.user_vector, world.item_vector)

    def fit(split: Split, members: int, seed: int) -> Fitted:
        # Only what follows the training part is to be met as its end left it.
        latest = settings.novelty and split.name == "temporal"
        key = content_hash(
            f"fidelity {FIT_FORMAT} {FORMAT}", split.train.fingerprint, *vectors, settings.fingerprint_text(),
            f"{members} {seed} {latest}",
        )  # fmt: skip

        def fill(folder: Path) -> None:
            tables, report = fit_response(split.train, vectors, settings, members, seed, latest)
            write_arrays(folder / "tables.safetensors", tables.arrays())
            kept = {"rating_width": tables.rating_width, SELECTION: report.get(SELECTION, {})}
            write_json(folder / "tables.json", kept)

        folder = cached_folder(cache_root() / "fidelity" / key, fill)
        kept = read_json(folder / "tables.json")
        arrays = read_arrays(folder / "tables.safetensors")
        return ResponseTables(**arrays, rating_width=int(kept["rating_width"])), kept[SELECTION]

    return fit


def assumed_words(world: World) -> list[str]:
    """Return the named assumptions of a world in words: what no log told it."""
    # What the log tells is known only where the world uses it.
    known = told(world.report).keys() - contradicted(world.report, world.dynamics).keys()
    out = []
    for name, (_, _, words) in RANGES.items():
        value = default_of(name, world)
        if name in known or not np.isfinite(value):
            continue
        if name == "popularity_share" and world.attraction_known:
            continue
        out.append(f"{name} = {shown(value)}: {words}")
    return out


def _accuracy_table(lines: list[Line]) -> list[dict[str, Any]]:
    """Return what the accuracy plot needs: by figure, one row a split."""
    wanted = {"rmse": "rating error (RMSE), less is better", "liked_auc": "liked or not (AUC), more is better",
              "take_up_auc": "taken up or not (AUC), more is better"}  # fmt: skip
    table = []
    for key, title in wanted.items():
        rows = []
        for line in lines:
            if line.figure is not None and line.name.startswith(key + "_"):
                split = TITLES[line.name.removeprefix(key + "_")]
                values = {"one member": line.figure, **line.beside}
                rows.append({"split": split, "values": values, "low": line.low, "high": line.high})
        if rows:
            table.append({"title": title, "rows": rows})
    return table


def _marginal_curves(found: Marginals, log: InteractionLog) -> dict[str, Any]:
    """Return histogram and quantiles of real and simulated ratings, for the plot."""
    from recworld.evaluation.fidelity_marginals import per_owner

    if found.rows is None:
        return {}
    user, item, real, drawn = found.rows
    edges = histogram_edges(log.scale)
    counts = [np.histogram(values, edges)[0] / len(values) for values in (real, drawn)]
    if log.scale.kind == "discrete":
        labels = [f"{level:g}" for level in log.scale.levels]
    else:
        labels = [f"{middle:.3g}" for middle in (edges[:-1] + edges[1:]) / 2]
    curves: dict[str, Any] = {
        "histogram": {"labels": labels, "real": counts[0].tolist(), "simulated": counts[1].tolist()}
    }
    points = np.linspace(0, 1, 101)
    for name, owner, columns in (
        ("user_means", user, (0, 1)),
        ("item_means", item, (0, 1)),
        ("user_spreads", user, (2, 3)),
    ):
        table = per_owner(owner, real, drawn)
        if len(table) >= 10:
            pair = [np.quantile(table[:, column], points).round(5).tolist() for column in columns]
            curves[name] = {"real": pair[0], "simulated": pair[1]}
    return curves
