"""Vectors in a serverless index at Pinecone (https://www.pinecone.io), through its official client.

Written against the client library and tested against a local imitation of the service
(tests/fakes/pinecone.py); it was never run against the live one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from urllib.parse import quote, unquote

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.stores.base import batches, checked, checked_k, latest
from ragdemo.stores.remote import Patience, Service, library

INSTALL = 'pip install "pinecone>=10"'
NUMBERS = 75_000  # in one request: about 1.5 MB of JSON, of the 2 MB the service takes
MOST_ADDED = 1000  # vectors a request, whatever their size
MOST = 10_000  # the service's largest limit of a search
SERVICE = "https://api.pinecone.io"


class PineconeStore:
    """Scores are inner products; cosines for vectors of length 1. Pinecone's index is approximate.

    Pinecone shows a write some time after it took it. `add` therefore waits until a search has
    caught up, and what was removed is left out here; the count may still lag behind. An index that
    is there already is opened.
    """

    name = "pinecone"

    def __init__(
        self,
        dimension: int,
        api_key: str,
        index: str = "ragdemo",
        namespace: str = "ragdemo",
        cloud: str = "aws",
        region: str = "us-east-1",
        url: str = SERVICE,
        patience: Patience = Patience(),
    ) -> None:
        """`cloud` and `region`: where to make the index if it isn't there. Raises RagdemoError
        where the service can't be reached or the index holds another dimension or metric."""
        pinecone = library("Pinecone", "pinecone", INSTALL)
        if not api_key:
            raise RagdemoError("Pinecone needs an API key: make one at https://app.pinecone.io")
        self.dimension = dimension
        self.index = index
        self.namespace = namespace
        self._patience = patience
        self._service = Service(
            "Pinecone", url, patience, passing=lambda problem: False, refused=_refused
        )
        self._written = 0  # log position of the last vectors added
        self._gone: set[str] = set()  # removed, perhaps still found
        self._client = self._service.call(
            "connecting",
            lambda: pinecone.Pinecone(
                api_key=api_key,
                host=url,
                timeout=patience.timeout_s,
                # it repeats what may pass by itself: four times with growing waits for vectors, and
                # for opening the index as said here
                retry_config=pinecone.RetryConfig(
                    max_retries=patience.attempts - 1,
                    backoff_factor=patience.first_wait_s,
                    max_wait=patience.timeout_s,
                ),
            ),
        )
        try:
            host = self._service.call("opening the index", lambda: self._open(cloud, region))
            self._vectors = self._client.index(host=host)
        except RagdemoError:
            self._client.close()
            raise

    def _open(self, cloud: str, region: str) -> str:
        """The index's own address."""
        from pinecone import ServerlessSpec

        if self._client.indexes.exists(self.index):
            found = self._client.indexes.describe(self.index)
            if found.dimension != self.dimension:
                raise self._service.mismatch(self.index, found.dimension, self.dimension)
            if found.metric != "dotproduct":
                raise RagdemoError(
                    f"The Pinecone index {self.index!r} measures by {found.metric}; ragdemo needs "
                    "dotproduct. Choose another name for the index."
                )
            return found.host
        made = self._client.indexes.create(
            name=self.index,
            dimension=self.dimension,
            metric="dotproduct",
            spec=ServerlessSpec(cloud=cloud, region=region),
            timeout=120,  # until it is ready
        )
        return made.host

    def __len__(self) -> int:
        told = self._service.call("counting", self._vectors.describe_index_stats)
        held = told.namespaces.get(self.namespace)
        return int(held.vector_count) if held else 0

    def add(
        self, ids: Sequence[str], vectors: np.ndarray, documents: Sequence[str] | None = None
    ) -> None:
        names, rows, owners = latest(ids, vectors, documents, self.dimension)
        size = max(1, min(MOST_ADDED, NUMBERS // self.dimension))
        for part in batches(len(names), size):
            data = [
                # ids are ASCII at Pinecone
                {"id": quote(name), "values": row, "metadata": {"document": owner}}
                for name, owner, row in zip(
                    names[part], owners[part], rows[part].tolist(), strict=True
                )
            ]
            reply = self._service.call(
                f"adding {len(data)} vectors",
                lambda data=data: self._vectors.upsert(vectors=data, namespace=self.namespace),
            )
            committed = reply.response_info and reply.response_info.lsn_committed
            self._written = max(self._written, committed or 0)
        self._gone.difference_update(names)
        if names:
            self._settle()

    def remove(self, ids: Sequence[str]) -> None:
        names = list(dict.fromkeys(ids))
        if not names or not len(self):  # deleting in a namespace that isn't there is an error
            return
        for part in batches(len(names), MOST_ADDED):
            gone = [quote(name) for name in names[part]]
            self._service.call(
                f"removing {len(gone)} vectors",
                lambda gone=gone: self._vectors.delete(ids=gone, namespace=self.namespace),
            )
            self._gone.update(names[part])

    def _settle(self) -> None:
        """Wait until a search sees what was added, or the time limit; unknown counts as seen."""
        probe = [1.0] + [0.0] * (self.dimension - 1)
        end = time.monotonic() + self._patience.timeout_s
        while time.monotonic() < end:
            told = self._query(probe, 1, None).response_info
            reached = told.lsn_reconciled if told else None
            if reached is None or reached >= self._written:
                return
            time.sleep(0.2)

    def _query(self, vector: list[float], k: int, documents: list[str] | None):
        return self._service.call(
            "searching",
            lambda: self._vectors.query(
                vector=vector,
                top_k=min(k, MOST),
                namespace=self.namespace,
                filter=None if documents is None else {"document": {"$in": documents}},
            ),
        )

    def search(
        self, queries: np.ndarray, k: int, documents: Collection[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        """At most `MOST` a query, as the service allows; one request a query."""
        rows = checked(queries, self.dimension)
        checked_k(k)
        if documents is not None and not documents:
            return [[] for _ in rows]
        names = None if documents is None else sorted(set(documents))
        asked = k + len(self._gone)
        found = [self._query(row, asked, names).matches for row in rows.tolist()]
        hits = [[(unquote(m.id), float(m.score)) for m in matches] for matches in found]
        return [[hit for hit in row if hit[0] not in self._gone][:k] for row in hits]

    def bytes(self) -> None:
        """None: the vectors lie at Pinecone."""
        return None

    def drop(self) -> None:
        """Delete the whole index with every namespace in it, and close."""
        self._service.call(
            "deleting the index", lambda: self._client.indexes.delete(self.index, timeout=-1)
        )
        self.close()

    def close(self) -> None:
        self._vectors.close()
        self._client.close()


def _refused(problem: Exception) -> bool:
    from pinecone.errors.exceptions import ForbiddenError, UnauthorizedError

    return isinstance(problem, (UnauthorizedError, ForbiddenError))
