"""Text to vectors: BERT encoders with a cache, TF-IDF and id baselines, and the reduction to width D.

Importing this package loads none of torch, transformers and scikit-learn; they come in when a text has to be
encoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recworld.lazy import lazy_names

if TYPE_CHECKING:
    from recworld.encoders.base import Encoder as Encoder
    from recworld.encoders.bert import BertEncoder as BertEncoder
    from recworld.encoders.cache import CachedEncoder as CachedEncoder
    from recworld.encoders.cache import VectorCache as VectorCache
    from recworld.encoders.ids import IdEncoder as IdEncoder
    from recworld.encoders.reduction import Reduction as Reduction
    from recworld.encoders.settings import EncoderSettings as EncoderSettings
    from recworld.encoders.stream import encode_stream as encode_stream
    from recworld.encoders.tfidf import TfidfEncoder as TfidfEncoder
    from recworld.encoders.vectors import TextVectors as TextVectors
    from recworld.encoders.vectors import encode_log as encode_log

_HOMES = {
    "BertEncoder": "bert",
    "CachedEncoder": "cache",
    "Encoder": "base",
    "EncoderSettings": "settings",
    "IdEncoder": "ids",
    "Reduction": "reduction",
    "TextVectors": "vectors",
    "TfidfEncoder": "tfidf",
    "VectorCache": "cache",
    "encode_log": "vectors",
    "encode_stream": "stream",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
