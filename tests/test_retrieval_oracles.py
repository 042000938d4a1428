"""Retrievers against formulas written here a second time, slowly, and against brute force."""

from collections import Counter
from itertools import permutations
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ragdemo.corpus import Corpus
from ragdemo.embedding import HashingEncoder
from ragdemo.retrieval.base import top
from ragdemo.retrieval.bm25 import BM25
from ragdemo.retrieval.dense import Dense
from ragdemo.retrieval.diverse import Diverse, mmr
from ragdemo.retrieval.fused import Fused, reciprocal_ranks
from ragdemo.retrieval.tfidf import TFIDF
from ragdemo.retrieval.weighted import Weighted, min_max, z_scores
from ragdemo.types import Chunk, Document, Page

# words that are their own stems and no stop words
WORDS = "tar rope salt lamp tide knot mast hull".split()
texts = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=8
)
questions = st.lists(st.sampled_from([*WORDS, "zebra"]), min_size=1, max_size=5)
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def corpus_of(passages: list[str]) -> Corpus:
    """One document, one chunk, for each passage."""
    corpus = Corpus(HashingEncoder(32))
    for number, text in enumerate(passages):
        name = f"{number:064d}"
        document = Document(name, f"{number}.txt", text, (Page(1, "1", 0, len(text)),))
        chunk = Chunk(f"{number}:0-{len(text)}", name, document.name, text, 0, len(text), (1,))
        corpus.adopt(document, [chunk], corpus.encoder.encode_passages([text]))
    return corpus


# -- BM25


def idf(method: str, n: int, df: int) -> float:
    """Kamphuis et al. 2020, table 1; Robertson's is kept from going below 0, as bm25s does."""
    return {
        "lucene": log(1 + (n - df + 0.5) / (df + 0.5)),
        "robertson": max(0.0, log((n - df + 0.5) / (df + 0.5))),
        "atire": log(n / df),
    }[method]


def bm25(method: str, passages: list[str], question: list[str], k1: float, b: float) -> list[float]:
    split = [p.split() for p in passages]
    mean = sum(map(len, split)) / len(split)
    scores = []
    for words in split:
        score = 0.0
        for word in question:
            df, tf = sum(word in w for w in split), words.count(word)
            if not df:
                continue
            length = k1 * (1 - b + b * len(words) / mean)
            gain = tf * (k1 + 1) if method == "atire" else tf
            score += idf(method, len(split), df) * gain / (tf + length) if tf else 0.0
        scores.append(score)
    return scores


@quick
@given(texts, questions, st.sampled_from(["lucene", "robertson", "atire"]),
       st.floats(0.1, 3), st.floats(0, 1))  # fmt: skip
def test_bm25_is_its_formula(passages, question, method, k1, b):
    found = BM25(corpus_of(passages), k1=k1, b=b, method=method)
    wanted = bm25(method, passages, question, k1, b)
    got = found.scores(" ".join(question))
    assert got.tolist() == pytest.approx([w if w > 1e-9 else -np.inf for w in wanted], rel=1e-4)
    for hit in found.search(" ".join(question), 10):
        counts = Counter(question)
        place = int(hit.chunk.document_name.removesuffix(".txt"))
        for word, weight in hit.parts.items():
            alone = bm25(method, passages, [word], k1, b)[place]
            assert weight == pytest.approx(counts[word] * alone, rel=1e-4)


def test_bm25_by_hand():
    """Two passages of 2 and 1 words, "tar" in both, "rope" in one: mean length 1.5."""
    found = BM25(corpus_of(["tar rope", "tar"]), k1=1.0, b=0.5)
    rare, common = log(1 + 1.5 / 1.5), log(1 + 0.5 / 2.5)
    long, short = 1 + 0.5 + 0.5 * 2 / 1.5, 1 + 0.5 + 0.5 * 1 / 1.5
    first, second = found.search("rope tar", 5)
    assert first.score == pytest.approx(rare / long + common / long)
    assert first.parts == pytest.approx({"rope": rare / long, "tar": common / long})
    assert second.score == pytest.approx(common / short)


# -- TF-IDF


def tfidf(passages: list[str], question: list[str], sublinear: bool) -> list[float]:
    split = [p.split() for p in passages]
    df = {w: sum(w in p for p in split) for w in WORDS}

    def vector(words: list[str]) -> dict[str, float]:
        counts = Counter(w for w in words if df.get(w))
        made = {
            w: (1 + log(c) if sublinear else c) * (log((1 + len(split)) / (1 + df[w])) + 1)
            for w, c in counts.items()
        }
        length = sqrt(sum(v * v for v in made.values()))
        return {w: v / length for w, v in made.items()}

    asked = vector(question)
    return [sum(asked.get(w, 0) * v for w, v in vector(words).items()) for words in split]


@quick
@given(texts, questions, st.booleans())
def test_tfidf_is_its_formula(passages, question, sublinear):
    found = TFIDF(corpus_of(passages), sublinear=sublinear)
    wanted = tfidf(passages, question, sublinear)
    got = found.scores(" ".join(question)).tolist()
    assert got == pytest.approx([w if w > 1e-9 else -np.inf for w in wanted], rel=1e-4)
    for hit in found.search(" ".join(question), 10):
        assert sum(hit.parts.values()) == pytest.approx(hit.score, rel=1e-4)
        assert set(hit.parts) == set(question) & set(hit.chunk.text.split())


# -- ranks


@given(st.lists(st.floats(width=32), max_size=30), st.integers(1, 40))
@example([0.5, float("nan"), 0.5, float("-inf"), 0.5], 2)
def test_top_is_a_full_sort(values, k):
    scores = np.array(values, dtype=np.float32)
    known = [i for i in range(len(values)) if np.isfinite(scores[i])]
    assert top(scores, k).tolist() == sorted(known, key=lambda i: -scores[i])[:k]


def test_reciprocal_ranks_by_hand():
    assert reciprocal_ranks([["a", "b"], ["b"]]) == [{"a": 1 / 61, "b": 1 / 62}, {"b": 1 / 61}]


@quick
@given(texts, questions)
def test_rrf_is_its_formula(passages, question):
    corpus, text = corpus_of(passages), " ".join(question)
    inner = [Dense(corpus), BM25(corpus), TFIDF(corpus)]
    wanted: Counter[str] = Counter()
    for retriever in inner:
        for rank, hit in enumerate(retriever.search(text, 100), start=1):
            wanted[hit.chunk.id] += 1 / (60 + rank)
    hits = Fused(inner).search(text, 100)
    assert {h.chunk.id: h.score for h in hits} == pytest.approx(dict(wanted))
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


# -- weighted scores


def test_scales_by_hand():
    assert min_max(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert z_scores(np.array([1.0, 3.0])).tolist() == [-1, 1]
    for scale in (min_max, z_scores):
        assert scale(np.array([5.0, 5.0])).tolist() == [0, 0]


@quick
@given(texts, questions, st.floats(0.1, 3), st.floats(0.1, 3))
def test_weighted_is_its_formula(passages, question, one, two):
    corpus, text = corpus_of(passages), " ".join(question)
    inner = [Dense(corpus), BM25(corpus)]
    dense, words = (r.scores(text).astype(float) for r in inner)
    words[np.isinf(words)] = 0.0

    def scaled(row):
        span = row.max() - row.min()
        return (row - row.min()) / span if span > 1e-6 else row * 0

    if 0 < np.ptp(dense) < 1e-5 or 0 < np.ptp(words) < 1e-5:
        return  # differences of rounding are no ground for a comparison
    wanted = (one * scaled(dense) + two * scaled(words)) / (one + two)
    assert Weighted(inner, [one, two]).scores(text) == pytest.approx(wanted, abs=1e-4)


# -- MMR


@given(st.integers(1, 5), st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
@settings(deadline=None)
def test_mmr_is_the_greedy_choice(n, seed, trade):
    """Of all orders the only one whose every choice is the best of what is left (random numbers
    have no ties, except that at lambda 0 all are equal before the first choice)."""
    random = np.random.default_rng(seed)
    relevance = random.random(n).astype(np.float32)
    rows = random.normal(size=(n, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = np.maximum(rows @ rows.T, 0.01 * random.random((n, n))).astype(np.float32)

    def value(item, before):
        redundancy = max((similarity[b, item] for b in before), default=0.0)
        return trade * relevance[item] - (1 - trade) * redundancy

    def greedy(order):
        return all(
            value(item, order[:at]) >= max(value(i, order[:at]) for i in order[at:]) - 1e-6
            for at, item in enumerate(order)
        )

    chosen = mmr(relevance, similarity, trade)
    orders = [order for order in permutations(range(n)) if greedy(order)]
    order = tuple(item for item, _, _ in chosen)
    assert order in orders
    assert len(orders) == 1 or trade == 0
    for at, (item, found, _) in enumerate(chosen):
        assert found == pytest.approx(value(item, order[:at]), abs=1e-6)
    values = [v for _, v, _ in chosen]
    assert values == sorted(values, reverse=True)


def test_mmr_passes_over_a_copy():
    copies = ["tar rope salt", "tar rope salt"]
    corpus = corpus_of([*copies, "tar lamp", "hull mast"])
    asked = "tar rope salt"
    assert [h.chunk.text for h in Dense(corpus).search(asked, 2)] == copies
    found = Diverse(Dense(corpus), trade=0.5).search(asked, 4)
    assert found[0].chunk.text == found[-1].chunk.text == copies[0]
    assert found[-1].parts["redundancy"] == pytest.approx(1)
    everything = Diverse(Dense(corpus), trade=1.0).search(asked, 4)
    assert [h.chunk.text for h in everything][:2] == copies
