"""Vectors in memory, searched by FAISS (Johnson et al. 2017, arXiv:1702.08734).

Nothing is kept when the process ends. The kinds of index are in `faiss_index.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from ragdemo.stores import faiss_index
from ragdemo.stores.base import checked, checked_k, latest
from ragdemo.stores.faiss_index import KINDS, FaissSettings

# A filter that leaves no more than this is searched exactly: a graph walk that may keep few of the
# vectors it meets can end with too few.
EXACT_UNDER = 20_000
REBUILD_AT = 0.2  # share of removed vectors from which an HNSW graph is built anew
GROWN = 4  # an IVF learns its lists again when this many times as many vectors are stored


class FaissStore:
    """One FAISS index. With vectors of length 1, inner product is cosine, in -1..1.

    "flat L2" scores are the negative squared distance, so that higher is better here too; every
    other kind scores by inner product, PQ by that with the vector it can restore.

    HNSW can't forget: what is removed is hidden, and the graph built anew once a fifth is. IVF and
    PQ learn from what is stored when there is enough, at the next search or `prepare()`; until
    then, and always for flat kinds, `exact` is True.
    """

    def __init__(
        self, dimension: int, kind: str = "flat IP", settings: FaissSettings = FaissSettings()
    ) -> None:
        # torch first: on macOS two OpenMP runtimes in the other order crash (FAISS issue tracker)
        import torch  # noqa: F401  isort: skip

        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}: choose from {', '.join(KINDS)}")
        self.name = f"faiss {kind}"
        self.dimension = dimension
        self.kind = kind
        self.settings = settings
        self._index = self._empty()
        self._number: dict[str, int] = {}  # id -> FAISS's own number, never used twice
        self._id: dict[int, str] = {}
        self._document: dict[int, str] = {}
        self._numbers_of: dict[str, set[int]] = {}  # by document
        self._dead: list[int] = []  # numbers an HNSW still holds
        self._next = 0
        self._learnt_from = 0  # vectors the centres of IVF and PQ came from

    def _empty(self):
        if self.kind == "HNSW":
            return faiss_index.graph(self.dimension, self.settings)
        return faiss_index.flat(self.kind, self.dimension)

    def __len__(self) -> int:
        return len(self._number)

    @property
    def exact(self) -> bool:
        """True where each search compares every vector as it was given."""
        if self.kind in ("IVF", "PQ"):
            return not self._learnt_from
        return self.kind != "HNSW"

    @property
    def needed(self) -> int:
        """Vectors that have to be stored before the kind does what its name says; 0 for none."""
        return faiss_index.needed(self.kind, self.settings)

    # -- changing it

    def add(
        self, ids: Sequence[str], vectors: np.ndarray, documents: Sequence[str] | None = None
    ) -> None:
        names, rows, owners = latest(ids, vectors, documents, self.dimension)
        self.remove(names)
        if not names:
            return
        numbers = np.arange(self._next, self._next + len(names), dtype=np.int64)
        self._next += len(names)
        self._index.add_with_ids(rows, numbers)
        for name, number, owner in zip(names, numbers.tolist(), owners, strict=True):
            self._number[name] = number
            self._id[number] = name
            self._document[number] = owner
            self._numbers_of.setdefault(owner, set()).add(number)

    def remove(self, ids: Sequence[str]) -> None:
        numbers = [self._number.pop(name) for name in dict.fromkeys(ids) if name in self._number]
        if not numbers:
            return
        if self.kind == "HNSW":
            self._dead += numbers
        else:
            self._index.remove_ids(np.array(numbers, dtype=np.int64))
        for number in numbers:
            del self._id[number]
            owner = self._document.pop(number)
            self._numbers_of[owner].discard(number)
            if not self._numbers_of[owner]:
                del self._numbers_of[owner]

    def prepare(self) -> None:
        """Learn or rebuild what the next search would; takes minutes at a million vectors."""
        if self.kind == "HNSW" and len(self._dead) > REBUILD_AT * self._index.ntotal:
            numbers, rows = faiss_index.stored(self._index)
            alive = ~np.isin(numbers, self._dead)
            made = self._empty()
            if alive.any():
                made.add_with_ids(np.ascontiguousarray(rows[alive]), numbers[alive])
            self._index, self._dead = made, []
        elif self.kind in ("IVF", "PQ") and self._should_learn():
            numbers, rows = faiss_index.stored(self._index)
            made = faiss_index.trained(self.kind, rows, self.settings)
            made.add_with_ids(rows, numbers)
            self._index, self._learnt_from = made, len(numbers)

    def _should_learn(self) -> bool:
        if self._learnt_from and self.kind == "PQ":
            return False  # the vectors it would learn from are gone
        return len(self) >= max(self.needed, GROWN * self._learnt_from)

    # -- asking it

    def search(
        self, queries: np.ndarray, k: int, documents: Collection[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        rows = checked(queries, self.dimension)
        checked_k(k)
        self.prepare()
        chosen = None if documents is None else self._belonging(documents)
        wanted = min(k, len(self) if chosen is None else len(chosen))
        if not wanted or not len(rows):
            return [[] for _ in rows]
        scores, numbers = self._find(rows, wanted, chosen)
        sign = -1.0 if self.kind == "flat L2" else 1.0
        # FAISS fills missing places with -1, which would name the wrong passage
        return [
            [(self._id[n], sign * s) for s, n in zip(srow, nrow, strict=True) if n >= 0]
            for srow, nrow in zip(scores.tolist(), numbers.tolist(), strict=True)
        ]

    def _belonging(self, documents: Iterable[str]) -> np.ndarray:
        """Numbers of the vectors of these documents, ascending."""
        groups = [self._numbers_of.get(name, ()) for name in set(documents)]
        return np.sort(np.fromiter((n for group in groups for n in group), dtype=np.int64))

    def _find(
        self, rows: np.ndarray, k: int, chosen: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and numbers, both [m, k], where `k` is no more than there are to find."""
        if chosen is not None and len(chosen) <= EXACT_UNDER and self.kind == "HNSW":
            return self._walk_all(rows, k, chosen)
        selector = self._selector(chosen)
        found = self._index.search(
            rows, k, params=faiss_index.parameters(self._index, self.settings, k, selector)
        )
        # a graph's walk or the lists probed can end before k were met
        if (found[1] >= 0).all():
            return found
        if self.kind == "HNSW":
            return self._walk_all(rows, k, np.array(sorted(self._id)) if chosen is None else chosen)
        wide = faiss_index.parameters(self._index, self.settings, k, selector, wide=True)
        return self._index.search(rows, k, params=wide)

    def _selector(self, chosen: np.ndarray | None):
        import faiss

        if chosen is not None:
            bits = np.zeros(self._next, dtype=bool)
            bits[chosen] = True
            return faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        if self._dead:
            return faiss.IDSelectorNot(faiss.IDSelectorBatch(np.array(self._dead, dtype=np.int64)))
        return None

    def _walk_all(
        self, rows: np.ndarray, k: int, chosen: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The exact search among `chosen` in the vectors an HNSW keeps."""
        import faiss

        numbers, _ = faiss_index.stored(self._index)
        # numbers only ever grow, so the place of one is found by bisection
        places = faiss.IDSelectorArray(np.searchsorted(numbers, chosen))
        kept = faiss_index.exact(self._index)
        scores, found = kept.search(rows, k, params=faiss.SearchParameters(sel=places))
        return scores, np.where(found >= 0, numbers[found], -1)

    def bytes(self) -> int:
        """Memory of the index by arithmetic over its parts, without Python's names for them."""
        return faiss_index.size(self._index)

    def close(self) -> None:
        """Nothing to let go of: the memory is freed with the object."""
