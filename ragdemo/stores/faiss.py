"""Vectors in memory, searched exactly by FAISS (Johnson et al. 2017, arXiv:1702.08734)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragdemo.stores.base import checked

METRICS = ("inner product", "L2")


class FaissStore:
    """Flat (exact) index. With vectors of length 1, inner product is cosine, in -1..1.

    L2 scores are the negative squared distance, so that higher is better here too.
    """

    def __init__(self, dimension: int, metric: str = "inner product") -> None:
        # torch first: on macOS two OpenMP runtimes in the other order crash (FAISS issue tracker)
        import torch  # noqa: F401  isort: skip
        import faiss

        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}: choose from {', '.join(METRICS)}")
        self.dimension = dimension
        self.metric = metric
        flat = faiss.IndexFlatIP if metric == "inner product" else faiss.IndexFlatL2
        self._index = faiss.IndexIDMap2(flat(dimension))
        self._number: dict[str, int] = {}  # id -> FAISS's own number
        self._id: dict[int, str] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._number)

    def add(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        rows = checked(vectors, self.dimension)
        if len(ids) != len(rows):
            raise ValueError(f"{len(ids)} ids for {len(rows)} vectors")
        latest = {name: row for row, name in enumerate(ids)}  # the last of equal ids stays
        self.remove(list(latest))
        if not latest:
            return
        numbers = np.arange(self._next, self._next + len(latest), dtype=np.int64)
        self._next += len(latest)
        self._index.add_with_ids(rows[list(latest.values())], numbers)
        for name, number in zip(latest, numbers.tolist(), strict=True):
            self._number[name] = number
            self._id[number] = name

    def remove(self, ids: Sequence[str]) -> None:
        numbers = [self._number.pop(name) for name in ids if name in self._number]
        if numbers:
            self._index.remove_ids(np.array(numbers, dtype=np.int64))
            for number in numbers:
                del self._id[number]

    def search(self, queries: np.ndarray, k: int) -> list[list[tuple[str, float]]]:
        rows = checked(queries, self.dimension)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not self._number:
            return [[] for _ in rows]
        scores, numbers = self._index.search(rows, min(k, len(self)))
        sign = 1.0 if self.metric == "inner product" else -1.0
        # FAISS fills missing places with -1, which would name the wrong passage
        return [
            [(self._id[n], sign * float(s)) for s, n in zip(srow, nrow, strict=True) if n >= 0]
            for srow, nrow in zip(scores, numbers.tolist(), strict=True)
        ]

    def bytes(self) -> int:
        """Memory of the vectors and their ids."""
        return len(self) * (self.dimension * 4 + 8)
