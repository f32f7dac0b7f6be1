"""Texts longer than a language model reads: overlapping windows, and what is said of them.

A long text's tokens are cut into windows of ``max_length`` tokens, special tokens included; each window is encoded and
the text's vector is the mean of the windows' unit vectors, weighted by their numbers of tokens, scaled to unit length.
The first window is what `cut` alone reads; a text that fits into one window has the vector that it would have anyway.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from recworld.encoders.base import unit_rows
from recworld.logs.log import FloatArray
from recworld.progress import say

FORMAT = "chunk/1"
"""Raised whenever the same text would be divided or put together in another way."""
OVERLAP = 8
"""Two windows share one part in so many of their tokens, so that no sentence is seen in two halves only."""
SURELY = 8
"""Tokens that a model may add to those of the text: its special tokens, a space in front."""


@dataclass(frozen=True)
class Windows:
    """A long text, divided.

    Attributes:
        rows: token numbers of each window, special tokens included; the first is what cutting would leave.
        weights: tokens of the text in each window.
        lost: tokens beyond the last window.
    """

    rows: list[list[int]]
    weights: list[int]
    lost: int


def surely_fits(text: str, max_length: int) -> bool:
    """Return whether a text cannot have more than `max_length` tokens, whatever the tokenizer: each takes a byte."""
    if len(text) > max_length:
        return False
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)  # the longest form that tokenizers bring a text into
    return len(text.encode("utf-8")) + SURELY <= max_length


def divide(full: list[int], bare: list[int], max_length: int, most: int) -> Windows:
    """Divide a text's tokens into windows.

    Args:
        full: token numbers with the special tokens.
        bare: the same without.
        max_length: tokens of a window, special tokens included.
        most: windows at most.
    """
    special = len(full) - len(bare)
    before = next((n for n in range(special + 1) if full[n : n + len(bare)] == bare), special)
    head, tail = full[:before], full[before + len(bare) :]
    size = max(1, max_length - special)
    step = size - size // OVERLAP
    count = 1 + max(0, -(-(len(bare) - size) // step))
    parts = [bare[n * step : n * step + size] for n in range(min(count, most))]
    read = min(len(bare), (len(parts) - 1) * step + size)
    return Windows([head + part + tail for part in parts], [len(part) for part in parts], len(bare) - read)


def join(first: FloatArray, others: FloatArray, windows: list[Windows]) -> FloatArray:
    """Return (n, W) unit vectors of n long texts.

    Args:
        first: (n, W) vectors of the first windows.
        others: (m, W) vectors of all other windows, text by text.
        windows: the n texts, with 1 + m_t windows each, the m_t of all summing to m.
    """
    first, others = unit_rows(first), unit_rows(others)
    out = np.zeros_like(first)
    start = 0
    for n, text in enumerate(windows):
        end = start + len(text.rows) - 1
        weights = np.asarray(text.weights, np.float32)
        out[n] = weights @ np.concatenate([first[n : n + 1], others[start:end]])
        start = end
    return unit_rows(out)


class Tally:
    """Counts long texts over many calls, and says it in one line at the end.

    Args:
        max_length: tokens that the model reads at once.
        chunk: whether long texts are divided, and not cut.
    """

    def __init__(self, max_length: int, chunk: bool) -> None:
        self._max_length = max_length
        self._chunk = chunk
        self._held = 0
        self._clear()

    def _clear(self) -> None:
        self.texts = self.windows = self.bounded = self.lost = 0
        self.at_least = False

    def add(self, text: Windows, whole: bool) -> None:
        """Count a long text; `whole`: all of its characters were looked at."""
        self.texts += 1
        self.windows += len(text.rows)
        self.bounded += bool(text.lost) or not whole
        self.lost += text.lost
        self.at_least |= not whole

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Say nothing inside; say it all at the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.tell()

    def tell(self, speak: Callable[[str], None] = say) -> None:
        """Say what was counted since the last time, if anything."""
        if self._held or not self.texts:
            return
        lost = f"{'at least ' if self.at_least else ''}{self.lost} tokens"
        number = (
            f"{self.texts} text{'s are' if self.texts > 1 else ' is'} longer than {self._max_length} tokens"
        )
        if self._chunk:
            line = f"{number}: read in {self.windows} overlapping windows."
            if self.bounded:
                line += f" Of {self.bounded} of them {lost} are not read (encoder.max_windows)."
        else:
            line = f"{number}: {lost} are not read (encoder.long_texts cut)."
        self._clear()
        speak(line)


def held_tally(encoder: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which `encoder` says what it has to say of long texts once, at the end."""
    tally = getattr(encoder, "tally", None)
    return tally.held() if isinstance(tally, Tally) else contextlib.nullcontext()
