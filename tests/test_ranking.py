"""Ranking measures against ir-measures (which runs trec_eval) and against values by hand."""

import math

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, nDCG
from samples import hit

from ragdemo.evaluation.ranking import (
    dcg,
    gold_page_at,
    gold_rank,
    gold_recall_at,
    ndcg_at,
    recall_at,
    reciprocal_rank,
)
from ragdemo.types import Chunk, Hit

IDS = [f"d{i}" for i in range(12)]
GRADES = st.dictionaries(st.sampled_from(IDS), st.integers(0, 3), min_size=1)
SCORES = st.dictionaries(st.sampled_from(IDS), st.integers(-2, 2).map(float))  # many ties
RANKED = st.lists(st.sampled_from(IDS), max_size=30)
K = st.integers(1, 20)


def trec_order(scores):
    """trec_eval ranks by score, equal scores by id, last in the alphabet first."""
    return sorted(scores, key=lambda name: (scores[name], name), reverse=True)


@settings(deadline=None)
@given(GRADES, SCORES, K)
def test_as_ir_measures(relevant, scores, k):
    asked = [nDCG @ k, R @ k, RR]
    found = {nDCG @ k: 0.0, R @ k: 0.0, RR: 0.0}  # ir-measures leaves out questions without hits
    run = {"q": scores} if scores else {}
    if run:
        values = ir_measures.iter_calc(asked, {"q": relevant}, run)
        found.update({value.measure: value.value for value in values})
    ranked = trec_order(scores)
    assert ndcg_at(ranked, relevant, k) == pytest.approx(found[nDCG @ k], abs=1e-6)
    assert recall_at(ranked, relevant, k) == pytest.approx(found[R @ k], abs=1e-6)
    assert reciprocal_rank(ranked, relevant) == pytest.approx(found[RR], abs=1e-6)


@given(RANKED, GRADES, K)
def test_repeats_count_once_and_take_no_place(ranked, relevant, k):
    once = list(dict.fromkeys(ranked))
    for formula in (ndcg_at, recall_at, reciprocal_rank):
        assert formula(ranked, relevant, k) == formula(once, relevant, k)


@given(RANKED, GRADES, K)
def test_bounds_and_growth(ranked, relevant, k):
    for formula in (ndcg_at, recall_at, reciprocal_rank):
        assert 0 <= formula(ranked, relevant, k) <= 1 + 1e-12
    assert recall_at(ranked, relevant, k) <= recall_at(ranked, relevant, k + 1)
    assert reciprocal_rank(ranked, relevant, k) <= reciprocal_rank(ranked, relevant)


@given(GRADES, K)
def test_the_best_order_has_ndcg_one(relevant, k):
    best = sorted(relevant, key=relevant.get, reverse=True)
    assert ndcg_at(best, relevant, k) == pytest.approx(float(any(relevant.values())))


def test_by_hand():
    relevant = {"a": 2, "b": 1, "c": 0}
    ranked = ["a", "c", "b", "unjudged"]
    assert ndcg_at(ranked, relevant, 10) == pytest.approx((2 + 1 / 2) / (2 + 1 / math.log2(3)))
    assert ndcg_at(ranked, relevant, 1) == 1
    assert recall_at(ranked, relevant, 2) == 0.5
    assert recall_at(ranked, relevant, 3) == 1
    assert reciprocal_rank(["x", "b"], relevant) == 0.5
    assert reciprocal_rank(["x", "b"], relevant, 1) == 0
    assert dcg([]) == dcg([-1, 0]) == 0


@pytest.mark.parametrize("formula", [ndcg_at, recall_at, reciprocal_rank])
def test_nothing_found_or_nothing_relevant_is_zero(formula):
    assert formula([], {"a": 1}, 5) == formula(["a"], {}, 5) == formula(["a"], {"a": 0}, 5) == 0
    with pytest.raises(ValueError, match="at least 1"):
        formula(["a"], {"a": 1}, 0)


def on(file: str, *pages: int) -> Hit:
    return Hit(Chunk(f"{file}{pages}", file, file, "text", 0, 4, pages), 0.5, 1, "dense")


def test_a_gold_page_is_found_by_any_chunk_that_touches_it():
    hits = [on("leave.pdf", 1), on("phones.pdf", 2, 3), on("leave.pdf", 2)]
    assert gold_rank(hits, [("phones.pdf", (3,))]) == 2
    assert gold_rank(hits, [("phones.pdf", (1,))]) is None  # the right file is not enough
    assert gold_rank(hits, [("other.pdf", (1, 2, 3))]) is None
    assert gold_page_at(hits, [("phones.pdf", (3, 9))], 1) == 0
    assert gold_page_at(hits, [("phones.pdf", (3, 9))], 2) == 1


def test_two_places_are_found_one_by_one():
    both = [("leave.pdf", (2,)), ("phones.pdf", (3,))]
    hits = [on("phones.pdf", 2, 3), hit("other"), on("leave.pdf", 2)]
    assert [gold_recall_at(hits, both, k) for k in (1, 2, 3)] == [0.5, 0.5, 1]
    assert gold_rank(hits, both) == 1
    assert gold_recall_at(hits, [], 3) == 0
