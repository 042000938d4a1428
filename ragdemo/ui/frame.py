"""What every page begins with: its title, and the visitor's documents once they are ready."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.ui import cache, drawn, glossary
from ragdemo.ui.state import Visitor, visitor

# a file of ours: a Material icon or an emoji here would be fetched from another host
ICON = Path(__file__).with_name("icon.png")


def begin(title: str, about: str) -> Visitor:
    """Page set-up (a page may start without streamlit_app.py), heading and
    glossary."""
    _by_way_of_the_app()
    st.set_page_config(page_title=f"{title} · ragdemo", page_icon=ICON, layout="wide")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(title, anchor=False)
        glossary.button()
    st.caption(about)
    return visitor()


def _by_way_of_the_app() -> None:
    """Until somebody has opened the start page, Streamlit runs a page that a link leads to without
    streamlit_app.py, under a list of file names: it goes by the folder pages/ until the first
    `st.navigation`. There is no public switch for it. At a visit's first script only: later ones
    have a click to tell of, which starting anew would lose."""
    if st.session_state.setdefault("begun", False):
        return
    st.session_state["begun"] = True
    if getattr(PagesManager, "uses_pages_directory", False):
        PagesManager.uses_pages_directory = False
        st.rerun()


def ready(me: Visitor) -> bool:
    """Wait for the models and put the samples into a new visitor's corpus; False after saying
    why that failed."""
    try:
        shared = cache.wait()
        if me.corpus is None:
            corpus = Corpus(shared.encoder, me.chunking)
            shared.give_samples(corpus)
            me.corpus = corpus
        if me.learnt is not me.corpus.chunks:
            me.learnt = me.corpus.chunks
            shared.ahead.put(me.learnt)
    except RagdemoError as problem:
        drawn.problem(problem)
        if st.button("Try again", icon=":material/refresh:"):
            st.rerun()
        return False
    return True
