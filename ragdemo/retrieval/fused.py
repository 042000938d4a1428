"""Several retrievers' rankings, joined without looking at their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.retrieval.base import Retriever, asked, ranked, scattered
from ragdemo.types import Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

RRF_K = 60  # the paper's own: small enough that the first places count, and results hardly move
DEPTH = 100  # places of each ranking that count: beyond them a place adds little


def reciprocal_ranks(rankings: Sequence[Sequence[str]], k: int = RRF_K) -> list[dict[str, float]]:
    """For each ranking, item -> 1 / (k + rank); an item's fused score is the sum (Cormack et al.
    2009, https://doi.org/10.1145/1571941.1572114).

    [["a", "b"], ["b"]] -> [{"a": 1/61, "b": 1/62}, {"b": 1/61}]
    """
    return [
        {item: 1 / (k + rank) for rank, item in enumerate(ranking, start=1)} for ranking in rankings
    ]


def fuse(named: Sequence[tuple[str, Sequence[Hit]]], name: str, k: int = RRF_K) -> list[Hit]:
    """Several (name, hits) as one ranking; `parts` tells what each added. Of equal scores the one
    that an earlier ranking found first comes first."""
    chunks = {hit.chunk.id: hit.chunk for _, hits in named for hit in hits}
    shares = reciprocal_ranks([[h.chunk.id for h in hits] for _, hits in named], k)
    parts = {
        i: {label: s[i] for (label, _), s in zip(named, shares, strict=True) if i in s}
        for i in chunks
    }
    order = sorted(chunks, key=lambda i: -sum(parts[i].values()))
    return ranked(((chunks[i], sum(parts[i].values()), parts[i]) for i in order), name)


class Fused:
    """Score: the sum of 1 / (60 + rank) over the retrievers, at most 1/61 for each of them. It
    says nothing of how well a passage fits: a nonsense question scores as high as any other.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        *,
        k: int = RRF_K,
        depth: int = DEPTH,
        name: str = "rrf",
    ) -> None:
        """`k` damps the first places, `depth` is how far down each ranking is read."""
        self.retrievers = one_corpus(retrievers)
        self.corpus: Corpus = retrievers[0].corpus
        self.name = name
        self._labels = labels(retrievers)
        self._k = k
        self._depth = depth

    def search(self, question: str, k: int) -> list[Hit]:
        if not asked(question, k):
            return []
        return self._fused(question, max(k, self._depth))[:k]

    def scores(self, question: str) -> np.ndarray:
        """-inf for what every ranking has below `depth`."""
        found = self._fused(question, self._depth) if asked(question) else []
        return scattered(self.corpus, found)

    def _fused(self, question: str, depth: int) -> list[Hit]:
        found = [
            (n, r.search(question, depth))
            for n, r in zip(self._labels, self.retrievers, strict=True)
        ]
        return fuse(found, self.name, self._k)


def labels(retrievers: Sequence[Retriever]) -> list[str]:
    """Names for `parts`, told apart by number: dense, bm25, dense 2."""
    seen: dict[str, int] = {}
    found = []
    for r in retrievers:
        seen[r.name] = seen.get(r.name, 0) + 1
        found.append(r.name if seen[r.name] == 1 else f"{r.name} {seen[r.name]}")
    return found


def one_corpus(retrievers: Sequence[Retriever]) -> tuple[Retriever, ...]:
    """The retrievers, all of one corpus."""
    if not retrievers or any(r.corpus is not retrievers[0].corpus for r in retrievers):
        raise ValueError("needs one or more retrievers, all of the same corpus")
    return tuple(retrievers)
