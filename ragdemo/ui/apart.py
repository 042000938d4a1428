"""One question taken apart: asking it, the diagram of its way, and the box that is open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import streamlit as st

from ragdemo.anatomy import Anatomy, take_apart
from ragdemo.types import Comparison
from ragdemo.ui import boxes, cache, choosing, drawn, explained, flow, running
from ragdemo.ui.asking import EXAMPLES
from ragdemo.ui.race import duration
from ragdemo.ui.state import Visitor

KIND = "apart"
FIELD = "apart-question"
LONGEST = 1000  # characters of a question, as on the Ask page
KEEP = {"persist_state": "session"}
# what begins after each of the growing anatomies
STAGES = (
    "Looking into the search", "Watching it write with passages", "Watching it write without",
    "Leaving passages out", "Done",
)  # fmt: skip
DEPTHS = ("In a sentence", "In a paragraph", "As a formula")


def entry(me: Visitor) -> None:
    """The question: the last one asked, or one's own. The first visit starts by itself."""
    last = me.last
    carried = last is not None and last is not me.results.get("apart-carried")
    if carried:
        me.results["apart-carried"] = last
        st.session_state[FIELD] = last.question[:LONGEST]
    st.session_state.setdefault(FIELD, EXAMPLES[1])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        question = st.text_input("Question", key=FIELD, max_chars=LONGEST, **KEEP).strip()
        go = st.button(
            "Take it apart", type="primary", icon=":material/account_tree:",
            disabled=not question, key="apart-go",
        )  # fmt: skip
    if me.retriever != "dense" or me.generator is not None:
        st.caption("With the retriever and the generator chosen on the Ask page.")
    found: Anatomy | None = me.results.get(KIND)
    stale = found is not None and found.chunks is not me.corpus.chunks
    first = (found is None and KIND not in me.problems and not me.job) or stale or carried
    if (go or first) and question:
        me.results.pop(KIND, None)
        _start(me, question, last if carried and _ours(me, last) else None)


def _ours(me: Visitor, c: Comparison) -> bool:
    """Answered from these documents by these settings, so that it need not be asked again. A
    comparison may come from a file, which could claim anything: every passage is compared."""
    generator = me.generator or cache.shared().generator
    here = {
        **asdict(me.ask), **asdict(me.decoding), "retriever": me.retriever,
        "index": me.corpus.fingerprint,
    }  # fmt: skip
    chunks = {chunk.id: chunk for chunk in me.corpus.chunks}
    return (
        c.grounded.model == generator.name
        and c.grounded.finish != "cancelled"
        and c.marginal is None
        and len(c.question) <= LONGEST
        and all(c.settings.get(name) == value for name, value in here.items())
        and all(chunks.get(h.chunk.id) == h.chunk for h in (*c.hits, *c.grounded.prompt.used))
    )


def _start(me: Visitor, question: str, comparison: Comparison | None) -> None:
    make = choosing.makers(me, [me.retriever])[me.retriever]
    generator = me.generator or cache.shared().generator
    corpus, ask, decoding = me.corpus, me.ask, me.decoding

    def updates(reins: running.Reins) -> Iterator[Anatomy]:
        reins.tell("Asking" if comparison is None else STAGES[0], 0, len(STAGES))
        parts = take_apart(
            question, corpus, generator, comparison=comparison, ask=ask, decoding=decoding,
            retriever=make(), cancelled=reins.cancelled,
        )  # fmt: skip
        for number, anatomy in enumerate(parts):
            reins.tell(STAGES[min(number, len(STAGES) - 1)], number + 1, len(STAGES))
            yield anatomy

    running.start(me, KIND, updates)


def show(me: Visitor, board: running.Board) -> None:
    """The diagram with the open box, growing while there is news."""
    body = board.place(KIND, lambda found: _diagram(me, found, live=True))
    if body is None:
        return
    found = me.results.get(KIND)
    with body:
        if found is None:
            st.caption("Press “Take it apart”.")
        else:
            _diagram(me, found)
            _open(me, found)


def _diagram(me: Visitor, a: Anatomy, live: bool = False) -> None:
    figures, times = boxes.figures(a), boxes.times(a)
    drawn_boxes = [
        flow.Drawn(
            name, box.title, figures.get(name, ""), duration(times[name]) if name in times else ""
        )
        for name, box in explained.BOXES.items()
    ]
    if live:
        drawn.text(a.question, look="title")
        st.caption("  →  ".join(box.title for box in explained.BOXES.values()))
        return
    flow.diagram(drawn_boxes, me.box, partial(setattr, me, "box"))


def _step(me: Visitor, by: int) -> None:
    names = list(explained.BOXES)
    me.box = names[(names.index(me.box) + by) % len(names)]


def _open(me: Visitor, a: Anatomy) -> None:
    """The box that is open: its text at the depth chosen, and this question's data."""
    box = explained.BOXES[me.box]
    number = list(explained.BOXES).index(me.box) + 1
    with st.container(border=True, key="open-box"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(f"{number} · {box.title}", anchor=False)
            st.button(
                "Back", icon=":material/chevron_left:", key="box-back",
                on_click=_step, args=(me, -1),
            )  # fmt: skip
            st.button(
                "Next", icon=":material/chevron_right:", key="box-next",
                on_click=_step, args=(me, 1),
            )  # fmt: skip
        depth = st.segmented_control(
            "How deep", DEPTHS, default=DEPTHS[0], required=True, key="depth",
            label_visibility="collapsed", **KEEP,
        )  # fmt: skip
        _explain(me.box, box, depth, a)
        st.divider()
        boxes.DETAILS[me.box](me, a)


def _explain(name: str, box: explained.Box, depth: str | None, a: Anatomy) -> None:
    if depth == DEPTHS[1]:
        st.markdown(box.paragraph)
    elif depth == DEPTHS[2]:
        fused = str(a.comparison.settings.get("fused", ""))
        formula = explained.FUSIONS.get(fused, box.formula) if name == "fusion" else box.formula
        st.latex(formula.latex)
        st.markdown(f"{formula.where} [{formula.paper}]({formula.address})")
    else:
        st.markdown(f"#### {box.sentence}")
