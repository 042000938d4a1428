"""What a vector store offers. Knows ids, vectors and documents' names; text lives elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np

# Squares of larger numbers overflow float32 when summed over a vector, and a NaN score sorts
# anywhere.
LARGEST = 1e15


class VectorStore(Protocol):
    """Vectors under string ids. A search never returns an id that was not added.

    Stores that keep their vectors on a disk or a server open what is there when they are made
    again with the same address and name.
    """

    name: str
    dimension: int

    def __len__(self) -> int: ...

    def add(
        self,
        ids: Sequence[str],
        vectors: np.ndarray,
        documents: Sequence[str] | None = None,
    ) -> None:
        """`vectors` [n, dimension] float32, finite; an id already there is replaced.

        `documents[i]` is the document that vector i belongs to, for filtering; "" without.
        """
        ...

    def remove(self, ids: Sequence[str]) -> None:
        """Unknown ids are passed over."""
        ...

    def search(
        self, queries: np.ndarray, k: int, documents: Collection[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        """For each row of `queries` [m, dimension] at most `k` (id, score), best first.

        Scores are "higher is better" whatever the metric. Fewer than `k` where fewer are stored.
        With `documents`, only vectors that belong to one of them.
        """
        ...

    def bytes(self) -> int | None:
        """Memory the vectors take in this process; None where they lie elsewhere."""
        ...

    def close(self) -> None:
        """Let go of files and connections; what is kept on disk or a server stays there."""
        ...


def checked(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """C-contiguous float32 [n, dimension], or ValueError naming what was got."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise ValueError(f"vectors must have shape [n, {dimension}], got {list(rows.shape)}")
    if not (np.abs(rows) <= LARGEST).all():  # false for NaN too
        raise ValueError(f"vectors must be finite; got NaN, infinity or more than {LARGEST:g}")
    return rows


def checked_k(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return k


def latest(
    ids: Sequence[str], vectors: np.ndarray, documents: Sequence[str] | None, dimension: int
) -> tuple[list[str], np.ndarray, list[str]]:
    """What `add` was given, checked, with only the last of equal ids."""
    rows = checked(vectors, dimension)
    names = [""] * len(ids) if documents is None else list(documents)
    if len(ids) != len(rows):
        raise ValueError(f"{len(ids)} ids for {len(rows)} vectors")
    if len(names) != len(ids):
        raise ValueError(f"{len(names)} documents for {len(ids)} ids")
    last = {name: row for row, name in enumerate(ids)}
    if len(last) == len(ids):
        return list(ids), rows, names
    kept = list(last.values())
    return list(last), rows[kept], [names[row] for row in kept]


def batches(count: int, size: int) -> Iterator[slice]:
    """batches(5, 2) -> 0:2, 2:4, 4:5"""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
