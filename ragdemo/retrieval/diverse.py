"""Passages that are relevant and differ from each other: maximal marginal relevance (Carbonell &
Goldstein 1998, https://doi.org/10.1145/290941.291025).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.retrieval.base import Retriever, asked, places, ranked, scattered
from ragdemo.retrieval.weighted import min_max
from ragdemo.types import Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

DEPTH = 50  # candidates: every pair of them is compared


def mmr(
    relevance: np.ndarray, similarity: np.ndarray, trade: float
) -> list[tuple[int, float, float]]:
    """Of `relevance` [m] and `similarity` [m, m] the order of choice: (item, value, redundancy),
    value = trade * relevance - (1 - trade) * redundancy, redundancy the highest similarity to
    one chosen before, and never below 0 so that values only fall.
    """
    redundancy = np.zeros(len(relevance), dtype=np.float32)
    free = np.ones(len(relevance), dtype=bool)
    chosen = []
    while free.any():
        values = np.where(free, trade * relevance - (1 - trade) * redundancy, -np.inf)
        best = int(values.argmax())
        chosen.append((best, float(values[best]), float(redundancy[best])))
        free[best] = False
        redundancy = np.maximum(redundancy, similarity[best])
    return chosen


class Diverse:
    """Score: trade * relevance - (1 - trade) * redundancy, at most `trade`. Relevance is the inner
    score scaled to 0..1 over the candidates, redundancy the highest cosine to a passage above.
    """

    def __init__(
        self, inner: Retriever, *, trade: float = 0.7, depth: int = DEPTH, name: str = "mmr"
    ) -> None:
        """`trade`: the paper's lambda, from 0 (only different) to 1 (the inner ranking).
        `depth`: how many of the inner ranking are candidates."""
        if not 0 <= trade <= 1:
            raise RagdemoError(f"MMR needs a trade-off in 0..1, got {trade}.")
        self.inner = inner
        self.corpus: Corpus = inner.corpus
        self.name = name
        self._trade = trade
        self._depth = depth

    def search(self, question: str, k: int) -> list[Hit]:
        return self._chosen(question, max(k, self._depth))[:k] if asked(question, k) else []

    def scores(self, question: str) -> np.ndarray:
        chosen = self._chosen(question, self._depth) if asked(question) else []
        return scattered(self.corpus, chosen)

    def _chosen(self, question: str, depth: int) -> list[Hit]:
        hits = self.inner.search(question, depth)
        if not hits:
            return []
        rows = self.corpus.vectors[places(self.corpus, hits)]
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        score = np.array([hit.score for hit in hits], dtype=np.float32)
        relevance = min_max(score)
        if not relevance.any():  # all alike
            relevance = np.ones_like(score)
        return ranked(
            (
                (
                    hits[i].chunk,
                    value,
                    {
                        self.inner.name: hits[i].score,
                        "relevance": float(relevance[i]),
                        "redundancy": redundancy,
                    },
                )
                for i, value, redundancy in mmr(relevance, rows @ rows.T, self._trade)
            ),
            self.name,
        )
