"""A folder of PDFs made searchable, as five libraries' own beginners' pages do it.

    python benchmarks/quickstarts.py NAME JOB.json      run by peers.py; writes JSON lines

Each class takes the folder of a sentence-transformers model, loads it when made, and keeps the
splitter, the reader and the store of the page it names. `index` takes a folder and gives the number
of chunks; `search` gives the five best as (file, pages from 1). Deviations are said where they
stand. Nothing here is timed but by `main`, between the model's arrival and the last chunk's.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Protocol

K = 5

Found = list[tuple[str, tuple[int, ...]]]  # file and its pages that the chunk touches, best first


class QuickStart(Protocol):
    def __init__(self, model: str) -> None: ...

    def index(self, folder: Path) -> int: ...

    def search(self, question: str) -> Found: ...


class Ragdemo:
    """README.md, "In a terminal, in a notebook"."""

    def __init__(self, model: str) -> None:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from ragdemo import build, load_encoder, read_folder

        self._build, self._read, self._encoder = build, read_folder, load_encoder()

    def index(self, folder: Path) -> int:
        self._corpus = self._build(self._read(folder), self._encoder)
        for report in self._corpus.reports:
            if report.error or report.hit_limit:  # a page not read would count as a fast one
                raise RuntimeError(report.error or report.hit_limit)
        return len(self._corpus.chunks)

    def search(self, question: str) -> Found:
        from ragdemo.retrieval import create

        hits = create("dense", self._corpus).search(question, K)
        return [(hit.chunk.document_name, hit.chunk.pages) for hit in hits]


class LangChain:
    """docs.langchain.com, "Build a semantic search engine with LangChain" (LangChain 1):
    PyPDFLoader, 1,000 characters with 200 repeated, FAISS as on the tabs of its vector stores."""

    def __init__(self, model: str) -> None:
        import faiss
        from langchain_community.docstore.in_memory import InMemoryDocstore
        from langchain_community.document_loaders import PyPDFLoader
        from langchain_community.vectorstores import FAISS
        from langchain_huggingface import HuggingFaceEmbeddings
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        embeddings = HuggingFaceEmbeddings(model_name=model)
        self._load = PyPDFLoader
        self._split = RecursiveCharacterTextSplitter(
            chunk_size=1000, chunk_overlap=200, add_start_index=True
        )

        def store() -> FAISS:
            dimension = len(embeddings.embed_query("hello world"))
            return FAISS(
                embedding_function=embeddings,
                index=faiss.IndexFlatL2(dimension),
                docstore=InMemoryDocstore(),
                index_to_docstore_id={},
            )

        self._new_store = store

    def index(self, folder: Path) -> int:
        docs = [page for file in pdfs(folder) for page in self._load(str(file)).load()]
        splits = self._split.split_documents(docs)
        self._store = self._new_store()
        return len(self._store.add_documents(documents=splits))

    def search(self, question: str) -> Found:
        return [
            (Path(doc.metadata["source"]).name, (doc.metadata["page"] + 1,))
            for doc in self._store.similarity_search(question, k=K)
        ]


class LlamaIndex:
    """developers.llamaindex.ai, "Starter Tutorial (Using Local LLMs)" (0.14):
    SimpleDirectoryReader and VectorStoreIndex as they stand. Its splitter cuts at 1,024 tokens, a
    page at most, and the encoder reads the first 256 of them, the file's metadata first."""

    def __init__(self, model: str) -> None:
        from llama_index.core import Settings, SimpleDirectoryReader, VectorStoreIndex
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        from llama_index.readers import file  # noqa: F401, the reader would import it when asked

        Settings.embed_model = HuggingFaceEmbedding(model_name=model)
        self._read, self._index = SimpleDirectoryReader, VectorStoreIndex

    def index(self, folder: Path) -> int:
        documents = self._read(str(folder)).load_data()
        self._made = self._index.from_documents(documents)
        # the label that a PDF prints on a page is no number: count as the reader does
        count: dict[str, int] = {}
        self._page: dict[str, int] = {}
        for document in documents:
            name = document.metadata["file_name"]
            count[name] = self._page[document.id_] = count.get(name, 0) + 1
        return len(self._made.index_struct.nodes_dict)

    def search(self, question: str) -> Found:
        found = self._made.as_retriever(similarity_top_k=K).retrieve(question)
        return [(n.metadata["file_name"], (self._page[n.node.ref_doc_id],)) for n in found]


class Haystack:
    """haystack.deepset.ai, tutorial 30, "Preprocessing Different File Types" (Haystack 3): its PDF
    branch, 150 words with 50 repeated, InMemoryDocumentStore; it names this very model."""

    def __init__(self, model: str) -> None:
        from haystack import Pipeline
        from haystack.components.converters import PyPDFToDocument
        from haystack.components.preprocessors import DocumentCleaner, DocumentSplitter
        from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
        from haystack.components.writers import DocumentWriter
        from haystack.document_stores.in_memory import InMemoryDocumentStore
        from haystack_integrations.components.embedders.sentence_transformers import (
            SentenceTransformersDocumentEmbedder,
            SentenceTransformersTextEmbedder,
        )

        embedder = SentenceTransformersDocumentEmbedder(model=model, progress_bar=False)
        asking = SentenceTransformersTextEmbedder(model=model, progress_bar=False)
        embedder.warm_up()
        asking.warm_up()

        self._store = InMemoryDocumentStore()
        self._indexing = Pipeline()
        for name, part in (
            ("converter", PyPDFToDocument()),
            ("cleaner", DocumentCleaner()),
            ("splitter", DocumentSplitter(split_by="word", split_length=150, split_overlap=50)),
            ("embedder", embedder),
            ("writer", DocumentWriter(self._store)),
        ):
            self._indexing.add_component(name, part)
        self._indexing.connect("converter", "cleaner")
        self._indexing.connect("cleaner", "splitter")
        self._indexing.connect("splitter", "embedder")
        self._indexing.connect("embedder", "writer")
        self._search = Pipeline()
        self._search.add_component("embedder", asking)
        self._search.add_component("retriever", InMemoryEmbeddingRetriever(self._store, top_k=K))
        self._search.connect("embedder.embedding", "retriever.query_embedding")

    def index(self, folder: Path) -> int:
        self._store.delete_documents([d.id for d in self._store.filter_documents()])
        made = self._indexing.run({"converter": {"sources": pdfs(folder)}})
        return made["writer"]["documents_written"]

    def search(self, question: str) -> Found:
        found = self._search.run({"embedder": {"text": question}})["retriever"]["documents"]
        return [(Path(d.meta["file_path"]).name, self._pages(d)) for d in found]

    @staticmethod
    def _pages(document) -> tuple[int, ...]:
        """From the page it begins on, one more for each form feed in it."""
        first = document.meta["page_number"]
        return tuple(range(first, first + document.content.count("\f") + 1))


class Txtai:
    """txtai's notebook 52, "Build RAG pipelines with txtai" (9): Textractor by paragraphs,
    Embeddings with content. Of its readers Docling brings another torch and Tika a download, so it
    reads with LiteParse, whose OCR, a download too, is off. It keeps neither file nor page: the
    file is told by the order of its chunks, the pages are those that hold most of a chunk's words.
    """

    def __init__(self, model: str) -> None:
        from liteparse import LiteParse
        from txtai import Embeddings
        from txtai.pipeline import Textractor

        self._extract = Textractor(paragraphs=True, backend="liteparse")
        self._extract.html.backend.liteparse = LiteParse(
            output_format="markdown", ocr_enabled=False, quiet=True
        )
        self._embeddings = Embeddings(path=model, content=True)
        self._pages: dict[Path, list[set[str]]] = {}

    def index(self, folder: Path) -> int:
        self._files: list[Path] = []

        def stream():
            for file in pdfs(folder):
                for paragraph in self._extract(str(file)):
                    self._files.append(file)
                    yield paragraph

        self._embeddings.index(stream())
        return self._embeddings.count()

    def search(self, question: str) -> Found:
        found = []
        for row in self._embeddings.search(question, K):
            file = self._files[int(row["id"])]
            if file not in self._pages:
                self._pages[file] = [runs(text) for text in page_texts(file)]
            found.append((file.name, likeliest(row["text"], self._pages[file])))
        return found


def pdfs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pdf"))


def page_texts(file: Path) -> list[str]:
    from pypdf import PdfReader

    return [page.extract_text() for page in PdfReader(file).pages]


def runs(text: str) -> set[str]:
    """Every run of three words, or all the words of a shorter text."""
    words = re.findall(r"\w+", text.casefold())
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def likeliest(chunk: str, pages: list[set[str]]) -> tuple[int, ...]:
    """The pages, from 1, that share most runs of words with the chunk; all of them where several
    share as many, so that no doubt counts against it."""
    mine = runs(chunk)
    shared = [len(mine & page) for page in pages]
    return tuple(n for n, count in enumerate(shared, 1) if count == max(shared))


QUICK_STARTS: dict[str, Callable[[str], QuickStart]] = {
    "ragdemo": Ragdemo,
    "LangChain + FAISS": LangChain,
    "LlamaIndex": LlamaIndex,
    "Haystack": Haystack,
    "txtai": Txtai,
}


def main() -> None:
    """Says {"ready": s}, then {"seconds", "processor", "chunks"}, then {"found"} where questions
    are asked. `processor` counts the seconds of all cores, those of ended children included."""
    name, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    out = sys.stdout

    def say(**facts: object) -> None:
        print(json.dumps(facts), file=out, flush=True)

    with redirect_stdout(sys.stderr):
        begun = time.perf_counter()
        way = QUICK_STARTS[name](job["model"])
        say(ready=time.perf_counter() - begun)
        begun, busy = time.perf_counter(), sum(os.times()[:4])
        chunks = way.index(Path(job["folder"]))
        say(
            seconds=time.perf_counter() - begun, processor=sum(os.times()[:4]) - busy, chunks=chunks
        )
        if job["questions"]:
            way.index(Path(job["asked"]))
            say(found=[way.search(question) for question in job["questions"]])


if __name__ == "__main__":
    main()
