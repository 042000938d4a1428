"""Where one visitor's vectors are kept, and how they are got rid of. Knows nothing of Streamlit."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ragdemo.errors import RagdemoError
from ragdemo.stores import VectorStore, create_store

FOLDER = "ragdemo-vectors-"  # of temporary folders for Milvus Lite's files
PARTS = {"milvus": "collection", "weaviate": "collection", "pinecone": "namespace"}


@dataclass(frozen=True)
class StoreMaker:
    """Makes empty stores of one kind, each under a name that nobody else has."""

    name: str  # in `stores.STORES`
    options: Mapping[str, object] = field(default_factory=dict, repr=False)  # may hold a key
    _files: dict[int, str] = field(default_factory=dict, repr=False)  # by store, Milvus Lite's

    def make(self, dimension: int) -> VectorStore:
        """Raises RagdemoError where a package is missing or a service does not answer."""
        options = dict(self.options)
        if part := PARTS.get(self.name):
            options[part] = f"ragdemo_{secrets.token_hex(8)}"
        if self.name == "milvus" and "uri" not in options:
            options["uri"] = str(Path(tempfile.mkdtemp(prefix=FOLDER)) / "vectors.db")
        try:
            store = create_store(self.name, dimension, **options)
        except RagdemoError:
            _remove(options.get("uri", ""))
            raise
        if "uri" in options:
            self._files[id(store)] = str(options["uri"])
        return store

    def discard(self, store: VectorStore) -> None:
        """Delete what `make` gave, on a server too; a server out of reach keeps it."""
        try:
            (getattr(store, "drop", None) or store.close)()
        except RagdemoError:
            store.close()
        _remove(self._files.pop(id(store), ""))


def _remove(uri: object) -> None:
    """The folder of a file that `make` made; nothing else."""
    folder = Path(str(uri)).parent
    if folder.name.startswith(FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
