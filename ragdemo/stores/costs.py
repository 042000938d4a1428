"""What each FAISS kind costs and what it loses: memory, time to build, time to search, recall.

Recall is counted against the exact search over the same vectors. Times are this machine's, while
it does whatever else it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ragdemo.stores.base import batches
from ragdemo.stores.faiss import FaissStore
from ragdemo.stores.faiss_index import KINDS, FaissSettings

STEP = 2000  # vectors between two reports of progress; an HNSW takes about a second for them
LATENT = 32  # independent directions in which synthetic vectors differ

# (kind, vectors done, vectors in all); raise Cancelled to stop
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Cost:
    kind: str
    vectors: int
    dimension: int
    bytes: int  # by arithmetic over the index's parts, as `FaissStore.bytes`
    build_s: float  # training included
    search_ms: float  # median of the queries, asked one by one
    recall: float  # share of the exact search's k best that were found
    k: int
    exact: bool  # True too for IVF and PQ with too few vectors to train on
    needed: int  # vectors from which the kind does what its name says; 0 for none


def costs(
    vectors: np.ndarray,
    queries: np.ndarray,
    kinds: Sequence[str] = KINDS,
    k: int = 10,
    settings: FaissSettings = FaissSettings(),
    progress: Progress | None = None,
) -> Iterator[Cost]:
    """One `Cost` a kind, as soon as it is measured, over `vectors` [n, d] and `queries` [m, d].

    `progress` may raise to stop, which the training of IVF and PQ can delay: about a minute at a
    million vectors. Only one index is held at a time.
    """
    if not len(vectors) or not len(queries):
        raise ValueError("costs need at least one vector and one query")
    best: dict[str, list[set[str]]] = {}  # of the exact search, by metric
    for kind in kinds:
        store, build_s = built(kind, vectors, settings, progress)
        found, search_ms = timed(store, queries, k)
        metric = "L2" if kind == "flat L2" else "inner product"
        if metric not in best:
            best[metric] = found if store.exact else _flat(vectors, queries, k)
        yield Cost(
            kind,
            len(vectors),
            store.dimension,
            store.bytes(),
            build_s,
            search_ms,
            recall(found, best[metric]),
            k,
            store.exact,
            store.needed,
        )


def built(
    kind: str,
    vectors: np.ndarray,
    settings: FaissSettings = FaissSettings(),
    progress: Progress | None = None,
) -> tuple[FaissStore, float]:
    """A store of `vectors` under the ids "0", "1", ... and the seconds it took."""
    store = FaissStore(vectors.shape[1], kind, settings)
    spent = 0.0
    for part in batches(len(vectors), STEP):
        names = [str(i) for i in range(part.start, part.stop)]
        start = time.perf_counter()
        store.add(names, vectors[part])
        spent += time.perf_counter() - start
        if progress:
            progress(kind, part.stop, len(vectors))
    start = time.perf_counter()
    store.prepare()
    return store, spent + time.perf_counter() - start


def timed(store: FaissStore, queries: np.ndarray, k: int) -> tuple[list[set[str]], float]:
    """The ids found for each query, and the median milliseconds of one search."""
    store.search(queries[:1], k)  # the first one pays for what is set up once
    found, times = [], []
    for row in range(len(queries)):
        start = time.perf_counter()
        (hits,) = store.search(queries[row : row + 1], k)
        times.append(time.perf_counter() - start)
        found.append({name for name, _ in hits})
    return found, float(np.median(times)) * 1000


def recall(found: Sequence[set[str]], best: Sequence[set[str]]) -> float:
    """[{a, b}], [{a, c}] -> 0.5"""
    shares = [len(got & true) / len(true) for got, true in zip(found, best, strict=True)]
    return float(np.mean(shares))


def _flat(vectors: np.ndarray, queries: np.ndarray, k: int) -> list[set[str]]:
    store, _ = built("flat IP", vectors)
    return [{name for name, _ in row} for row in store.search(queries, k)]


def synthetic(n: int, dimension: int, seed: int = 0) -> np.ndarray:
    """[n, dimension] float32 of length 1, in clusters, a stand-in for embeddings of text.

    Embeddings fill far fewer directions than they have dimensions, and lie in groups: so sqrt(n)
    centres and the spread around them are drawn in `LATENT` directions and turned into
    `dimension`, with a little noise in all of them. Ask with rows of the same call that are left
    out of the index; another seed has other clusters.
    """
    random = np.random.default_rng(seed)
    latent = min(LATENT, dimension)
    centres = random.standard_normal((max(1, int(np.sqrt(n))), latent), dtype=np.float32)
    turned = random.standard_normal((latent, dimension), dtype=np.float32) / np.sqrt(latent)
    rows = np.empty((n, dimension), dtype=np.float32)
    for part in batches(n, 50_000):  # a million at once would take twice the memory
        size = part.stop - part.start
        which = random.integers(len(centres), size=size)
        spread = random.standard_normal((size, latent), dtype=np.float32)
        rows[part] = (centres[which] + 0.7 * spread) @ turned
        rows[part] += 0.1 * random.standard_normal((size, dimension), dtype=np.float32)
        rows[part] /= np.linalg.norm(rows[part], axis=1, keepdims=True)
    return rows
