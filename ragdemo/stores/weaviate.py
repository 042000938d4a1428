"""Vectors in Weaviate (https://weaviate.io), through its official client: a server or its cloud.

Written against the client library and tested against a local imitation of the server
(tests/fakes/weaviate.py); it was never run against a live one.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.stores.base import batches, checked, checked_k, latest
from ragdemo.stores.remote import Patience, Service, library

INSTALL = 'pip install "weaviate-client>=4"'
BATCH = 1000  # vectors a request; 384 dimensions are 1.5 MB, the server takes 10 MB or more
MOST = 10_000  # QUERY_MAXIMUM_RESULTS as servers are delivered
CLOUD = (".weaviate.cloud", ".weaviate.network", ".wcs.api.weaviate.io")


class WeaviateStore:
    """Scores are inner products; cosines for vectors of length 1.

    Weaviate's HNSW index is approximate. Its objects are named by UUIDs, so an id becomes the UUID
    derived from it and is kept beside it; a collection that is there already is opened.
    """

    name = "weaviate"

    def __init__(
        self,
        dimension: int,
        url: str = "http://localhost:8080",
        api_key: str = "",
        collection: str = "Ragdemo",
        grpc_port: int = 50051,
        patience: Patience = Patience(),
    ) -> None:
        """`url` of the REST interface; searches go to `grpc_port` of the same host. Raises
        RagdemoError where it can't be reached or the collection holds another dimension."""
        library("Weaviate", "weaviate", INSTALL)
        self.dimension = dimension
        self.collection = collection[:1].upper() + collection[1:]  # as Weaviate demands
        self._service = Service("Weaviate", url, patience, passing=_may_pass, refused=_refused)
        self._client = self._service.call(
            "connecting", lambda: _connect(url, api_key, grpc_port, patience)
        )
        try:
            self._objects = self._service.call("opening the collection", self._open)
        except RagdemoError:
            self.close()
            raise

    def _open(self):
        from weaviate.classes.config import (
            Configure,
            DataType,
            Property,
            Tokenization,
            VectorDistances,
        )

        # Weaviate learns the dimension from the first vector and doesn't tell it: kept here
        ours = f"ragdemo: vectors of {self.dimension} dimensions"
        if self._client.collections.exists(self.collection):
            opened = self._client.collections.get(self.collection)
            found = opened.config.get(simple=True).description or ""
            if found != ours:
                words = found.split() if found.startswith("ragdemo: vectors of") else []
                raise self._service.mismatch(
                    self.collection, words[3] if words else "unknown", self.dimension
                )
            return opened
        return self._client.collections.create(
            self.collection,
            description=ours,
            # FIELD: the whole value is one term, so that a filter matches names exactly
            properties=[
                Property(name=name, data_type=DataType.TEXT, tokenization=Tokenization.FIELD)
                for name in ("key", "document")
            ],
            vector_config=Configure.Vectors.self_provided(
                vector_index_config=Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT)
            ),
        )

    def __len__(self) -> int:
        counted = self._service.call(
            "counting", lambda: self._objects.aggregate.over_all(total_count=True)
        )
        return int(counted.total_count or 0)

    def add(
        self, ids: Sequence[str], vectors: np.ndarray, documents: Sequence[str] | None = None
    ) -> None:
        from weaviate.classes.data import DataObject
        from weaviate.util import generate_uuid5

        names, rows, owners = latest(ids, vectors, documents, self.dimension)
        for part in batches(len(names), BATCH):
            objects = [
                DataObject(
                    uuid=generate_uuid5(name),
                    properties={"key": name, "document": owner},
                    vector=row.tolist(),
                )
                for name, owner, row in zip(names[part], owners[part], rows[part], strict=True)
            ]
            done = self._service.call(
                f"adding {len(objects)} vectors",
                lambda objects=objects: self._objects.data.insert_many(objects),
            )
            if done.has_errors:
                raise RagdemoError(
                    f"Weaviate at {self._service.where} refused {len(done.errors)} of "
                    f"{len(objects)} vectors. Look into its log, then add the document again."
                )

    def remove(self, ids: Sequence[str]) -> None:
        from weaviate.classes.query import Filter
        from weaviate.util import generate_uuid5

        names = list(dict.fromkeys(ids))
        for part in batches(len(names), BATCH):
            gone = Filter.by_id().contains_any([generate_uuid5(name) for name in names[part]])
            self._service.call(
                f"removing {len(names[part])} vectors",
                lambda gone=gone: self._objects.data.delete_many(where=gone),
            )

    def search(
        self, queries: np.ndarray, k: int, documents: Collection[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        """At most `MOST` a query, as the server allows; one request a query."""
        from weaviate.classes.query import Filter, MetadataQuery

        rows = checked(queries, self.dimension)
        checked_k(k)
        if documents is not None and not documents:
            return [[] for _ in rows]
        belonging = None
        if documents is not None:
            belonging = Filter.by_property("document").contains_any(sorted(set(documents)))
        found = [
            self._service.call(
                "searching",
                lambda row=row: self._objects.query.near_vector(
                    near_vector=row.tolist(),
                    limit=min(k, MOST),
                    filters=belonging,
                    return_metadata=MetadataQuery(distance=True),
                    return_properties=["key"],
                ),
            )
            for row in rows
        ]
        # Weaviate's dot distance is the negative inner product
        return [
            [(str(o.properties["key"]), -float(o.metadata.distance)) for o in reply.objects]
            for reply in found
        ]

    def bytes(self) -> None:
        """None: the vectors lie in Weaviate."""
        return None

    def drop(self) -> None:
        """Delete the collection with everything in it, and close."""
        self._service.call(
            "deleting the collection", lambda: self._client.collections.delete(self.collection)
        )
        self.close()

    def close(self) -> None:
        self._client.close()


def _connect(url: str, api_key: str, grpc_port: int, patience: Patience):
    import weaviate
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout

    limit = patience.timeout_s
    common = {
        "auth_credentials": Auth.api_key(api_key) if api_key else None,
        "additional_config": AdditionalConfig(
            timeout=Timeout(init=limit, query=limit, insert=limit)
        ),
        "skip_init_checks": True,  # they ask PyPI for the newest client too
    }
    address = urlsplit(url if "://" in url else f"http://{url}")
    host = address.hostname or ""
    if host.endswith(CLOUD):
        return weaviate.connect_to_weaviate_cloud(cluster_url=host, **common)
    # a wrong port is found here at once; the client would repeat its first search for a minute
    socket.create_connection((host, grpc_port), timeout=limit).close()
    secure = address.scheme == "https"
    return weaviate.connect_to_custom(
        http_host=host,
        http_port=address.port or (443 if secure else 80),
        http_secure=secure,
        grpc_host=host,
        grpc_port=grpc_port,
        grpc_secure=secure,
        **common,
    )


def _may_pass(problem: Exception) -> bool:
    """gRPC calls to a server that isn't there are repeated by the client itself."""
    import httpx
    from weaviate.exceptions import WeaviateConnectionError, WeaviateTimeoutError

    if isinstance(problem, (WeaviateConnectionError, WeaviateTimeoutError, httpx.TransportError)):
        return True
    return getattr(problem, "status_code", None) in (429, 502, 503, 504)


def _refused(problem: Exception) -> bool:
    from weaviate.exceptions import AuthenticationFailedError

    status = getattr(problem, "status_code", None)
    return isinstance(problem, AuthenticationFailedError) or status in (401, 403)
