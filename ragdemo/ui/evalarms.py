"""Which arms a question set goes to: presets that teach something, or one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.arms import MOST, USUAL, Arm, Bench, write_arms
from ragdemo.generation.base import Generator
from ragdemo.retrieval import RETRIEVERS, Retriever
from ragdemo.settings import ORDERS, Chunking
from ragdemo.ui import cache, choosing, drawn, running
from ragdemo.ui.sidebyside import cut
from ragdemo.ui.state import Visitor

NONE = "no retrieval"
OWN = "Your own"
PRESETS: Mapping[str, tuple[Arm, ...]] = {
    "With and without retrieval": USUAL,
    "Three retrievers": tuple(Arm(choosing.title(n), n) for n in ("bm25", "dense", "rrf")),
    "1, 3 or 8 passages": tuple(
        Arm(f"{k} passage{'s' * (k > 1)}", k=k) for k in (1, 3, 8)
    ),
    "Three chunk lengths": tuple(
        Arm(f"{tokens} tokens", tokens=tokens, overlap=tokens // 5) for tokens in (40, 100, 200)
    ),
    "Two fusions": (Arm("in the decoder"), Arm("RAG-Sequence", fusion="marginalise")),
}  # fmt: skip


def choose(me: Visitor) -> list[Arm]:
    """The arms to run; the first is what the others are compared with."""
    chosen = st.radio("Compare", [*PRESETS, OWN], key="eval-preset", horizontal=True,
                      persist_state="session")  # fmt: skip
    if chosen == OWN:
        _edit(me)
        arms = me.arms
    else:
        arms = [_here(me, arm) for arm in PRESETS[chosen]]
    st.caption("The first is what the others are compared with.")
    st.dataframe(_table(me, arms), hide_index=True, width="stretch")
    return arms


def _here(me: Visitor, arm: Arm) -> Arm:
    """With the visitor's own chunking and generator, where the preset is not about them."""
    writer = me.generator.name if me.generator else "mini"
    cut_as = {} if arm.chunking != Chunking() else asdict(me.chunking)
    return replace(arm, generator=writer, **cut_as)


def _table(me: Visitor, arms: list[Arm]) -> list[dict[str, object]]:
    return [
        {
            "arm": arm.name,
            "passages found by": choosing.title(arm.retriever) if arm.retriever else "–",
            "how many": str(arm.k) if arm.retriever else "–",
            "their length": f"{arm.tokens} tokens, overlap {arm.overlap}" if arm.retriever else "–",
            "fusion": (arm.fusion if arm.fusion == "marginalise" else f"together, {arm.order}")
            if arm.retriever
            else "–",
            "generator": _writer(me, arm.generator),
        }
        for arm in arms
    ]


def _writer(me: Visitor, name: str) -> str:
    return cache.shared().generator.name if name == "mini" else name


def _edit(me: Visitor) -> None:
    with st.container(border=True):
        with st.form("eval-arm", border=False):
            left, middle, right = st.columns(3, gap="medium")
            name = left.text_input("Name", placeholder="made from the settings", max_chars=60)
            retriever = left.selectbox(
                "Passages found by", ["", *RETRIEVERS], 1,
                format_func=lambda n: choosing.title(n) if n else NONE,
            )  # fmt: skip
            k = middle.slider("How many passages", 1, 20, 5)
            usual = Chunking()
            tokens = middle.slider("Passage length (tokens)", 16, 240, usual.tokens, 8)
            overlap = middle.slider("Overlap (tokens)", 0, 120, usual.overlap, 4)
            marginal = right.toggle("Weigh an answer from each passage (RAG-Sequence)")
            order = right.selectbox("Order of the passages", list(ORDERS))
            own = me.generator is not None and right.toggle(
                "Written by the generator chosen on the Ask page"
            )
            if st.form_submit_button("Add this arm", icon=":material/add:"):
                _add(me, {
                    "name": name.strip() or _named(retriever, k, tokens, marginal),
                    "retriever": retriever, "k": k, "tokens": tokens,
                    "overlap": min(overlap, tokens // 2), "order": order,
                    "fusion": "marginalise" if marginal else "together",
                    "generator": me.generator.name if own else "mini",
                })  # fmt: skip
        with st.container(horizontal=True):
            if st.button("Remove the last", icon=":material/remove:", disabled=len(me.arms) < 2):
                me.arms = me.arms[:-1]
            if st.button("Start over", icon=":material/undo:"):
                me.arms = list(USUAL)
            st.download_button(
                "Arms as JSON", write_arms(me.arms), "arms.json", "application/json",
                icon=":material/download:", help="For `python -m ragdemo eval --arms arms.json`.",
            )  # fmt: skip


def _named(retriever: str, k: int, tokens: int, marginal: bool) -> str:
    if not retriever:
        return NONE
    extra = ", RAG-Sequence" if marginal else ""
    return f"{choosing.title(retriever)}, {k} × {tokens}{extra}"[:60]


def _add(me: Visitor, given: dict[str, object]) -> None:
    names = {arm.name for arm in me.arms}
    try:
        if len(me.arms) >= MOST:
            raise ValueError(f"{MOST} arms are the most of one run")
        if given["name"] in names:
            raise ValueError("there is an arm of this name already")
        me.arms = [*me.arms, Arm(**given)]
    except ValueError as fault:
        drawn.problem(RagdemoError(f"This arm was not added: {fault}."))


def bench(me: Visitor, reins: running.Reins) -> Bench:
    """What arms are made from here: the visitor's documents and the shared models. To be called in
    the page; its functions run in the work's thread."""
    mine, bundled, chosen = me.corpus, cache.shared().generator, me.generator
    own = choosing.makers(me, list(RETRIEVERS))

    def corpus(chunking: Chunking) -> Corpus:
        return mine if chunking == mine.chunking else cut(mine, chunking, reins)

    def retriever(name: str, over: Corpus) -> Retriever:
        return (own if over is mine else choosing.makers(me, [name], over))[name]()

    return Bench(corpus, retriever, partial(_generator, bundled, chosen))


def _generator(bundled: Generator, chosen: Generator | None, name: str) -> Generator:
    if name == "mini":
        return bundled
    if chosen is None or chosen.name != name:
        raise RagdemoError(
            f"{name} is not chosen any more. Choose it on the Ask page and run again."
        )
    return chosen
