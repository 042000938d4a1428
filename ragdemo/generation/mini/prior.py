"""Which sentence answers, as the retriever's encoder sees it: a second opinion for the selector.

log p(sentence | question) up to a constant is a weight times the score of its passage, as in RAG's
marginalisation (Lewis et al. 2020, https://arxiv.org/abs/2005.11401), plus another times its own
cosine with the question. No question changes a sentence's vector: it is kept as long as its chunk
lives, and may be worked out before anybody asks (`learn`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragdemo.embedding import Encoder
from ragdemo.generation.mini.source import passage_of
from ragdemo.text import sentences
from ragdemo.types import Chunk, Hit


@dataclass(frozen=True, slots=True)
class Candidates:
    """A hit, and how many of its sentences the network reads: the first so many."""

    hit: Hit
    count: int


class Prior:
    """Weighs sentences for a batch of questions."""

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
        asked = self._encoder.encode_queries(questions)
        self.learn([c.hit.chunk for row in rows for c in row])
        for question, row, prior in zip(asked, rows, priors, strict=True):
            for c, part in zip(row, prior, strict=True):
                part += by_sentence * (self._known[c.hit.chunk][: c.count] @ question)
        return priors

    def learn(self, chunks: Sequence[Chunk]) -> None:
        """Work out the vectors of all their sentences, where they are not known."""
        new = list({id(c): c for c in chunks if c not in self._known}.values())
        if self._encoder is None or not new:
            return
        said = [_said(chunk) for chunk in new]
        vectors = self._encoder.encode_passages([s for own in said for s in own])
        # half precision: a passage's sentences are ten times as many as its own vector
        each = np.split(vectors.astype(np.float16), np.cumsum([len(own) for own in said])[:-1])
        for chunk, own in zip(new, each, strict=True):
            self._known[chunk] = own.copy()


def _said(chunk: Chunk) -> list[str]:
    text, _ = passage_of(chunk)
    return [text[s.start : s.end] for s in sentences(text)]


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
