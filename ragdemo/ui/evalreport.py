"""A run to take along: HTML, CSV and JSON, with what two runs must share to be compared."""

from __future__ import annotations

import streamlit as st

from ragdemo.evaluation import record
from ragdemo.evaluation.arms import write_arms
from ragdemo.ui import drawn
from ragdemo.ui.evalrun import Ran


def show(ran: Ran) -> None:
    """Downloads, then the signature."""
    found = ran.record
    drawn.text(found.title, look="title")
    with st.container(horizontal=True):
        for label, name, kind, make in (
            ("Report as HTML", "evaluation.html", "text/html", record.to_html),
            ("Answers as CSV", "evaluation.csv", "text/csv", record.to_csv),
            ("Everything as JSON", "evaluation.json", "application/json", record.to_json),
        ):
            # made when clicked: a large run's files take a second each
            st.download_button(
                label, lambda make=make: make(found), name, kind, icon=":material/download:",
                key=f"report-{name}",
            )  # fmt: skip
        st.download_button(
            "Arms as JSON", write_arms(found.arms), "arms.json", "application/json",
            icon=":material/download:", key="report-arms",
        )  # fmt: skip
    st.caption(
        "The same without a browser, for large sets and for continuous integration. It keeps its "
        "results as they come, and goes on where it was stopped:"
    )
    st.code(
        "python -m ragdemo eval --questions questions.jsonl --docs my_folder --arms arms.json "
        "--out results",
        language="bash",
    )
    st.markdown("#### Signature")
    st.caption("Two figures can be compared where these lines agree.")
    st.dataframe(
        [{"what": name, "is": said} for name, said in found.signature.items()],
        hide_index=True, width="stretch",
    )  # fmt: skip
