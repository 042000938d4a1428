"""What a retriever offers, and the few steps all of them share. Knows no particular retriever."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from ragdemo.errors import ModelUnavailable, RagdemoError
from ragdemo.text import clean
from ragdemo.types import Chunk, Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

T = TypeVar("T")


class Retriever(Protocol):
    """Scores of different retrievers are not comparable; ranks are.

    A question without a letter or digit asks for nothing and finds nothing.
    """

    name: str
    corpus: Corpus

    def search(self, question: str, k: int) -> list[Hit]:
        """At most `k` hits, best first; fewer where it finds fewer. ValueError for k below 1."""
        ...

    def scores(self, question: str) -> np.ndarray:
        """[len(corpus.chunks)] float32 in the order of `corpus.chunks`; -inf for a passage it does
        not find: one that shares no word with the question, or is no candidate of a wrapper."""
        ...


class Built(Generic[T]):
    """Something made from a corpus's chunks: when first asked for, and again once they changed.

    The fingerprint alone would miss a file taken out and put back, which moves its chunks to the
    end; comparing lists of the same objects costs next to nothing.
    """

    def __init__(self, corpus: Corpus, make: Callable[[Sequence[Chunk]], T]) -> None:
        self._corpus = corpus
        self._make = make
        self._made: tuple[str, Sequence[Chunk], T] | None = None

    def __call__(self) -> T:
        fingerprint, chunks = self._corpus.fingerprint, self._corpus.chunks
        made = self._made
        if made is None or made[0] != fingerprint or not _same(made[1], chunks):
            made = self._made = (fingerprint, chunks, self._make(chunks))
        return made[2]


def _same(held: Sequence[Chunk], now: Sequence[Chunk]) -> bool:
    return held is now or held == now


def asked(question: str, k: int = 1) -> str:
    """The question without what crashes tokenizers, or "" where it asks for nothing."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    text = clean(question)[0].strip()
    return text if any(map(str.isalnum, text)) else ""


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the `k` highest finite scores, best first, equal ones in their order: [k] or fewer.

    [0.2, nan, 0.9, -inf, 0.2], 2 -> [2, 0]
    """
    places = np.arange(len(scores))
    if k < len(scores):
        best = np.partition(scores, len(scores) - k)[-k:]  # the k-th highest first; NaN is highest
        if not best.max() < np.inf:
            return top(np.where(np.isfinite(scores), scores, -np.inf), k)
        places = np.flatnonzero(scores >= best[0])
    places = places[np.isfinite(scores[places])]
    return places[np.argsort(-scores[places], kind="stable")][:k]


def top_positive(scores: np.ndarray, k: int) -> np.ndarray:
    """`top` of those above 0. Picking from many equal zeros is slow, so they are left out first,
    which in turn would be waste where most are above 0."""
    positive = scores > 0
    if np.count_nonzero(positive) > max(k, len(scores) // 2):
        return top(scores, k)
    above = np.flatnonzero(positive)
    return above[top(scores[above], k)]


def nothing(corpus: Corpus) -> np.ndarray:
    """[n] scores that find no passage."""
    return np.full(len(corpus.chunks), -np.inf, dtype=np.float32)


def ranked(found: Iterable[tuple[Chunk, float, dict[str, float]]], name: str) -> list[Hit]:
    """Hits from (chunk, score, parts), best first."""
    return [
        Hit(chunk, float(score), rank, name, parts)
        for rank, (chunk, score, parts) in enumerate(found, start=1)
    ]


def places(corpus: Corpus, hits: Sequence[Hit]) -> list[int]:
    """Where the hits' chunks stand in `corpus.chunks`."""
    try:
        return [corpus.number(hit.chunk.id) for hit in hits]
    except KeyError:
        raise RagdemoError(
            "A passage here is joined from several chunks, so it can't be combined further. "
            "Put 'neighbours' around the other retriever, not inside it."
        ) from None


def scattered(corpus: Corpus, hits: Sequence[Hit]) -> np.ndarray:
    """[n] the hits' scores in their chunks' places, -inf in the others."""
    scores = nothing(corpus)
    scores[places(corpus, hits)] = [hit.score for hit in hits]
    return scores


def finite(values: Sequence[float] | np.ndarray, count: int, source: str) -> np.ndarray:
    """`values` as float32 [count], or ModelUnavailable: NaN would put passages in any order."""
    row = np.asarray(values, dtype=np.float32)
    if row.shape != (count,) or not np.isfinite(row).all():
        raise ModelUnavailable(
            f"{source} returned scores that are not finite numbers. Choose another model."
        )
    return row
