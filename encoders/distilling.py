"""A smaller model taught to give a larger one's vectors: on the catalogue's own texts and on changed copies of them.

The student's loss is the squared distance of unit vectors (2 - 2 cosine), in units of the teacher's variance: 1 is what a
constant costs, 0 is a perfect copy. First the layer after pooling is solved for (ridge regression), then everything but the
word embeddings is trained (Hinton et al. 2015, "Distilling the knowledge in a neural network"; of sentence vectors: Reimers
and Gurevych 2020, "Making monolingual sentence embeddings multilingual"). Texts kept apart say when to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from recworld.encoders.base import clean_texts
from recworld.encoders.bert import pool
from recworld.encoders.pruning import Student, with_dense
from recworld.encoders.reduction import Reduction
from recworld.errors import InputError
from recworld.logs.log import FloatArray
from recworld.progress import bar
from recworld.seeding import generator
from recworld.settings import Settings

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties of the regression, in units of the mean variance of what it reads; the validation texts choose."""
BUCKET = 16
"""Batches whose texts are sorted by length together, so that little is padded."""
WARMUP = 0.1
"""Share of all steps in which the learning rate rises; after them it falls along a half cosine."""
LEAST_TEXTS = 10

Teacher = Callable[[Sequence[str]], FloatArray]


class DistilSettings(Settings):
    """How a smaller model learns from a larger one."""

    batch_size: int = Field(default=32, ge=1, le=4096)
    """Texts in one step."""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Highest learning rate of AdamW."""
    variants: int = Field(default=2, ge=0, le=100)
    """Changed copies of each text to learn from: parts of it, it without some words, parts of two texts together."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the texts, and of their copies, that is not learnt from but says when to stop."""
    patience: int = Field(default=2, ge=1)
    """Epochs without a better vector for the held-out texts before the training stops."""
    max_texts: int = Field(default=20_000, ge=10)
    """Texts of a log at most, drawn at random; their changed copies come on top."""
    max_tokens: int = Field(default=128, ge=3)
    """Tokens read of each text while learning; the finished model reads as many as before."""
    target: Literal["full", "reduced"] = "full"
    """What is to be matched: full: all of the vectors; reduced: what the reduction to encoder.width keeps of them."""


@dataclass(frozen=True)
class Distilled:
    """A student that has learnt.

    Attributes:
        student: the model with the best vectors for the held-out texts.
        losses: loss on the held-out texts: after the regression, then after each epoch.
        cosine: mean cosine to the teacher on the held-out texts.
        texts: numbers of texts learnt from, changed copies included, and held out.
    """

    student: Student
    losses: tuple[float, ...]
    cosine: float
    texts: tuple[int, int]


def variant(text: str, other: str, rng: np.random.Generator) -> str:
    """Return a changed copy of a text: a part of it, it without some words, or parts of two texts."""
    words = text.split()
    kind = rng.integers(3)
    if kind == 0:
        kept = _part(words, rng)
    elif kind == 1:
        stays = rng.random(len(words)) >= rng.uniform(0.1, 0.5)
        kept = [word for word, here in zip(words, stays, strict=True) if here]
    else:
        kept = _part(words, rng) + _part(other.split(), rng)
    return " ".join(kept or words)


def _part(words: list[str], rng: np.random.Generator) -> list[str]:
    size = int(rng.integers(1, len(words) + 1))
    start = int(rng.integers(0, len(words) - size + 1))
    return words[start : start + size]


def variants(texts: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` changed copies of each text, less those that are among the texts or came before."""
    others = rng.integers(0, max(len(texts), 1), (count, len(texts)))
    made = [variant(text, texts[others[k, n]], rng) for k in range(count) for n, text in enumerate(texts)]
    known = set(texts)
    return [text for text in dict.fromkeys(made) if text not in known]


def distil(
    student: Student, teacher: Teacher, user_text: Sequence[str], item_text: Sequence[str], epochs: int,
    settings: DistilSettings, seed: int, width: int | None = None,
) -> Distilled:  # fmt: skip
    """Teach a student the vectors of its teacher; the student's weights are changed in place.

    Args:
        student: what learns.
        teacher: gives (n, W) float32 unit vectors of n texts.
        user_text: texts of users.
        item_text: texts of items.
        epochs: times that all texts are gone through at most; 0: the regression alone.
        settings: how.
        seed: seed; the same seed gives the same bits on the same device with as many threads.
        width: D of the reduction, for the target "reduced".

    Raises:
        InputError: fewer than 10 distinct texts.
    """
    rng = generator(seed, "distil")
    users, items = _distinct(user_text), _distinct(item_text)
    texts = list(dict.fromkeys([*users, *items]))
    if len(texts) < LEAST_TEXTS:
        raise InputError(f"Distilling needs at least {LEAST_TEXTS} distinct texts. Got {len(texts)}.")
    order = rng.permutation(len(texts))[: settings.max_texts]
    cut = max(1, round(settings.held_out * len(order)))
    held, learnt = ([texts[n] for n in rows] for rows in (order[:cut], order[cut:]))
    learnt += variants(learnt, settings.variants, rng)
    lens = None
    if settings.target == "reduced":
        components = Reduction.fit(teacher(users), teacher(items), width).components
        lens = None if components is None else components.T
    trainer = _Trainer(student, settings, (learnt, teacher(learnt)), (held, teacher(held)), lens)
    losses = [trainer.solve()]
    best = trainer.state()
    steps = trainer.steps(epochs)
    with bar(epochs * trainer.batches, "Distilling", "batches") as shown:
        for epoch in range(epochs):
            trainer.epoch(rng, steps, shown.update)
            losses.append(trainer.evaluate()[0])
            if losses[-1] <= min(losses):
                best = trainer.state()
            elif epoch + 1 - int(np.argmin(losses)) >= settings.patience:
                break
    trainer.restore(best)
    return Distilled(trainer.student, tuple(losses), trainer.evaluate()[1], (len(learnt), len(held)))


def _distinct(texts: Sequence[str]) -> list[str]:
    return [text for text in dict.fromkeys(clean_texts(texts)) if text]


class _Trainer:
    """Texts as tokens beside their goals, and the steps towards them."""

    def __init__(
        self, student: Student, settings: DistilSettings, learnt: tuple[list[str], FloatArray],
        held: tuple[list[str], FloatArray], lens: FloatArray | None,
    ) -> None:  # fmt: skip
        import torch

        self.student, self._settings = student, settings
        self._device = student.model.device
        self._ids, self._held_ids = self._tokens(learnt[0]), self._tokens(held[0])
        self._goal, self._held_goal = (torch.from_numpy(part[1]).to(self._device) for part in (learnt, held))
        self._lens = None if lens is None else torch.from_numpy(np.ascontiguousarray(lens)).to(self._device)
        self._scale = float(self._squares(self._goal - self._goal.mean(dim=0)).mean())
        self.batches = -(-len(self._ids) // settings.batch_size)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        source = self.student.source
        shown = [text.lower() for text in texts] if source.lower_case else texts
        ids: list[list[int]] = self.student.model.tokenizer(
            shown,
            truncation=True,
            max_length=min(self._settings.max_tokens, source.max_length),
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        return ids

    def _squares(self, difference: Any) -> Any:
        """Return (B,) squared lengths of (B, W), seen through the lens."""
        if self._lens is not None:
            difference = difference @ self._lens
        return difference.square().sum(dim=1)

    def _pooled(self, ids: list[list[int]]) -> Any:
        """Return (B, hidden) of B token rows."""
        model = self.student.model
        batch = model.tokenizer.pad({"input_ids": ids}, return_tensors="pt", verbose=False).to(self._device)
        states = model.transformer(**batch).last_hidden_state  # (B, L, hidden)
        return pool(states, batch["attention_mask"], self.student.source.pooling)

    def _vectors(self, pooled: Any) -> Any:
        """Return (B, W) unit vectors."""
        import torch

        for layer in self.student.model.dense:
            pooled = layer(pooled)
        return torch.nn.functional.normalize(pooled, dim=1)

    def _all_pooled(self, ids: list[list[int]]) -> Any:
        """Return (n, hidden) without gradients, in the order of `ids`."""
        import torch

        order = sorted(range(len(ids)), key=lambda n: -len(ids[n]))
        size = self._settings.batch_size
        with torch.no_grad():
            parts = [self._pooled([ids[n] for n in order[at : at + size]]) for at in range(0, len(ids), size)]
        return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(self._device)]

    def solve(self) -> float:
        """Put the best linear layer after pooling, and return the held-out loss."""
        import torch

        pooled, held = self._all_pooled(self._ids), self._all_pooled(self._held_ids)
        x, y = pooled.cpu().double(), self._goal.cpu().double()
        x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
        inner, cross = (x - x_mean).T @ (x - x_mean), (x - x_mean).T @ (y - y_mean)
        found: list[tuple[float, Student]] = []
        for ridge in RIDGES:
            penalty = ridge * inner.diagonal().mean().clamp(min=1e-30) * torch.eye(len(inner), dtype=x.dtype)
            weight = torch.linalg.solve(inner + penalty, cross).T  # (W, hidden)
            student = with_dense(self.student, weight.float(), (y_mean - weight @ x_mean).float())
            with torch.no_grad():
                vectors = torch.nn.functional.normalize(student.model.dense[0](held), dim=1)
                found.append((float(self._squares(vectors - self._held_goal).mean()) / self._scale, student))
        loss, self.student = min(found, key=lambda pair: pair[0])
        return loss

    def evaluate(self) -> tuple[float, float]:
        """Return loss and mean cosine on the held-out texts."""
        import torch

        with torch.no_grad():
            vectors = self._vectors(self._all_pooled(self._held_ids))
            loss = float(self._squares(vectors - self._held_goal).mean()) / self._scale
            return loss, float((vectors * self._held_goal).sum(dim=1).mean())

    def steps(self, epochs: int) -> Callable[[], None]:
        """Return what takes a step down the gradients."""
        import torch

        model = self.student.model
        model.transformer.get_input_embeddings().weight.requires_grad_(
            False
        )  # words that no text holds would stay behind
        weights = [
            value
            for part in (model.transformer, *model.dense)
            for value in part.parameters()
            if value.requires_grad
        ]
        optimizer = torch.optim.AdamW(weights, self._settings.learning_rate, weight_decay=0.01)
        total = max(1, epochs * self.batches)
        warm = max(1, round(WARMUP * total))

        def share(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, total - warm))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)

        def step() -> None:
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def epoch(self, rng: np.random.Generator, step: Callable[[], None], done: Callable[[int], Any]) -> None:
        """Go once through all texts."""
        for rows in self._shuffled(rng):
            vectors = self._vectors(self._pooled([self._ids[n] for n in rows]))
            loss = self._squares(vectors - self._goal[rows]).mean() / self._scale
            loss.backward()
            step()
            done(1)

    def _shuffled(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """Yield the rows of each batch: random ones, of similar length."""
        order, size = rng.permutation(len(self._ids)), self._settings.batch_size
        lengths = np.array([len(row) for row in self._ids])
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), size * BUCKET):
            bucket = order[start : start + size * BUCKET]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            batches += [bucket[at : at + size] for at in range(0, len(bucket), size)]
        for n in rng.permutation(len(batches)):
            yield batches[n].tolist()

    def state(self) -> list[dict[str, Any]]:
        """Return copies of all weights."""
        model = self.student.model
        return [
            {name: value.detach().cpu().clone() for name, value in part.state_dict().items()}
            for part in (model.transformer, *model.dense)
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Put back what `state` returned."""
        model = self.student.model
        for part, values in zip((model.transformer, *model.dense), state, strict=True):
            part.load_state_dict(values)
