"""Questions from one's own documents: a model writes one for a passage, and has to answer it.

A question is kept where the model, given that passage alone, answers it and the passage bears the
answer out (round-trip consistency: Alberti et al. 2019, https://arxiv.org/abs/1906.05416). Such
questions are near the passage's words and easier to retrieve than people's: they find what is
broken, and flatter the rest.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ragdemo.corpus import Corpus
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.refusing import refused
from ragdemo.generation.base import Generator
from ragdemo.grounding import CITE_FROM, support
from ragdemo.text import content_words, fold
from ragdemo.types import Answer, Chunk, Decoding, Hit

BATCH = 4  # passages asked about at a time
SHORTEST = 12  # content words a passage needs to be worth a question
SEED = 20
KIND = "suggested"


class Asker(Generator, Protocol):
    """A generator that writes questions too, as the bundled one does."""

    def ask(self, chunks: Sequence[Chunk]) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Suggested:
    """What is there so far."""

    kept: tuple[Question, ...]
    tried: int  # passages
    of: int  # passages to try, at most
    dropped: tuple[tuple[str, str], ...]  # (question, why)


def suggest(
    corpus: Corpus,
    generator: Asker,
    count: int,
    *,
    decoding: Decoding = Decoding(max_tokens=64),
    seed: int = SEED,
    cancelled: threading.Event | None = None,
) -> Iterator[Suggested]:
    """Up to `count` questions, document after document in turn, told of after every few passages.

    A passage is tried once; there may be fewer questions than asked for.
    """
    cancelled = cancelled or threading.Event()
    order = _spread(corpus, random.Random(seed))
    kept: list[Question] = []
    dropped: list[tuple[str, str]] = []
    seen: set[str] = set()
    for start in range(0, len(order), BATCH):
        if len(kept) >= count or cancelled.is_set():
            return
        part = order[start : start + BATCH]
        for chunk, question, answer in _tried(part, generator, decoding, cancelled):
            if answer.finish == "cancelled":
                return
            why = "it was asked before" if fold(question) in seen else _why_not(
                question, answer, chunk
            )  # fmt: skip
            seen.add(fold(question))
            if why:
                dropped.append((question, why))
            elif len(kept) < count:
                kept.append(_question(len(kept) + 1, question, answer, chunk))
        yield Suggested(tuple(kept), start + len(part), len(order), tuple(dropped))


def _spread(corpus: Corpus, draw: random.Random) -> list[Chunk]:
    """Passages with enough words, one of each document in turn, drawn."""
    piles = []
    for document_id in corpus.documents:
        pile = [c for c in corpus.chunks_of(document_id) if len(content_words(c.text)) >= SHORTEST]
        draw.shuffle(pile)
        piles.append(pile)
    draw.shuffle(piles)
    longest = max(map(len, piles), default=0)
    return [pile[turn] for turn in range(longest) for pile in piles if turn < len(pile)]


def _tried(
    chunks: Sequence[Chunk], generator: Asker, decoding: Decoding, cancelled: threading.Event
) -> list[tuple[Chunk, str, Answer]]:
    questions = [q.strip() for q in generator.ask(chunks)]
    prompts = [
        generator.prompt(q, [Hit(c, 1.0, 1, "handed over")], decoding=decoding)
        for q, c in zip(questions, chunks, strict=True)
    ]
    rows = len(prompts)
    steps = generator.stream(prompts, [decoding] * rows, [cancelled] * rows)
    answers = {step.row: step.answer for step in steps if step.answer}
    return [(chunks[row], questions[row], answers[row]) for row in sorted(answers)]


def _why_not(question: str, answer: Answer, chunk: Chunk) -> str:
    """Why the question is no good, or ""."""
    if len(content_words(question)) < 2 or not question.endswith("?"):
        return "it is no whole question"
    if refused(answer):
        return "its own passage does not answer it"
    held = support(answer.text, [Hit(chunk, 1.0, 1, "handed over")], question)
    if not held or any(s.score < CITE_FROM or s.unsupported for s in held):
        return "its own passage does not bear the answer out"
    return ""


def _question(number: int, question: str, answer: Answer, chunk: Chunk) -> Question:
    return Question(
        id=f"suggested-{number}",
        question=question,
        answer=answer.text,
        file=chunk.document_name,
        pages=chunk.pages,
        kind=KIND,
    )
