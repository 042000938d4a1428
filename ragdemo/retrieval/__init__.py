"""Question -> hits: interchangeable retrievers, listed in `RETRIEVERS`.

Importing this loads no model and no search library; each entry imports its own when made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ragdemo.errors import RagdemoError
from ragdemo.retrieval.base import Retriever
from ragdemo.retrieval.nonsense import floor

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

__all__ = ["RETRIEVERS", "Retriever", "RetrieverChoice", "create", "floor"]

Inner = str | Retriever  # a name in `RETRIEVERS` that needs nothing, or a retriever


@dataclass(frozen=True, slots=True)
class RetrieverChoice:
    """One way to find passages, for the picker."""

    title: str
    about: str  # what it does; what its score means, and its range
    paper: str  # address
    needs: str  # "", "generator", or "download": options that `create` cannot do without
    make: Callable[..., Retriever]


def _dense(corpus: Corpus, **options: object) -> Retriever:
    from ragdemo.retrieval.dense import Dense

    return Dense(corpus, **options)


def _bm25(corpus: Corpus, **options: object) -> Retriever:
    from ragdemo.retrieval.bm25 import BM25

    return BM25(corpus, **options)


def _tfidf(corpus: Corpus, **options: object) -> Retriever:
    from ragdemo.retrieval.tfidf import TFIDF

    return TFIDF(corpus, **options)


def _dpr(corpus: Corpus, *, questions: str = "", passages: str = "", **options: object):
    from ragdemo.embedding.dpr import PASSAGES, QUESTIONS, DPREncoder
    from ragdemo.retrieval.dense import Dense

    if not options.get("encoder"):  # one may be given, to load it once for several corpora
        options["encoder"] = DPREncoder(questions or QUESTIONS, passages or PASSAGES)
    return Dense(corpus, name="dpr", **options)


def _rrf(corpus: Corpus, *, inner: Sequence[Inner] = ("dense", "bm25"), **options: object):
    from ragdemo.retrieval.fused import Fused

    return Fused([_inner(corpus, i) for i in inner], **options)


def _weighted(corpus: Corpus, *, inner: Sequence[Inner] = ("dense", "bm25"), **options: object):
    from ragdemo.retrieval.weighted import Weighted

    return Weighted([_inner(corpus, i) for i in inner], **options)


def _reranked(
    corpus: Corpus,
    *,
    inner: Inner = "dense",
    generator: object = None,
    model: str = "",
    **options: object,
) -> Retriever:
    from ragdemo.retrieval.reranked import CrossEncoderScorer, QuestionLikelihood, Reranked

    if not options.get("scorer"):
        if not model and generator is None:
            raise _missing("Re-ranking", "a generator, or a cross-encoder's id as model")
        options["scorer"] = CrossEncoderScorer(model) if model else QuestionLikelihood(generator)
    return Reranked(_inner(corpus, inner), **options)


def _mmr(corpus: Corpus, *, inner: Inner = "dense", **options: object) -> Retriever:
    from ragdemo.retrieval.diverse import Diverse

    return Diverse(_inner(corpus, inner), **options)


def _neighbours(corpus: Corpus, *, inner: Inner = "dense", **options: object) -> Retriever:
    from ragdemo.retrieval.neighbours import Neighbours

    return Neighbours(_inner(corpus, inner), **options)


def _hyde(corpus: Corpus, *, inner: Inner = "dense", generator: object = None, **options: object):
    from ragdemo.retrieval.hyde import HyDE

    if generator is None:
        raise _missing("HyDE", "a generator, which writes the answer to search with")
    return HyDE(_inner(corpus, inner), generator, **options)


def _phrasings(corpus: Corpus, *, inner: Inner = "dense", **options: object) -> Retriever:
    from ragdemo.retrieval.phrasings import Phrasings

    return Phrasings(_inner(corpus, inner), **options)


def _inner(corpus: Corpus, inner: Inner) -> Retriever:
    return create(inner, corpus) if isinstance(inner, str) else inner


def _missing(what: str, needed: str) -> RagdemoError:
    return RagdemoError(f"{what} needs {needed}. Choose one, or another retriever.")


RETRIEVERS: Mapping[str, RetrieverChoice] = {
    "dense": RetrieverChoice(
        "Dense",
        "Compares the meaning of question and passage as vectors. Score: their cosine, -1 to 1.",
        "https://arxiv.org/abs/1908.10084",
        "",
        _dense,
    ),
    "bm25": RetrieverChoice(
        "BM25",
        "Counts the words they share; rare words weigh more, long passages less. Score: sum of "
        "those weights, from 0 up without an end.",
        "https://doi.org/10.1561/1500000019",
        "",
        _bm25,
    ),
    "tfidf": RetrieverChoice(
        "TF-IDF",
        "Compares word counts, rare words weighing more. Score: cosine of the counts, 0 to 1.",
        "https://doi.org/10.1016/0306-4573(88)90021-0",
        "",
        _tfidf,
    ),
    "dpr": RetrieverChoice(
        "DPR",
        "One model reads the question, another the passages, trained together on questions and "
        "answers. Score: inner product of their vectors, without fixed ends.",
        "https://arxiv.org/abs/2004.04906",
        "download",
        _dpr,
    ),
    "rrf": RetrieverChoice(
        "Hybrid, by rank",
        "Joins dense and BM25 by the places they give a passage. Score: sum of 1 / (60 + place), "
        "0 to 0.033 for two; it says nothing of how well a passage fits.",
        "https://doi.org/10.1145/1571941.1572114",
        "",
        _rrf,
    ),
    "weighted": RetrieverChoice(
        "Hybrid, by score",
        "Joins dense and BM25 by their scores, each scaled to 0 to 1 over all passages. Score: "
        "the weighted mean, 0 to 1, high for some passage whatever is asked.",
        "https://arxiv.org/abs/2210.11934",
        "",
        _weighted,
    ),
    "reranked": RetrieverChoice(
        "Re-ranked",
        "Lets a model read the question with each of the first passages and order them anew. "
        "Score: log likelihood of the question for a word piece, below 0; or what a cross-encoder "
        "gives.",
        "https://arxiv.org/abs/2204.07496",
        "generator",
        _reranked,
    ),
    "mmr": RetrieverChoice(
        "Diverse",
        "Prefers passages that differ from those above. Score: 0.7 of the relevance less 0.3 of "
        "the likeness to a passage above, -0.3 to 0.7.",
        "https://doi.org/10.1145/290941.291025",
        "",
        _mmr,
    ),
    "neighbours": RetrieverChoice(
        "With neighbours",
        "Each passage found brings the text before and after it. Score: that of the best passage "
        "inside.",
        "https://arxiv.org/abs/2312.06648",
        "",
        _neighbours,
    ),
    "hyde": RetrieverChoice(
        "Hypothetical answer",
        "Searches with what the generator would answer without documents. Score: as of the search "
        "behind it.",
        "https://arxiv.org/abs/2212.10496",
        "generator",
        _hyde,
    ),
    "phrasings": RetrieverChoice(
        "Several phrasings",
        "Puts the question in up to five ways and joins what they find. Score: sum of "
        "1 / (60 + place), 0 to 0.082.",
        "https://arxiv.org/abs/2402.03367",
        "",
        _phrasings,
    ),
}


def create(name: str, corpus: Corpus, **options: object) -> Retriever:
    """The retriever `name` in `RETRIEVERS` over `corpus`; options go to its constructor.

    Wrappers take `inner`, a name or a retriever ("rrf" and "weighted" a list of them); "reranked"
    and "hyde" take `generator`, "reranked" also `model`, a cross-encoder's id; "dpr" takes
    `questions` and `passages`, ids or folders. Raises RagdemoError for an unknown name or a missing
    generator, ModelUnavailable where a model can't be had.
    """
    if name not in RETRIEVERS:
        raise RagdemoError(f"Unknown retriever {name!r}: choose from {', '.join(RETRIEVERS)}.")
    return RETRIEVERS[name].make(corpus, **options)
