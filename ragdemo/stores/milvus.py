"""Vectors in Milvus (Wang et al. 2021, https://doi.org/10.1145/3448016.3457550).

One code for an embedded file (Milvus Lite, an address that ends in .db), a server and a cluster.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.stores.base import batches, checked, checked_k, latest
from ragdemo.stores.remote import Patience, Service, library

INSTALL = 'pip install "pymilvus>=3" "milvus-lite>=3"'
BATCH = 1000  # vectors a request; 384 dimensions are 1.5 MB, the server takes 64 MB
FLUSH_AT = 1000  # a flush makes searches fast but is limited to one in 10 s on a cluster
MOST = 16_384  # the server's largest limit of a search
LONGEST = 2048  # bytes of an id or a document's name
RATE_LIMIT, NO_RIGHT = 8, (1400, 1401)  # codes of MilvusException

_open_files: Counter[str] = Counter()  # stores of this process by path of their file
_lock = threading.Lock()


class MilvusStore:
    """Scores are inner products; cosines for vectors of length 1.

    A collection that is there already is opened with what it holds. Milvus Lite compares every
    vector; a server picks its own index (AUTOINDEX) and may be approximate.
    """

    name = "milvus"

    def __init__(
        self,
        dimension: int,
        uri: str = "ragdemo.db",
        token: str = "",
        collection: str = "ragdemo",
        patience: Patience = Patience(),
    ) -> None:
        """`uri`: a file that ends in .db, or http(s)://host:port. `token`: "user:password" or a
        key. Raises RagdemoError where it can't be opened or holds another dimension."""
        pymilvus = library("Milvus", "pymilvus", INSTALL)
        self._file = "" if "://" in uri else str(Path(uri).resolve())
        if self._file:
            if not self._file.endswith(".db"):
                raise RagdemoError(
                    f"{uri!r} is no address for Milvus: give a file that ends in .db, or "
                    "http://host:port of a server."
                )
            library("Milvus", "milvus_lite", INSTALL)
        self.dimension = dimension
        self.collection = collection
        self._service = Service("Milvus", uri, patience, passing=_may_pass, refused=_refused)
        self._limit = patience.timeout_s
        self._client = self._service.call(
            "connecting",
            lambda: pymilvus.MilvusClient(
                uri=self._file or uri, token=token, timeout=patience.timeout_s
            ),
        )
        with _lock:
            _open_files[self._file] += 1
        self._closed = False
        self._unflushed = 0
        try:
            self._service.call("opening the collection", self._open)
        except RagdemoError:
            self.close()
            raise

    def _open(self) -> None:
        from pymilvus import DataType

        client = self._client
        if client.has_collection(self.collection, timeout=self._limit):
            fields = client.describe_collection(self.collection, timeout=self._limit)["fields"]
            found = {f["name"]: f.get("params", {}).get("dim") for f in fields}
            if set(found) != {"id", "document", "vector"} or found["vector"] != self.dimension:
                raise self._service.mismatch(
                    self.collection, found.get("vector", "unknown"), self.dimension
                )
            client.load_collection(self.collection, timeout=self._limit)
            return
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=LONGEST)
        schema.add_field("document", DataType.VARCHAR, max_length=LONGEST)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        index = client.prepare_index_params()
        index.add_index(field_name="vector", index_type="AUTOINDEX", metric_type="IP")
        client.create_collection(
            self.collection,
            schema=schema,
            index_params=index,
            consistency_level="Strong",  # a search sees what was added before it
            timeout=self._limit,
        )

    def __len__(self) -> int:
        counted = self._service.call(
            "counting",
            lambda: self._client.query(
                self.collection, filter="", output_fields=["count(*)"], timeout=self._limit
            ),
        )
        return int(counted[0]["count(*)"])

    def add(
        self, ids: Sequence[str], vectors: np.ndarray, documents: Sequence[str] | None = None
    ) -> None:
        names, rows, owners = latest(ids, vectors, documents, self.dimension)
        for part in batches(len(names), BATCH):
            data = [
                {"id": name, "document": owner, "vector": row}
                for name, owner, row in zip(names[part], owners[part], rows[part], strict=True)
            ]
            self._service.call(
                f"adding {len(data)} vectors",
                lambda data=data: self._client.upsert(self.collection, data, timeout=self._limit),
            )
        self._unflushed += len(names)
        if self._unflushed >= FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        self._service.call(
            "flushing", lambda: self._client.flush(self.collection, timeout=self._limit)
        )
        self._unflushed = 0

    def remove(self, ids: Sequence[str]) -> None:
        names = list(dict.fromkeys(ids))
        for part in batches(len(names), BATCH):
            self._service.call(
                f"removing {len(names[part])} vectors",
                # given ids, the client writes them into a filter without escaping them
                lambda some=names[part]: self._client.delete(
                    self.collection, filter=f"id in {_literal(some)}", timeout=self._limit
                ),
            )

    def search(
        self, queries: np.ndarray, k: int, documents: Collection[str] | None = None
    ) -> list[list[tuple[str, float]]]:
        """At most `MOST` a query, as the server allows."""
        rows = checked(queries, self.dimension)
        checked_k(k)
        if not len(rows) or (documents is not None and not documents):
            return [[] for _ in rows]
        names = _literal(sorted(set(documents or ())))
        found = self._service.call(
            "searching",
            lambda: self._client.search(
                self.collection,
                data=list(rows),
                limit=min(k, MOST),
                filter="" if documents is None else f"document in {names}",
                output_fields=["id"],
                timeout=self._limit,
            ),
        )
        return [[(hit["id"], float(hit["distance"])) for hit in hits] for hits in found]

    def bytes(self) -> None:
        """None: the vectors lie in Milvus."""
        return None

    def drop(self) -> None:
        """Delete the collection with everything in it, and close."""
        self._service.call(
            "deleting the collection",
            lambda: self._client.drop_collection(self.collection, timeout=self._limit),
        )
        self.close()

    def close(self) -> None:
        """The last store to close a file frees its memory too; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._client.close()
        with _lock:
            _open_files[self._file] -= 1
            if self._file and not _open_files[self._file]:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(self._file)


def _literal(names: list[str]) -> str:
    """A list in Milvus's filter language, whose strings are written like JSON's.

    Milvus Lite doesn't know filter parameters, which would make this needless.
    """
    return json.dumps(names, ensure_ascii=False)


def _may_pass(problem: Exception) -> bool:
    """A server that isn't reached is asked again by pymilvus itself, within the time limit."""
    return getattr(problem, "retriable", False) or _code(problem) == RATE_LIMIT


def _refused(problem: Exception) -> bool:
    return _code(problem) in (*NO_RIGHT, "UNAUTHENTICATED", "PERMISSION_DENIED")


def _code(problem: Exception) -> object:
    """Milvus's number, or the name of gRPC's status."""
    code = getattr(problem, "code", None)
    code = code() if callable(code) else code
    return getattr(code, "name", code)
