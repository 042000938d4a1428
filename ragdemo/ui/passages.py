"""The passages that were found: where from, how near, which words, and the page itself."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ragdemo.errors import RagdemoError
from ragdemo.grounding import marked
from ragdemo.loading.pdf import page_image
from ragdemo.retrieval import RETRIEVERS
from ragdemo.types import Chunk, Hit, Span, Support
from ragdemo.ui import drawn
from ragdemo.ui.state import Visitor


def show(
    me: Visitor,
    question: str,
    hits: Sequence[Hit],
    floor: float | None,
    *,
    support: Sequence[Support] = (),
    live: bool = False,
) -> None:
    """All passages. `live` while the answers are still being written: no buttons then."""
    st.subheader(f"Passages found ({len(hits)})", anchor=False)
    if not hits:
        return
    drawn.runs(
        [
            {"text": f"{_scale(hits[0].retriever)} "},
            {"text": "Underlined", "kinds": ["word"]},
            {"text": ": words of the question. "},
            {"text": "Green", "kinds": ["support"]},
            {"text": ": the sentence that bears out the answer."},
        ],
        look="small quiet",
    )
    on = drawn.span((hit.score for hit in hits), floor)
    for number, hit in enumerate(hits, start=1):
        evidence = [s.evidence for s in support if s.citation == number and s.evidence]
        _card(me, number, question, hit, floor, on, evidence, live)


def _scale(retriever: str) -> str:
    """What a score means, and its range."""
    if retriever not in RETRIEVERS:
        return "Score: higher is nearer."
    choice = RETRIEVERS[retriever]
    line = " The black line is what nonsense questions reach on these documents."
    return f"{choice.title}: {choice.about}{line}"


def _score(hit: Hit, floor: float | None, on: tuple[float, float]) -> None:
    said = f"Score {drawn.number(hit.score)}"
    if floor is not None:
        side = "above" if hit.score >= floor else "below"
        said += f", {drawn.number(abs(hit.score - floor))} {side} nonsense"
    drawn.text(said, look="small")
    label = f"Score {drawn.number(hit.score)}"
    if hit.retriever == "dense" and "cosine" in hit.parts:
        drawn.score(hit.score, floor, f"{label} on a scale to 1")
    else:
        ends = (drawn.number(on[0]) if on[0] else "0", drawn.number(on[1]) if on[1] else "0")
        drawn.score(hit.score, floor, label, span=on, ends=ends)


def place(me: Visitor, chunk: Chunk) -> str:
    """Where a passage stands: "page 3", "pages iv-v"."""
    document = me.corpus.documents.get(chunk.document_id) if me.corpus else None
    labels = {p.number: p.label for p in document.pages} if document else {}
    named = [labels.get(number, str(number)) for number in chunk.pages]
    if document and len(document.pages) == 1 and not chunk.document_name.lower().endswith(".pdf"):
        return ""  # a format without pages
    if not named:
        return ""
    return f"page {named[0]}" if len(named) == 1 else f"pages {named[0]}–{named[-1]}"


def _card(
    me: Visitor,
    number: int,
    question: str,
    hit: Hit,
    floor: float | None,
    on: tuple[float, float],
    evidence: Sequence[Span],
    live: bool,
) -> None:
    chunk = hit.chunk
    with st.container(border=True, key=f"passage-{number}" if not live else None):
        about, words = st.columns([1, 2], gap="medium")
        with about:
            drawn.runs(
                [
                    {"text": f" {number} ", "kinds": ["support"]},
                    {"text": f" {chunk.document_name}"},
                ],
                look="strong",
            )
            where = " · ".join(part for part in (place(me, chunk), chunk.heading) if part)
            drawn.text(where, look="small quiet")
            _score(hit, floor, on)
        with words:
            marks = [(span, "word") for span in marked(question, chunk.text)]
            marks += [(span, "support") for span in evidence]
            if chunk.context:
                drawn.text(chunk.context, look="small quiet")
            drawn.text(chunk.text, marks, clipped=True)
            if not live:
                _page(me, number, hit, evidence[0].start if evidence else 0)


@st.fragment
def _page(me: Visitor, number: int, hit: Hit, offset: int) -> None:
    """The page as a picture, made when asked for."""
    chunk = hit.chunk
    data = me.corpus.originals.get(chunk.document_id) if me.corpus else None
    if not data or not chunk.pages or not data.startswith(b"%PDF-"):
        return
    turn = len(me.turns)
    opened = st.expander(
        "Show it on the page", icon=":material/find_in_page:", key=f"page-{turn}-{number}",
        on_change="rerun",
    )  # fmt: skip
    if not opened.open:
        return
    with opened:
        document = me.corpus.documents[chunk.document_id]
        picture(me, chunk, document.page_at(chunk.start + offset).number)


def picture(me: Visitor, chunk: Chunk, page: int) -> None:
    """A page with the passage marked, from the visitor's own store of pictures."""
    key = (chunk.document_id, page, chunk.id)
    try:
        if key not in me.images:
            with st.spinner("Drawing the page …"):
                image = page_image(
                    me.corpus.originals[chunk.document_id],
                    page,
                    chunk.text,
                    limits=me.limits,
                    password=me.corpus.passwords.get(chunk.document_id),
                )
            me.keep_image(key, image)
        st.image(me.images[key], width="stretch", alt=f"Page {page} with the passage marked")
    except RagdemoError as problem:
        drawn.problem(problem)
