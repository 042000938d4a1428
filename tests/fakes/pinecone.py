"""An imitation of Pinecone's REST interface, for the official client to talk to.

Faked: creating, describing and deleting a serverless index; upsert, query with the `$in` filter,
delete by id and the statistics of a namespace, searched exactly by numpy. Writes show late, as at
Pinecone: a query answers from before the last write until `lag` queries have passed, and says so
in its log positions. What it refuses is what the documentation says is refused: a wrong key, a
vector of another length, ids that aren't ASCII, top_k over 10,000, bodies over 2 MB, deleting in a
namespace that doesn't exist. Nothing here is Pinecone's own code, so agreement with it proves the
client is used as its documentation says, not that the live service behaves so.
"""

from __future__ import annotations

import json

import numpy as np

from fakes.http import JsonServer

KEY = "fake-pinecone-key"


class FakePinecone:
    def __init__(self, lag: int = 1) -> None:
        self.lag = lag
        self._indexes: dict[str, dict] = {}
        self._spaces: dict[str, dict[str, tuple]] = {}  # namespace -> id -> (values, metadata)
        self._seen: dict[str, dict[str, tuple]] = {}  # what a query sees of it
        self._written = self._shown = self._waiting = 0
        self.server = JsonServer(self._answer)
        self.url = self.server.url

    def close(self) -> None:
        self.server.close()

    def _answer(self, method: str, path: str, body: dict, headers: dict):
        if headers.get("api-key") != KEY:
            return _refusal(401, "Invalid API Key")
        if path.startswith("/indexes"):
            return self._control(method, path.removeprefix("/indexes").strip("/"), body)
        if len(json.dumps(body)) > 2_000_000:
            return _refusal(413, "request too large")
        name = path.strip("/").split("/")[-1]
        return getattr(self, f"_{name}")(body)

    def _control(self, method: str, name: str, body: dict):
        if method == "POST":
            name = body["name"]
            made = {**body, "host": self.url, "status": {"ready": True, "state": "Ready"}}
            self._indexes[name] = {
                "deletion_protection": "disabled", "tags": None, "read_capacity": None, **made,
            }  # fmt: skip
            return 201, self._indexes[name], {}
        if name not in self._indexes:
            return _refusal(404, f"no index {name}")
        if method == "DELETE":
            del self._indexes[name]
            self._spaces, self._seen = {}, {}
            return 202, None, {}
        return 200, self._indexes[name], {}

    def _dimension(self) -> int:
        (index,) = self._indexes.values()
        return index["schema"]["fields"]["_values"]["dimension"]

    def _wrote(self) -> dict:
        self._written += 1
        self._waiting = self.lag
        return {"x-pinecone-request-lsn": str(self._written)}

    def _upsert(self, body: dict):
        for vector in body["vectors"]:
            if len(vector["values"]) != self._dimension():
                return _refusal(400, "Vector dimension does not match the dimension of the index")
            if not vector["id"].isascii() or len(vector["id"]) > 512:
                return _refusal(400, "Vector ID must be ASCII")
        space = self._spaces.setdefault(body.get("namespace", ""), {})
        for vector in body["vectors"]:
            values = np.array(vector["values"], np.float32)
            space[vector["id"]] = (values, vector.get("metadata", {}))
        return 200, {"upsertedCount": len(body["vectors"])}, self._wrote()

    def _delete(self, body: dict):
        if body.get("namespace", "") not in self._spaces:
            return _refusal(404, "Namespace not found")
        for name in body["ids"]:
            self._spaces[body["namespace"]].pop(name, None)
        return 200, {}, self._wrote()

    def _describe_index_stats(self, body: dict):
        counts = {name: {"vectorCount": len(held)} for name, held in self._spaces.items() if held}
        total = sum(c["vectorCount"] for c in counts.values())
        made = {
            "namespaces": counts, "dimension": self._dimension(), "indexFullness": 0,
            "totalVectorCount": total,
        }  # fmt: skip
        return 200, made, {}

    def _query(self, body: dict):
        if not 1 <= body["topK"] <= 10_000:
            return _refusal(400, "topK must be between 1 and 10000")
        if len(body["vector"]) != self._dimension():
            return _refusal(400, "Vector dimension does not match the dimension of the index")
        if self._waiting > 0:
            self._waiting -= 1
        else:
            self._seen = {name: dict(held) for name, held in self._spaces.items()}
            self._shown = self._written
        held = self._seen.get(body.get("namespace", ""), {})
        wanted = body.get("filter", {}).get("document", {}).get("$in")
        names = [n for n, (_, m) in held.items() if wanted is None or m.get("document") in wanted]
        matches = []
        if names:
            scores = np.stack([held[n][0] for n in names]) @ np.array(body["vector"], np.float32)
            best = np.argsort(-scores, kind="stable")[: body["topK"]]
            matches = [{"id": names[i], "score": float(scores[i])} for i in best]
        made = {"matches": matches, "namespace": body.get("namespace", "")}
        return 200, made, {"x-pinecone-max-indexed-lsn": str(self._shown)}


def _refusal(status: int, message: str):
    return status, {"error": {"code": "REFUSED", "message": message}, "status": status}, {}
