"""TF-IDF vectors compared by cosine (Salton & Buckley 1988,
https://doi.org/10.1016/0306-4573(88)90021-0), weighed by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.retrieval.base import Built, asked, nothing, ranked, top_positive
from ragdemo.retrieval.terms import Terms, shared
from ragdemo.types import Chunk, Hit

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

    from ragdemo.corpus import Corpus


class TFIDF:
    """Score: cosine of the two vectors of word weights, above 0 up to 1. A weight is the word's
    count times ln((1 + n) / (1 + passages with it)) + 1. A passage that shares no word is not
    found. `parts` holds what each shared word adds to the cosine.
    """

    absent = 0.0  # the score of a passage it does not find

    def __init__(
        self,
        corpus: Corpus,
        *,
        sublinear: bool = False,
        language: str = "english",
        name: str = "tfidf",
    ) -> None:
        """`sublinear` counts a word 1 + ln(count) times; `language` as for BM25."""
        self.corpus = corpus
        self.name = name
        self.terms = Terms(language)
        self._sublinear = sublinear
        self._index = Built(corpus, self._build)

    def search(self, question: str, k: int) -> list[Hit]:
        text = asked(question, k)
        if (index := self._index()) is None:
            return []
        query, spoken = self._query(index, text)
        scores = (query @ index.weights).toarray()[0]
        found = top_positive(scores, k)
        rows = index.weights
        asked_for = dict(zip(query.indices.tolist(), query.data.tolist(), strict=True))
        parts = shared(rows.data, rows.indices, rows.indptr, asked_for, spoken, found)
        chunks = self.corpus.chunks
        return ranked(
            ((chunks[p], scores[p], part) for p, part in zip(found, parts, strict=True)), self.name
        )

    def scores(self, question: str) -> np.ndarray:
        if (index := self._index()) is None:
            return nothing(self.corpus)
        query, _ = self._query(index, asked(question))
        scores = (query @ index.weights).toarray()[0]
        return np.where(scores > 0, scores, np.float32(-np.inf))

    def _query(self, index: _Index, text: str) -> tuple[csr_matrix, dict[int, str]]:
        """The question's weights [1, terms], and the question's word for each of its terms."""
        numbers, spoken = self.terms.known(text, index.vocabulary)
        return index.weigh.transform(_counts([numbers], len(index.vocabulary))), spoken

    def _build(self, chunks: Sequence[Chunk]) -> _Index | None:
        from sklearn.feature_extraction.text import TfidfTransformer

        numbered, vocabulary = self.terms.numbered([c.content for c in chunks])
        if not vocabulary:
            return None
        counts = _counts(numbered, len(vocabulary))
        weigh = TfidfTransformer(sublinear_tf=self._sublinear).fit(counts)
        # one row a term, so that a question reads only the rows of its own terms
        return _Index(weigh, weigh.transform(counts).T.tocsr(), vocabulary)


@dataclass(frozen=True, slots=True)
class _Index:
    weigh: TfidfTransformer
    weights: csr_matrix  # [terms, n], columns of length 1
    vocabulary: dict[str, int]


def _counts(numbered: Sequence[Sequence[int]], terms: int) -> csr_matrix:
    """[texts, terms] float32: how often each text has each term."""
    from scipy.sparse import csr_matrix

    ends = np.cumsum([0, *map(len, numbered)])
    columns = np.fromiter(chain.from_iterable(numbered), dtype=np.int32, count=int(ends[-1]))
    made = csr_matrix(
        (np.ones(len(columns), dtype=np.float32), columns, ends), shape=(len(numbered), terms)
    )
    made.sum_duplicates()
    return made
