"""Choosing retrievers and how they work, and making the visitor's own from the choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.embedding.dpr import PASSAGES, QUESTIONS
from ragdemo.generation.base import Generator
from ragdemo.retrieval import RETRIEVERS, Retriever, create
from ragdemo.ui import cache
from ragdemo.ui.state import Tuning, Visitor

KEEP = {"persist_state": "session"}  # else a switch of page forgets the value
USUAL = ("bm25", "tfidf", "dense", "rrf")
INNER = ("dense", "bm25", "rrf")
WRAPPERS = ("reranked", "mmr", "neighbours", "hyde", "phrasings")
WORDS = ("k1", "b")
READS = {  # which fields of `Tuning` each depends on
    "bm25": WORDS,
    "rrf": WORDS,
    "weighted": (*WORDS, "share"),
    "dpr": ("questions", "passages"),
    **dict.fromkeys(WRAPPERS, ("inner", *WORDS)),
    "mmr": ("inner", *WORDS, "trade"),
    "reranked": ("inner", *WORDS, "judge"),
}
KEPT = 24  # made ones a visitor holds; moving a slider makes new ones


def title(name: str) -> str:
    """How a retriever is called on the screen; its own name where it is none of ours."""
    return RETRIEVERS[name].title if name in RETRIEVERS else name


def makers(
    me: Visitor, names: Sequence[str], corpus: Corpus | None = None
) -> dict[str, Callable[[], Retriever]]:
    """A function for each that makes it, or gives the one made before. They may be called in a
    thread: what was chosen is read now. Those over another corpus than the visitor's are not kept.
    """
    generator = me.generator or cache.shared().generator
    kept = me.retrievers if corpus is None else {}
    return {
        name: partial(_made, kept, corpus or me.corpus, me.tuning, generator, name)
        for name in names
    }


def _made(
    kept: dict[object, Retriever],
    corpus: Corpus,
    tuning: Tuning,
    generator: Generator,
    name: str,
) -> Retriever:
    # the generator's identity, not its name: two endpoints may serve models of one name
    writer = id(generator) if name == "hyde" else 0
    key = (name, *(getattr(tuning, field) for field in READS.get(name, ())), writer)
    found = kept.get(key)
    if found is None or found.corpus is not corpus:
        inner = partial(_made, kept, corpus, tuning, generator)
        found = kept[key] = create(name, corpus, **_options(name, tuning, generator, inner))
        while len(kept) > KEPT:
            kept.pop(next(iter(kept)), None)
    return found


def _options(
    name: str, tuning: Tuning, generator: Generator, inner: Callable[[str], Retriever]
) -> dict[str, object]:
    """What `create` needs for this one; wrappers share the retrievers that stand alone."""
    if name in WRAPPERS:
        options: dict[str, object] = {"inner": inner(tuning.inner)}
        if name == "mmr":
            options["trade"] = tuning.trade
        elif name == "hyde":
            options["generator"] = generator
        elif name == "reranked":
            judge = cache.cross_encoder(tuning.judge) if tuning.judge else cache.shared().judge
            options["scorer"] = judge
        return options
    if name == "bm25":
        return {"k1": tuning.k1, "b": tuning.b}
    if name in ("rrf", "weighted"):
        options = {"inner": [inner("dense"), inner("bm25")]}
        if name == "weighted":
            options["weights"] = [tuning.share, 1 - tuning.share]
        return options
    if name == "dpr":
        return {"encoder": cache.dpr(tuning.questions, tuning.passages)}
    return {}


def several() -> list[str]:
    """Which retrievers race; in the order of the list, so that charts read alike."""
    chosen = st.multiselect(
        "Retrievers", list(RETRIEVERS), list(USUAL), format_func=title, key="racers", wrap=True,
        help="Three or four are easy to compare. DPR downloads its models first.", **KEEP,
    )  # fmt: skip
    return list(dict.fromkeys(chosen))


def one(me: Visitor) -> None:
    """How the Ask page finds passages."""
    me.retriever = st.selectbox(
        "Retriever", list(RETRIEVERS), format_func=title, key="retriever",
        help="Race them against each other on the Retrievers page.", **KEEP,
    )  # fmt: skip
    about(me.retriever)


def about(name: str) -> None:
    """One retriever in a sentence or two, with its paper. Our own text."""
    choice = RETRIEVERS[name]
    st.caption(f"{choice.about} [Paper]({choice.paper})")


def tuning(me: Visitor) -> None:
    """The settings of the retrievers that have any."""
    usual = Tuning()
    left, middle, right = st.columns(3, gap="medium")
    with left:
        k1 = st.slider(
            "BM25: k1", 0.0, 3.0, usual.k1, 0.1, key="k1",
            help="How much a word's second and third occurrence add. 0: nothing.", **KEEP,
        )  # fmt: skip
        b = st.slider(
            "BM25: b", 0.0, 1.0, usual.b, 0.05, key="b",
            help="How much long passages are held back. 0: not at all.", **KEEP,
        )  # fmt: skip
    with middle:
        share = st.slider(
            "Hybrid, by score: share of dense", 0.0, 1.0, usual.share, 0.05, key="share",
            help="The rest is BM25's.", **KEEP,
        )  # fmt: skip
        trade = st.slider(
            "Diverse: relevance against variety", 0.0, 1.0, usual.trade, 0.05, key="trade",
            help="1 is the ranking it started from, 0 only wants differences.", **KEEP,
        )  # fmt: skip
    with right:
        inner = st.selectbox(
            "Search behind the wrappers", list(INNER), format_func=title, key="inner",
            help="Re-ranked, Diverse, With neighbours, Hypothetical answer and Several phrasings "
            "start from this one.", **KEEP,
        )  # fmt: skip
        judge = st.text_input(
            "Re-ranked: a cross-encoder's id", key="judge", placeholder="the bundled generator",
            help="Such as cross-encoder/ms-marco-MiniLM-L6-v2; it is downloaded. Empty: the "
            "bundled generator judges how likely the question is after each passage.", **KEEP,
        )  # fmt: skip
    pair = st.columns(2, gap="medium")
    questions = pair[0].text_input(
        "DPR: encoder of questions", key="dpr_questions", placeholder=QUESTIONS, **KEEP
    )
    passages = pair[1].text_input(
        "DPR: encoder of passages", key="dpr_passages", placeholder=PASSAGES, **KEEP
    )
    st.caption("Both are downloaded, about 440 MB each, and every passage is then read anew.")
    me.tuning = Tuning(
        inner, k1, b, share, trade, judge.strip(), questions.strip(), passages.strip()
    )
