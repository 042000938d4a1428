"""A question's way through the pipeline with what each stage made of it.

    for anatomy in take_apart("How soon must a lost phone be reported?", corpus, generator): ...

The answers come from `pipeline`, as on the Ask page; the rest is looked up or worked out beside it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragdemo import pipeline
from ragdemo.anatomy.pieces import Token, reader
from ragdemo.corpus import Corpus
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.generation.base import Generator
from ragdemo.generation.tracing import TokenStep
from ragdemo.retrieval import Retriever
from ragdemo.retrieval.dense import Dense
from ragdemo.settings import Ask
from ragdemo.text import sentences
from ragdemo.types import Answer, Chunk, Comparison, Decoding, Hit

NEAREST = 5  # neighbours named


@dataclass(frozen=True, slots=True)
class Search:
    """Question and passages as encoder and retriever see them. n chunks of d dimensions."""

    asked: str  # what was looked up: a follow-up with what it needs from the turn before
    question_tokens: tuple[Token, ...]  # as the encoder reads them, special ones included
    passage_tokens: tuple[Token, ...]  # of the best passage
    question: np.ndarray  # [d]
    passage: np.ndarray  # [d] of the best passage
    cosines: np.ndarray  # [n] inner product of question and chunk, in the order of `chunks`
    scores: np.ndarray  # [n] the retriever's own; -inf where it finds nothing
    best: int  # place of the best passage in `chunks`
    near: tuple[tuple[int, float], ...]  # the best passage's nearest others: (place, cosine)
    problem: str = ""  # why no tokens are shown


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the answer loses where a passage is left out."""

    text: str  # of the answer, what was scored
    whole: float  # log p(text | question, all passages), natural
    without: tuple[float, ...]  # the same without each of `Prompt.used`

    @property
    def drops(self) -> tuple[float, ...]:
        """log p(text | all) - log p(text | all but one): high for a passage it rests on."""
        return tuple(self.whole - one for one in self.without)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """All of it; parts that are not there yet are None."""

    comparison: Comparison
    chunks: Sequence[Chunk]  # of the corpus as it was
    search: Search | None = None
    steps: tuple[TokenStep, ...] | None = None  # of the answer with retrieval
    alone: tuple[TokenStep, ...] | None = None  # of the one without
    dropped: Dropped | None = None
    problems: Mapping[str, str] | None = None  # "steps", "alone", "dropped": why there is none
    seconds: Mapping[str, float] | None = None  # beside the comparison's own

    @property
    def question(self) -> str:
        return self.comparison.question


def take_apart(
    question: str,
    corpus: Corpus,
    generator: Generator,
    *,
    comparison: Comparison | None = None,
    ask: Ask = Ask(),
    decoding: Decoding = Decoding(),
    retriever: Retriever | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[Anatomy]:
    """Growing anatomies of one question, the last one whole.

    `comparison` is one answered before on this corpus with these settings; without it, the
    question is asked. A generator that can't be watched or tells no probabilities leaves its part
    out and says so in `problems`. Raises RagdemoError, `Cancelled` once the event is set.
    """
    cancelled = cancelled or threading.Event()
    if comparison is None:
        comparison = pipeline.compare(
            question, corpus, generator, ask=ask, decoding=decoding, retriever=retriever,
            cancelled=cancelled,
        )  # fmt: skip
    found = Anatomy(comparison, corpus.chunks, problems={}, seconds={})
    yield found
    if not comparison.hits:
        return
    _stop_if(cancelled)
    search, seconds = searched(comparison, corpus, retriever)
    found = replace(found, search=search, seconds=seconds)
    yield found
    for part, work in (
        ("steps", lambda: watched(comparison.grounded, generator, decoding)),
        ("alone", lambda: watched(comparison.baseline, generator, decoding)),
        ("dropped", lambda: left_out(comparison, generator, ask, decoding, cancelled)),
    ):
        _stop_if(cancelled)
        begun = time.monotonic()
        try:
            made = work()
        except Cancelled:
            raise
        except RagdemoError as problem:
            found = replace(found, problems={**found.problems, part: str(problem)})
        else:
            seconds = {**found.seconds, part: time.monotonic() - begun}
            found = replace(found, seconds=seconds, **{part: made})
        yield found


def _stop_if(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled("Stopped. What was found so far is shown.")


def searched(
    comparison: Comparison, corpus: Corpus, retriever: Retriever | None = None
) -> tuple[Search, dict[str, float]]:
    """The search of this comparison looked into, and the seconds that its two halves take."""
    asked = str(comparison.settings.get("searched_for", comparison.question))
    begun = time.monotonic()
    question = corpus.encoder.encode_queries([asked])[0]  # [d]
    encoded = time.monotonic()
    corpus.search(question, max(1, len(comparison.hits)))
    seconds = {"encode": encoded - begun, "look up": time.monotonic() - encoded}
    vectors = corpus.vectors  # [n, d]
    cosines = vectors @ question
    dense = retriever is None or (isinstance(retriever, Dense) and retriever.name == "dense")
    scores = cosines if dense else retriever.scores(asked)
    top = min(comparison.hits, key=lambda hit: hit.rank)
    best = place(corpus, top)
    like = vectors @ vectors[best]
    order = [int(i) for i in np.argsort(-like, kind="stable") if i != best][:NEAREST]
    problem, tokens = "", ((), ())
    try:
        read = reader(corpus.encoder)
        tokens = tuple(read(asked)), tuple(read(corpus.chunks[best].content))
    except RagdemoError as said:
        problem = str(said)
    return (
        Search(
            asked, *tokens, question, vectors[best], cosines, scores, best,
            tuple((i, float(like[i])) for i in order), problem,
        ),
        seconds,
    )  # fmt: skip


def place(corpus: Corpus, hit: Hit) -> int:
    """Where a hit's chunk stands in `corpus.chunks`; of one joined from several, its first."""
    try:
        return corpus.number(hit.chunk.id)
    except KeyError:
        inside = (i for i, chunk in enumerate(corpus.chunks) if hit.chunk.holds(chunk))
        found = next(inside, None)
    if found is None:
        raise RagdemoError(
            "This question was answered from other documents than the ones here. Ask it again."
        )
    return found


def watched(answer: Answer, generator: Generator, decoding: Decoding) -> tuple[TokenStep, ...]:
    """The steps of this answer; RagdemoError where the generator can't be watched."""
    if not hasattr(generator, "trace"):
        raise RagdemoError(
            f"{generator.name} does not show what it weighed before each word. Choose the bundled "
            "generator or a Hugging Face model to see that."
        )
    return generator.trace(answer.prompt, decoding)


def left_out(
    comparison: Comparison,
    generator: Generator,
    ask: Ask = Ask(),
    decoding: Decoding = Decoding(),
    cancelled: threading.Event | None = None,
) -> Dropped:
    """The answer's log-likelihood with all passages and without each, in one batch.

    Leave-one-out attribution, as in Cohen-Wang et al. 2024 (ContextCite,
    https://arxiv.org/abs/2409.00729), section 3. The bundled model writes each sentence by itself,
    so only its first is scored.
    """
    answer = comparison.grounded
    if not answer.text or answer.finish == "refused":
        raise RagdemoError("There is no answer to weigh: the generator refused, or wrote nothing.")
    text, used = answer.text, answer.prompt.used
    if generator.fusions[0] == "in decoder" and (spans := sentences(text)):
        text = text[spans[0].start : spans[0].end]
    prompts = [
        generator.prompt(answer.prompt.question, rest, decoding=decoding, template=ask.template)
        for rest in (used, *(used[:n] + used[n + 1 :] for n in range(len(used))))
    ]
    whole, *without = generator.log_likelihood(prompts, [text] * len(prompts), cancelled)
    return Dropped(text, whole, tuple(without))
