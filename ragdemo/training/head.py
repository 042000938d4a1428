"""A linear head on an encoder whose own weights stay as they are: trained in seconds.

    vector -> (I + D) vector, length 1 again

D begins at zero, so an untrained head changes nothing, and weight decay pulls back to that. With
the head on the questions alone the vectors of the passages, and so the index, stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder, Progress, TokenVectors
from ragdemo.embedding.base import checked
from ragdemo.training.dual import DualEncoder


class Head(nn.Module):
    """[n, d] -> [n, d], rows of length 1 where `unit`."""

    def __init__(self, dimension: int, *, unit: bool = True) -> None:
        super().__init__()
        self.change = nn.Linear(dimension, dimension, bias=False)
        nn.init.zeros_(self.change.weight)
        self.unit = unit

    def forward(self, vectors: Tensor) -> Tensor:
        moved = vectors + self.change(vectors)
        return F.normalize(moved, dim=-1) if self.unit else moved

    @property
    def matrix(self) -> np.ndarray:
        """[d, d] float32: what a column vector is multiplied by."""
        weight = self.change.weight.detach().float()
        return (weight + torch.eye(len(weight))).numpy()


class Headed:
    """An `Encoder`: another one with a head behind it. The one inside may be shared: it is only
    asked, never changed."""

    def __init__(self, inner: Encoder, matrix: np.ndarray, *, questions_only: bool = False) -> None:
        """`matrix` [d, d] multiplies every vector, or those of questions only."""
        if matrix.shape != (inner.dimension, inner.dimension):
            raise ValueError(f"a head for {inner.dimension} dimensions is needed")
        self.inner = inner
        self.matrix = checked(matrix, inner.dimension, inner.dimension)
        self.questions_only = questions_only
        mark = hashlib.sha256(self.matrix.tobytes()).hexdigest()[:8]
        where = "question head" if questions_only else "head"
        self.name = f"{inner.name} + {where} {mark}"
        self.dimension, self.limit = inner.dimension, inner.limit
        self.similarity = inner.similarity
        if not questions_only and hasattr(inner, "token_vectors"):
            self.token_vectors = self._token_vectors

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.moved(self.inner.encode_queries(texts))

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        vectors = self.inner.encode_passages(texts, progress)
        return vectors if self.questions_only else self.moved(vectors)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.inner.count_tokens(texts)

    def _token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        return [
            TokenVectors(read.spans, self.moved(read.vectors))
            for read in self.inner.token_vectors(texts)
        ]

    def moved(self, vectors: np.ndarray) -> np.ndarray:
        """[n, d] of the encoder inside -> [n, d] behind the head."""
        rows = vectors @ self.matrix.T
        if self.similarity == "cosine":
            rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return checked(rows, *vectors.shape)


def refill(new: Corpus, old: Corpus, progress: Progress | None = None) -> Corpus:
    """Put the documents of `old` into the empty corpus `new`, cut as they are, with the vectors of
    its own encoder. The same encoder's are taken over, a head behind it moves them; anything else
    reads the passages anew. `progress` gets (documents done, in all)."""
    encoder = new.encoder
    headed = isinstance(encoder, Headed | DualEncoder) and encoder.inner is old.encoder
    for number, (key, document) in enumerate(old.documents.items(), start=1):
        chunks = old.chunks_of(key)
        if encoder is old.encoder:
            vectors = old.vectors_of(key)
        elif headed:
            rows = old.vectors_of(key)
            vectors = rows if encoder.questions_only else encoder.moved(rows)
        else:
            vectors = encoder.encode_passages([c.content for c in chunks])
        new.adopt(document, chunks, vectors)
        if key in old.originals:
            new.originals[key] = old.originals[key]
        if key in old.passwords:
            new.passwords[key] = old.passwords[key]
        if progress:
            progress(number, len(old.documents))
    return new
