"""`Tuner`: a language model learns ratings, clicks or what is consumed together from the texts of a log."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from recworld import packing
from recworld.encoders.loading import LoadedModel
from recworld.encoders.text_ridge import choose_additive
from recworld.encoders.tuning_contrast import consumed_together, contrast, reciprocal_rank
from recworld.encoders.tuning_data import (
    SIDES,
    Pairs,
    TuningData,
    pair_batches,
    side_batches,
)
from recworld.encoders.tuning_head import Head
from recworld.encoders.tuning_settings import TuningSettings, learnt_kind
from recworld.encoders.tuning_tower import Tower
from recworld.encoders.weights import ModelFolder
from recworld.errors import CorruptError, InputError
from recworld.progress import bar
from recworld.seeding import child_seed, generator
from recworld.storage import read_arrays, read_json, write_arrays, write_json

LEAST_PENALTY = 10.0
"""Of the head that the model learns with: the weights of a freer one are so large that a small step of the model tears its
predictions apart. The head that is kept is fitted anew, with any penalty."""
CLIP = 1.0
"""Largest norm of the gradient of the language model."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Tuned:
    """What came of it.

    Attributes:
        towers: the models, by side; the same one twice where it is shared.
        head: of the text-only model; None where it learnt by contrast.
        history: figures by epoch, the frozen model first.
        best: epoch whose weights these are.
    """

    towers: dict[str, LoadedModel]
    head: Head | None
    history: tuple[Figures, ...]
    best: int


class Tuner:
    """Trains on `data`; whatever has to outlive a kill goes into `checkpoint`.

    Args:
        data: what it learns from.
        folder: the model that it starts from.
        settings: how.
        device: as `encoder.device`.
        seed: the same seed gives the same bits on the same device with as many threads.

    Raises:
        InputError: the model cannot be loaded, does not know the method, or nothing would be learnt.
    """

    def __init__(
        self, data: TuningData, folder: ModelFolder, settings: TuningSettings, device: str, seed: int
    ) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.kind = learnt_kind(data.scale, settings)
        self.done, self.best, self.step = 0, 0, 0
        self.history: list[Figures] = []
        self._sides = ("item",) if self.kind == "contrastive" else SIDES
        batches = sum(1 for _ in self._plan(generator(seed, "plan")))
        if batches == 0 and settings.epochs:
            raise InputError(
                "There is nothing to learn from: --user-passes or --item-passes must be at least 1, and of what is consumed "
                "together somebody must have consumed two items."
            )
        steps = settings.epochs * batches
        steps = max(1, -(-steps // settings.accumulate))
        with torch.random.fork_rng():
            torch.manual_seed(child_seed(seed, "tuning", "start"))
            self.towers = {side: Tower(folder, settings, device, steps) for side in self._sides[:1]}
            for side in self._sides[1:]:
                shared = settings.towers == "shared"
                self.towers[side] = self.towers["user"] if shared else Tower(folder, settings, device, steps)
        for side in self._sides:
            self.towers[side].read(side, data.texts[side])
        self._own = list({id(tower): tower for tower in self.towers.values()}.values())
        self.device = self._own[0].device
        self.tables = {side: self.towers[side].all(side) for side in self._sides}
        self.final: Head | None = None
        self.head = None if self.kind == "contrastive" else self._start()
        if not any(tower.learnt() for tower in self._own):
            raise InputError("No weight of this model would learn: leave out --tuning.layers.")
        self._optimiser = self._make_optimiser()
        self.history.append(self._measure())
        self._best_state = self._state()

    def _start(self) -> Head:
        """Return the best head on the frozen vectors."""
        centres = (self.tables["user"].mean(dim=0).cpu(), self.tables["item"].mean(dim=0).cpu())
        spreads = (
            max(float((self.tables["user"].cpu() - centres[0]).std()), 1e-6),
            max(float((self.tables["item"].cpu() - centres[1]).std()), 1e-6),
        )
        levels = self.data.scale.levels if self.kind == "ordinal" else None
        random = packing.torch_generator(child_seed(self.seed, "tuning", "head"))
        head = Head(centres, spreads, self.settings.factors, levels, random)
        head.to(self.device)
        self._centres = tuple(c.double().numpy() for c in centres)
        self._refit(head, LEAST_PENALTY)
        return head

    def _refit(self, head: Head, least: float = 0.0) -> None:
        """Put the best regression on the vectors as they are now into a head.

        The products of user and item stay as they are; it is fitted to what they leave.

        Args:
            head: the head.
            least: penalties below this are not tried.
        """
        train, held = self.data.train, self.data.held
        user, item = (
            self.tables[side].cpu().double().numpy() - centre
            for side, centre in zip(SIDES, self._centres, strict=True)
        )
        products = [self._products(head, pairs) for pairs in (train, held)]
        fit = choose_additive(
            (user, item),
            train,
            train.value.astype(np.float64) - products[0],
            held,
            held.value.astype(np.float64) - products[1],
            least,
        )
        if self.kind == "squared":
            head.start(fit)
            return
        # Of a regression on ratings (or on 0 and 1) the directions are right, and the scale is that of a logistic.
        guess = fit.predict(user, item, train)
        spread = float(np.std(train.value - guess)) or 1.0
        if self.kind == "click":
            odds = float(np.clip(train.value.mean(), 1e-3, 1 - 1e-3))
            head.start(fit, 1 / (odds * (1 - odds)), fit.mean)
            with torch.no_grad():
                head.mean.fill_(np.log(odds / (1 - odds)))
        else:
            head.start(fit, np.pi / np.sqrt(3) / spread, fit.mean)
            head.start_thresholds(train.value, self._eta(head, train))

    def _products(self, head: Head, pairs: Pairs) -> Any:
        return self._of(head.products, pairs).cpu().double().numpy()

    def _eta(self, head: Head, pairs: Pairs) -> torch.Tensor:
        return self._of(head, pairs)

    def _of(self, function: Callable[..., torch.Tensor], pairs: Pairs) -> torch.Tensor:
        """Return (n,) of pairs, by the vectors as they are."""
        users, items = (torch.as_tensor(pairs.side(side), device=self.device) for side in SIDES)
        with torch.no_grad():
            return function(self.tables["user"], self.tables["item"], users, items)

    def _make_optimiser(self) -> torch.optim.Optimizer:
        settings = self.settings
        weights = [weight for tower in self._own for weight in tower.learnt()]
        groups: list[dict[str, Any]] = [
            {"params": weights, "lr": settings.rate, "weight_decay": settings.weight_decay}
        ]
        if self.head is not None:
            groups.append(
                {
                    "params": list(self.head.parameters()),
                    "lr": settings.head_learning_rate,
                    "weight_decay": 0.0,
                }
            )
        return torch.optim.AdamW(groups)

    def _plan(self, rng: np.random.Generator) -> Iterator[tuple[str, Any]]:
        """Yield the batches of an epoch: which side learns ("both": pairs), and which rows."""
        data, settings = self.data, self.settings
        if self.kind == "contrastive":
            pairs = consumed_together(data, rng)
            for at in range(0, len(pairs), settings.batch_texts):
                yield "contrast", pairs[at : at + settings.batch_texts]
        elif settings.batches == "pairs":
            for rows in pair_batches(data.train, settings.batch_pairs, rng):
                yield "both", rows
        else:
            for side, passes in (("user", settings.user_passes), ("item", settings.item_passes)):
                for _ in range(passes):
                    for rows in side_batches(data.train, side, settings.batch_texts, rng):
                        yield side, rows

    def run(self, epoch_done: Callable[[int, Figures], None] = lambda epoch, figures: None) -> Tuned:
        """Train to the end, from where `resume` left it.

        Args:
            epoch_done: called after each epoch with its number and figures.
        """
        while self.done < self.settings.epochs and self.done - self.best < self.settings.patience:
            losses = self._epoch(self.done + 1)
            self.done += 1
            self.tables = {side: self.towers[side].all(side) for side in self._sides}
            figures = {"train/loss": losses, **self._measure()}
            self.history.append(figures)
            if figures["held/error"] < self.history[self.best]["held/error"]:
                self.best, self._best_state = self.done, self._state()
            epoch_done(self.done, figures)
        self._take(self._best_state)
        merged = {id(tower): tower.merged() for tower in self._own}
        found = {side: merged[id(tower)] for side, tower in self.towers.items()}
        return Tuned(found, self.final, tuple(self.history), self.best)

    def _epoch(self, number: int) -> float:
        """Go through all batches once, and return the mean loss."""
        plan = list(self._plan(generator(self.seed, "tuning", "epoch", number)))
        total, side_now, pending = 0.0, "", 0
        share = len(plan) / max(1, sum(len(rows) for _, rows in plan))
        with torch.random.fork_rng(), bar(len(plan), f"Epoch {number}", "batches") as shown:
            torch.manual_seed(child_seed(self.seed, "tuning", "epoch", number))
            for tower in self._own:
                tower.train(True)
            self._optimiser.zero_grad()
            for n, (side, rows) in enumerate(plan):
                if side != side_now and side in SIDES:
                    rate = self.settings.user_rate if side == "user" else self.settings.item_rate
                    self._optimiser.param_groups[0]["lr"] = self.settings.rate * rate
                    other = SIDES[1 - SIDES.index(side)]
                    self.tables[other] = self.towers[other].all(other)
                    side_now = side
                loss, size = self._loss(side, rows)
                total += float(loss.detach()) / size
                # A mean over an average batch, so that all pairs weigh the same.
                whole = loss * share if side != "contrast" else loss / size
                if self.head is not None:
                    whole = whole + self.settings.interaction_penalty * self.head.penalty()
                for tower in self._own:
                    whole = whole + 0.1 * tower.penalty()
                (whole / self.settings.accumulate).backward()
                pending += 1
                if pending == self.settings.accumulate or n == len(plan) - 1:
                    self._step()
                    pending = 0
                shown.update(1)
            for tower in self._own:
                tower.train(False)
        return total / max(1, len(plan))

    def _step(self) -> None:
        for tower in self._own:
            nn.utils.clip_grad_norm_(tower.learnt(), CLIP)
        self._optimiser.step()
        for tower in self._own:
            tower.after_step(self.step)
        self.step += 1
        self._optimiser.zero_grad()

    def _loss(self, side: str, rows: Any) -> tuple[torch.Tensor, int]:
        """Return the sum of the losses of a batch, and over how many pairs."""
        if side == "contrast":
            distinct, place = np.unique(rows, return_inverse=True)
            vectors = self.towers["item"].vectors("item", distinct)
            numbers = torch.as_tensor(place.reshape(rows.shape), device=self.device)
            return contrast(vectors, numbers, self.settings.temperature), len(rows)
        if self.head is None:
            raise RuntimeError("ratings are learnt with a head")
        pairs = self.data.train.take(rows)
        table, row = {}, {}
        for name in SIDES:
            own = pairs.side(name)
            if side in (name, "both"):
                distinct, place = np.unique(own, return_inverse=True)
                table[name] = self.towers[name].vectors(name, distinct)
                row[name] = torch.as_tensor(place, device=self.device)
            else:
                table[name] = self.tables[name]
                row[name] = torch.as_tensor(own, device=self.device)
        eta = self.head(table["user"], table["item"], row["user"], row["item"])
        value = torch.as_tensor(pairs.value, device=self.device)
        return self.head.loss(eta, value, self.kind), len(rows)

    def _measure(self) -> Figures:
        """Return the figures of the weights as they are; ``held/error`` is what the epoch is chosen by."""
        if self.head is None:
            rank = reciprocal_rank(
                self.tables["item"].cpu().numpy(), self.data.members[1], self.data.held, self.seed
            )
            return {"held/error": 1 - rank, "held/reciprocal_rank": rank}
        held = self.data.held
        self.final = self.head
        figures: Figures = {}
        if self.kind == "squared":
            # What the model has learnt is in its vectors: the terms of one side alone are fitted to them in closed form.
            figures["held/own_head"] = self.error(held)
            self.final = copy.deepcopy(self.head)
            self._refit(self.final)
            figures["held/error"] = self.error(held)
            if figures["held/own_head"] < figures["held/error"]:
                self.final, figures["held/error"] = self.head, figures["held/own_head"]
        else:
            eta = self._eta(self.head, held)
            value = torch.as_tensor(held.value, device=self.device)
            with torch.no_grad():
                figures["held/error"] = float(self.head.loss(eta, value, self.kind)) / len(held)
        figures["held/rmse"] = self.error(held)
        return figures

    def error(self, pairs: Pairs) -> float:
        """Return the root mean squared error of the text-only model as it is, on pairs."""
        if self.final is None:
            raise RuntimeError("what is learnt by contrast predicts no ratings")
        with torch.no_grad():
            guess = self.final.predicted(self._eta(self.final, pairs), self.kind, self.data.scale)
        return float(np.sqrt(np.mean((guess.cpu().double().numpy() - pairs.value) ** 2)))

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for n, tower in enumerate(self._own):
            state |= {f"tower{n}/{name}": value for name, value in tower.state().items()}
        if self.head is not None:
            state |= {f"head/{name}": value.clone() for name, value in self.head.state_dict().items()}
        if self.final is not None:
            state |= {f"final/{name}": value.clone() for name, value in self.final.state_dict().items()}
        return state

    def _take(self, state: dict[str, Any]) -> None:
        for n, tower in enumerate(self._own):
            start = f"tower{n}/"
            tower.restore({name[len(start) :]: v for name, v in state.items() if name.startswith(start)})
        if self.head is not None:
            self.head.load_state_dict({n[5:]: v for n, v in state.items() if n.startswith("head/")})
            self.final = copy.deepcopy(self.head)
            self.final.load_state_dict({n[6:]: v for n, v in state.items() if n.startswith("final/")})

    def checkpoint(self, folder: Path) -> None:
        """Write weights, optimiser and counters into an existing folder."""
        arrays = {f"now/{name}": value.cpu().numpy() for name, value in self._state().items()}
        arrays |= {f"best/{name}": value.cpu().numpy() for name, value in self._best_state.items()}
        arrays |= packing.prefixed("optimiser", packing.optimiser_arrays(self._optimiser))
        scalars = sorted(name for name, value in arrays.items() if value.ndim == 0)
        write_arrays(folder / "tuning.safetensors", {n: np.atleast_1d(v) for n, v in arrays.items()})
        write_json(
            folder / "tuning.json",
            {
                "done": self.done, "best": self.best, "step": self.step,
                "history": self.history, "scalars": scalars,
            },
        )  # fmt: skip

    def resume(self, folder: Path) -> None:
        """Go on from what `checkpoint` wrote.

        Raises:
            CorruptError: it does not fit these data and settings.
        """
        arrays, counters = read_arrays(folder / "tuning.safetensors"), read_json(folder / "tuning.json")
        try:
            scalars = set(counters["scalars"])
            tensors = {
                name: torch.as_tensor(np.array(value)).reshape(() if name in scalars else value.shape)
                for name, value in arrays.items()
            }
            self._take({n[4:]: v for n, v in tensors.items() if n.startswith("now/")})
            self._best_state = {n[5:]: v for n, v in tensors.items() if n.startswith("best/")}
            packing.load_optimiser(self._optimiser, packing.below("optimiser", arrays), str(folder))
            self.done, self.best, self.step = (int(counters[n]) for n in ("done", "best", "step"))
            self.history = list(counters["history"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CorruptError(f"{folder} does not go with these settings: {error}.") from error
        self.tables = {side: self.towers[side].all(side) for side in self._sides}
