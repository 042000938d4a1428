"""BM25 (Robertson & Zaragoza 2009, https://doi.org/10.1561/1500000019), computed by bm25s
(Lù 2024, https://arxiv.org/abs/2407.03618), which weighs every term in every passage beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.retrieval.base import Built, asked, nothing, ranked, top_positive
from ragdemo.retrieval.terms import Terms, shared
from ragdemo.types import Chunk, Hit

if TYPE_CHECKING:
    from bm25s import BM25 as Index  # noqa: N811

    from ragdemo.corpus import Corpus

# Kamphuis et al. 2020, https://doi.org/10.1007/978-3-030-45442-5_4, compare them
METHODS = ("lucene", "robertson", "atire", "bm25l", "bm25+")


class BM25:
    """Score: the sum of the weights of the words a passage shares with the question, above 0 and
    without an upper end; comparable between passages for one question only. A passage that shares
    no word is not found. `parts` holds each shared word's weight.
    """

    absent = 0.0  # the score of a passage it does not find

    def __init__(
        self,
        corpus: Corpus,
        *,
        k1: float = 1.5,
        b: float = 0.75,
        method: str = "lucene",
        language: str = "english",
        name: str = "bm25",
    ) -> None:
        """`k1`: how much a word's second and third occurrence add, 0 (nothing) to about 3.
        `b`: how much long passages are held back, 0 (not) to 1. `method`: one of `METHODS`; they
        differ in the formula for rare words. bm25l and bm25+ lack the constant that they give
        every passage. `language`: whose word endings are cut, "" for none.
        """
        if method not in METHODS:
            raise RagdemoError(f"Unknown BM25 method {method!r}: choose from {', '.join(METHODS)}.")
        if k1 < 0 or not 0 <= b <= 1:
            raise RagdemoError(f"BM25 needs k1 of 0 or more and b in 0..1, got {k1} and {b}.")
        self.corpus = corpus
        self.name = name
        self.terms = Terms(language)
        self._options = {"k1": k1, "b": b, "method": method}
        self._index = Built(corpus, self._build)

    def search(self, question: str, k: int) -> list[Hit]:
        text = asked(question, k)
        if (index := self._index()) is None:
            return []
        numbers, spoken = self.terms.known(text, index.vocab_dict)
        scores = index.get_scores_from_ids(numbers)
        found = top_positive(scores, k)
        columns = (index.scores[name] for name in ("data", "indices", "indptr"))
        parts = shared(*columns, Counter(numbers), spoken, found)
        chunks = self.corpus.chunks
        return ranked(
            ((chunks[p], scores[p], part) for p, part in zip(found, parts, strict=True)), self.name
        )

    def scores(self, question: str) -> np.ndarray:
        if (index := self._index()) is None:
            return nothing(self.corpus)
        numbers, _ = self.terms.known(asked(question), index.vocab_dict)
        scores = index.get_scores_from_ids(numbers)
        return np.where(scores > 0, scores, np.float32(-np.inf))

    def _build(self, chunks: Sequence[Chunk]) -> Index | None:
        from bm25s import BM25 as Index  # noqa: N811

        numbered, vocabulary = self.terms.numbered([c.content for c in chunks])
        if not vocabulary:
            return None
        index = Index(**self._options)
        index.index((numbered, vocabulary), create_empty_token=False, show_progress=False)
        # what bm25l and bm25+ give every passage for a word it lacks: changes no order, and would
        # make a passage without any of the words look found
        index.nonoccurrence_array = None
        return index
