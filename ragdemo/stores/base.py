"""What a vector store offers. Knows ids and vectors; chunks and text live elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class VectorStore(Protocol):
    """Vectors under string ids. A search never returns an id that was not added."""

    dimension: int

    def __len__(self) -> int: ...

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """`vectors` [n, dimension] float32, finite; an id already there is replaced."""
        ...

    def remove(self, ids: Sequence[str]) -> None:
        """Unknown ids are passed over."""
        ...

    def search(self, queries: np.ndarray, k: int) -> list[list[tuple[str, float]]]:
        """For each row of `queries` [m, dimension] at most `k` (id, score), best first.

        Scores are "higher is better" whatever the metric. Fewer than `k` where fewer are stored.
        """
        ...


def checked(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """C-contiguous float32 [n, dimension], or ValueError naming what was got."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise ValueError(f"vectors must have shape [n, {dimension}], got {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise ValueError("vectors must be finite; got NaN or infinity")
    return rows
