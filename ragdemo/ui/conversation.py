"""The last question in full, earlier ones in short, and a comparison saved and opened again."""

from __future__ import annotations

import streamlit as st

from ragdemo import report
from ragdemo.errors import RagdemoError
from ragdemo.ui import answers, drawn, marginal, passages
from ragdemo.ui.state import Visitor


def show(me: Visitor) -> None:
    """Everything about the last question."""
    if me.failed:
        drawn.problem(me.failed)
    last = me.last
    if last is None:
        return
    drawn.text(last.question, look="title")
    searched = str(last.settings.get("searched_for", last.question))
    if searched != last.question:
        drawn.text(f"Looked up as: {searched}", look="small quiet")
    answers.show(last)
    if last.marginal:
        marginal.show(last)
    passages.show(me, last.question, last.hits, last.floor, support=last.support)
    _save(me)


def earlier(me: Visitor) -> None:
    """The turns before the last, newest first."""
    before = me.turns[:-1]
    if before:
        with st.expander(f"Earlier questions ({len(before)})", icon=":material/history:"):
            for turn in reversed(before):
                drawn.text(turn.question, look="strong")
                left, right = st.columns(2, gap="medium")
                with left:
                    drawn.text(f"With retrieval: {turn.grounded.text or '–'}", look="small")
                with right:
                    drawn.text(f"Without: {turn.baseline.text or '–'}", look="small quiet")


@st.fragment
def _save(me: Visitor) -> None:
    last = me.last
    if last is None:
        return
    st.subheader("Take it away", anchor=False)
    with st.container(horizontal=True):
        st.download_button(
            "Comparison as HTML", lambda: report.to_html(last), "comparison.html", "text/html",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "Comparison as JSON", lambda: report.to_json(last), "comparison.json",
            "application/json", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        if st.button("Clear the conversation", icon=":material/delete_sweep:"):
            me.turns, me.failed = [], ""
            st.rerun()


def reopen(me: Visitor) -> None:
    """A comparison saved as JSON, on the same screen again."""
    with st.expander("Open a saved comparison", icon=":material/upload_file:"):
        file = st.file_uploader(
            "A comparison saved as JSON", type=["json"], key=f"saved-{me.uploads}",
            help="The file that “Comparison as JSON” gave.",
        )  # fmt: skip
        if file is None:
            return
        try:
            comparison = report.from_json(file.getvalue())
        except RagdemoError as problem:
            drawn.problem(problem)
            return
        me.add_turn(comparison)
        me.uploads += 1  # an empty uploader, so that the file is not opened at every run
        st.rerun()
