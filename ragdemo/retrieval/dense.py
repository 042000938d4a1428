"""Nearest chunks by sentence embeddings (Karpukhin et al. 2020, https://arxiv.org/abs/2004.04906).

DPR is this retriever with its own two-tower encoder; an approximate index is this retriever with
another store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.embedding import Encoder, Progress
from ragdemo.errors import IndexMismatch
from ragdemo.retrieval.base import Built, asked, finite, nothing, ranked
from ragdemo.stores.base import VectorStore
from ragdemo.types import Chunk, Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus


class Dense:
    """Score: inner product of question and passage. With vectors of length 1 that is the cosine,
    -1..1, and near the floor it is noise; DPR's has no fixed range. A store that measures L2 gives
    the negative squared distance instead, in the same order for vectors of length 1.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        encoder: Encoder | None = None,
        store: VectorStore | None = None,
        progress: Progress | None = None,
        name: str = "dense",
    ) -> None:
        """`encoder` reads the corpus anew, once, at the first question or `prepare`; without it
        the corpus's own vectors are used. `store` is searched in place of the corpus's own: it
        holds the same vectors under the chunks' ids already, or is empty and gets them.
        """
        self.corpus = corpus
        self.name = name
        self.encoder = encoder or corpus.encoder
        self._part = getattr(self.encoder, "similarity", "cosine")
        self._own = encoder is not None
        self._progress = progress
        self._store = store
        self._view = Built(corpus, self._read)
        self._held: _View | None = None  # the view before, so that only what is new gets encoded

    def prepare(self) -> None:
        """Encode and index now what the first question would otherwise wait for."""
        if self._own or self._store is not None:
            self._view()

    def search(self, question: str, k: int) -> list[Hit]:
        if not (text := asked(question, k)) or not self.corpus.chunks:
            return []
        query = self._query(text)
        if self._own or self._store is not None:
            view = self._view()
            rows = self._store.search(query[None, :], min(k, len(view.chunks)))[0]
            try:
                found = [(view.chunks[i], s) for i, s in rows]
            except KeyError:
                raise _apart(store=len(self._store), chunks=len(view.chunks)) from None
        else:
            found = self.corpus.search(query, min(k, len(self.corpus.chunks)))
        return ranked(((c, s, {self._part: s}) for c, s in found), self.name)

    def scores(self, question: str) -> np.ndarray:
        """Exact, also where the store is approximate."""
        if not (text := asked(question)) or not self.corpus.chunks:
            return nothing(self.corpus)
        view, query = self._view(), self._query(text)
        inner = view.vectors @ query  # [n]
        store = self._store if self._store is not None else self.corpus.store
        if getattr(store, "kind", "") == "flat L2":
            return 2 * inner - view.squares - query @ query
        return inner

    def _query(self, text: str) -> np.ndarray:
        row = self.encoder.encode_queries([text])[0]
        return finite(row, self.encoder.dimension, f"The encoder {self.encoder.name}")

    def _read(self, chunks: Sequence[Chunk]) -> _View:
        vectors = self._encoded(chunks) if self._own else self.corpus.vectors
        view = _View({c.id: c for c in chunks}, vectors)
        if self._own and self._store is None:
            from ragdemo.stores.faiss import FaissStore

            self._store = FaissStore(self.encoder.dimension)
        if self._store is not None:
            self._fill(self._store, view)
        self._held = view
        return view

    def _encoded(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """[n, dimension]; a chunk encoded for the view before is not encoded again."""
        known = self._held.place if self._held else {}
        vectors = np.zeros((len(chunks), self.encoder.dimension), dtype=np.float32)
        new = [row for row, c in enumerate(chunks) if c.id not in known]
        for row, c in enumerate(chunks):
            if c.id in known:
                vectors[row] = self._held.vectors[known[c.id]]
        if new:
            texts = [chunks[row].content for row in new]
            vectors[new] = self.encoder.encode_passages(texts, self._progress)
        return vectors

    def _fill(self, store: VectorStore, view: _View) -> None:
        if self._held is None and len(store) == len(view.chunks):
            return  # filled by whoever made it
        if self._held is None and len(store):
            raise _apart(store=len(store), chunks=len(view.chunks))
        before = self._held.chunks if self._held else {}
        store.remove([i for i in before if i not in view.chunks])
        new = [(row, c) for row, c in enumerate(view.chunks.values()) if c.id not in before]
        if new:
            rows = view.vectors[[row for row, _ in new]]
            documents = [c.document_id for _, c in new]
            store.add([c.id for _, c in new], rows, documents)


@dataclass(slots=True)
class _View:
    """The corpus as this retriever's encoder sees it."""

    chunks: dict[str, Chunk]  # by id, in the order of the corpus
    vectors: np.ndarray  # [n, dimension]
    place: dict[str, int] = field(init=False)
    squares: np.ndarray = field(init=False)  # [n] squared lengths

    def __post_init__(self) -> None:
        self.place = {name: place for place, name in enumerate(self.chunks)}
        self.squares = np.einsum("nd,nd->n", self.vectors, self.vectors)


def _apart(*, store: int, chunks: int) -> IndexMismatch:
    return IndexMismatch(
        f"The store with its {store} vectors and the documents with their {chunks} passages do not "
        "belong together. Use an empty store."
    )
