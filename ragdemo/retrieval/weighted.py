"""Several retrievers' scores, brought to one scale and added (Bruch et al. 2022,
https://arxiv.org/abs/2210.11934, compare this with reciprocal rank fusion).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.retrieval.base import Retriever, asked, nothing, ranked, top
from ragdemo.retrieval.fused import labels, one_corpus
from ragdemo.types import Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus


def min_max(scores: np.ndarray) -> np.ndarray:
    """[n] -> [n] in 0..1; equal scores all become 0. [2, 4, 3] -> [0, 1, 0.5]"""
    return np.zeros_like(scores) if _equal(scores) else (scores - scores.min()) / np.ptp(scores)


def z_scores(scores: np.ndarray) -> np.ndarray:
    """[n] -> [n] with mean 0 and standard deviation 1; equal scores all become 0."""
    return np.zeros_like(scores) if _equal(scores) else (scores - scores.mean()) / scores.std()


def _equal(scores: np.ndarray) -> bool:
    """Also where rounding alone tells them apart, which scaling would blow up to 0 and 1."""
    return bool(np.ptp(scores) <= 1e-6 * max(1.0, float(np.abs(scores).max())))


SCALES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"min-max": min_max, "z": z_scores}


class Weighted:
    """Score: the weighted mean of the retrievers' scores, each scaled over all passages of the
    corpus for this question. With "min-max" 0..1, with "z" standard deviations above the mean. A
    nonsense question's best passage gets as high a score as any other's.

    A passage one retriever does not find counts as that retriever's lowest (0 for word weights);
    one that none finds is not found here.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        weights: Sequence[float] | None = None,
        *,
        scale: str = "min-max",
        name: str = "weighted",
    ) -> None:
        """`weights`, one a retriever and not negative, are divided by their sum; equal without."""
        self.retrievers = one_corpus(retrievers)
        weights = [1.0] * len(retrievers) if weights is None else list(weights)
        if scale not in SCALES:
            raise RagdemoError(f"Unknown scale {scale!r}: choose from {', '.join(SCALES)}.")
        if len(weights) != len(retrievers) or not all(0 <= w < np.inf for w in weights):
            raise RagdemoError(
                f"Weighted scores need one weight of 0 or more for each of {len(retrievers)} "
                f"retrievers, got {weights}."
            )
        if not sum(weights):
            raise RagdemoError("All weights are 0. Give at least one retriever some weight.")
        self.corpus: Corpus = retrievers[0].corpus
        self.name = name
        self._labels = labels(retrievers)
        self._weights = np.array(weights, dtype=np.float32) / np.float32(sum(weights))
        self._scale = SCALES[scale]

    def search(self, question: str, k: int) -> list[Hit]:
        if not asked(question, k):
            return []
        parts = self._parts(question)
        scores = _sum(parts)
        chunks = self.corpus.chunks
        return ranked(
            (
                (chunks[p], scores[p], dict(zip(self._labels, parts[:, p].tolist(), strict=True)))
                for p in top(scores, k)
            ),
            self.name,
        )

    def scores(self, question: str) -> np.ndarray:
        return _sum(self._parts(question)) if asked(question) else nothing(self.corpus)

    def _parts(self, question: str) -> np.ndarray:
        """[retrievers, n] weighted; a column of NaN for a passage that none finds."""
        raw = [r.scores(question) for r in self.retrievers]
        found = np.isfinite(raw)  # [retrievers, n]
        parts = np.full(found.shape, np.nan, dtype=np.float32)
        for part, weight, r, row, known in zip(
            parts, self._weights, self.retrievers, raw, found, strict=True
        ):
            if known.any():
                lowest = getattr(r, "absent", row[known].min())
                part[:] = weight * self._scale(np.where(known, row, np.float32(lowest)))
            else:
                part[:] = 0.0
        parts[:, ~found.any(0)] = np.nan
        return parts


def _sum(parts: np.ndarray) -> np.ndarray:
    return np.nan_to_num(parts.sum(0), nan=-np.inf)
