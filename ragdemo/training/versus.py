"""Fine-tuning against retrieval: four ways to answer the same questions, measured.

    base             the generator alone, as it comes
    closed-book      fine-tuned on question -> answer, nothing looked up
    RAG              as it comes, with retrieved passages
    RAG + tuned      fine-tuned on question + passages -> answer

Then the documents change: numbers that were learnt are replaced in a private copy, which is indexed
anew, and the same questions are asked again. Weights remember the old version; retrieval reads the
new one. Questions about documents that nobody trained on tell what was forgotten.
"""

from __future__ import annotations

import hashlib
import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ragdemo.corpus import Corpus
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.evaluation.answers import contains, f1
from ragdemo.evaluation.questions import Question
from ragdemo.generation.base import Generator
from ragdemo.settings import MIB
from ragdemo.text import sentences
from ragdemo.training.generator import (
    CLOSED,
    GROUNDED,
    Lesson,
    answers,
    lessons,
    parted,
    train_generator,
)
from ragdemo.training.likelihood import network
from ragdemo.training.tuning import News, Plan
from ragdemo.types import Document

BASE, CLOSED_BOOK, RAG, RAG_TUNED = "base", "closed-book, fine-tuned", "RAG", "RAG + fine-tuned"
ARMS = (BASE, CLOSED_BOOK, RAG, RAG_TUNED)
GROUPS = {
    "learnt": "questions that were trained on",
    "held out": "other questions about the same documents",
    "other": "questions about documents nobody trained on",
    "changed": "learnt questions whose answer is another in the new version of the document",
}
DOCUMENTS = 3  # with the most questions, unless named
SHOWN = ("learnt", "held out", "other")  # F1 hardly sees one number changed: those are counted
OTHERS = 30  # questions about other documents
# a whole number that is neither part of a longer one nor the day of a date
_NUMBER = re.compile(
    r"(?<![\d.,])\d{1,4}(?!\d|[.,]\d| (?:Jan|Feb|Mar|Apr|May|June|July|Aug|Sep|Oct|Nov|Dec))"
)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of one arm."""

    group: str
    question: str
    expected: str
    answer: str
    f1: float
    found: float  # 1 where an accepted short answer stands in it
    stale: float = 0.0  # 1 where it still says what the version before said
    reached: bool = False  # the sentence that says it was among the passages read


@dataclass(frozen=True, slots=True)
class Arm:
    """What one way came to."""

    name: str
    said: tuple[Said, ...]
    training_seconds: float  # 0 where nothing was trained
    answer_seconds: float  # one answer, median, nothing else asked meanwhile
    megabytes: float  # weights, and the index where one is searched

    def of(self, group: str) -> tuple[Said, ...]:
        return tuple(one for one in self.said if one.group == group)


@dataclass(frozen=True)
class Versus:
    """The whole comparison, or as much of it as there is yet."""

    documents: tuple[str, ...]
    learnt: int
    arms: tuple[Arm, ...] = ()
    changes: tuple[tuple[str, str, str], ...] = ()  # (question, old short answer, new one)
    republish_seconds: float = 0.0  # reading the new version into the index
    news: News | None = field(default=None, compare=False)
    doing: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """A document's new version: numbers replaced, every offset as it was."""

    document: Document
    questions: tuple[tuple[Question, Question], ...]  # as asked before, and as right now


def revise(document: Document, examples: Sequence[Question]) -> Revision:
    """Replace the number in the sentence that answers each example by another of as many digits
    that stands nowhere in the document: "27 days" -> "29 days"."""
    text, pairs = document.text, []
    for example in examples:
        place = _number_in(text, example)
        if place is None:
            continue
        start, end = place
        old, new = text[start:end], _another(text[start:end], text)
        if new is None:
            continue
        text = text[:start] + new + text[end:]
        pairs.append((example, _restated(example, old, new)))
    made = hashlib.sha256(text.encode()).hexdigest()
    return Revision(replace(document, id=made, text=text), tuple(pairs))


def _number_in(text: str, example: Question) -> tuple[int, int] | None:
    """Where the one number of the short answer stands in the sentence that says it."""
    wanted = {number for short in example.short for number in _NUMBER.findall(short)}
    if len(wanted) != 1 or not example.answer:
        return None
    number = wanted.pop()
    best, place = 0.5, None
    for span in sentences(text):
        said = text[span.start : span.end]
        at = [m for m in _NUMBER.finditer(said) if m[0] == number]
        alike = f1(said, [example.answer])
        if len(at) == 1 and alike > best:
            best, place = alike, (span.start + at[0].start(), span.start + at[0].end())
    return place


def _another(number: str, text: str) -> str | None:
    held = set(_NUMBER.findall(text))
    for step in range(2, 60):
        new = str(int(number) + step)
        if len(new) == len(number) and new not in held:
            return new
    return None


def _restated(example: Question, old: str, new: str) -> Question:
    def put(text: str) -> str:
        return _NUMBER.sub(lambda m: new if m[0] == old else m[0], text)

    return replace(example, answer=put(example.answer), short=tuple(map(put, example.short)))


def republished(corpus: Corpus, revisions: Sequence[Revision]) -> Corpus:
    """A private copy of the corpus with the new versions in place of the old ones; only those are
    embedded. The corpus given stays as it is."""
    changed = {revision.document.name: revision.document for revision in revisions}
    new = Corpus(corpus.encoder, corpus.chunking)
    for key, document in corpus.documents.items():
        if document.name in changed:
            new.add(changed[document.name])
        else:
            new.adopt(document, corpus.chunks_of(key), corpus.vectors_of(key))
    return new


def busiest(examples: Sequence[Question], count: int = DOCUMENTS) -> tuple[str, ...]:
    """The documents with most questions."""
    counts = Counter(e.file for e in examples if e.answerable and e.file)
    return tuple(name for name, _ in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:count])


def known(examples: Sequence[Question], corpus: Corpus) -> list[Question]:
    """Those with an answer to learn, about a document of the corpus."""
    return [e for e in examples if e.answerable and e.answer and e.file in corpus.files]


def compare(
    examples: Sequence[Question],
    corpus: Corpus,
    load: Callable[[bool], Generator],
    *,
    documents: Sequence[str] = (),
    seed: int = 0,
    grounded: Plan = GROUNDED,
    closed: Plan = CLOSED,
    others: int = OTHERS,
    cancelled: threading.Event | None = None,
) -> Iterator[Versus]:
    """All four, one after another, each told when it is measured. `load(training)` gives a
    generator that is private to one arm, in float32 where it is to be trained. Raises RagdemoError
    where there are too few questions; ends early, with what there is, once `cancelled` is set."""
    asked = known(examples, corpus)
    names = tuple(documents) or busiest(asked)
    own = [e for e in asked if e.file in names]
    if len(own) < 6:
        raise RagdemoError(
            f"There are {len(own)} questions with answers about these documents; the comparison "
            "needs six or more. Choose other documents or load a question set with answers."
        )
    learn, *rest = parted(own, seed, (0.5, 0.0))
    hold = [one for part in rest for one in part]
    elsewhere = parted([e for e in asked if e.file not in names], seed, (1.0, 0.0))[0][:others]
    documents_by_name = {d.name: d for d in corpus.documents.values()}
    revisions = [
        revise(documents_by_name[name], [e for e in learn if e.file == name]) for name in names
    ]
    began = time.monotonic()
    later = republished(corpus, revisions)
    changed = [pair for revision in revisions for pair in revision.questions]
    state = Versus(
        names, len(learn),
        changes=tuple((old.question, old.short[0], new.short[0]) for old, new in changed),
        republish_seconds=time.monotonic() - began,
    )  # fmt: skip
    stop = cancelled or threading.Event()
    try:
        for name in ARMS:
            retrieving = name in (RAG, RAG_TUNED)
            generator, spent = load(name in (CLOSED_BOOK, RAG_TUNED)), 0.0
            yield (state := replace(state, doing=f"{name}: getting ready", news=None))

            def read(
                asked: Sequence[Question], where: Corpus, teaching: bool = False,
                retrieving: bool = retrieving,
            ) -> list[Lesson]:  # fmt: skip
                return lessons(asked, where, closed_book=not retrieving, teaching=teaching)

            if name in (CLOSED_BOOK, RAG_TUNED):
                plan = replace(grounded if retrieving else closed, seed=seed)
                plan = replace(plan, every=plan.steps)
                told = train_generator(
                    generator, read(learn, corpus, True), (), (), plan, cancelled=stop
                )
                for news in told:
                    yield (state := replace(state, doing=f"{name}: training", news=news))
                if stop.is_set():
                    return
                spent, generator = news.trained.seconds, news.trained.make()
            said: list[Said] = []
            timed: list[float] = []
            for group, asked, where in (
                ("learnt", learn, corpus),
                ("held out", hold, corpus),
                ("other", elsewhere, corpus),
                ("changed", [new for _, new in changed], later),
            ):
                yield (state := replace(state, doing=f"{name}: {GROUPS[group]}", news=None))
                if stop.is_set():
                    return
                given = read(asked, where)
                old = [o for o, _ in changed] if group == "changed" else [None] * len(given)
                said += _said(group, given, answers(generator, given), old)
            timed = _seconds(generator, lambda asked, read=read: read([asked], corpus), hold[:8])
            arm = Arm(name, tuple(said), spent, timed, _megabytes(generator, corpus, retrieving))
            yield (state := replace(state, arms=(*state.arms, arm), doing="", news=None))
    except Cancelled:
        return


def _said(
    group: str,
    given: Sequence[Lesson],
    texts: Sequence[str],
    before: Sequence[Question | None],
) -> list[Said]:
    return [
        Said(
            group, one.question, one.answer, text,
            f1(text, [one.answer]), contains(text, one.short),
            contains(text, old.short) if old else 0.0, one.gold is not None,
        )
        for one, text, old in zip(given, texts, before, strict=True)
    ]  # fmt: skip


def _seconds(
    generator: Generator, read: Callable[[Question], list[Lesson]], asked: Sequence[Question]
) -> float:
    """Median of looking up and answering one question at a time."""
    spent = []
    for one in asked:
        began = time.monotonic()
        answers(generator, read(one))
        spent.append(time.monotonic() - began)
    return statistics.median(spent) if spent else 0.0


def _megabytes(generator: Generator, corpus: Corpus, retrieving: bool) -> float:
    held = sum(p.numel() * p.element_size() for p in network(generator).parameters())
    return (held + (corpus.bytes() if retrieving else 0)) / MIB
