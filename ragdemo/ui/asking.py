"""Asking a question and watching the answers grow, with a Stop that works.

Streamlit ends a script at its next `st.*` call when Stop (or anything else) is clicked and starts
the next one at once. The first then cancels the work, the next one keeps what had been written.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import streamlit as st

from ragdemo import pipeline
from ragdemo.generation.base import Generator
from ragdemo.pipeline import Update
from ragdemo.serving import Place, Ticket
from ragdemo.ui import answers, cache, choosing, drawn, passages
from ragdemo.ui.state import Visitor
from ragdemo.ui.work import Work

EXAMPLES = (
    "What is our company's mobile phone policy?",
    "How soon must I report a lost work phone?",
    "How many days a week may I work from home?",
    "Are dogs allowed in the office?",
)


def examples(me: Visitor) -> None:
    """Questions one click away."""
    with st.container(horizontal=True, gap="xsmall", key="examples"):
        for number, question in enumerate(EXAMPLES):
            if st.button(question, key=f"example-{number}"):
                me.asking = question


def entry(me: Visitor) -> None:
    """The field for a question of one's own."""
    # in a container: pinned to the bottom, it would scroll the answers out of sight
    with st.container():
        question = st.chat_input("Ask your documents", max_chars=1000, key="question")
    if question and question.strip():
        me.asking = question.strip()


def settle(me: Visitor) -> None:
    """Keep the result of the question that was under way, finished or stopped."""
    work, me.working = me.working, None
    settled = work.settle() if work else None
    if settled is None:
        return
    update, problem = settled
    if update and update.comparison:
        me.add_turn(update.comparison)
    else:
        me.failed = problem or "Stopped before anything was written. Ask again when you like."


def answer(me: Visitor) -> None:
    """Answer the question that waits, drawing as it goes, and put the result into the visitor."""
    question, me.asking, me.failed = me.asking, "", ""
    drawn.text(question, look="title")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Stop", key="stop", icon=":material/stop_circle:", type="primary")
        said = st.empty()
    left, right = answers.columns()
    below = st.container()
    generator = me.generator or cache.shared().generator
    work = me.working = _begin(me, question, generator)
    shown = None
    try:
        for news in work.updates():
            update = news or Update("searching")
            said.caption(_stage(update, work.place()))
            if update is shown:
                continue
            if update.hits and not (shown and shown.hits):
                floor = me.corpus.floor() if me.retriever == "dense" else None
                with below:
                    passages.show(me, question, update.hits, floor, live=True)
            left.text(update.grounded)
            right.text(update.baseline)
            shown = update
    finally:
        work.cancel()
    if me.working is work:  # not what another script has begun meanwhile
        settle(me)
    st.rerun()


def _begin(me: Visitor, question: str, generator: Generator) -> Work[Update]:
    cancelled = threading.Event()
    make = choosing.makers(me, [me.retriever])[me.retriever]
    options = {"ask": me.ask, "decoding": me.decoding, "history": me.history()}
    corpus = me.corpus

    def updates() -> Iterator[Update]:
        yield Update("searching")
        retriever = make()  # in the thread: it may load a model
        yield from pipeline.stream(
            question, corpus, generator, retriever=retriever, cancelled=cancelled, **options
        )

    ticket = Ticket(cancelled=cancelled)
    return Work(updates(), ticket, "Ask again; if it fails again, choose another generator.")


def _stage(update: Update, place: Place | None) -> str:
    if place and not update.grounded and not update.baseline and (waits := place.said):
        return waits
    said = {
        "searching": "Looking up passages",
        "reading": "Reading the passages",
        "writing": "Writing both answers",
        "scoring": "Weighing the candidates",
    }.get(update.stage, "Checking the answers against the passages")
    return f"{said}: {update.progress} …" if update.progress else f"{said} …"
