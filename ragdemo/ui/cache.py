"""What all visitors share: models and the sample documents. Nothing of a visitor's own is here, but
for what hosts of rating rooms put into them (`rooms`).

The first visit starts one thread that loads everything; pages look at its progress and stay
responsive. Other generators are loaded when somebody chooses them.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, Encoder, load_encoder
from ragdemo.embedding.dpr import PASSAGES, QUESTIONS
from ragdemo.errors import Busy, ModelUnavailable, RagdemoError
from ragdemo.evaluation.questions import Question, sample_questions
from ragdemo.evaluation.rooms import Rooms
from ragdemo.generation import create
from ragdemo.generation.base import Generator
from ragdemo.generation.hub import MOST_BYTES, TIMEOUT, permit
from ragdemo.loading import load_many, read_folder
from ragdemo.retrieval.reranked import CrossEncoderScorer, QuestionLikelihood, Scorer
from ragdemo.samples import SAMPLE_DOCS, stored
from ragdemo.serving import Ahead, SharedEncoder, SharedGenerator
from ragdemo.settings import Chunking
from ragdemo.types import Chunk, Document


class Judge:
    """A cross-encoder that reads one batch at a time, whoever asks."""

    def __init__(self, scorer: Scorer) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._one = threading.Lock()

    def __call__(self, question: str, chunks: Sequence[Chunk]) -> Sequence[float]:
        with self._one:
            return self._scorer(question, chunks)


class Shared:
    """The encoder, the bundled generator and the sample documents, loaded in the background."""

    def __init__(self) -> None:
        self.stage = "Starting"
        self.share = 0.0  # of the work done
        self.problem: RagdemoError | None = None
        self.encoder: Encoder | None = None
        self.generator: Generator | None = None
        self.ahead: Ahead | None = None  # learns what answers from a passage will need
        self.judge: Scorer | None = None  # the generator as a re-ranker
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
            self.judge = QuestionLikelihood(self.generator)
            self.ahead = Ahead(self.generator.learn)
            self.stage, self.share = "Opening the index of the sample documents", 0.9
            if ready := stored(self.encoder):
                self.documents, self.files = list(ready.documents.values()), ready.originals
                self._indexed[ready.chunking] = ready
            else:
                self.stage, self.share = "Reading the sample documents", 0.5
                self._read()
                self.indexed(Chunking(), self._told)
            # Streamlit collects garbage after every script, under the interpreter's lock: what
            # libraries and models have put there for good is looked through no more
            gc.collect()
            gc.freeze()
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
        held = list(read_folder(SAMPLE_DOCS))
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
        if found := self._indexed.get(chunking):  # nobody waits for somebody else's way of cutting
            return found
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
        if document_id in corpus.documents:
            return
        if corpus.encoder is not self.encoder:  # a fine-tuned one: the vectors here are not its own
            corpus.add(samples.documents[document_id], self.files[document_id])
        else:
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
    # also where nothing is waited for: else what follows stands one place higher on the next run,
    # and what it leaves behind stays on the screen while that one works
    place = st.empty()
    if not found.ready.is_set():
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


def _to_be_had(model: str) -> str:
    """The same id or folder, or ModelUnavailable within seconds: loading would first try for
    minutes to reach a hub that is out of reach, and take a model of any size."""
    permit(model)
    if Path(model).is_dir():
        return model
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        if isinstance(try_to_load_from_cache(model, "model.safetensors"), str):
            return model
        info = HfApi().model_info(model, files_metadata=True, timeout=TIMEOUT)
    except Exception as problem:  # the client's, its HTTP library's: they have no base in common
        raise ModelUnavailable(
            f"{model!r} is no folder here, and the Hugging Face hub does not have it or can't be "
            "reached from this machine. Choose another model, or a retriever without a download."
        ) from problem
    size = sum(f.size or 0 for f in info.siblings or () if f.rfilename == "model.safetensors")
    if not 0 < size <= MOST_BYTES:
        raise ModelUnavailable(
            f"{model!r} has no safetensors weights, or more than the {MOST_BYTES / 1e9:.0f} GB "
            "that this app fetches. Choose another model."
        )
    return model


@st.cache_resource(show_spinner=False, max_entries=2)
def cross_encoder(model: str) -> Judge:
    """A re-ranker, fetched if need be, shared by all who choose it."""
    return Judge(CrossEncoderScorer(_to_be_had(model)))


@st.cache_resource(show_spinner=False, max_entries=1)
def dpr(questions: str, passages: str) -> Encoder:
    """A pair of encoders, fetched if need be; each visitor's vectors stay with the visitor."""
    pair = _to_be_had(questions or QUESTIONS), _to_be_had(passages or PASSAGES)
    return SharedEncoder(DPREncoder(*pair))


@st.cache_resource(show_spinner=False)
def sample_set() -> list[Question]:
    """The questions that come with the sample documents."""
    return sample_questions(SAMPLE_DOCS)


@st.cache_resource(show_spinner=False)
def heavy() -> threading.Semaphore:
    """One large measurement or training at a time on this machine, whoever asks for it."""
    return threading.Semaphore(1)


@contextmanager
def heavy_turn(wait: float, said: str) -> Iterator[None]:
    """The machine to oneself; raises `Busy`, with this sentence, after so many seconds."""
    turn = heavy()
    if not turn.acquire(timeout=wait):
        raise Busy(said, 60)
    try:
        yield
    finally:
        turn.release()


@st.cache_resource(show_spinner=False)
def rooms() -> Rooms:
    """Rooms where several visitors rate the same answers: what their hosts put in, and no more."""
    return Rooms()
