"""Asking a question and watching the answers grow, with a Stop that works.

Streamlit ends a script at its next `st.*` call when Stop (or anything else) is clicked and starts
the next one at once. The first then cancels the work, the next one keeps what had been written.
"""

from __future__ import annotations

import threading

import streamlit as st

from ragdemo import pipeline
from ragdemo.pipeline import Update
from ragdemo.types import Comparison
from ragdemo.ui import answers, cache, drawn, passages
from ragdemo.ui.state import Visitor
from ragdemo.ui.work import Work

EXAMPLES = (
    "What is our company's mobile phone policy?",
    "How many days of annual leave do I get?",
    "Can I work from another country?",
    "Which pets may I bring to the office?",
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
    result = work.settle() if work else None
    if isinstance(result, Comparison):
        me.add_turn(result)
    elif result:
        me.failed = result


def answer(me: Visitor) -> None:
    """Answer the question that waits, drawing as it goes, and put the result into the visitor."""
    question, me.asking, me.failed = me.asking, "", ""
    drawn.text(question, look="title")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Stop", key="stop", icon=":material/stop_circle:", type="primary")
        said = st.empty()
    left, right = answers.columns()
    below = st.container()
    work = me.working = _begin(me, question)
    shown = False
    try:
        for update in work.updates():
            said.caption(_stage(update, work))
            if update.hits and not shown:
                shown = True
                with below:
                    passages.show(me, question, update.hits, me.corpus.floor(), live=True)
            left.text(update.grounded)
            right.text(update.baseline)
    finally:
        work.cancel()
    settle(me)
    st.rerun()


def _begin(me: Visitor, question: str) -> Work:
    generator = me.generator or cache.shared().generator
    cancelled = threading.Event()
    updates = pipeline.stream(
        question,
        me.corpus,
        generator,
        ask=me.ask,
        decoding=me.decoding,
        history=me.history(),
        cancelled=cancelled,
    )
    return Work(updates, cancelled, generator)


def _stage(update: Update, work: Work) -> str:
    waiting = work.waiting()
    if waiting and not update.grounded and not update.baseline:
        return f"In line: {waiting} before you"
    return {
        "searching": "Looking up passages …",
        "reading": "Reading the passages …",
        "writing": "Writing both answers …",
    }.get(update.stage, "Checking the answers against the passages …")
