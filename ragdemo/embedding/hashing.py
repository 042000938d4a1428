"""An encoder without a model: words hashed into buckets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ragdemo.embedding.base import Progress
from ragdemo.text import content_words, words


def bucket(word: str, buckets: int) -> tuple[int, float]:
    """Where a word is counted, and with which sign."""
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    return number % buckets, 1.0 if number >> 63 else -1.0


class HashingEncoder:
    """Words hashed into a fixed number of signed buckets: no model, no download, no meaning.

    A real choice for showing what an encoder without semantics finds, and what tests use where the
    quality of the vectors doesn't matter (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206).
    """

    name = "hashing"
    limit = 512
    similarity = "cosine"

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in content_words(text) or [text]:
                place, sign = bucket(word, self.dimension)
                row[place] += sign
            length = np.linalg.norm(row)
            if length:
                row /= length
            else:  # opposite signs met in every bucket: any fixed direction will do
                row[0] = 1.0
        return rows

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        rows = self.encode_queries(texts)
        if progress:
            progress(len(texts), len(texts))
        return rows

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(words(text)) for text in texts]
