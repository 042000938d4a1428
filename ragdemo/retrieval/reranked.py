"""The first passages of a retriever, put in a new order by a slower judge that reads question and
passage together (Nogueira & Cho 2019, https://arxiv.org/abs/1901.04085).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ragdemo.errors import ModelUnavailable
from ragdemo.retrieval.base import Retriever, asked, finite, ranked, scattered
from ragdemo.types import Chunk, Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

DEPTH = 30  # passages the judge reads: each costs a pass through its model
BATCH = 16  # of them at once


class Scorer(Protocol):
    """Judges passages; higher is better."""

    name: str

    def __call__(self, question: str, chunks: Sequence[Chunk]) -> Sequence[float]: ...


class Reranked:
    """Score: the scorer's, see there; `parts` also has the score it was found with. Passages below
    `depth` in the inner ranking are never found, so the recall is the inner retriever's.
    """

    def __init__(
        self, inner: Retriever, scorer: Scorer, *, depth: int = DEPTH, name: str = "reranked"
    ) -> None:
        self.inner = inner
        self.scorer = scorer
        self.corpus: Corpus = inner.corpus
        self.name = name
        self._depth = depth

    def search(self, question: str, k: int) -> list[Hit]:
        text = asked(question, k)
        return self._judged(text, max(k, self._depth))[:k] if text else []

    def scores(self, question: str) -> np.ndarray:
        text = asked(question)
        judged = self._judged(text, self._depth) if text else []
        return scattered(self.corpus, judged)

    def _judged(self, text: str, depth: int) -> list[Hit]:
        hits = self.inner.search(text, depth)
        chunks = [hit.chunk for hit in hits]
        batches = [
            np.asarray(self.scorer(text, chunks[i : i + BATCH]), dtype=np.float32)
            for i in range(0, len(chunks), BATCH)
        ]
        if not batches:
            return []
        judged = finite(np.concatenate(batches), len(hits), f"The re-ranker {self.scorer.name}")
        order = np.argsort(-judged, kind="stable")  # of equal ones the inner ranking's first
        return ranked(
            (
                (
                    hits[i].chunk,
                    judged[i],
                    {self.inner.name: hits[i].score, self.scorer.name: float(judged[i])},
                )
                for i in order
            ),
            self.name,
        )


class CrossEncoderScorer:
    """A cross-encoder of sentence-transformers: any hub id or folder with safetensors weights and
    one output. Its range is the model's own: 0..1 where it ends in a sigmoid, else unbounded.
    """

    def __init__(self, model: str) -> None:
        import torch
        from sentence_transformers import CrossEncoder

        try:
            self._model = CrossEncoder(
                model,
                device="cpu",
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except (OSError, ValueError, KeyError) as problem:
            raise ModelUnavailable(
                f"The cross-encoder {model!r} could not be loaded ({type(problem).__name__}): it "
                "is neither a folder here nor reachable on the Hugging Face hub, or it has no "
                "safetensors weights. Choose another, or the bundled generator as re-ranker."
            ) from problem
        if self._model.config.num_labels != 1:
            raise ModelUnavailable(
                f"{model!r} gives {self._model.config.num_labels} numbers for a passage, a "
                "re-ranker gives one. Choose a model made for ranking."
            )
        self.name = "cross-encoder"

    def __call__(self, question: str, chunks: Sequence[Chunk]) -> Sequence[float]:
        pairs = [(question, chunk.content) for chunk in chunks]
        return self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False)


class Asks(Protocol):
    """What `QuestionLikelihood` needs of a generator."""

    def question_log_likelihood(
        self, question: str, chunks: Sequence[Chunk]
    ) -> Sequence[float]: ...


class QuestionLikelihood:
    """log p(question | passage) per word piece under a generator, below 0: how expected the
    question is after reading the passage (Sachan et al. 2022, https://arxiv.org/abs/2204.07496).
    """

    name = "question likelihood"

    def __init__(self, generator: Asks) -> None:
        if not hasattr(generator, "question_log_likelihood"):
            raise ModelUnavailable(
                f"The generator {getattr(generator, 'name', '')!r} can't tell how likely a "
                "question is. Choose ragdemo-mini for re-ranking, or a cross-encoder."
            )
        self._generator = generator

    def __call__(self, question: str, chunks: Sequence[Chunk]) -> Sequence[float]:
        return self._generator.question_log_likelihood(question, chunks)
