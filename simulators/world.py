"""`World`: everything an environment needs, as one folder of arrays and JSON; no code, no model objects, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recworld.errors import CorruptError, InputError
from recworld.logs.log import FloatArray, IntArray, RatingScale
from recworld.simulators.dynamics import DynamicsSettings
from recworld.simulators.tables import AgentTables, ResponseTables
from recworld.storage import (
    MANIFEST,
    check_folder,
    content_hash,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)

if TYPE_CHECKING:
    from recworld.simulators.calibration_table import SlateTable

FORMAT = 1


@dataclass(frozen=True)
class World:
    """A world of simulated users.

    Attributes:
        name: for people.
        truth: M members of the response model, fitted on the whole log (or given, for a synthetic truth).
        agent: what the recommender knows, fitted on the early parts.
        user_vector: (U, D) unit text vectors.
        item_vector: (I, D) unit text vectors.
        scale: rating scale.
        dynamics: how users change.
        splits: user numbers by "train", "validation", "test".
        user_keys, item_keys: identifiers of the log.
        user_text, item_text: the texts, for rendering; those of users are "" in a world that was read from a folder,
            unless it was saved with them.
        attraction_known: whether the attraction was learnt from what was shown (or is a truth), so that its base rate and
            the items' popularity need no assumption.
        click_rating_correlation: correlation of the errors of click and rating that exposures told, and that the tables are
            corrected for; dynamics that name none take it.
        shown: sessions of the log with what was shown in them, on which the base rate of clicks is anchored; None where the
            log has no exposures, or the attraction is a truth.
        report: figures of the fit (held-out RMSE, ...), JSON-ready.
    """

    name: str
    truth: ResponseTables
    agent: AgentTables
    user_vector: FloatArray
    item_vector: FloatArray
    scale: RatingScale
    dynamics: DynamicsSettings
    splits: dict[str, IntArray]
    user_keys: tuple[str, ...]
    item_keys: tuple[str, ...]
    user_text: tuple[str, ...]
    item_text: tuple[str, ...]
    attraction_known: bool = False
    click_rating_correlation: float = 0.0
    shown: SlateTable | None = None
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_vector)

    @property
    def num_items(self) -> int:
        """I."""
        return len(self.item_vector)

    @property
    def vector_width(self) -> int:
        """D."""
        return int(self.item_vector.shape[1])

    @cached_property
    def boredom_vector(self) -> FloatArray:
        """(I, D) centred unit text vectors v_i; a text equal to the mean gets the zero vector."""
        centred = self.item_vector - self.item_vector.mean(0, keepdims=True)
        norm = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.asarray(np.where(norm > 1e-6, centred / np.maximum(norm, 1e-6), 0.0), np.float32)

    @cached_property
    def click_shift(self) -> FloatArray:
        """(M,) what is added to the attraction logits, so that `shown` is clicked as often as it was."""
        from recworld.simulators.anchor import click_shift

        share = self.dynamics.popularity_share
        return click_shift(self, 1.0 if share is None else share)

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of all that determines how the world behaves."""
        arrays = self._arrays()
        return content_hash(
            *[part for name in sorted(arrays) for part in (name, arrays[name])], self._meta_text()
        )

    def _meta_text(self) -> str:
        return (
            repr(self.scale)
            + self.dynamics.fingerprint_text()
            + f"{self.truth.rating_width} {self.attraction_known}"
            + (f" {self.click_rating_correlation}" if self.click_rating_correlation else "")
        )

    def users(self, split: str) -> IntArray:
        """Return the user numbers of "train", "validation", "test" or "all".

        Raises:
            InputError: no such split, or it is empty.
        """
        from recworld.errors import did_you_mean

        if split == "all":
            return np.arange(self.num_users, dtype=np.int32)
        if split not in self.splits:
            raise InputError(
                f"users must be a split of the world. Got {split!r}. {did_you_mean(split, [*self.splits, 'all'])}"
            )
        if len(self.splits[split]) == 0:
            raise InputError(f"World {self.name!r} has no {split} users.")
        return self.splits[split]

    def with_members(self, chosen: list[int]) -> World:
        """Return the world with only the chosen members of its truth.

        Raises:
            InputError: no member of that number.
        """
        if not chosen or min(chosen) < 0 or max(chosen) >= self.truth.num_members:
            raise InputError(f"members must be numbers from 0 to {self.truth.num_members - 1}. Got {chosen}.")
        return replace(self, truth=self.truth.members(chosen))

    def with_dynamics(self, dynamics: DynamicsSettings) -> World:
        """Return the world with other dynamics."""
        return replace(self, dynamics=dynamics)

    def _arrays(self) -> dict[str, Any]:
        out = {f"truth.{k}": v for k, v in self.truth.arrays().items()}
        out |= {f"agent.{k}": v for k, v in self.agent.response.arrays().items()}
        out |= {f"split.{k}": v for k, v in self.splits.items()}
        out |= {
            "user_vector": self.user_vector,
            "item_vector": self.item_vector,
            "popularity": self.agent.popularity,
            "history_start": self.agent.history_start,
            "history_item": self.agent.history_item,
            "history_feedback": self.agent.history_feedback,
        }
        if self.shown is not None:
            from recworld.simulators.anchor import slate_arrays

            out |= {f"shown.{k}": v for k, v in slate_arrays(self.shown).items()}
        return out

    def save(self, folder: Path, user_text: bool = False) -> None:
        """Write ``world.safetensors`` and ``world.json`` into an existing folder.

        Args:
            folder: where they go.
            user_text: whether the texts of users go with them. Nothing but words on a screen needs them; they are not
                hashed either, since the hash of "24 year old man" is found by hashing what people are called.
        """
        write_arrays(folder / "world.safetensors", self._arrays())
        meta = {
            "format": FORMAT,
            "name": self.name,
            "scale": {
                "kind": self.scale.kind,
                "levels": list(self.scale.levels),
                "low": self.scale.low,
                "high": self.scale.high,
            },
            "dynamics": self.dynamics.model_dump(mode="json"),
            "rating_width": {"truth": self.truth.rating_width, "agent": self.agent.response.rating_width},
            "user_keys": list(self.user_keys),
            "item_keys": list(self.item_keys),
            "user_text": list(self.user_text) if user_text else None,
            "item_text": list(self.item_text),
            "attraction_known": self.attraction_known,
            "click_rating_correlation": self.click_rating_correlation,
            "report": self.report,
        }
        write_json(folder / "world.json", meta)

    @classmethod
    def load(cls, folder: Path) -> World:
        """Read a world folder.

        Raises:
            InputError: the folder is not a world.
            CorruptError: it is one, but broken or of another format.
        """
        if not (folder / "world.json").is_file():
            raise InputError(f"{folder} is not a world: it has no world.json.")
        if (folder / MANIFEST).is_file():
            check_folder(folder)
        meta, arrays = read_json(folder / "world.json"), read_arrays(folder / "world.safetensors")
        _check_arrays(folder, arrays)
        try:
            if meta["format"] != FORMAT:
                raise CorruptError(
                    f"{folder} has world format {meta['format']}, this version reads {FORMAT}."
                )
            scale = RatingScale(
                meta["scale"]["kind"],
                tuple(meta["scale"]["levels"]),
                meta["scale"]["low"],
                meta["scale"]["high"],
            )
            return cls(
                name=meta["name"],
                truth=_tables(arrays, "truth.", meta["rating_width"]["truth"]),
                agent=AgentTables(
                    _tables(arrays, "agent.", meta["rating_width"]["agent"]),
                    arrays["popularity"], arrays["history_start"], arrays["history_item"], arrays["history_feedback"],
                ),
                user_vector=arrays["user_vector"],
                item_vector=arrays["item_vector"],
                scale=scale,
                dynamics=DynamicsSettings.model_validate(meta["dynamics"]),
                splits={k.removeprefix("split."): v for k, v in arrays.items() if k.startswith("split.")},
                user_keys=tuple(meta["user_keys"]),
                item_keys=tuple(meta["item_keys"]),
                user_text=_texts(meta["user_text"], len(meta["user_keys"])),
                item_text=tuple(meta["item_text"]),
                attraction_known=meta["attraction_known"],
                shown=_shown(arrays),
                click_rating_correlation=float(meta.get("click_rating_correlation", 0.0)),
                report=meta["report"],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{folder} is not a whole world: {type(error).__name__} {error}.") from error


def _check_arrays(folder: Path, arrays: dict[str, Any]) -> None:
    """Check what compiled code relies on: finite numbers, and item and user numbers that exist.

    Raises:
        CorruptError: an array is missing, not finite, or points outside.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CorruptError(f"{folder} is not a whole world: {name} must be finite.")
    limits = {
        "history_item": len(arrays.get("item_vector", ())),
        "history_start": len(arrays.get("history_item", ())) + 1,
    }
    items, users = limits["history_item"], len(arrays.get("user_vector", ()))
    slates, rows = (len(arrays.get(f"shown.{name}", ())) for name in ("slate_start", "item"))
    limits |= {"shown.item": items, "shown.user": users, "shown.session_user": users}
    limits |= {"shown.slate_start": rows + 1, "shown.session_start": slates, "shown.position": 1_000_001}
    limits |= {name: len(arrays.get("user_vector", ())) for name in arrays if name.startswith("split.")}
    for name, limit in limits.items():
        array = arrays.get(name)
        if array is not None and len(array) and not 0 <= array.min() <= array.max() < limit:
            raise CorruptError(f"{folder} is not a whole world: {name} must lie in 0..{limit - 1}.")


def _texts(stored: list[str] | None, number: int) -> tuple[str, ...]:
    return ("",) * number if stored is None else tuple(stored)


def _shown(arrays: dict[str, Any]) -> SlateTable | None:
    chosen = {k.removeprefix("shown."): v for k, v in arrays.items() if k.startswith("shown.")}
    if not chosen:
        return None
    from recworld.simulators.anchor import slates_of

    return slates_of(chosen)


def _tables(arrays: dict[str, Any], prefix: str, rating_width: int) -> ResponseTables:
    chosen = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return ResponseTables(**chosen, rating_width=rating_width)
