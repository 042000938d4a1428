"""How several passages become one answer: read together, fused in the decoder, or marginalised.

    together      passages one after another in one text, in an order that matters
    in decoder    each passage encoded alone, one decoder attends to all: the bundled model
    marginalise   an answer from each passage alone; each weighed under every passage

Marginalising is RAG-Sequence's "thorough decoding" (Lewis et al. 2020, section 2.5) with one
candidate a passage instead of a beam:  p(y|x) = sum over z of p(z|x) p(y|x,z).

Knows nothing of models: a generator's `fusions` says what it can do.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import pstdev

from ragdemo.errors import RagdemoError
from ragdemo.generation.base import Generator
from ragdemo.settings import ORDERS
from ragdemo.types import Answer, Hit, Marginal, Prompt


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer asks of a model. A pass is one call of the model, on a batch."""

    passes: int
    read: int  # tokens of prompts
    written: int  # tokens picked one after another, the dear part
    scored: int = 0  # tokens of candidates given to the model to weigh


@dataclass(frozen=True, slots=True)
class Fusion:
    """One way to bring passages together, for the picker."""

    title: str
    about: str
    paper: str
    cost: Callable[[int, int, int, int], Cost]  # passages, tokens of each, of question, of answer


def _together(passages: int, each: int, question: int, answer: int) -> Cost:
    return Cost(1 + answer, question + passages * each, answer)


def _in_decoder(passages: int, each: int, question: int, answer: int) -> Cost:
    # the question is read beside every passage
    return Cost(1 + answer, passages * (question + each), answer)


def _marginalise(passages: int, each: int, question: int, answer: int) -> Cost:
    # every prompt is read to write from it and once more to weigh all candidates under it
    return Cost(
        passes=1 + answer + 2 * passages,
        read=2 * passages * (question + each),
        written=passages * answer,
        scored=passages * passages * answer,
    )


FUSIONS: Mapping[str, Fusion] = {
    "together": Fusion(
        "Read together",
        "The passages stand one after another in one prompt, as many as fit. One answer can draw "
        "on several, but what stands in the middle of a long prompt is used least "
        "(https://arxiv.org/abs/2307.03172), so their order is a choice.",
        "https://arxiv.org/abs/2302.00083",
        _together,
    ),
    "in decoder": Fusion(
        "Fused in the decoder",
        "Each passage is encoded alone with the question and the decoder attends to all of them "
        "at once. Their order does not matter and none is crowded out, but the model has to be "
        "trained for it: the bundled one always reads like this.",
        "https://arxiv.org/abs/2007.01282",
        _in_decoder,
    ),
    "marginalise": Fusion(
        "Weigh an answer from each passage (RAG-Sequence)",
        "One candidate answer is written from each passage alone. Every candidate is then scored "
        "under every passage, and the sum, weighted by how well the passage matches the question, "
        "picks the winner. No answer can join two passages, and since a longer text has a lower "
        "probability, short candidates are favoured. The bundled model copies, so a candidate is "
        "worth next to nothing under other passages: there its own sureness and the match decide.",
        "https://arxiv.org/abs/2005.11401",
        _marginalise,
    ),
}

# Softmax temperatures at which p(z|x) is what the retriever was trained to mean. MiniLM's training
# multiplied cosines by 20 before its softmax (sentence-transformers' default scale), so 1 / 20: at
# 1, cosines of 0.7 and 0.4 would count nearly alike (0.57 to 0.43). DPR's dot products went into
# its softmax, and into RAG's, as they were.
TEMPERATURES: Mapping[str, float] = {"cosine": 0.05, "dot": 1.0}


def at_work(chosen: str, generator: Generator) -> str:
    """The key of `FUSIONS` that `settings.Ask.fusion` means for this generator: "together" is "in
    decoder" for the bundled one."""
    return generator.fusions[0] if chosen == "together" else chosen


def why_not(name: str, generator: Generator) -> str:
    """Why this generator cannot do `FUSIONS[name]`, as a sentence with what to do; or ""."""
    if name in generator.fusions:
        return ""
    usual = FUSIONS[generator.fusions[0]].title
    if name == "in decoder":
        return (
            f"{generator.name} reads one text, so nothing is fused in its decoder; the bundled "
            f"generator does that. Here '{usual}' applies."
        )
    if name == "together":
        return (
            f"{generator.name} never reads passages as one text: '{usual}' is how it always works. "
            "Choose a Hugging Face model or an endpoint to read them together."
        )
    return (
        f"{generator.name} tells no probability of a given answer, which weighing needs. Choose "
        f"'{usual}', or the bundled generator or a Hugging Face model."
    )


def check(chosen: str, generator: Generator) -> str:
    """`at_work`, or `RagdemoError` with the sentence of `why_not`."""
    name = at_work(chosen, generator)
    if problem := why_not(name, generator):
        raise RagdemoError(problem)
    return name


# -- together


def ordered(hits: Sequence[Hit], order: str) -> list[Hit]:
    """The hits as they shall stand in the prompt; `Hit.rank` stays what the retriever gave.

    "best last" puts the best beside the question, which the usual templates ask at the end;
    language models use the beginning and the end of their input best (Liu et al. 2023,
    https://arxiv.org/abs/2307.03172). "as in the document" restores the reading order, the
    document with the best hit first.
    """
    ranked = sorted(hits, key=lambda hit: hit.rank)
    if order == "best first":
        return ranked
    if order == "best last":
        return ranked[::-1]
    if order == "as in the document":
        documents = list(dict.fromkeys(hit.chunk.document_id for hit in ranked))
        return sorted(
            ranked, key=lambda hit: (documents.index(hit.chunk.document_id), hit.chunk.start)
        )
    raise RagdemoError(f"Unknown order '{order}': choose from {', '.join(ORDERS)}.")


def arranged(make: Callable[[Sequence[Hit]], Prompt], hits: Sequence[Hit], order: str) -> Prompt:
    """The prompt that `make` builds of the hits in this order, the worst left out where not all
    fit.

    A prompt is filled from its beginning, so "best last" would lose the best: what fits is found
    best first, then put in order. A passage that fits only in part is left out, unless it is alone.
    """
    ranked = ordered(hits, "best first")
    prompt = make(ranked)
    if order == "best first" or len(prompt.used) < 2:
        return prompt
    kept = len(prompt.used) - bool(prompt.cut)
    while True:
        prompt = make(ordered(ranked[:kept], order))
        # one that just fitted may no longer: the tokens at its borders have changed
        if kept == 1 or not (prompt.cut or prompt.dropped):
            return replace(prompt, dropped=(*prompt.dropped, *ranked[kept:]))
        kept -= 1


# -- marginalise


def temperature(hits: Sequence[Hit]) -> float:
    """What the scores are divided by before the softmax: see `TEMPERATURES`.

    Scores of other retrievers (BM25, fused ranks) are no log-probabilities of anything; those are
    divided by their standard deviation over the hits, so that only their spacing counts.
    """
    if not hits:
        return 1.0
    if hits[0].retriever == "dpr" or (hits[0].retriever == "dense" and "dot" in hits[0].parts):
        return TEMPERATURES["dot"]
    if hits[0].retriever == "dense":
        return TEMPERATURES["cosine"]
    return pstdev(hit.score for hit in hits) or 1.0


def prior(hits: Sequence[Hit], warmth: float | None = None) -> tuple[float, ...]:
    """p(z|x) of each hit: the softmax of score / temperature over these hits."""
    warmth = temperature(hits) if warmth is None else warmth
    best = max((hit.score for hit in hits), default=0.0)
    weights = [math.exp((hit.score - best) / warmth) for hit in hits]
    return tuple(weight / sum(weights) for weight in weights)


def leading(answers: Sequence[Answer | None]) -> int:
    """The candidate to show before any is weighed: of the best passage that was not refused."""
    open_rows = (n for n, a in enumerate(answers) if a is None or a.finish != "refused")
    return next(open_rows, 0)


def weigh(
    generator: Generator,
    prompts: Sequence[Prompt],
    hits: Sequence[Hit],
    answers: Sequence[Answer],
    cancelled: threading.Event | None = None,
) -> Iterator[int | Marginal]:
    """Score what was written from each passage alone under every passage.

    One entry a passage in all three sequences. Yields the number of the passage that comes next,
    from 1, so that progress can be told, and last the `Marginal`; nothing where every passage was
    refused or nothing was written. Refusals are no candidates: "not here" of four passages would
    outweigh the answer of the fifth, which is not what an answer needs. Raises `Cancelled`.
    """
    sources: dict[str, list[int]] = {}
    for column, said in enumerate(answers):
        if said.finish != "refused" and said.text:
            sources.setdefault(said.text, []).append(column)
    if not sources:
        return
    texts = list(sources)
    columns: list[list[float]] = []  # [passages][candidates]
    for number, prompt in enumerate(prompts, start=1):
        yield number
        columns.append(generator.log_likelihood([prompt] * len(texts), texts, cancelled))
    warmth = temperature(hits)
    yield Marginal(
        candidates=tuple(texts),
        written_from=tuple(map(tuple, sources.values())),
        prior=prior(hits, warmth),
        temperature=warmth,
        log_likelihoods=tuple(zip(*columns, strict=True)),
    )
