"""Where experiments are done: the sample documents, a generator, and private copies of documents.

The samples are never changed: a private corpus shares their vectors and encodes only what is new.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from ragdemo import pipeline
from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.refusing import refused
from ragdemo.experiments.base import EXCERPT, Arm, Read
from ragdemo.generation import Generator, run
from ragdemo.loading import load
from ragdemo.prompts import source
from ragdemo.retrieval import Retriever
from ragdemo.types import Answer, Chunk, Decoding, Hit

K = 5


@dataclass(frozen=True, slots=True)
class Given:
    """What one arm's generator gets."""

    title: str
    hits: Sequence[Hit] = ()
    question: str = ""  # where it is not the experiment's
    note: str = ""


class Lab:
    """`samples` is a corpus of the sample documents; both models may be shared ones."""

    def __init__(self, samples: Corpus, generator: Generator) -> None:
        self.samples = samples
        self.generator = generator

    def versions(self) -> Mapping[str, str]:
        return pipeline.versions()

    def find(
        self,
        question: str,
        corpus: Corpus | None = None,
        k: int = K,
        retriever: Retriever | None = None,
    ) -> list[Hit]:
        return pipeline.retrieve(question, corpus or self.samples, k, retriever)

    def answers(self, question: str, wanted: str, given: Sequence[Given]) -> list[Arm]:
        """All arms answered in one batch; `wanted` is the text that a right answer holds."""
        decoding = Decoding()
        prompts = [
            self.generator.prompt(g.question or question, g.hits, decoding=decoding) for g in given
        ]
        said = run(self.generator, prompts, [decoding] * len(given))
        return [
            arm(g.title, answer, wanted, g.hits, g.note)
            for g, answer in zip(given, said, strict=True)
        ]

    def document(self, name: str):
        """One of the samples by its file name."""
        for document in self.samples.documents.values():
            if document.name == name:
                return document
        raise RagdemoError(
            f"The sample document {name} is not here. Check out the repository again."
        )

    def chunk(self, evidence: str) -> Chunk:
        """The samples' passage that holds this text, white space aside."""
        for chunk in self.samples.chunks:
            if evidence in " ".join(chunk.text.split()):
                return chunk
        raise RagdemoError("A sample document has changed: its passage for this was not found.")

    def private(
        self, *notes: tuple[str, str], without: Collection[str] = (), changed: Sequence = ()
    ) -> Corpus:
        """The samples, less the files `without`, with notes (name, text) and changed documents."""
        made = Corpus(self.samples.encoder, self.samples.chunking)
        new = {document.name for document in changed}
        for number, document in self.samples.documents.items():
            if document.name not in {*without, *new}:
                vectors = self.samples.vectors_of(number)
                made.adopt(document, self.samples.chunks_of(number), vectors)
        for document in changed:
            made.add(document)
        for name, text in notes:
            made.add(load(text.encode(), name))
        return made


def rewritten(document, pattern: str, new: str):
    """A private copy in which what `pattern` matches, once, reads `new`, of the same length: pages
    and headings stay where they are."""
    text, count = re.subn(pattern, new, document.text)
    if count != 1 or len(text) != len(document.text):
        raise RagdemoError("A sample document has changed: what should be rewritten was not found.")
    return replace(document, id=sha256(text.encode()).hexdigest(), text=text)


def arm(title: str, answer: Answer, wanted: str, hits: Sequence[Hit], note: str = "") -> Arm:
    return Arm(
        title=title,
        answer=answer.text,
        right=holds(answer.text, wanted),
        refused=refused(answer),
        read=tuple(
            Read(source(h), h.chunk.text[:EXCERPT], float(h.score), holds(h.chunk.content, wanted))
            for h in hits
        ),
        note=note,
    )


def holds(text: str, wanted: str) -> bool:
    """Case and white space aside."""
    return wanted.casefold() in " ".join(text.split()).casefold()
