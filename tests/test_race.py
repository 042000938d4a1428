"""One question through several retrievers: what the page draws, without a page."""

import math
import threading

import numpy as np
import pytest
from samples import handbook, small_corpus

from ragdemo.errors import RagdemoError
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.race import Run, entries, landed, moves, overlap, question_set, race
from ragdemo.evaluation.retrieval import measure
from ragdemo.retrieval import create
from ragdemo.types import Hit

QUESTION = "Who approves roaming outside Europe?"
NAMES = ("bm25", "dense", "rrf", "neighbours")


def makers(corpus, names=NAMES):
    return {name: lambda name=name: create(name, corpus) for name in names}


def finished(corpus, names=NAMES, k=3):
    *_, runs = race(QUESTION, makers(corpus, names), k)
    return runs


def fails():
    raise RagdemoError("This one can't be had.")


def test_every_retriever_comes_with_hits_scores_floor_and_time() -> None:
    corpus = small_corpus()
    for run in finished(corpus):
        assert run.done
        assert not run.problem
        assert list(run.hits) == create(run.name, corpus).search(QUESTION, 3)
        assert run.scores.shape == (len(corpus.chunks),)
        assert run.floor is not None
        assert run.seconds > 0


def test_one_that_fails_says_why_and_the_others_race_on() -> None:
    corpus = small_corpus()
    known = makers(corpus, ("bm25", "dense"))
    *_, runs = race(QUESTION, {"bm25": known["bm25"], "dpr": fails, "dense": known["dense"]}, 3)
    assert [run.problem for run in runs] == ["", "This one can't be had.", ""]
    assert runs[2].hits
    found = entries(runs, corpus.chunks)
    assert {name for _, name, _ in moves(found, runs)} == {"bm25", "dense"}


def test_a_race_that_is_cancelled_keeps_what_it_has() -> None:
    cancelled = threading.Event()
    going = race(QUESTION, makers(small_corpus()), 3, cancelled)
    first = next(going)
    cancelled.set()
    assert list(going) == []
    assert [run.name for run in first] == ["bm25"]


def test_letters_ranks_and_overlap_agree_with_the_hits() -> None:
    corpus = handbook()
    runs = finished(corpus, ("bm25", "dense", "rrf"), k=5)
    found = entries(runs, corpus.chunks)
    assert len({e.label for e in found}) == len({e.chunk.id for e in found}) == len(found)
    for run in runs:
        ranks = {e.chunk.id: e.ranks[run.name] for e in found if run.name in e.ranks}
        assert ranks == {hit.chunk.id: hit.rank for hit in run.hits}
    shared = {(a, b): count for a, b, count in overlap(found, runs)}
    for a in runs:
        for b in runs:
            both = {h.chunk.id for h in a.hits} & {h.chunk.id for h in b.hits}
            assert shared[a.name, b.name] == len(both)


def test_places_below_the_hits_are_those_of_a_longer_search() -> None:
    corpus = handbook()
    runs = finished(corpus, ("bm25", "dense"), k=3)
    whole = {n: create(n, corpus).search(QUESTION, len(corpus.chunks)) for n in ("bm25", "dense")}
    for label, name, rank in moves(entries(runs, corpus.chunks), runs):
        chunk = next(e.chunk for e in entries(runs, corpus.chunks) if e.label == label)
        true = {h.chunk.id: h.score for h in whole[name]}
        if chunk.id not in true:
            assert rank is None
        elif rank > 3:  # equal scores share the first of their places
            above = sum(s > true[chunk.id] + 1e-6 for s in true.values())
            assert rank == max(above, 3) + 1


def test_a_joined_hit_stands_for_the_passages_inside_it() -> None:
    corpus = small_corpus()
    runs = finished(corpus, ("dense", "neighbours"), k=2)
    found = entries(runs, corpus.chunks)
    assert {e.chunk.id for e in found} <= {c.id for c in corpus.chunks}
    best = runs[0].hits[0].chunk
    assert next(e for e in found if e.chunk.id == best.id).ranks == {"dense": 1, "neighbours": 1}


def test_where_the_answer_landed() -> None:
    chunks = handbook().chunks
    scores = np.full(len(chunks), -np.inf, dtype=np.float32)
    scores[:3] = [0.9, 0.5, 0.7]
    run = Run("dense", (Hit(chunks[0], 0.9, 1, "dense"),), scores)
    assert landed(run, chunks, lambda c: c is chunks[0]) == 1
    assert landed(run, chunks, lambda c: c is chunks[2]) == 2
    assert landed(run, chunks, lambda c: c in (chunks[1], chunks[2])) == 2
    assert landed(run, chunks, lambda c: c is chunks[3]) is None
    assert landed(run, chunks, lambda c: False) is None


class _Fixed:
    """A retriever that always gives these."""

    name = "fixed"

    def __init__(self, corpus, order) -> None:
        self.corpus = corpus
        self.order = order

    def search(self, question: str, k: int) -> list[Hit]:
        return [Hit(c, 1.0 / r, r, self.name) for r, c in enumerate(self.order[:k], 1)]


def test_a_question_set_counts_a_place_once() -> None:
    corpus = small_corpus()
    leave = [c for c in corpus.chunks if c.document_name == "leave.md"]
    phones = [c for c in corpus.chunks if c.document_name == "phones.md"]
    assert len(leave) > 1
    asked = [
        Question("1", "Leave?", file="leave.md", pages=(1,)),
        Question("2", "Both?", file="leave.md", pages=(1,), also=(("phones.md", (1,)),)),
        Question("3", "Elsewhere?", file="gone.md", pages=(1,)),
        Question("4", "Nobody knows?", answerable=False),
    ]
    chosen = question_set("mine", asked, corpus, 3)
    assert set(chosen.questions) == {"1", "2"}
    # phones, leave, leave: for question 1 the place is 2nd, its second passage adds nothing
    values = measure(chosen, _Fixed(corpus, [phones[0], leave[0], leave[1]])).values
    assert values["recall@3"] == {"1": 1.0, "2": 1.0}
    assert values["MRR@10"] == {"1": 0.5, "2": 1.0}
    assert values["nDCG@3"]["1"] == pytest.approx(1 / math.log2(3))
    assert values["nDCG@3"]["2"] == pytest.approx(1.0)
    # the second place comes third, after a passage of the first place
    values = measure(chosen, _Fixed(corpus, [leave[0], leave[1], phones[0]])).values
    best = 1 + 1 / math.log2(3)
    assert values["nDCG@3"]["2"] == pytest.approx((1 + 1 / math.log2(4)) / best)
