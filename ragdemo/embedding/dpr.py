"""Dense Passage Retrieval's two towers (Karpukhin et al. 2020, https://arxiv.org/abs/2004.04906).

One BERT reads questions, another reads passages; they were trained together so that a question's
vector and its passage's have a large inner product. Any such pair of ids or folders.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np

from ragdemo.embedding.base import BATCH, Progress, checked, in_batches
from ragdemo.errors import ModelUnavailable

QUESTIONS = "facebook/dpr-question_encoder-single-nq-base"
PASSAGES = "facebook/dpr-ctx_encoder-single-nq-base"


class DPREncoder:
    """The vector is the first token's last state, its length free: compare by inner product.

    Titles, which the paper puts before a passage, are read only where the text holds them.
    Only safetensors weights are opened; other formats can run code.
    """

    similarity = "dot"

    def __init__(self, questions: str = QUESTIONS, passages: str = PASSAGES) -> None:
        """Both ids of the Hugging Face hub or local folders. Raises ModelUnavailable."""
        from transformers import DPRContextEncoder, DPRQuestionEncoder

        self._questions = _Tower(questions, DPRQuestionEncoder)
        self._passages = _Tower(passages, DPRContextEncoder)
        if self._questions.dimension != self._passages.dimension:
            raise ModelUnavailable(
                f"{questions!r} gives vectors of {self._questions.dimension} numbers and "
                f"{passages!r} of {self._passages.dimension}: they are no pair. "
                "Choose two encoders that were trained together."
            )
        self.name = f"dpr {questions} + {passages}"
        self.dimension = self._questions.dimension
        self.limit = self._passages.limit

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = [
            self._questions.encode(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)
        ] or [np.zeros((0, self.dimension), dtype=np.float32)]
        return checked(np.concatenate(rows), len(texts), self.dimension)

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        return in_batches(self._passages.encode, texts, self.dimension, progress)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._passages.count(texts)


class _Tower:
    """One of the two encoders with its tokenizer."""

    def __init__(self, name: str, kind: type) -> None:
        import torch
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            self._model, loaded = kind.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError) as problem:
            raise ModelUnavailable(
                f"The DPR encoder {name!r} could not be loaded ({type(problem).__name__}): it is "
                "neither a folder here nor reachable on the Hugging Face hub, or it has no "
                "safetensors weights. Choose another pair, or dense search, which needs no "
                "download."
            ) from problem
        if loaded["missing_keys"]:  # transformers would fill them with random numbers
            raise ModelUnavailable(
                f"{name!r} is no {kind.__name__}: {len(loaded['missing_keys'])} of its weights "
                "are missing. Choose a pair made for DPR."
            )
        self._model.eval()
        config = self._model.config
        self.dimension = int(config.projection_dim or config.hidden_size)
        self.limit = min(int(self._tokenizer.model_max_length), config.max_position_embeddings)
        # a fast tokenizer shared between counting and encoding corrupts both: count on a copy
        self._counter = copy.deepcopy(self._tokenizer.backend_tokenizer)
        self._counter.no_truncation()
        self._counter.no_padding()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[n, dimension], all in one batch."""
        import torch

        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.limit, return_tensors="pt"
        )
        with torch.inference_mode():
            return self._model(**batch).pooler_output.float().numpy()

    def count(self, texts: Sequence[str]) -> list[int]:
        encoded = self._counter.encode_batch(list(texts), add_special_tokens=False)
        return [len(e.ids) for e in encoded]
