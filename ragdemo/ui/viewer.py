"""One document's passages, one at a time: text, overlaps, and the page beside it."""

from __future__ import annotations

import streamlit as st

from ragdemo.types import Span
from ragdemo.ui import drawn, library
from ragdemo.ui.passages import picture, place
from ragdemo.ui.state import Visitor


@st.fragment
def viewer(me: Visitor) -> None:
    """Choose a document and a passage of it."""
    document = library.choose(me, "Document to look into", "view-document")
    if document is None:
        return
    chunks = me.corpus.chunks_of(document.id)
    if not chunks:
        st.caption("This document has no text, so no passages.")
        return
    number = 1
    if len(chunks) > 1:
        number = st.slider("Passage", 1, len(chunks), 1, key=f"view-{document.id[:16]}")
    chunk = chunks[number - 1]
    left, right = st.columns(2, gap="medium")
    with left:
        where = " · ".join(part for part in (place(me, chunk), chunk.heading) if part)
        drawn.text(
            f"Passage {number} of {len(chunks)} · {chunk.tokens} tokens · {where}",
            look="small quiet",
        )
        marks = []
        if number > 1 and (shared := chunks[number - 2].end - chunk.start) > 0:
            marks.append((Span(0, shared), "before"))
        if number < len(chunks) and (shared := chunk.end - chunks[number].start) > 0:
            marks.append((Span(len(chunk.text) - shared, len(chunk.text)), "after"))
        if chunk.context:
            drawn.text(f"{chunk.context}\n(the table's header, read along)", look="small quiet")
        drawn.text(chunk.text, marks)
        if marks:
            st.caption(
                ":blue-background[Blue] also stands in the passage before, "
                ":orange-background[orange] in the one after."
            )
    with right:
        data = me.corpus.originals.get(document.id, b"")
        if data.startswith(b"%PDF-") and chunk.pages:
            picture(me, chunk, document.page_at(chunk.start).number)
        else:
            st.caption("No page picture: this is not a PDF, or it came in an imported index.")
