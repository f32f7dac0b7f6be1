"""TF-IDF and a truncated SVD (latent semantic analysis): the text baseline without a language model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recworld.encoders.base import clean_texts, scatter, unit_rows
from recworld.errors import CorruptError
from recworld.logs.log import FloatArray
from recworld.seeding import child_seed
from recworld.storage import Arrays, content_hash

WIDTH = 256
TOKEN = r"(?u)\b\w+\b"


class TfidfEncoder:
    """Word counts weighted by rarity (log term frequency x smoothed idf), on their first directions.

    Words that the catalogue does not hold are ignored; a text without a known word gets the zero vector.

    The vocabulary is kept as hashes of words, so that no word of a text stands in what is stored; who has it can still test
    whether a word that they think of is in it.

    Args:
        words: (V,) the vocabulary as `hashed` gives it, in column order.
        idf: (V,) float64 weights.
        components: (W, V) float32 directions.
        plain: whether the words are themselves, as folders of earlier versions have them.
    """

    def __init__(self, words: Sequence[str], idf: Any, components: FloatArray, plain: bool = False) -> None:
        if not len(words) == len(idf) == components.shape[1]:
            raise CorruptError("The TF-IDF encoder's vocabulary and weights differ in length.")
        self.words, self._plain = list(words), plain
        self._idf = np.asarray(idf, np.float64)
        self._components = np.asarray(components, np.float32)
        self.width = len(self._components)
        self.fingerprint = content_hash("tfidf/1", "\x00".join(self.words), self._idf, self._components)
        self._vectorizer: Any = None

    @classmethod
    def fit(cls, corpus: Sequence[str], seed: int = 0) -> TfidfEncoder:
        """Learn vocabulary, weights and the W = 256 first directions from the distinct texts of `corpus`."""
        from sklearn.decomposition import TruncatedSVD

        texts = sorted({text for text in clean_texts(corpus) if text})
        vectorizer = _vectorizer(None)
        try:
            counts = vectorizer.fit_transform(texts)
        except ValueError:  # scikit-learn's way to say that no text holds a word
            return cls([], np.zeros(0), np.zeros((WIDTH, 0), np.float32))
        words = [str(word) for word in vectorizer.get_feature_names_out()]
        if len(words) <= WIDTH:  # nothing to leave out
            return cls(hashed(words), vectorizer.idf_, np.eye(WIDTH, len(words), dtype=np.float32))
        svd = TruncatedSVD(WIDTH, n_iter=7, random_state=child_seed(seed, "tfidf") % 2**32)
        components = svd.fit(counts).components_  # (min(WIDTH, texts), V)
        padding = np.zeros((WIDTH - len(components), len(words)))
        return cls(hashed(words), vectorizer.idf_, np.concatenate([components, padding]).astype(np.float32))

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return the vectors of n texts, (n, W) float32 unit rows (zero: no known word)."""
        cleaned = clean_texts(texts)
        distinct = [text for text in dict.fromkeys(cleaned) if text]
        if not distinct or not self.words:
            return np.zeros((len(cleaned), self.width), np.float32)
        if self._vectorizer is None:
            self._vectorizer = _vectorizer({word: n for n, word in enumerate(self.words)})
            if not self._plain:
                divide = self._vectorizer.build_analyzer()
                self._vectorizer.set_params(analyzer=lambda text: hashed(divide(text)))
            self._vectorizer.idf_ = self._idf
        counts = self._vectorizer.transform(distinct)  # (n, V) sparse float64, unit rows
        return scatter(cleaned, distinct, unit_rows(np.asarray(counts @ self._components.T, np.float32)))

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """Return what `from_state` needs: a JSON-ready part and named arrays."""
        arrays: Arrays = {"idf": self._idf, "components": self._components}
        return {"words": self.words, "hashed": not self._plain}, arrays

    @classmethod
    def from_state(cls, meta: Mapping[str, Any], arrays: Mapping[str, Any]) -> TfidfEncoder:
        """Rebuild an encoder from `state`."""
        return cls(meta["words"], arrays["idf"], arrays["components"], plain=not meta.get("hashed", False))


def hashed(words: Sequence[str]) -> list[str]:
    """Return 16 bytes of the SHA-256 of each word, in hexadecimal."""
    return [hashlib.sha256(word.encode()).hexdigest()[:32] for word in words]


def _vectorizer(vocabulary: dict[str, int] | None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(vocabulary=vocabulary, token_pattern=TOKEN, sublinear_tf=True)
