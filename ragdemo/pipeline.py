"""READ THIS FIRST: a question becomes passages, two prompts, two answers, and what bears them out.

    corpus = build(read_folder("sample_docs"), encoder)
    comparison = compare("How many days of leave do I get?", corpus, generator)

The app, the command line, the tests and a notebook all go through these functions. Nothing here
knows Streamlit; the corpus's encoder and the generator may be plain models or the queued ones of
`serving`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version

import numpy as np

from ragdemo import fusion, retrieval
from ragdemo.corpus import Corpus
from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.generation.base import Generator
from ragdemo.grounding import support
from ragdemo.retrieval.base import Retriever
from ragdemo.retrieval.dense import Dense
from ragdemo.settings import Ask
from ragdemo.text import content_words, sentences, words
from ragdemo.types import (
    Answer,
    Comparison,
    Decoding,
    Document,
    FileReport,
    Hit,
    Marginal,
    Prompt,
)

# A best passage this little above what nonsense reaches is not evidence (cosine); other scores have
# scales of their own, and have to reach no further than above it.
MARGIN = 0.05
PACKAGES = ("torch", "transformers", "sentence-transformers", "faiss-cpu", "streamlit", "pypdf")

# Words that point back at an earlier turn.
_POINTERS = frozenset(
    "it its that this those these they them their there he she his her one".split()
)


@dataclass(frozen=True, slots=True)
class Update:
    """News while a question is answered. `hits` is None until they are found; the texts are all
    so far; `comparison` comes once, last. Where candidates are weighed, `grounded` is the best
    passage's until another one wins."""

    stage: str  # "searching", "reading", "writing", "scoring", "done"
    hits: tuple[Hit, ...] | None = None
    grounded: str = ""
    baseline: str = ""
    comparison: Comparison | None = None
    progress: str = ""  # "writing candidates 3 of 5", where there is more to tell than the stage


def standalone(question: str, history: Sequence[tuple[str, str]]) -> str:
    """A follow-up with what it needs from the turn before: "And for managers?" after "How many
    days of leave do I get?" -> "How many days of leave do I get? And for managers?"

    A rule, not a model: a question with a word that points back, or with fewer than three content
    words, takes the last question in front of it; any other stands alone.
    """
    if not history:
        return question
    short = len(content_words(question)) < 3
    return f"{history[-1][0]} {question}" if short or _POINTERS & set(words(question)) else question


def retrieve(
    question: str, corpus: Corpus, k: int = 5, retriever: Retriever | None = None
) -> list[Hit]:
    """The `k` best passages, by cosine unless a retriever is given; fewer where the corpus is
    smaller."""
    return (retriever or Dense(corpus)).search(question, k)


def answer(
    question: str,
    hits: Sequence[Hit],
    generator: Generator,
    *,
    decoding: Decoding = Decoding(),
    template: str | None = None,
) -> Answer:
    """One answer from these hits, or from the question alone where there are none."""
    prompt = generator.prompt(question, hits, decoding=decoding, template=template)
    for step in generator.stream([prompt], [decoding], [threading.Event()]):
        if step.answer:
            return step.answer
    raise RagdemoError("The generator ended without an answer. Try again.")


def compare(question: str, corpus: Corpus, generator: Generator, **options) -> Comparison:
    """Both answers to one question; options as for `stream`."""
    for update in stream(question, corpus, generator, **options):
        if update.comparison:
            return update.comparison
    raise RagdemoError("The generator ended without an answer. Try again.")


def stream(
    question: str,
    corpus: Corpus,
    generator: Generator,
    *,
    ask: Ask = Ask(),
    decoding: Decoding = Decoding(),
    history: Sequence[tuple[str, str]] = (),
    retriever: Retriever | None = None,
    cancelled: threading.Event | None = None,
) -> Iterator[Update]:
    """Answer with and without the passages, in one batch, telling of progress.

    Setting `cancelled` ends both answers where they stand; the comparison still comes, with
    `finish == "cancelled"`. Raises RagdemoError with a sentence for the visitor.
    """
    question = question.strip()
    if not question:
        raise RagdemoError("There is no question. Type one and ask again.")
    cancelled = cancelled or threading.Event()
    fused = fusion.check(ask.fusion, generator)
    begun = time.monotonic()
    yield Update("searching")
    turns = history if ask.use_history else ()
    asked = standalone(question, turns)
    found = retrieve(asked, corpus, ask.k, retriever)
    floor = retrieval.floor(retriever) if retriever else corpus.floor()
    seconds = {"search": time.monotonic() - begun}

    started = time.monotonic()
    options = {"decoding": decoding, "template": ask.template, "history": turns}
    hits, prompts = _prompts(partial(generator.prompt, asked, **options), found, fused, ask.order)
    seconds["prompt"] = time.monotonic() - started
    yield Update("reading", hits)

    started = time.monotonic()
    rows = len(prompts)  # the last is the baseline's
    texts = [""] * rows
    answers: list[Answer | None] = [None] * rows
    for step in generator.stream(prompts, [decoding] * rows, [cancelled] * rows):
        if step.text and "first word" not in seconds:
            seconds["first word"] = time.monotonic() - started
        texts[step.row] = step.text
        answers[step.row] = step.answer or answers[step.row]
        shown = texts[fusion.leading(answers[:-1])] if hits else ""
        yield Update("writing", hits, shown, texts[-1], progress=_written(answers[:-1]))
    seconds["both answers"] = time.monotonic() - started
    if any(a is None for a in answers):
        raise RagdemoError("The generator ended without an answer. Try again.")
    *own, baseline = answers
    grounded = own[fusion.leading(own)] if hits else _nothing_indexed(prompts[-1], generator)

    marginal: Marginal | None = None
    if hits and fused == "marginalise":
        started = time.monotonic()
        told = Update("scoring", hits, grounded.text, baseline.text)
        try:
            for news in fusion.weigh(generator, prompts[:-1], hits, own, cancelled):
                if isinstance(news, Marginal):
                    marginal = news
                    grounded = own[marginal.written_from[marginal.winner][0]]
                else:
                    yield replace(told, progress=f"scoring under passage {news} of {len(own)}")
        except Cancelled:
            grounded = replace(grounded, finish="cancelled")
        seconds["scoring"] = time.monotonic() - started

    started = time.monotonic()
    held = support(grounded.text, hits, asked) if grounded.finish != "refused" else ()
    comparison = Comparison(
        question=question,
        hits=hits,
        grounded=grounded,
        baseline=baseline,
        support=held,
        baseline_support=support(baseline.text, hits, asked),
        floor=floor,
        weak=weakness(hits, grounded, floor),
        seconds=seconds,
        files=dict(corpus.files),
        settings={
            **asdict(ask),
            **asdict(decoding),
            "fused": fused,
            "retriever": retriever.name if retriever else "dense",
            "searched_for": asked,
            "encoder": corpus.encoder.name,
            "chunking": asdict(corpus.chunking),
            "index": corpus.fingerprint,
        },
        versions=versions(),
        marginal=marginal,
    )
    seconds["check"] = time.monotonic() - started
    yield Update("done", hits, grounded.text, baseline.text, replace(comparison, seconds=seconds))


def _prompts(
    make: Callable[[Sequence[Hit]], Prompt], found: Sequence[Hit], fused: str, order: str
) -> tuple[tuple[Hit, ...], list[Prompt]]:
    """The hits in the order of the prompt, and the prompts, the baseline's last. With no documents
    there is only the baseline to show."""
    if not found:
        return (), [make([])]
    if fused == "marginalise":
        return tuple(found), [*(make([hit]) for hit in found), make([])]
    # where every passage is read on its own, an order would only be one to the eye
    prompt = fusion.arranged(make, found, order if fused == "together" else "best first")
    return (*prompt.used, *prompt.dropped), [prompt, make([])]


def _written(answers: Sequence[Answer | None]) -> str:
    if len(answers) < 2:
        return ""
    return f"writing candidates {sum(a is not None for a in answers)} of {len(answers)}"


def weakness(hits: Sequence[Hit], grounded: Answer, floor: float | None) -> str:
    """Why the passages may not hold an answer, in one sentence; "" where they seem to."""
    if not hits:
        return "There are no documents to answer from. Add some on the Documents page."
    best = min(hits, key=lambda hit: hit.rank)
    margin = MARGIN if best.retriever == "dense" else 0.0
    if floor is not None and best.score <= floor + margin:
        return (
            f"The best passage scores {best.score:.2f}; a nonsense question reaches {floor:.2f} "
            "on these documents. Nothing here seems to be about this question."
        )
    if grounded.finish == "refused":
        return "The generator found no sentence in these passages that answers the question."
    if grounded.confidence is not None and grounded.confidence < 0.7:
        return (
            f"The generator gives {grounded.confidence:.0%} to these passages holding the answer; "
            "check it against them."
        )
    return ""


def summarise(
    document_id: str,
    corpus: Corpus,
    generator: Generator,
    *,
    passages: int = 6,
    decoding: Decoding = Decoding(max_tokens=64),
    cancelled: threading.Event | None = None,
) -> list[tuple[str, Hit]]:
    """A document in a few sentences, each with the passage it was written from.

    The passages nearest the document's mean vector that differ from each other (maximal marginal
    relevance, Carbonell and Goldstein 1998), in reading order; the generator is asked for the main
    point of each, in one batch. Where it finds none, the sentence nearest the mean is quoted.
    """
    chunks = corpus.chunks_of(document_id)
    if not chunks:
        raise RagdemoError("This document has no text to summarise.")
    hits = _central(chunks, corpus, document_id, passages)
    questions = [_topic(hit) for hit in hits]
    prompts = [
        generator.prompt(q, [hit], decoding=decoding)
        for q, hit in zip(questions, hits, strict=True)
    ]
    event = cancelled or threading.Event()
    points: dict[int, Answer] = {}
    for step in generator.stream(prompts, [decoding] * len(hits), [event] * len(hits)):
        if step.answer:
            points[step.row] = step.answer
    kept: list[tuple[str, Hit]] = []
    for row in sorted(points):
        refused = points[row].finish == "refused"
        text = (_quote(hits[row], corpus) if refused else points[row].text).strip()
        if text and all(text != t for t, _ in kept):
            kept.append((text, hits[row]))
    return kept


def _central(chunks, corpus: Corpus, document_id: str, count: int) -> list[Hit]:
    vectors = corpus.vectors_of(document_id)
    mean = vectors.mean(0)
    near = vectors @ mean / max(float(np.linalg.norm(mean)), 1e-12)
    chosen: list[int] = []
    while len(chosen) < min(count, len(chunks)):
        twice = (vectors @ vectors[chosen].T).max(1) if chosen else np.zeros(len(chunks))
        worth = 0.5 * near - 0.5 * twice
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
    return [
        Hit(chunks[i], float(near[i]), rank, "central", {"cosine to the mean": float(near[i])})
        for rank, i in enumerate(sorted(chosen), start=1)
    ]


def _quote(hit: Hit, corpus: Corpus) -> str:
    """The passage's sentence nearest the document's mean vector; "" where none is a sentence."""
    text = hit.chunk.text
    said = [text[span.start : span.end] for span in sentences(text)]
    said = [" ".join(s.split()) for s in said if len(words(s)) >= 5 and " | " not in s]
    if not said:
        return ""
    mean = corpus.vectors_of(hit.chunk.document_id).mean(0)
    return said[int((corpus.encoder.encode_queries(said) @ mean).argmax())]


def _topic(hit: Hit) -> str:
    topic = hit.chunk.heading.split(" > ")[-1] or hit.chunk.document_name.rsplit(".", 1)[0]
    return f"What is the main point about {topic.strip(' .0123456789')}?"


def _nothing_indexed(prompt, generator: Generator) -> Answer:
    return Answer(text="", prompt=prompt, model=generator.name, finish="refused")


def build(files: Iterable[tuple[str, bytes]], encoder, **options) -> Corpus:
    """Load, chunk, embed and index files; one that can't be read is left out with its report in
    `corpus.reports`. Options go to `loading.load_many`."""
    from ragdemo.loading import load_many

    corpus = Corpus(encoder)
    held = list(files)
    data = dict(held)
    for loaded in _ahead(load_many(held, **options)):
        if isinstance(loaded, Document):
            corpus.add(loaded, data.get(loaded.name, b""))
        corpus.reports.append(loaded.report if isinstance(loaded, Document) else loaded)
    return corpus


def _ahead(items: Iterator[Document | FileReport]) -> Iterator[Document | FileReport]:
    """The same items; while the caller works on one, the next is made: files are read in a process
    of their own, which would wait for the encoder otherwise."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item


def versions() -> dict[str, str]:
    """What produced a result, for its signature."""
    return {name: version(name) for name in PACKAGES}
