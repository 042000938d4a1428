"""What belongs to one visitor, behind one accessor: `visitor()`.

It lives in a session-scoped cache, not in `st.session_state`, so that documents and index go when
the visitor leaves (measured: within 3 s; session state stays until another session disconnects).
Only the values of widgets are in the session state, and never a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.generation.base import Generator
from ragdemo.settings import Ask, Chunking, Limits
from ragdemo.types import Comparison, Decoding, FileReport, Hit
from ragdemo.ui.work import Work

TURNS = 20  # kept of a conversation; each holds its passages
IMAGES = 40  # page pictures kept, about 100 KB each


@dataclass
class Visitor:
    """One visitor's documents, conversation and choices."""

    limits: Limits = field(default_factory=Limits)
    chunking: Chunking = field(default_factory=Chunking)
    corpus: Corpus | None = None  # made with the samples as soon as the encoder is there
    turns: list[Comparison] = field(default_factory=list)  # oldest first
    asking: str = ""  # a question that waits to be answered
    working: Work | None = None  # the question under way
    failed: str = ""  # why the last question has no answer
    ask: Ask = field(default_factory=Ask)
    decoding: Decoding = field(default_factory=Decoding)
    generator: Generator | None = None  # None: the bundled one; may hold a visitor's key
    keys: int = 0  # how many times the field for a key was emptied
    reports: list[FileReport] = field(default_factory=list)  # of the last upload, newest first
    locked: dict[str, bytes] = field(
        default_factory=dict
    )  # encrypted files that wait for a password
    taken: set[str] = field(default_factory=set)  # uploads already read, by Streamlit's file id
    uploads: int = 0  # how many times the uploader was emptied
    summaries: dict[str, list[tuple[str, Hit]]] = field(default_factory=dict)  # by document id
    images: dict[tuple[str, int, str], bytes] = field(default_factory=dict)

    @property
    def last(self) -> Comparison | None:
        return self.turns[-1] if self.turns else None

    def add_turn(self, comparison: Comparison) -> None:
        self.turns = [*self.turns, comparison][-TURNS:]

    def history(self) -> list[tuple[str, str]]:
        """(question, answer) of the turns so far, oldest first."""
        return [(turn.question, turn.grounded.text) for turn in self.turns]

    def keep_image(self, key: tuple[str, int, str], image: bytes) -> None:
        if len(self.images) >= IMAGES:
            self.images.pop(next(iter(self.images)))
        self.images[key] = image


@st.cache_resource(scope="session", show_spinner=False)
def visitor() -> Visitor:
    """This visitor. The only way to it."""
    return Visitor()
