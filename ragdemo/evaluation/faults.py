"""Wrong answers, sorted by where they went wrong, each with its evidence.

Rules on what was found and written, no judge. The order matters: a question whose gold answer does
not stand where the set says it does is the set's fault before it is anybody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ragdemo.corpus import Corpus
from ragdemo.evaluation.answers import contains
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.ranking import Place, touches
from ragdemo.evaluation.run import Result
from ragdemo.types import Hit

FAULTS: Mapping[str, str] = {
    "retrieval missed": "No passage the generator read holds the answer: mend the search.",
    "generator ignored": "A passage it read holds the answer, and the answer does not: mend the "
    "generator, or give it fewer passages.",
    "refused wrongly": "A passage it read holds the answer, and it said that there is none.",
    "should have refused": "The documents don't say, and it answered all the same.",
    "gold is odd": "The accepted answer does not stand where the question set says: check the set "
    "first.",
    "nothing to go by": "No passage was looked up: this is what the model has by itself.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong answer."""

    asked: Question
    result: Result
    kind: str  # a key of FAULTS
    because: str  # the evidence in a sentence; may hold names of files
    at: int | None = None  # the place, from 1, of the passage that holds the answer


def faults(asked: Sequence[Question], results: Iterable[Result], corpus: Corpus) -> list[Fault]:
    """Every result that is not right, in the order of the results. `corpus`: any whose documents
    are the ones that were asked, however they are cut."""
    known = {q.id: q for q in asked}
    wrong = (r for r in results if r.right is False and r.id in known)
    return [_sorted(known[r.id], r, corpus) for r in wrong]


def _sorted(asked: Question, result: Result, corpus: Corpus) -> Fault:
    if not asked.answerable:
        return Fault(asked, result, "should have refused", "The set says the documents don't say.")
    if odd := _odd(asked, corpus):
        return Fault(asked, result, "gold is odd", odd)
    if not result.hits:
        found = "The question alone was read."
        return Fault(asked, result, "nothing to go by", found)
    holding = [n for n, hit in enumerate(result.hits, start=1) if holds(hit, asked)]
    at = next(iter(holding), None)
    if at is None or at > result.read:
        where = (
            f"It came in place {at}, and the prompt had room for {result.read}."
            if at
            else f"None of {len(result.hits)} passages holds it. {_page(asked, result.hits)}"
        )
        return Fault(asked, result, "retrieval missed", where, at)
    kind = "refused wrongly" if result.refused else "generator ignored"
    return Fault(asked, result, kind, f"Passage {at} holds the answer.", at)


def holds(hit: Hit, asked: Question) -> bool:
    """On a gold page, where those are known, and with an accepted short answer in it, where there
    is one."""
    on = not asked.places or any(touches(hit, place) for place in asked.places)
    return on and (not asked.short or bool(contains(hit.chunk.content, asked.short)))


def _page(asked: Question, hits: Sequence[Hit]) -> str:
    at = next((n for n, h in enumerate(hits, 1) if any(touches(h, p) for p in asked.places)), None)
    return f"Passage {at} is of the right page, and another part of it." if at else ""


def _odd(asked: Question, corpus: Corpus) -> str:
    """Why the gold answer can't be what it says, or ""."""
    texts = [_text(place, corpus) for place in asked.places]
    for (file, pages), text in zip(asked.places, texts, strict=True):
        if text is None:
            return f"{file}, page {_numbers(pages)}, is not among the documents."
        if not text.strip():
            return f"{file}, page {_numbers(pages)}, gave no text: it may be a scan."
    if asked.short and texts and not any(contains(text, asked.short) for text in texts):
        return "None of the accepted short answers stands on the gold pages."
    return ""


def _numbers(pages: Sequence[int]) -> str:
    return ", ".join(map(str, pages))


def _text(place: Place, corpus: Corpus) -> str | None:
    """The text of a place; None where the file or none of its pages is there."""
    file, pages = place
    document = next((d for d in corpus.documents.values() if d.name == file), None)
    if document is None:
        return None
    parts = [document.text[p.start : p.end] for p in document.pages if p.number in pages]
    return "\n".join(parts) if parts else None
