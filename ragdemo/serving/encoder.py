"""An encoder shared by all visitors: questions share batches, uploads come in slices."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from ragdemo.embedding import Encoder, Progress, TokenVectors
from ragdemo.serving.job import PATIENCE, Job, Patience
from ragdemo.serving.line import Line, serving
from ragdemo.serving.quiet import writing

BATCH = 32  # texts of several visitors encoded together
TEXTS = 64  # of one question, encoded at once: the sentences of five passages
# An upload holds the encoder this long before waiting questions get their turn: 3 to 11 passages of
# 256 tokens on two cores. Larger batches are no faster there.
SLICE = 0.25
FIRST = 4  # passages in an upload's first slice, when its pace is not known
MOST = 32
# While answers are written here, the slices of an upload are this many seconds apart: the processor
# is the answers', but no upload waits for ever.
ASIDE = 0.75


class SharedEncoder:
    """An `Encoder` behind a worker. Raises `Busy` where too many wait, `Cancelled` for a thread
    whose `Ticket` was cancelled."""

    def __init__(self, encoder: Encoder, *, patience: Patience = PATIENCE) -> None:
        self._encoder = encoder
        self.name, self.dimension, self.limit = encoder.name, encoder.dimension, encoder.limit
        self.similarity = encoder.similarity
        self._line = Line("encoder", self._handle, most=BATCH, patience=patience)
        self._counting = threading.Lock()
        if hasattr(encoder, "token_vectors"):  # only some encoders see single words
            self.token_vectors = self._token_vectors

    def _handle(self, jobs: Sequence[Job]) -> None:
        method = getattr(self._encoder, jobs[0].kind or jobs[0].work[1])
        found = method([text for job in jobs for text in job.work[0]])
        start = 0
        for job in jobs:
            job.tell(found[start : start + job.rows])
            start += job.rows

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._at_once(texts, "encode_queries")

    def _at_once(self, texts: Sequence[str], method: str) -> np.ndarray:
        """Somebody waits for an answer."""
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = _alike(texts)
        for start in range(0, len(order), TEXTS):
            part = order[start : start + TEXTS]
            asked = [texts[i] for i in part]
            result[part] = self._line.result(Job((asked,), len(part), method))
        return result

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """In slices that let questions pass; at once for a model that is answering one."""
        if serving():
            return self._at_once(texts, "encode_passages")
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = _alike(texts)
        start, size = 0, FIRST
        while start < len(order):
            part = order[start : start + size]
            writing.wait_for_none(ASIDE)
            # not joined with another upload's: that would hold the encoder for two
            work = ([texts[i] for i in part], "encode_passages")
            job = Job(work, len(part), background=True)
            result[part] = self._line.result(job)
            took = max(time.monotonic() - job.began, 1e-3)
            size = max(1, min(MOST, 2 * size, round(len(part) * SLICE / took)))
            start += len(part)
            if progress:
                progress(start, len(texts))
        return result

    def _token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        return self._line.result(Job((list(texts), "token_vectors"), len(texts)))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        with self._counting:  # its tokenizer is a copy of its own, but one thread at a time
            return self._encoder.count_tokens(texts)


def _alike(texts: Sequence[str]) -> list[int]:
    """Longest first: batches of like lengths need less padding."""
    return sorted(range(len(texts)), key=lambda i: -len(texts[i]))
