"""An imitation of a Weaviate server, for the official client to talk to: REST and gRPC.

Faked: the schema (create, read, delete a collection) over REST; over gRPC, with the protocol
buffers that come with the client, inserting objects in a batch, deleting by id, counting, and
searching near a vector with a `ContainsAny` filter on a text property, exactly and by numpy. It
refuses a wrong key, a vector of another length than the first, and more than 10,000 results.
Nothing here is Weaviate's own code, so agreement with it proves the client is used as its
documentation says, not that a live server behaves so.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from weaviate.proto.v1 import (
    aggregate_pb2,
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    properties_pb2,
    search_get_pb2,
    weaviate_pb2_grpc,
)

from fakes.http import JsonServer

KEY = "fake-weaviate-key"
VERSION = "1.34.0"


class FakeWeaviate:
    def __init__(self) -> None:
        self.schema: dict[str, dict] = {}
        self.objects: dict[str, dict[str, tuple]] = {}  # collection -> uuid -> (vector, properties)
        self.server = JsonServer(self._rest)
        self.url = self.server.url
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(_Rpc(self), self._grpc)
        self.grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()

    def close(self) -> None:
        self._grpc.stop(None)
        self.server.close()

    def _rest(self, method: str, path: str, body: dict, headers: dict):
        if headers.get("authorization") != f"Bearer {KEY}":
            return 401, {"code": 401, "message": "anonymous access not enabled"}, {}
        if path == "/v1/meta":
            return 200, {"version": VERSION, "modules": {}, "hostname": self.url}, {}
        name = path.removeprefix("/v1/schema").strip("/")
        if method == "POST" and not name:
            properties = [PROPERTY | p for p in body["properties"]]
            made = DEFAULTS | body | {"properties": properties}
            for space in made["vectorConfig"].values():
                space["vectorIndexConfig"] = HNSW | space["vectorIndexConfig"]
            self.schema[body["class"]] = made
            self.objects[body["class"]] = {}
            return 200, self.schema[body["class"]], {}
        if name not in self.schema:
            return 404, {"error": [{"message": "not found"}]}, {}
        if method == "DELETE":
            del self.schema[name], self.objects[name]
            return 200, None, {}
        return 200, self.schema[name], {}


PROPERTY = {"indexFilterable": True, "indexSearchable": True, "indexRangeFilters": False}
HNSW = {
    "cleanupIntervalSeconds": 300, "dynamicEfMin": 100, "dynamicEfMax": 500, "dynamicEfFactor": 8,
    "ef": -1, "efConstruction": 128, "filterStrategy": "acorn", "flatSearchCutoff": 40_000,
    "maxConnections": 32, "skip": False, "vectorCacheMaxObjects": 1_000_000_000_000,
}  # fmt: skip
# what a server adds to a collection's description
DEFAULTS = {
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "cleanupIntervalSeconds": 60,
        "stopwords": {"preset": "en", "additions": None, "removals": None},
    },
    "multiTenancyConfig": {"enabled": False},
    "replicationConfig": {"factor": 1, "asyncEnabled": False},
    "shardingConfig": {
        "virtualPerPhysical": 128, "desiredCount": 1, "actualCount": 1,
        "desiredVirtualCount": 128, "actualVirtualCount": 128,
        "key": "_id", "strategy": "hash", "function": "murmur3",
    },
}  # fmt: skip


class _Rpc(weaviate_pb2_grpc.WeaviateServicer):
    def __init__(self, fake: FakeWeaviate) -> None:
        self.fake = fake

    def _held(self, collection: str, context) -> dict[str, tuple]:
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {KEY}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no right")
        if collection not in self.fake.objects:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no collection {collection}")
        return self.fake.objects[collection]

    def BatchObjects(self, request, context):  # noqa: N802
        errors = []
        for number, sent in enumerate(request.objects):
            held = self._held(sent.collection, context)
            packed = sent.vectors[0].vector_bytes if sent.vectors else sent.vector_bytes
            vector = np.frombuffer(packed, np.float32)
            length = next((len(v) for v, _ in held.values()), len(vector))
            if len(vector) != length:
                errors.append(
                    batch_pb2.BatchObjectsReply.BatchError(index=number, error="vector lengths")
                )
                continue
            held[sent.uuid] = (vector, dict(sent.properties.non_ref_properties))
        return batch_pb2.BatchObjectsReply(errors=errors)

    def BatchDelete(self, request, context):  # noqa: N802
        held = self._held(request.collection, context)
        gone = [uuid for uuid in held if _keeps(request.filters, uuid, {})]
        for uuid in gone:
            del held[uuid]
        return batch_delete_pb2.BatchDeleteReply(matches=len(gone), successful=len(gone))

    def Aggregate(self, request, context):  # noqa: N802
        count = len(self._held(request.collection, context))
        single = aggregate_pb2.AggregateReply.Single(objects_count=count)
        return aggregate_pb2.AggregateReply(single_result=single)

    def Search(self, request, context):  # noqa: N802
        held = self._held(request.collection, context)
        if request.limit > 10_000:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "query maximum results exceeded")
        near = request.near_vector
        packed = near.vectors[0].vector_bytes if near.vectors else near.vector_bytes
        query = np.frombuffer(packed, np.float32)
        filters = request.filters if request.HasField("filters") else None
        kept = [(u, v, p) for u, (v, p) in held.items() if _keeps(filters, u, p)]
        if kept and len(kept[0][1]) != len(query):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "vector lengths don't match")
        distances = -(np.stack([v for _, v, _ in kept]) @ query) if kept else np.zeros(0)
        best = np.argsort(distances, kind="stable")[: request.limit]
        return search_get_pb2.SearchReply(results=[_result(*kept[i], distances[i]) for i in best])


def _result(uuid: str, vector: np.ndarray, properties: dict, distance: float):
    fields = {name: properties_pb2.Value(text_value=text) for name, text in properties.items()}
    return search_get_pb2.SearchResult(
        properties=search_get_pb2.PropertiesResult(
            non_ref_props=properties_pb2.Properties(fields=fields)
        ),
        metadata=search_get_pb2.MetadataResult(
            id=uuid, distance=float(distance), distance_present=True
        ),
    )


def _keeps(filters, uuid: str, properties: dict) -> bool:
    if filters is None:
        return True
    assert filters.operator == base_pb2.Filters.OPERATOR_CONTAINS_ANY, "no other filter is faked"
    wanted = set(filters.value_text_array.values)
    on = filters.target.property
    return uuid in wanted if on == "_id" else properties.get(on) in wanted
