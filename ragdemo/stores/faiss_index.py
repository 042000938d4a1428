"""The FAISS indexes behind the kinds a visitor can choose, and what each needs and weighs.

Knows numbers (FAISS's 64-bit ids) and vectors; string ids and documents are `faiss.py`'s.

flat   every vector compared: exact.
HNSW   a graph walked towards the query (Malkov & Yashunin 2016, arXiv:1603.09320).
IVF    vectors in lists around k-means centres, few lists searched (Sivic & Zisserman 2003,
       https://doi.org/10.1109/ICCV.2003.1238663).
PQ     vectors cut in parts, each part stored as the number of its nearest centre (Jegou et al.
       2011, https://doi.org/10.1109/TPAMI.2010.57): a small fraction of the memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

KINDS = ("flat IP", "flat L2", "HNSW", "IVF", "PQ")
PQ_BITS = 8  # 256 centres a part: one byte
FEWEST_LISTS = 16  # with fewer lists there is little an IVF could skip


@dataclass(frozen=True, slots=True)
class FaissSettings:
    """Parameters of the approximate kinds; flat has none."""

    hnsw_links: int = 32  # M: neighbours a vector keeps (twice that on the lowest level)
    hnsw_build: int = 100  # efConstruction: candidates looked at when one is added
    hnsw_search: int = 64  # efSearch: candidates looked at in a search; more is slower and better
    ivf_lists: int = 0  # 0: 4 * sqrt(n), as FAISS's guidelines say, where enough are stored
    ivf_probes: int = 16  # nprobe: lists searched
    pq_parts: int = 0  # bytes a vector; 0: one for about four dimensions
    per_centre: int = 39  # stored vectors a centre that training waits for; FAISS warns below 39

    def __post_init__(self) -> None:
        if self.hnsw_links < 2:
            raise ValueError(f"hnsw_links must be at least 2, got {self.hnsw_links}")
        for name in ("hnsw_build", "hnsw_search", "ivf_probes", "per_centre"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("ivf_lists", "pq_parts"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def needed(kind: str, settings: FaissSettings) -> int:
    """Vectors that must be stored before this kind can be trained; 0 where it needs no training."""
    if kind == "IVF":
        return (settings.ivf_lists or FEWEST_LISTS) * settings.per_centre
    return 2**PQ_BITS * settings.per_centre if kind == "PQ" else 0


def flat(kind: str, dimension: int):
    """The empty exact index, which IVF and PQ use too until they are trained."""
    import faiss

    inner = faiss.IndexFlatL2 if kind == "flat L2" else faiss.IndexFlatIP
    return faiss.IndexIDMap(inner(dimension))


def graph(dimension: int, settings: FaissSettings):
    import faiss

    made = faiss.IndexHNSWFlat(dimension, settings.hnsw_links, faiss.METRIC_INNER_PRODUCT)
    made.hnsw.efConstruction = settings.hnsw_build
    return faiss.IndexIDMap(made)


def trained(kind: str, rows: np.ndarray, settings: FaissSettings):
    """An IVF or PQ that learnt its centres from `rows` [n, dimension] and holds none of them."""
    import faiss

    count, dimension = rows.shape
    metric = faiss.METRIC_INNER_PRODUCT
    if kind == "IVF":
        most = count // settings.per_centre
        lists = settings.ivf_lists or max(1, min(int(4 * math.sqrt(count)), most))
        made = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, metric)
        # more would make training at a million vectors take minutes and gain little
        made.cp.max_points_per_centroid = 64
    else:
        # faiss.IndexPQ can neither filter nor keep ids: one list without residuals is the same
        coarse = faiss.IndexFlatIP(dimension)
        parts = settings.pq_parts or _parts(dimension)
        if dimension % parts:
            raise ValueError(f"pq_parts must divide {dimension}, got {parts}")
        made = faiss.IndexIVFPQ(coarse, dimension, 1, parts, PQ_BITS, metric)
        made.by_residual = False
    made.cp.min_points_per_centroid = 1  # how many are enough is `settings.per_centre`'s business
    if kind == "PQ":
        made.pq.cp.min_points_per_centroid = 1
    made.train(rows)
    return made


def _parts(dimension: int) -> int:
    """The largest divisor that leaves at least four dimensions a part."""
    return max(p for p in range(1, max(1, dimension // 4) + 1) if dimension % p == 0)


def parameters(index, settings: FaissSettings, k: int, selector=None, *, wide: bool = False):
    """Search parameters for `index`; `wide` looks everywhere, at the price of an exact search."""
    import faiss

    inside = unwrapped(index)
    if isinstance(inside, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=max(settings.hnsw_search, k))
    if isinstance(inside, faiss.IndexIVF):
        probes = inside.nlist if wide else min(settings.ivf_probes, inside.nlist)
        return faiss.SearchParametersIVF(sel=selector, nprobe=probes)
    return faiss.SearchParameters(sel=selector)


def unwrapped(index):
    import faiss

    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap) else index


def stored(index) -> tuple[np.ndarray, np.ndarray]:
    """Numbers [n] and vectors [n, dimension] of a flat, HNSW or IVF index; of a PQ they are lost.

    The vectors of flat and HNSW are a view into the index.
    """
    import faiss

    inside = unwrapped(index)
    if isinstance(inside, faiss.IndexIVF):
        lists, numbers, rows = inside.invlists, [], []
        for which in range(inside.nlist):
            size = lists.list_size(which)
            if size:
                codes = faiss.rev_swig_ptr(lists.get_codes(which), size * inside.code_size)
                numbers.append(faiss.rev_swig_ptr(lists.get_ids(which), size).copy())
                rows.append(codes.copy().view(np.float32).reshape(size, inside.d))
        order = np.argsort(np.concatenate(numbers))
        return np.concatenate(numbers)[order], np.concatenate(rows)[order]
    kept = exact(index)
    view = faiss.rev_swig_ptr(kept.get_xb(), kept.ntotal * kept.d).reshape(-1, kept.d)
    return faiss.vector_to_array(index.id_map), view


def exact(index):
    """The flat index inside a flat or HNSW one: its places are positions, not numbers."""
    import faiss

    inside = unwrapped(index)
    return faiss.downcast_index(inside.storage) if isinstance(inside, faiss.IndexHNSW) else inside


def size(index) -> int:
    """Bytes by arithmetic: vectors or codes, numbers, links, centres; no allocator's slack."""
    import faiss

    inside = unwrapped(index)
    total = 8 * index.ntotal
    if isinstance(inside, faiss.IndexIVF):
        total += index.ntotal * inside.code_size + 4 * inside.nlist * inside.d
        if isinstance(inside, faiss.IndexIVFPQ):
            total += 4 * inside.pq.centroids.size()
        return total
    if isinstance(inside, faiss.IndexHNSW):
        links = inside.hnsw
        total += 4 * links.neighbors.size() + 8 * links.offsets.size() + 4 * links.levels.size()
    return total + 4 * index.ntotal * inside.d
