"""Where vectors are kept and searched: one protocol, interchangeable stores in `STORES`.

Importing this loads no library of theirs; each entry imports its own when called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ragdemo.stores.base import VectorStore

__all__ = ["STORES", "StoreChoice", "VectorStore", "create_store"]


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """One store, for the picker."""

    title: str
    about: str  # one line
    install: str  # what to run first; "" where nothing is missing
    make: Callable[..., VectorStore]


def _faiss(kind: str) -> Callable[..., VectorStore]:
    def make(dimension: int, **options: object) -> VectorStore:
        from ragdemo.stores.faiss import FaissStore

        return FaissStore(dimension, kind, **options)

    return make


def _milvus(dimension: int, **options: object) -> VectorStore:
    from ragdemo.stores.milvus import MilvusStore

    return MilvusStore(dimension, **options)


def _weaviate(dimension: int, **options: object) -> VectorStore:
    from ragdemo.stores.weaviate import WeaviateStore

    return WeaviateStore(dimension, **options)


def _pinecone(dimension: int, **options: object) -> VectorStore:
    from ragdemo.stores.pinecone import PineconeStore

    return PineconeStore(dimension, **options)


STORES: Mapping[str, StoreChoice] = {
    "faiss flat IP": StoreChoice(
        "FAISS, flat, inner product",
        "compares the question with every vector: exact, and fast enough for most document sets",
        "",
        _faiss("flat IP"),
    ),
    "faiss flat L2": StoreChoice(
        "FAISS, flat, L2",
        "every vector by its squared distance; for vectors of length 1 the same order as above",
        "",
        _faiss("flat L2"),
    ),
    "faiss HNSW": StoreChoice(
        "FAISS, HNSW",
        "walks a graph of neighbours: very fast and nearly exact, slow to build, more memory",
        "",
        _faiss("HNSW"),
    ),
    "faiss IVF": StoreChoice(
        "FAISS, IVF",
        "searches only the lists nearest to the question; needs some hundred vectors to learn them",
        "",
        _faiss("IVF"),
    ),
    "faiss PQ": StoreChoice(
        "FAISS, product quantisation",
        "keeps about one byte for four dimensions: a sixteenth of the memory, coarser scores",
        "",
        _faiss("PQ"),
    ),
    "milvus": StoreChoice(
        "Milvus",
        "a file on this machine (Milvus Lite), or a server or cluster",
        'pip install "pymilvus>=3" "milvus-lite>=3"',
        _milvus,
    ),
    "weaviate": StoreChoice(
        "Weaviate",
        "a Weaviate server or Weaviate Cloud",
        'pip install "weaviate-client>=4"',
        _weaviate,
    ),
    "pinecone": StoreChoice(
        "Pinecone",
        "a serverless index at Pinecone; needs an account's key",
        'pip install "pinecone>=10"',
        _pinecone,
    ),
}


def create_store(name: str, dimension: int, **options: object) -> VectorStore:
    """The store called `name` in `STORES`.

    Options: `settings` (FaissSettings) for FAISS; address, key, collection and `patience` as the
    constructors of the others name them. Raises ValueError for an unknown name, RagdemoError where
    a package is missing or a service doesn't answer.
    """
    if name not in STORES:
        raise ValueError(f"unknown store {name!r}: choose from {', '.join(STORES)}")
    return STORES[name].make(dimension, **options)
