"""What belongs to one visitor, behind one accessor: `visitor()`.

It lives in a session-scoped cache, not in `st.session_state`, so that documents and index go when
the visitor leaves (measured: within 3 s; session state stays until another session disconnects).
Only the values of widgets are in the session state, and never a key.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.embedding import Encoder
from ragdemo.evaluation.arms import USUAL, Arm
from ragdemo.evaluation.humane import Item, Vote
from ragdemo.evaluation.questions import Question
from ragdemo.generation.base import Generator
from ragdemo.pipeline import Update
from ragdemo.retrieval import Retriever
from ragdemo.serving import Ticket
from ragdemo.serving.memory import give_back_soon
from ragdemo.settings import Ask, Chunking, Limits
from ragdemo.training.pairs import Pair
from ragdemo.types import Chunk, Comparison, Decoding, FileReport, Hit
from ragdemo.ui.store import StoreMaker
from ragdemo.ui.work import Work

TURNS = 20  # kept of a conversation; each holds its passages
IMAGES = 40  # page pictures kept, about 100 KB each


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the retrievers are made; defaults are their own."""

    inner: str = "dense"  # the search behind re-ranking, diversity, neighbours and expansion
    k1: float = 1.5  # BM25
    b: float = 0.75  # BM25
    share: float = 0.5  # of dense in weighted scores
    trade: float = 0.7  # MMR's lambda
    judge: str = ""  # a cross-encoder's id; "": the bundled generator re-ranks
    questions: str = ""  # DPR's encoder of questions; "": the usual one
    passages: str = ""  # and of passages


@dataclass
class Rating:
    """Answers this visitor rates, alone or in a room."""

    items: list[Item] = field(default_factory=list)
    votes: dict[str, Vote] = field(default_factory=dict)  # this visitor's, by item
    rater: str = "rater 1"
    code: str = ""  # of the room; "": alone
    key: str = ""  # the host's; "" for guests


@dataclass
class Job:
    """Longer work under way on a page; see `running`."""

    kind: str
    work: Work[Any]
    reins: Any  # a `running.Reins`
    begun: float = field(default_factory=time.monotonic)


@dataclass
class Visitor:
    """One visitor's documents, conversation and choices."""

    limits: Limits = field(default_factory=Limits)
    chunking: Chunking = field(default_factory=Chunking)
    corpus: Corpus | None = None  # made with the samples as soon as the encoder is there
    learnt: list[Chunk] | None = None  # of the corpus, as last given to `Shared.ahead`
    turns: list[Comparison] = field(default_factory=list)  # oldest first
    asking: str = ""  # a question that waits to be answered
    working: Work[Update] | None = None  # the question under way
    failed: str = ""  # why the last question has no answer
    ask: Ask = field(default_factory=Ask)
    decoding: Decoding = field(default_factory=Decoding)
    generator: Generator | None = None  # None: the bundled one; may hold a visitor's key
    tuned: Generator | None = None  # takes the bundled one's place
    marked: list[Pair] = field(default_factory=list)  # passages said to answer a question
    keys: int = 0  # how many times the field for a key was emptied
    reports: list[FileReport] = field(default_factory=list)  # of the last upload, newest first
    locked: dict[str, bytes] = field(
        default_factory=dict
    )  # encrypted files that wait for a password
    taken: set[str] = field(default_factory=set)  # uploads already read, by Streamlit's file id
    uploads: int = 0  # how many times the uploader was emptied
    summaries: dict[str, list[tuple[str, Hit]]] = field(default_factory=dict)  # by document id
    images: dict[tuple[str, int, str], bytes] = field(default_factory=dict)
    retriever: str = "dense"  # how the Ask page finds passages
    tuning: Tuning = field(default_factory=Tuning)
    retrievers: dict[object, Retriever] = field(default_factory=dict)  # made for `corpus`
    store: StoreMaker | None = None  # None: FAISS, exact; may hold a visitor's key
    questions: tuple[str, list[Question]] | None = None  # name and rows; None: the samples'
    ticket: Ticket = field(default_factory=Ticket)  # of what a script waits for itself
    made: list[Question] = field(default_factory=list)  # questions made by clicking passages
    arms: list[Arm] = field(default_factory=lambda: list(USUAL))  # the visitor's own
    rating: Rating = field(default_factory=Rating)
    box: str = "question"  # opened in the Pipeline page's diagram
    job: Job | None = None  # longer work under way
    results: dict[str, Any] = field(default_factory=dict)  # by kind of work, its last news
    problems: dict[str, str] = field(default_factory=dict)  # by kind of work, why it failed

    def turn(self) -> Ticket:
        """For models' work in a script itself: `with me.turn():`. Whatever an earlier script still
        waits for is given up, and all of it when the visitor leaves."""
        self.ticket = Ticket(instead=self.ticket)
        return self.ticket

    @property
    def last(self) -> Comparison | None:
        return self.turns[-1] if self.turns else None

    def add_turn(self, comparison: Comparison) -> None:
        self.turns = [*self.turns, comparison][-TURNS:]

    def history(self) -> list[tuple[str, str]]:
        """(question, answer) of the turns so far, oldest first."""
        return [(turn.question, turn.grounded.text) for turn in self.turns]

    def empty_corpus(self, encoder: Encoder, chunking: Chunking) -> Corpus:
        """A new one over a store of the kind chosen."""
        store = self.store.make(encoder.dimension) if self.store else None
        return Corpus(encoder, chunking, store)

    def take_corpus(self, corpus: Corpus, maker: StoreMaker | None) -> None:
        """Put it in the place of the one so far, whose vectors go; `maker` made its store."""
        old, old_maker = self.corpus, self.store
        self.corpus, self.chunking, self.store = corpus, corpus.chunking, maker
        self.summaries.clear()
        self.images.clear()
        self.retrievers.clear()
        if old is not None and old_maker is not None:
            old_maker.discard(old.store)

    def keep_image(self, key: tuple[str, int, str], image: bytes) -> None:
        if len(self.images) >= IMAGES:
            self.images.pop(next(iter(self.images)))
        self.images[key] = image


LINGER = 1.0  # seconds that the last script of somebody who left may still hold what it draws


def _left(me: Visitor) -> None:
    """Nothing goes on for somebody who is gone. Called on the server's own loop: what takes time
    is done elsewhere."""
    me.ticket.cancelled.set()
    for work in (me.working, me.job.work if me.job else None):
        if work:
            work.cancel()
    timer = threading.Timer(LINGER, _let_go, (me,))
    timer.daemon = True
    timer.start()


def _let_go(me: Visitor) -> None:
    """Streamlit keeps a closed session for minutes, and with it the visitor that its fragments and
    buttons hold: what is in there goes now."""
    corpus, store = me.corpus, me.store
    vars(me).update(vars(Visitor()))
    give_back_soon()
    if corpus and store:
        store.discard(corpus.store)  # perhaps on a server that does not answer


@st.cache_resource(scope="session", show_spinner=False, on_release=_left)
def visitor() -> Visitor:
    """This visitor. The only way to it."""
    return Visitor()
