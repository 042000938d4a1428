"""One question, several retrievers: what each found, how the rankings differ, how they do on a set.

`race` runs them one after another and tells of each as soon as it is there; the rest turns its runs
into what a page or a notebook draws. Ranks are compared, never scores: those of two retrievers have
nothing in common. Knows nothing of pages.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.evaluation import ranking
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.sets import EvalSet, Measure
from ragdemo.retrieval import RETRIEVERS, Retriever, floor
from ragdemo.types import Chunk, Hit

QUICK = 0.5  # seconds; a search faster than this is timed again, its index being there now
QUICK_FLOOR = 0.1  # of one search; eight nonsense questions then take under a second
MRR_DEPTH = 10

Maker = Callable[[], Retriever]  # making one may load a model, and fail


@dataclass(frozen=True, slots=True)
class Run:
    """What one retriever made of the question."""

    name: str
    hits: tuple[Hit, ...] = ()
    scores: np.ndarray | None = None  # [chunks] float32, -inf where a chunk is not found
    floor: float | None = None  # what nonsense questions reach
    seconds: float = 0.0  # of one search, its index ready
    prepared: float = 0.0  # seconds for models and index before that, the first time
    problem: str = ""  # why it found nothing
    done: bool = False  # the floor has been looked for too


def race(
    question: str,
    makers: Mapping[str, Maker],
    k: int,
    cancelled: threading.Event | None = None,
) -> Iterator[tuple[Run, ...]]:
    """All runs so far, again and again: first each with its hits, then the slow ones' floors.

    A retriever that fails has its sentence in `problem`, and the others race on. Setting
    `cancelled` ends the race before the next step.
    """
    cancelled = cancelled or threading.Event()
    runs: list[Run] = []
    ready: dict[str, Retriever] = {}
    for name, make in makers.items():
        if cancelled.is_set():
            return
        try:
            run, retriever = _searched(name, make, question, k)
            if run.seconds < QUICK_FLOOR:
                run = _floored(run, retriever)
            ready[name] = retriever
        except RagdemoError as problem:
            run = Run(name, problem=str(problem), done=True)
        runs.append(run)
        yield tuple(runs)
    for place, run in enumerate(runs):
        if cancelled.is_set():
            return
        if not run.done:
            runs[place] = _floored(run, ready[run.name])
            yield tuple(runs)


def _searched(name: str, make: Maker, question: str, k: int) -> tuple[Run, Retriever]:
    begun = time.perf_counter()
    retriever = make()
    if prepare := getattr(retriever, "prepare", None):
        prepare()
    prepared = time.perf_counter() - begun
    hits, seconds = _timed(retriever, question, k)
    # what a generator wrote for the question is kept: asked again, it would seem to cost nothing
    if seconds < QUICK and not RETRIEVERS[name].needs:
        first = seconds
        hits, seconds = _timed(retriever, question, k)
        prepared += max(0.0, first - seconds)
    return Run(name, tuple(hits), retriever.scores(question), None, seconds, prepared), retriever


def _timed(retriever: Retriever, question: str, k: int) -> tuple[list[Hit], float]:
    begun = time.perf_counter()
    return retriever.search(question, k), time.perf_counter() - begun


def _floored(run: Run, retriever: Retriever) -> Run:
    try:
        return replace(run, floor=floor(retriever), done=True)
    except RagdemoError:
        return replace(run, done=True)  # its hits are good without it


# -- what the rankings have in common


@dataclass(frozen=True, slots=True)
class Entry:
    """A passage that at least one retriever put among its first k."""

    label: str  # "A" is the passage with the best places
    chunk: Chunk
    ranks: Mapping[str, int]  # retriever -> its place among the hits
    deeper: Mapping[str, int]  # retriever -> its place below the hits, where it is found at all


def entries(runs: Sequence[Run], chunks: Sequence[Chunk]) -> list[Entry]:
    """The passages of all runs, those found higher and by more retrievers first.

    A hit joined of several chunks (neighbours) stands for each chunk inside that another run found,
    or for the first one.
    """
    own = {c.id: c for c in chunks}
    alone = {h.chunk.id: h.chunk for run in runs for h in run.hits if h.chunk.id in own}
    found: dict[str, tuple[Chunk, dict[str, int]]] = {}
    for run in runs:
        for hit in run.hits:
            inside = [c for c in alone.values() if hit.chunk.holds(c)]
            for chunk in inside or [c for c in chunks if hit.chunk.holds(c)][:1]:
                ranks = found.setdefault(chunk.id, (chunk, {}))[1]
                ranks.setdefault(run.name, hit.rank)
    order = sorted(found.values(), key=lambda e: -sum(1 / (1 + r) for r in e[1].values()))
    place = {c.id: at for at, c in enumerate(chunks)}
    return [
        Entry(_label(at), chunk, ranks, _deeper(runs, ranks, place[chunk.id]))
        for at, (chunk, ranks) in enumerate(order)
    ]


def _label(number: int) -> str:
    """0 -> "A", 25 -> "Z", 26 -> "A2"."""
    lap, letter = divmod(number, 26)
    return chr(ord("A") + letter) + (str(lap + 1) if lap else "")


def _deeper(runs: Sequence[Run], ranks: Mapping[str, int], at: int) -> dict[str, int]:
    found = {}
    for run in runs:
        if run.name in ranks or run.scores is None or not np.isfinite(run.scores[at]):
            continue
        # an approximate index or a joined hit may rank otherwise: never above the hits
        above = int((run.scores > run.scores[at]).sum())
        found[run.name] = max(above, len(run.hits)) + 1
    return found


def moves(found: Sequence[Entry], runs: Sequence[Run]) -> list[tuple[str, str, int | None]]:
    """(label, retriever, place) for every passage and retriever that ran; None: not found."""
    ran = [run.name for run in runs if not run.problem]
    return [(e.label, n, e.ranks.get(n, e.deeper.get(n))) for e in found for n in ran]


def overlap(found: Sequence[Entry], runs: Sequence[Run]) -> list[tuple[str, str, int]]:
    """(retriever, retriever, passages both put among their first k); the diagonal counts its own"""
    ran = [run.name for run in runs if not run.problem]
    return [(a, b, sum(a in e.ranks and b in e.ranks for e in found)) for a in ran for b in ran]


def landed(run: Run, chunks: Sequence[Chunk], holds: Callable[[Chunk], bool]) -> int | None:
    """The place of the first passage that holds something, also below the hits; None where none
    is found. `chunks` as they were in the race."""
    if rank := next((hit.rank for hit in run.hits if holds(hit.chunk)), None):
        return rank
    if run.scores is None:
        return None
    held = [run.scores[at] for at, chunk in enumerate(chunks) if holds(chunk)]
    best = max(held, default=-np.inf)
    if not np.isfinite(best):
        return None
    return max(int((run.scores > best).sum()), len(run.hits)) + 1


# -- a question set


def question_set(name: str, asked: Sequence[Question], corpus, k: int) -> EvalSet:
    """The answerable questions whose place is known, with recall@k, MRR@10 and nDCG@k.

    What is to be found is a place, a page or pages of a file: the first passage that touches it
    finds it, a second one finds nothing new. A question whose file is not in the corpus is left
    out, for no retriever could find it.
    """
    files = {document.name for document in corpus.documents.values()}
    known = {q.id: q for q in asked if q.answerable and q.places}
    known = {i: q for i, q in known.items() if all(file in files for file, _ in q.places)}

    def measured(formula: Callable, depth: int) -> Measure:
        def value(key: str, hits: Sequence[Hit]) -> float:
            places = known[key].places
            relevant = {str(number): 1 for number in range(len(places))}
            return formula(ranking.places_found(hits[:depth], places), relevant, depth)

        return Measure(depth, value)

    return EvalSet(
        title=f"{name} ({len(known)} questions)",
        corpus=corpus,
        questions={key: q.question for key, q in known.items()},
        measures={
            f"recall@{k}": measured(ranking.recall_at, k),
            f"MRR@{MRR_DEPTH}": measured(ranking.reciprocal_rank, MRR_DEPTH),
            f"nDCG@{k}": measured(ranking.ndcg_at, k),
        },
        lead=f"nDCG@{k}",
        about=f"{name}: {len(known)} of {len(asked)} questions, those with a known place in these "
        "documents",
    )
