"""Hits that bring the chunks around them: found by a small chunk, read with what stands beside it.

Small units are found better (Chen et al. 2023, https://arxiv.org/abs/2312.06648), larger ones say
more; LlamaIndex calls this sentence window, LangChain parent documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.retrieval.base import Built, Retriever, asked, nothing, places, ranked
from ragdemo.types import Chunk, Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus


class Neighbours:
    """Score: the best inner score among the chunks that a passage holds. Hits whose surroundings
    touch become one passage, in reading order, so there may be fewer than k and none repeats
    text. A joined passage is no chunk of the corpus: nothing can be wrapped around this one.
    """

    def __init__(self, inner: Retriever, *, around: int = 1, name: str = "neighbours") -> None:
        """`around`: chunks before and after a hit, of the same document."""
        if around < 0:
            raise RagdemoError(f"A hit can bring 0 or more chunks around it, got {around}.")
        self.inner = inner
        self.corpus: Corpus = inner.corpus
        self.name = name
        self._around = around
        self._groups = Built(self.corpus, _groups)

    def search(self, question: str, k: int) -> list[Hit]:
        if not asked(question, k):
            return []
        hits = self.inner.search(question, k)
        found = dict(zip(places(self.corpus, hits), hits, strict=True))
        passages = []
        for first, last in self._windows(sorted(found)):
            inside = [found[place] for place in range(first, last + 1) if place in found]
            best = max(inside, key=lambda hit: hit.score)
            parts = {**best.parts, "chunks": float(last - first + 1), "hits": float(len(inside))}
            passages.append((best.rank, self._joined(first, last), best.score, parts))
        passages.sort(key=lambda passage: passage[0])
        return ranked((passage[1:] for passage in passages), self.name)

    def scores(self, question: str) -> np.ndarray:
        """For every chunk the best inner score among it and the chunks around it."""
        inner = self.inner.scores(question) if asked(question) else nothing(self.corpus)
        group, best = self._groups(), inner.copy()
        for step in range(1, min(self._around, len(inner) - 1) + 1):
            same = group[step:] == group[:-step]
            np.maximum(best[:-step], inner[step:], out=best[:-step], where=same)
            np.maximum(best[step:], inner[:-step], out=best[step:], where=same)
        return best

    def _windows(self, found: Sequence[int]) -> list[tuple[int, int]]:
        """First and last place of each passage around the ascending places `found`."""
        group = self._groups()
        windows: list[tuple[int, int]] = []
        for place in found:
            near = range(max(0, place - self._around), min(len(group), place + self._around + 1))
            near = [p for p in near if group[p] == group[place]]
            first, last = near[0], near[-1]
            if windows and windows[-1][1] + 1 >= first and group[windows[-1][1]] == group[place]:
                first = windows.pop()[0]
            windows.append((first, last))
        return windows

    def _joined(self, first: int, last: int) -> Chunk:
        chunks = self.corpus.chunks[first : last + 1]
        if len(chunks) == 1:
            return chunks[0]
        document = self.corpus.documents[chunks[0].document_id]
        start, end = min(c.start for c in chunks), max(c.end for c in chunks)
        headings = dict.fromkeys(c.heading for c in chunks if c.heading)
        joined = Chunk(
            id=f"{document.id[:16]}:{start}-{end}",
            document_id=document.id,
            document_name=document.name,
            text=document.text[start:end],
            start=start,
            end=end,
            pages=tuple(sorted({page for c in chunks for page in c.pages})),
            heading=next(iter(headings), ""),
            context=chunks[0].context,  # a table's header row, where the passage begins inside it
        )
        tokens = self.corpus.encoder.count_tokens([joined.content])[0]
        return replace(joined, tokens=tokens)


def _groups(chunks: Sequence[Chunk]) -> np.ndarray:
    """[n] the same number for chunks of the same document."""
    number: dict[str, int] = {}
    return np.array([number.setdefault(c.document_id, len(number)) for c in chunks], dtype=np.int64)
