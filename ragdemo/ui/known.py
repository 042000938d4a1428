"""Questions whose answer is known, and how a passage is told to hold it."""

from __future__ import annotations

from dataclasses import dataclass

from ragdemo.evaluation.ranking import Place
from ragdemo.types import Chunk
from ragdemo.ui import cache
from ragdemo.ui.state import Visitor


@dataclass(frozen=True, slots=True)
class Sample:
    """A question about the sample documents that shows something, measured in the tests."""

    button: str
    icon: str
    question: str
    file: str
    evidence: str  # in the passage that answers
    lesson: str


SAMPLES = (
    Sample(
        "As the policy says it",
        ":material/format_quote:",
        "How soon must a lost or stolen phone be reported?",
        "mobile-phone-policy.pdf",
        "handset must be reported to the Service Desk",
        "The question uses the policy's own words, so comparing words and comparing meanings both "
        "find it. Now ask the same thing in other words.",
    ),
    Sample(
        "The same in other words",
        ":material/autorenew:",
        "My company mobile has gone missing; how fast do I need to tell someone?",
        "mobile-phone-policy.pdf",
        "handset must be reported to the Service Desk",
        "A paraphrase shares few words with the passage that answers it. Retrievers that count "
        "words lose it; the dense one, which compares meanings, keeps it.",
    ),
    Sample(
        "A rare code",
        ":material/tag:",
        "What is form HR-14 for?",
        "remote-work-policy.pdf",
        "in Harbour with form HR-14",
        "A code has no meaning that an encoder has learnt, so dense search goes astray. For "
        "counting words, a word that stands in a single passage is the best clue there is.",
    ),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the answer to a known question stands."""

    where: str  # for the visitor
    mark: str  # what is said of a passage that holds it
    evidence: str = ""  # exactly this text; or, without it, anything on these pages
    places: tuple[Place, ...] = ()

    def holds(self, chunk: Chunk) -> bool:
        if self.evidence:
            return self.evidence in " ".join(chunk.text.split())
        return any(
            chunk.document_name == file and not set(pages).isdisjoint(chunk.pages)
            for file, pages in self.places
        )


def answer(me: Visitor, question: str) -> Answer | None:
    """What is known of the answer, if the question is one of ours or of the set in use, and its
    file is here."""
    for sample in SAMPLES:
        if sample.question == question and sample.file in me.corpus.files:
            return Answer(sample.file, "holds the answer", sample.evidence)
    for asked in me.questions[1] if me.questions else cache.sample_set():
        places = tuple(p for p in asked.places if p[0] in me.corpus.files)
        if asked.question == question and places:
            file, pages = places[0]
            named = "page" if len(pages) == 1 else "pages"
            where = f"{file}, {named} {', '.join(map(str, pages))}"
            return Answer(where, "on a page with the answer", places=places)
    return None
