"""What all visitors share: models and the sample documents. Nothing of a visitor's own is here.

The first visit starts one thread that loads everything; pages look at its progress and stay
responsive. Other generators are loaded when somebody chooses them.
"""

from __future__ import annotations

import threading
from pathlib import Path

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder, load_encoder
from ragdemo.errors import ModelUnavailable, RagdemoError
from ragdemo.generation import create
from ragdemo.generation.base import Generator
from ragdemo.loading import load_many, read_folder
from ragdemo.serving import SharedEncoder, SharedGenerator
from ragdemo.settings import Chunking
from ragdemo.types import Document

SAMPLES = Path(__file__).resolve().parents[2] / "sample_docs"


class Shared:
    """The encoder, the bundled generator and the sample documents, loaded in the background."""

    def __init__(self) -> None:
        self.stage = "Starting"
        self.share = 0.0  # of the work done
        self.problem: RagdemoError | None = None
        self.encoder: Encoder | None = None
        self.generator: Generator | None = None
        self.files: dict[str, bytes] = {}  # the samples' bytes by document id
        self.documents: list[Document] = []
        self._indexed: dict[Chunking, Corpus] = {}
        self._one = threading.Lock()
        self.ready = threading.Event()
        threading.Thread(target=self._load, name="loading", daemon=True).start()

    def _load(self) -> None:
        try:
            self.stage, self.share = "Loading the encoder that compares meanings", 0.05
            self.encoder = SharedEncoder(load_encoder())
            self.stage, self.share = "Loading the generator that writes answers", 0.35
            self.generator = SharedGenerator(create("mini", encoder=self.encoder))
            self.stage, self.share = "Reading the sample documents", 0.5
            self._read()
            self.indexed(Chunking(), self._told)
        except RagdemoError as problem:
            self.problem = problem
        except Exception as problem:  # a visitor must see why nothing comes
            self.problem = ModelUnavailable(
                f"Loading failed ({type(problem).__name__}: {problem}). Restart the app; if it "
                "fails again, install the packages of requirements.txt anew."
            )
        finally:
            self.ready.set()

    def _read(self) -> None:
        held = list(read_folder(SAMPLES))
        data = dict(held)
        for number, loaded in enumerate(load_many(held), start=1):
            self.share = 0.5 + 0.2 * number / len(held)
            if isinstance(loaded, Document):
                self.documents.append(loaded)
                self.files[loaded.id] = data[loaded.name]

    def _told(self, done: int, total: int) -> None:
        self.stage = f"Indexing the sample documents: {done} of {total}"
        self.share = 0.7 + 0.3 * done / max(1, total)

    def indexed(self, chunking: Chunking, progress=None) -> Corpus:
        """The samples cut this way, made once. `progress` gets (documents done, in all)."""
        with self._one:
            if chunking not in self._indexed:
                corpus = Corpus(self.encoder, chunking)
                for number, document in enumerate(self.documents, start=1):
                    corpus.add(document, self.files[document.id])
                    if progress:
                        progress(number, len(self.documents))
                if len(self._indexed) > 3:  # the default stays, the oldest other goes
                    self._indexed.pop(list(self._indexed)[1])
                self._indexed[chunking] = corpus
            return self._indexed[chunking]

    def give_samples(self, corpus: Corpus, progress=None) -> None:
        """Put the samples into a visitor's corpus; text and vectors are shared, not copied."""
        samples = self.indexed(corpus.chunking, progress)
        for document_id in samples.documents:
            self.give(corpus, document_id, samples)

    def give(self, corpus: Corpus, document_id: str, samples: Corpus) -> None:
        """One sample, if it is not there. Public text: both corpora may hold the same objects."""
        if document_id not in corpus.documents:
            corpus.adopt(
                samples.documents[document_id],
                samples.chunks_of(document_id),
                samples.vectors_of(document_id),
            )
            corpus.originals[document_id] = self.files[document_id]


@st.cache_resource(show_spinner=False)
def _shared() -> Shared:
    return Shared()


def shared() -> Shared:
    """Loaded or loading; one that failed is started anew."""
    found = _shared()
    if found.ready.is_set() and found.problem:
        _shared.clear()
    return found


def wait() -> Shared:
    """The shared things, with a visible status while they load. Raises RagdemoError."""
    found = shared()
    if not found.ready.is_set():
        place = st.empty()
        with place.container(), st.status("Getting ready (once after a start)", expanded=True):
            bar = st.progress(0.0)
            while not found.ready.wait(0.1):
                bar.progress(found.share, f"{found.stage} …")
        place.empty()
    if found.problem:
        raise found.problem
    return found


@st.cache_resource(show_spinner=False, max_entries=2)
def hub_generator(model: str) -> Generator:
    """A Hugging Face model, fetched if need be, shared by all who choose it."""
    return SharedGenerator(create("model", model=model))
