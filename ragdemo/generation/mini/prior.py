"""Which sentence answers, as the retriever's encoder sees it: a second opinion for the selector.

log p(sentence | question) up to a constant is a weight times the score of its passage, as in RAG's
marginalisation (Lewis et al. 2020, https://arxiv.org/abs/2005.11401), plus another times its own
cosine with the question. A chunk's sentence vectors are kept as long as the chunk itself lives:
a class that asks about the same documents would otherwise spend a third of each answer on them.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragdemo.embedding import Encoder
from ragdemo.types import Chunk, Hit, Span


@dataclass(frozen=True, slots=True)
class Candidates:
    """A hit with the sentences of it that the network reads."""

    hit: Hit
    text: str
    spans: tuple[Span, ...]  # all sentences of `text`
    count: int  # how many of them were not cut off


class Prior:
    """Weighs sentences for a batch of questions in one trip to the encoder."""

    def __init__(self, encoder: Encoder | None, passage_weight: float, sentence_weight: float):
        self._encoder = encoder if sentence_weight else None
        self._weights = passage_weight, sentence_weight
        self._known = _OfChunks()

    def __call__(
        self, questions: Sequence[str], rows: Sequence[Sequence[Candidates]]
    ) -> list[list[np.ndarray]]:
        """For each question and each of its passages, a value for each sentence read."""
        by_passage, by_sentence = self._weights
        priors = [[np.full(c.count, by_passage * c.hit.score) for c in row] for row in rows]
        if self._encoder is None or not any(rows):
            return priors
        asked = self._learn(questions, [c for row in rows for c in row])
        for question, row, prior in zip(asked, rows, priors, strict=True):
            for c, part in zip(row, prior, strict=True):
                part += by_sentence * (self._known[c.hit.chunk][: c.count] @ question)
        return priors

    def _learn(self, questions: Sequence[str], candidates: Sequence[Candidates]) -> np.ndarray:
        """The questions' unit vectors; those of all sentences are known afterwards."""
        new = {id(c.hit.chunk): c for c in candidates if c.hit.chunk not in self._known}.values()
        said = [c.text[s.start : s.end] for c in new for s in c.spans]
        asked, *vectors = np.split(
            self._encoder.encode_queries([*questions, *said]),
            np.cumsum([len(questions), *(len(c.spans) for c in new)])[:-1],
        )
        for c, own in zip(new, vectors, strict=True):
            self._known[c.hit.chunk] = own.copy()
        return asked


class _OfChunks:
    """Something for each of these very chunks, gone with it. Another visitor's chunk with the same
    text is another chunk: nothing tells whether somebody has it too."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[weakref.ref, np.ndarray]] = {}

    def __contains__(self, chunk: Chunk) -> bool:
        return id(chunk) in self._held

    def __getitem__(self, chunk: Chunk) -> np.ndarray:
        return self._held[id(chunk)][1]

    def __setitem__(self, chunk: Chunk, vectors: np.ndarray) -> None:
        key = id(chunk)
        gone = weakref.ref(chunk, lambda _: self._held.pop(key, None))
        self._held[key] = gone, vectors
