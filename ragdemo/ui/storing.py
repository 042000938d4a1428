"""Where the visitor's vectors are kept: in this app, in a Milvus file, or on a server."""

from __future__ import annotations

from importlib.util import find_spec

import streamlit as st

from ragdemo import policy
from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.stores import STORES
from ragdemo.stores.remote import permit
from ragdemo.ui import drawn
from ragdemo.ui.state import Visitor
from ragdemo.ui.store import StoreMaker

USUAL = "faiss flat IP"
PACKAGES = {
    "milvus": ("pymilvus", "milvus_lite"),
    "weaviate": ("weaviate",),
    "pinecone": ("pinecone",),
}


def section(me: Visitor) -> None:
    """Choose a store and move the vectors there."""
    now = me.store.name if me.store else USUAL
    st.caption(
        "A store keeps the vectors of your passages and finds the nearest. The rest of the app "
        "does not notice which it is: dense search on every page uses the one chosen here."
    )
    name = st.selectbox(
        "Store", list(STORES), format_func=lambda n: STORES[n].title, key="store",
        persist_state="session",
    )  # fmt: skip
    choice = STORES[name]
    st.caption(f"{choice.about[:1].upper()}{choice.about[1:]}.")
    missing = [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]
    if missing:
        st.caption("It needs a package that is not installed where this app runs:")
        st.code(choice.install, language="bash")
    elif name in PACKAGES:
        _outside(me, name)
    elif st.button("Keep the vectors there", icon=":material/database:", disabled=name == now):
        _move(me, None if name == USUAL else StoreMaker(name))
    st.caption(f"In use now: **{STORES[now].title}**, {len(me.corpus.chunks)} vectors.")


def _outside(me: Visitor, name: str) -> None:
    if name == "milvus" and not policy.current().store_files:
        st.caption("Files of vectors work where the app was started with `RAGDEMO_STORE_FILES=1`.")
        return
    if name != "milvus" and not policy.current().remote_stores:
        st.caption("Servers work where the app was started with `RAGDEMO_REMOTE_STORES=1`.")
        return
    # a form: nothing is kept before it is sent
    with st.form(f"store-{name}", border=False):
        options: dict[str, object] = {}
        if name == "milvus":
            options = _milvus(me)
        elif name == "weaviate":
            options["url"] = st.text_input("Address", "http://localhost:8080")
            options["api_key"] = _key(me, "Key")
        else:
            options["api_key"] = _key(me, "Key")
            options["cloud"] = st.text_input("Cloud", "aws")
            options["region"] = st.text_input("Region", "us-east-1")
        st.caption(
            "Your vectors go into a collection of their own there, which is deleted when you "
            "choose another store or leave. Texts and files are not sent."
        )
        sent = st.form_submit_button("Keep the vectors there", icon=":material/database:")
    if sent:
        given = {key: value for key, value in options.items() if value}
        _move(me, StoreMaker(name, given), typed=given.get("url") or given.get("uri") or "")


def _milvus(me: Visitor) -> dict[str, object]:
    st.caption("Without an address: Milvus Lite, a temporary file on this machine.")
    if not policy.current().remote_stores:
        st.caption(
            "A server's address works where the app was started with `RAGDEMO_REMOTE_STORES=1`."
        )
        return {}
    url = st.text_input("Address of a server", placeholder="http://localhost:19530")
    token = _key(me, "Token")
    if url and "://" not in url:  # a path would write where the visitor says
        url = f"http://{url}"
    return {"uri": url.strip(), "token": token}


def _key(me: Visitor, label: str) -> str:
    return st.text_input(
        label, type="password", autocomplete="off", key=f"store-key-{me.keys}",
        help="Used for this visit only; never shown, logged, saved or exported.",
    )  # fmt: skip


def _move(me: Visitor, maker: StoreMaker | None, typed: str = "") -> None:
    """Into a new corpus over the new store, at an address somebody `typed`; the old one stays
    where that fails."""
    try:
        if typed:
            permit(STORES[maker.name].title, typed, allow_private=False)
        with st.spinner("Moving the vectors …"):
            moved(me, maker)
    except RagdemoError as problem:
        drawn.problem(problem)
        return
    me.keys += 1  # an empty field: the key is in the store now and nowhere else
    st.rerun()


def moved(me: Visitor, maker: StoreMaker | None) -> None:
    """Put the visitor's documents over a store of another kind. Raises RagdemoError."""
    old = me.corpus
    store = maker.make(old.encoder.dimension) if maker else None
    new = Corpus(old.encoder, old.chunking, store)
    try:
        for document in old.documents.values():
            new.adopt(document, old.chunks_of(document.id), old.vectors_of(document.id))
    except RagdemoError:
        if maker:
            maker.discard(store)
        raise
    new.originals, new.passwords = dict(old.originals), dict(old.passwords)
    new.reports = list(old.reports)
    me.take_corpus(new, maker)
