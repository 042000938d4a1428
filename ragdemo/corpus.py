"""A visitor's documents with their chunks and vectors: add one, remove one, search, carry away.

Adding or removing a file never touches the vectors of the others. Nothing here is shared between
visitors, and nothing is written to disk. Knows nothing of generators or pages.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict
from functools import cached_property

import numpy as np

from ragdemo.chunking import chunk
from ragdemo.embedding import Encoder, Progress
from ragdemo.errors import DocumentError, IndexMismatch, RagdemoError
from ragdemo.facts import loads, value
from ragdemo.settings import MIB, Chunking, Limits
from ragdemo.stores import VectorStore
from ragdemo.stores.faiss import FaissStore
from ragdemo.types import Chunk, Document, FileReport

# Questions no handbook answers: what they score is what a nonsense question scores here.
NONSENSE = (
    "Which glaze keeps a violet comet from fermenting?",
    "How loudly do square elephants knit marble?",
    "Why does the seventh moon of porridge sing backwards?",
    "What colour is the inside of a Tuesday?",
    "Who invented the underwater bicycle orchestra of Saturn?",
    "Do clouds prefer alphabetical soup or invisible trombones?",
    "When did the carpet elect its first penguin?",
    "How many whispers fit in a rusty equation?",
)
FORMAT = "ragdemo-index-1"
IMPORT_BYTES = 200 * MIB  # unpacked size of an imported index
IMPORT_VALUES = 5_000_000  # lists, objects and commas in it: a short file of them fills gigabytes
_LONGEST = Limits().characters


class Corpus:
    """Documents, chunks and a vector store that belong together.

    `encoder` only has to keep the `Encoder` protocol; the vectors of every chunk it embedded are
    rows of `vectors`, in the order of `chunks`. `store` is the corpus's own: no other corpus writes
    to it. Without one, the vectors are searched exactly, in memory.
    """

    def __init__(
        self,
        encoder: Encoder,
        chunking: Chunking = Chunking(),
        store: VectorStore | None = None,
    ) -> None:
        if store is not None and store.dimension != encoder.dimension:
            raise IndexMismatch(
                f"The vector store holds vectors of {store.dimension} dimensions; the encoder "
                f"{encoder.name!r} gives {encoder.dimension}. Choose another store or encoder."
            )
        self.encoder = encoder
        self.chunking = chunking
        self.documents: dict[str, Document] = {}  # by id, in the order they came
        self.originals: dict[str, bytes] = {}  # file bytes by document id, for page images
        self.passwords: dict[str, str] = {}
        self.reports: list[FileReport] = []  # of every file tried, those left out included
        self._chunks: dict[str, list[Chunk]] = {}
        self._vectors: dict[str, np.ndarray] = {}
        self._store = FaissStore(encoder.dimension) if store is None else store
        self._by_id: dict[str, Chunk] = {}
        self._made: dict[str, object] = {}  # what was worked out since the last change
        self._floor: tuple[str, float] | None = None

    # -- what is in it

    @property
    def chunks(self) -> list[Chunk]:
        """All of them, document after document; the same list until the corpus changes."""
        if "chunks" not in self._made:
            self._made["chunks"] = [c for part in self._chunks.values() for c in part]
        return self._made["chunks"]

    def number(self, chunk_id: str) -> int:
        """The place of a chunk in `chunks`, and of its vector in `vectors`."""
        if "numbers" not in self._made:
            self._made["numbers"] = {c.id: i for i, c in enumerate(self.chunks)}
        return self._made["numbers"][chunk_id]

    @property
    def vectors(self) -> np.ndarray:
        """[n, dimension] float32, in the order of `chunks`."""
        if "vectors" not in self._made:
            empty = np.zeros((0, self.encoder.dimension), np.float32)
            joined = np.concatenate([empty, *self._vectors.values()])
            joined.flags.writeable = False
            start = 0
            for name, part in self._vectors.items():  # views: nothing is held twice
                self._vectors[name] = joined[start : start + len(part)]
                start += len(part)
            self._made["vectors"] = joined
        return self._made["vectors"]

    @property
    def store(self) -> VectorStore:
        return self._store

    @property
    def files(self) -> Mapping[str, str]:
        """File name -> SHA-256 of its bytes."""
        return {document.name: document.id for document in self.documents.values()}

    def chunks_of(self, document_id: str) -> list[Chunk]:
        return list(self._chunks.get(document_id, ()))

    def vectors_of(self, document_id: str) -> np.ndarray:
        """[chunks of the document, dimension]."""
        return self._vectors[document_id]

    @property
    def fingerprint(self) -> str:
        """Changes with the encoder, the chunking and the set of files; 16 hex digits."""
        if "fingerprint" not in self._made:
            facts = [self.encoder.name, self.encoder.dimension, asdict(self.chunking)]
            facts.append(sorted(self.documents))
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            self._made["fingerprint"] = digest[:16]
        return self._made["fingerprint"]

    def bytes(self) -> int:
        """Memory of vectors, text and original files, about."""
        text = sum(len(d.text) for d in self.documents.values())
        vectors = len(self._by_id) * self.encoder.dimension * 4 + (self._store.bytes() or 0)
        return vectors + text * 2 + sum(map(len, self.originals.values()))

    # -- changing it

    def add(
        self,
        document: Document,
        data: bytes = b"",
        *,
        password: str = "",
        progress: Progress | None = None,
    ) -> list[Chunk]:
        """Chunk and embed one document; a document already there (same bytes) is left as it is.

        `progress` gets (chunks done, chunks in all) and may raise to stop: nothing is added then.
        """
        if document.id in self.documents:
            return self.chunks_of(document.id)
        chunks = chunk(document, self.encoder.count_tokens, self.chunking, limit=self.encoder.limit)
        vectors = self.encoder.encode_passages([c.content for c in chunks], progress)
        self.adopt(document, chunks, vectors)
        if data:
            self.originals[document.id] = data
        if password:
            self.passwords[document.id] = password
        return chunks

    def adopt(self, document: Document, chunks: list[Chunk], vectors: np.ndarray) -> None:
        """Take a document chunked and embedded elsewhere, with this chunking and encoder."""
        # first: a store that fails leaves the corpus as it was
        self._store.add([c.id for c in chunks], vectors, [document.id] * len(chunks))
        self.documents[document.id] = document
        self._chunks[document.id] = chunks
        self._vectors[document.id] = vectors
        self._by_id.update({c.id: c for c in chunks})
        self._made.clear()

    def remove(self, document_id: str) -> None:
        """Forget a document and everything made from it."""
        gone = self._chunks.get(document_id, [])
        self._store.remove([c.id for c in gone])
        for c in gone:
            self._by_id.pop(c.id, None)
        for kept in (
            self.documents,
            self.originals,
            self.passwords,
            self._chunks,
            self._vectors,
        ):
            kept.pop(document_id, None)
        self._made.clear()

    def close(self) -> None:
        """Let go of the store's files and connections; what it keeps elsewhere stays there."""
        self._store.close()

    # -- asking it

    def search(
        self, query: np.ndarray, k: int, documents: Collection[str] | None = None
    ) -> list[tuple[Chunk, float]]:
        """The `k` chunks nearest to one query vector [dimension] with their score, best first.

        The score is the cosine where vectors have length 1. With `documents` (ids), only chunks of
        those. Raises IndexMismatch where the store holds something that isn't this corpus's.
        """
        self._check()
        found = self._store.search(query[None, :], k, documents)[0]
        try:
            return [(self._by_id[name], score) for name, score in found]
        except KeyError:
            raise self._mismatch() from None

    def floor(self) -> float | None:
        """The best cosine a nonsense question reaches on this corpus (mean over `NONSENSE`)."""
        if not self._by_id:
            return None
        if self._floor is None or self._floor[0] != self.fingerprint:
            found = self._store.search(self._nonsense, 1)
            self._floor = (self.fingerprint, float(np.mean([row[0][1] for row in found])))
        return self._floor[1]

    @cached_property
    def _nonsense(self) -> np.ndarray:
        return self.encoder.encode_queries(NONSENSE)

    def _check(self) -> None:
        # a server's count costs a round trip and may lag behind: there the ids found must do
        here = isinstance(self._store, FaissStore)
        if (here and len(self._store) != len(self._by_id)) or (
            self._store.dimension != self.encoder.dimension
        ):
            raise self._mismatch()

    def _mismatch(self) -> IndexMismatch:
        return IndexMismatch(
            "The index does not belong to these documents or this encoder any more. "
            "Index the documents again."
        )

    # -- carrying it away

    def export(self) -> bytes:
        """A zip of JSON and plain arrays (no pickle); the original files are not in it."""
        facts = {
            "format": FORMAT,
            "encoder": self.encoder.name,
            "dimension": self.encoder.dimension,
            "chunking": asdict(self.chunking),
            "fingerprint": self.fingerprint,
            "documents": [asdict(d) for d in self.documents.values()],
            "chunks": {i: [asdict(c) for c in part] for i, part in self._chunks.items()},
        }
        array = io.BytesIO()
        np.save(array, self.vectors, allow_pickle=False)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("index.json", json.dumps(facts, ensure_ascii=False))
            archive.writestr("vectors.npy", array.getvalue())
        return packed.getvalue()

    @classmethod
    def imported(cls, data: bytes, encoder: Encoder, store: VectorStore | None = None) -> Corpus:
        """The corpus that `export` wrote. Raises DocumentError for anything else, IndexMismatch
        where it was made with another encoder. A `store` takes its vectors, also one that has them
        already."""
        try:
            facts, vectors = _unpack(data)
            if facts["encoder"] != encoder.name or facts["dimension"] != encoder.dimension:
                raise IndexMismatch(
                    f"This index was made with the encoder {str(facts['encoder'])[:80]!r}, the one "
                    f"in use is {encoder.name!r}: its vectors mean nothing here. "
                    "Switch the encoder, or index the documents again."
                )
            corpus = cls(encoder, value(Chunking, facts["chunking"]), store)
            start, read = 0, []
            for item in facts["documents"]:
                document = _document(item)
                chunks = [_chunk(c, document) for c in facts["chunks"][document.id]]
                part = vectors[start : start + len(chunks)]
                if len(part) != len(chunks) or not np.isfinite(part).all():
                    raise ValueError("vectors do not match the chunks")
                read.append((document, chunks, np.ascontiguousarray(part, dtype=np.float32)))
                start += len(chunks)
            for document, chunks, part in read:  # a file damaged further on changes no store
                corpus.adopt(document, chunks, part)
            if corpus.fingerprint != facts["fingerprint"]:
                raise ValueError("the fingerprint does not match")
        except RagdemoError:
            raise
        except Exception as problem:  # any broken outside file ends in one sentence
            raise DocumentError(
                "This file is not an index exported by ragdemo, or it was damaged "
                f"({type(problem).__name__}). Export it again and import the new file."
            ) from problem
        return corpus


def _unpack(data: bytes) -> tuple[dict, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if set(sizes) != {"index.json", "vectors.npy"} or sum(sizes.values()) > IMPORT_BYTES:
            raise ValueError("not an index, or too large")
        raw = archive.read("index.json")
        if sum(raw.count(mark) for mark in (b"[", b"{", b",")) > IMPORT_VALUES:
            raise ValueError("too many values")
        facts = loads(raw)
        vectors = np.load(io.BytesIO(archive.read("vectors.npy")), allow_pickle=False)
    if facts["format"] != FORMAT or vectors.ndim != 2 or vectors.shape[1] != facts["dimension"]:
        raise ValueError("unknown format")
    return facts, vectors


def _document(item: object) -> Document:
    document = value(Document, item, longest=_LONGEST)
    pages, end = document.pages, len(document.text)
    spans = [*pages, *document.blocks, *(b.header for b in document.blocks if b.header)]
    if not pages or any(not 0 <= s.start <= s.end <= end for s in spans):
        raise ValueError("an offset lies outside its text")
    return document


def _chunk(item: object, document: Document) -> Chunk:
    made = value(Chunk, item, longest=_LONGEST)
    if document.text[made.start : made.end] != made.text or made.document_id != document.id:
        raise ValueError("a chunk does not match its document")
    if not 0 <= made.start <= made.end:
        raise ValueError("an offset lies outside its text")
    if not {*made.pages} <= {page.number for page in document.pages}:
        raise ValueError("a chunk names a page that is not there")
    return made
