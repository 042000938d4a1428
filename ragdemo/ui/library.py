"""The documents a visitor has: list, remove, summarise, cut anew, carry away."""

from __future__ import annotations

import streamlit as st

from ragdemo import pipeline
from ragdemo.corpus import Corpus
from ragdemo.errors import LimitReached, RagdemoError
from ragdemo.settings import MIB, Chunking
from ragdemo.types import Document
from ragdemo.ui import cache, drawn
from ragdemo.ui.passages import place
from ragdemo.ui.state import Visitor


def listing(me: Visitor) -> None:
    """Every document with its pages and passages, and a way to remove it."""
    documents = list(me.corpus.documents.values())
    samples = cache.shared().files
    st.subheader(f"Documents ({len(documents)})", anchor=False)
    _sample_buttons(me)
    if not documents:
        st.caption("There are none. Add files above, or bring the samples back.")
        return
    with st.container(border=True, height=420 if len(documents) > 7 else "content"):
        for document in documents:
            _row(me, document, document.id in samples)
    drawn.text(
        f"Index: {len(me.corpus.chunks)} passages of {me.corpus.encoder.dimension} numbers each, "
        f"about {me.corpus.bytes() / MIB:.1f} MB with text and files; encoder "
        f"{me.corpus.encoder.name}.",
        look="small quiet",
    )


def _row(me: Visitor, document: Document, sample: bool) -> None:
    count = len(me.corpus.chunks_of(document.id))
    pages = "1 page" if len(document.pages) == 1 else f"{len(document.pages)} pages"
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        gap="small",
        wrap=False,
        key=f"doc-{document.id[:16]}",
    ):
        drawn.runs(
            [
                {"text": document.name},
                {"text": f"  {pages} · {count} passages{' · sample' if sample else ''}",
                 "kinds": ["note"]},
            ]
        )  # fmt: skip
        if st.button(
            "Remove", key=f"remove-{document.id[:16]}", icon=":material/delete:", type="tertiary"
        ):
            me.corpus.remove(document.id)
            st.rerun()


def _sample_buttons(me: Visitor) -> None:
    shared = cache.shared()
    held = [i for i in shared.files if i in me.corpus.documents]
    with st.container(horizontal=True):
        if held and st.button("Remove the sample documents", icon=":material/folder_off:"):
            for document_id in held:
                me.corpus.remove(document_id)
            st.rerun()
        if len(held) < len(shared.files) and st.button(
            "Bring the sample documents back", icon=":material/restore_page:"
        ):
            bar = st.progress(0.0, "Indexing the samples")
            shared.give_samples(me.corpus, lambda n, of: bar.progress(n / of, f"{n} of {of}"))
            st.rerun()


def choose(me: Visitor, label: str, key: str) -> Document | None:
    """Pick a document. The options of a select box are plain text, never Markdown."""
    documents = list(me.corpus.documents.values())
    if not documents:
        return None
    names = {document.id: document.name for document in documents}
    chosen = st.selectbox(label, list(names), format_func=lambda i: names.get(i, "?"), key=key)
    return me.corpus.documents.get(chosen)


def summary(me: Visitor) -> None:
    """A document in a few sentences, each with the passage it was written from."""
    document = choose(me, "Document to summarise", "summary-document")
    if document is None:
        return
    if st.button("Summarise", icon=":material/summarize:"):
        try:
            with st.spinner("Picking the central passages and writing …"):
                generator = me.generator or cache.shared().generator
                with me.turn() as ticket:
                    me.summaries[document.id] = pipeline.summarise(
                        document.id, me.corpus, generator, cancelled=ticket.cancelled
                    )
        except RagdemoError as problem:
            drawn.problem(problem)
            return
    points = me.summaries.get(document.id)
    if points is None:
        st.caption(
            "The passages nearest the document's mean that differ from each other; the generator "
            "writes the main point of each."
        )
    elif not points:
        st.caption("The generator found no point to make.")
    for text, hit in points or ():
        where = " · ".join(p for p in (place(me, hit.chunk), hit.chunk.heading) if p)
        with st.container(border=True):
            drawn.text(text)
            drawn.text(where, look="small quiet")


def chunking(me: Visitor) -> None:
    """How documents are cut; a change indexes all of them anew."""
    now = me.chunking
    with st.form("chunking", border=False):
        tokens = st.slider(
            "Passage length (tokens)", 32, 240, now.tokens, 8,
            help="Short passages are found precisely, long ones carry more context. The encoder "
            "reads at most 256 tokens.",
        )  # fmt: skip
        overlap = st.slider(
            "Overlap (tokens)", 0, 120, now.overlap, 4,
            help="Repeated from the passage before, in whole sentences, so that nothing is torn "
            "apart. At most half the length.",
        )  # fmt: skip
        sent = st.form_submit_button("Cut and index anew", icon=":material/content_cut:")
    if not sent:
        return
    wanted = Chunking(tokens, min(overlap, tokens // 2))
    if wanted != now:
        try:
            with me.turn():
                _index_anew(me, wanted)
            st.rerun()
        except RagdemoError as problem:
            drawn.problem(problem)


def _index_anew(me: Visitor, wanted: Chunking) -> None:
    """Into a new corpus, which takes the old one's place only when it is whole."""
    old, shared = me.corpus, cache.shared()
    new = me.empty_corpus(old.encoder, wanted)
    bar = st.progress(0.0, "Cutting and embedding")
    documents = list(old.documents.values())
    if any(document.id in shared.files for document in documents):
        samples = shared.indexed(
            wanted, lambda n, of: bar.progress(n / of, f"Sample document {n} of {of}")
        )
    for number, document in enumerate(documents, start=1):
        said = f"Document {number} of {len(documents)}"
        if document.id in shared.files:
            shared.give(new, document.id, samples)
        else:
            new.add(
                document,
                old.originals.get(document.id, b""),
                password=old.passwords.get(document.id, ""),
                progress=lambda n, of, said=said: bar.progress(n / max(1, of), f"{said}: {n}/{of}"),
            )
    me.take_corpus(new, me.store)


def carry(me: Visitor) -> None:
    """The index as a file, and back."""
    st.caption("A zip of texts and vectors, without the original files (so without page pictures).")
    corpus = me.corpus
    st.download_button(
        "Export the index", corpus.export, "ragdemo-index.zip", "application/zip",
        icon=":material/download:", on_click="ignore", disabled=not corpus.documents,
    )  # fmt: skip
    file = st.file_uploader(
        "Import an index", type=["zip"], key=f"index-{me.uploads}",
        max_upload_size=me.limits.total_bytes // MIB,
        help="Takes the place of the documents that are here now.",
    )  # fmt: skip
    if file is None:
        return
    try:
        if file.size > me.limits.total_bytes:
            raise LimitReached(
                f"The file is larger than the {me.limits.total_bytes // MIB} MB allowed."
            )
        with st.spinner("Checking the index …"):
            store = me.store.make(corpus.encoder.dimension) if me.store else None
            imported = Corpus.imported(file.getvalue(), corpus.encoder, store)
    except RagdemoError as problem:
        drawn.problem(problem)
        return
    me.take_corpus(imported, me.store)
    me.uploads += 1
    st.rerun()
