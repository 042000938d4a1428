"""Questions read by a network of their own, passages by the encoder that made the index.

What end-to-end training moves (Lewis et al. 2020, section 2.4, https://arxiv.org/abs/2005.11401):
the question encoder learns, the passages' vectors stay, so nothing is indexed anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragdemo.embedding import Encoder, Progress


class DualEncoder:
    """An `Encoder` made of two that share one space. Both may be shared: they are only asked."""

    questions_only = True

    def __init__(self, inner: Encoder, questions: Encoder) -> None:
        """`inner` reads passages, `questions` questions. Raises ValueError where their vectors are
        not of the same kind."""
        if (inner.dimension, inner.similarity) != (questions.dimension, questions.similarity):
            raise ValueError("question and passage encoder need vectors of the same kind")
        self.inner, self.questions = inner, questions
        # a trained encoder's name ends in its weights' digest, wherever it was loaded from
        self.name = f"{inner.name} + question encoder {questions.name.split()[-1]}"
        self.dimension, self.limit = inner.dimension, inner.limit
        self.similarity = inner.similarity

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.questions.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        return self.inner.encode_passages(texts, progress)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.inner.count_tokens(texts)
