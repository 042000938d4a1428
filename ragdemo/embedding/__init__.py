"""Texts -> vectors. One `Encoder` owns a model; queries and passages may be encoded differently.

Importing this loads neither torch nor transformers; an encoder imports its own when made.
"""

from __future__ import annotations

from collections.abc import Callable

from ragdemo.embedding.base import Encoder, Progress, native_bf16
from ragdemo.embedding.dpr import DPREncoder
from ragdemo.embedding.hashing import HashingEncoder
from ragdemo.embedding.sentence import (
    MINILM,
    SentenceTransformerEncoder,
    TokenVectors,
    minilm_path,
)
from ragdemo.errors import Cancelled

ENCODERS: dict[str, Callable[[], Encoder]] = {
    MINILM: SentenceTransformerEncoder,
    "hashing": HashingEncoder,
}


def load_encoder(name: str = MINILM) -> Encoder:
    """An encoder by its name in `ENCODERS`, or any sentence-transformers folder or hub id."""
    return ENCODERS[name]() if name in ENCODERS else SentenceTransformerEncoder(name)


__all__ = [
    "ENCODERS",
    "MINILM",
    "Cancelled",
    "DPREncoder",
    "Encoder",
    "HashingEncoder",
    "Progress",
    "SentenceTransformerEncoder",
    "TokenVectors",
    "load_encoder",
    "minilm_path",
    "native_bf16",
]
