"""What an encoder offers, and what those that own a model share. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from ragdemo.errors import ModelUnavailable

BATCH = 32  # short texts at once
# A batch of long ones outgrows the processor's cache. All-MiniLM-L6-v2 in bfloat16, 401 passages of
# 150 tokens on one core: 8 at once take 10% less time than 32, in files of 15 passages 17% less.
LONG_BATCH = 8
BATCH_CHARACTERS = 8_000

Progress = Callable[[int, int], None]  # (texts done, texts in all); raise Cancelled to stop


class Encoder(Protocol):
    """Rows of the result are float32 and finite; vectors are compared by inner product.

    `similarity` says what that product is: "cosine" where every row has length 1, "dot" where
    lengths differ and carry meaning (DPR).
    """

    name: str
    dimension: int
    limit: int  # tokens it reads of a text, special tokens included; the rest would be ignored
    similarity: str  # "cosine" or "dot"

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray: ...

    def encode_passages(
        self, texts: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without the special ones."""
        ...


def in_batches(
    encode: Callable[[list[str]], np.ndarray],
    texts: Sequence[str],
    dimension: int,
    progress: Progress | None,
) -> np.ndarray:
    """[n, dimension]; longest first so that batches hold texts of like length."""
    result = np.zeros((len(texts), dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    done = 0
    while done < len(order):
        fit = BATCH_CHARACTERS // max(1, len(texts[order[done]]))
        part = order[done : done + min(BATCH, max(LONG_BATCH, fit))]
        result[part] = encode([texts[i] for i in part])
        done += len(part)
        if progress:
            progress(done, len(texts))
    return checked(result, len(texts), dimension)


def checked(rows: np.ndarray, count: int, dimension: int) -> np.ndarray:
    """C-contiguous float32 [count, dimension], or ModelUnavailable."""
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
