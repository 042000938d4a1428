"""Ask a question; see the passages and the answers with and without them."""

import streamlit as st

from ragdemo.ui import asking, controls, conversation, frame

me = frame.begin(
    "Ask", "One generator answers twice: with passages from your documents, and without."
)
controls.sidebar(me)
asking.entry(me)
asking.examples(me)

if frame.ready(me):
    asking.settle(me)
    if me.asking:
        asking.answer(me)
    conversation.show(me)
    conversation.earlier(me)
    conversation.reopen(me)
    if me.corpus.documents:
        st.caption(
            f"Answers come from {len(me.corpus.documents)} documents in {len(me.corpus.chunks)} "
            "passages. Add your own on the Documents page."
        )
