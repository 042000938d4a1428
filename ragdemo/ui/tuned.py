"""What came of a training: before and after on one question, and using, saving, undoing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from ragdemo import pipeline
from ragdemo.corpus import Corpus
from ragdemo.embedding import DPREncoder, Encoder, SentenceTransformerEncoder
from ragdemo.errors import RagdemoError
from ragdemo.generation.base import Generator
from ragdemo.retrieval.dense import Dense
from ragdemo.serving import SharedEncoder, SharedGenerator
from ragdemo.training.tuning import Trained
from ragdemo.types import Answer
from ragdemo.ui import cache, chart, drawn, running
from ragdemo.ui.race import TONES, card
from ragdemo.ui.state import Visitor
from ragdemo.ui.tuning import CLOSED, KIND, Lab, base_corpus, untrained

MADE = "tuned"
SHOWN = 3  # passages before and after
KEEP = {"persist_state": "session"}


@dataclass(frozen=True)
class Made:
    """A trained model ready to be tried: what changed, and what it was before."""

    model: object  # as `saved.save` takes it
    encoder: Encoder | None  # the trained one in it
    before: Corpus
    after: Corpus  # the same one where the retriever was left alone
    generator: Generator | None  # the tuned one, behind a worker of its own
    trained: Trained | None = None  # for the card
    tried: str = ""
    hub: str = ""  # what was trained, where it isn't the bundled generator
    closed: bool = False  # a generator that learnt to answer without passages


def section(me: Visitor, board: running.Board) -> None:
    """Once a training has ended; nothing before."""
    lab = me.results.get(KIND)
    made = me.results.get(MADE)
    if lab and not board.busy(KIND) and (made is None or made.trained is not lab.news.trained):
        st.subheader("Look at the result", anchor=False)
        if st.button("Compare before and after", icon=":material/compare:", key="tuned-make"):
            running.start(me, MADE, partial(_made, me, lab))
    body = board.place(MADE, lambda _: None)
    if body and made:
        with body:
            _draw(me, made)
    _load(me)
    _reset(me)


def _made(me: Visitor, lab: Lab, reins: running.Reins) -> Iterator[Made]:
    def updates() -> Iterator[Made]:
        reins.tell("Taking the best weights", 0, 1)
        model = lab.news.trained.make()
        trained = lab.news.trained
        made = _ready(model, lab.corpus, reins)
        closed = lab.what == CLOSED
        yield replace(made, trained=trained, tried=lab.tried, hub=lab.hub, closed=closed)

    return updates()


def _ready(model: object, before: Corpus, reins: running.Reins) -> Made:
    from ragdemo.training.dual import DualEncoder
    from ragdemo.training.head import refill
    from ragdemo.training.joint import parts

    encoder, generator = parts(model)
    after = before
    if encoder is not None:
        shared = encoder
        if isinstance(encoder, SentenceTransformerEncoder | DPREncoder):
            shared = SharedEncoder(encoder)
        elif isinstance(encoder, DualEncoder):
            shared = DualEncoder(encoder.inner, SharedEncoder(encoder.questions))
        new = Corpus(shared, before.chunking)
        after = refill(new, before, partial(reins.tell, "Reading the documents anew"))
    writer = SharedGenerator(generator) if generator is not None else None
    return Made(model, encoder, before, after, writer)


def _draw(me: Visitor, made: Made) -> None:
    st.subheader("Before and after", anchor=False)
    st.session_state.setdefault("tuned-question", made.tried)
    if made.trained is not None and made.trained.best_step == 0:
        st.caption("The untrained weights were the best and were kept, so both sides are alike.")
    question = st.text_input(
        "A question to try", key="tuned-question", max_chars=1000,
        help="It begins with one of a held-out document.", **KEEP,
    ).strip()  # fmt: skip
    if question:
        try:
            if made.after is not made.before:
                _rankings(me, made, question)
            if hasattr(made.model, "shift"):  # trained end to end
                _shift(made, question)
            if made.generator is not None:
                _answers(made, question)
        except RagdemoError as problem:
            drawn.problem(problem)
    if made.after is not made.before and len(made.before.chunks) > 2:
        with st.expander("The map of vectors before and after", icon=":material/scatter_plot:"):
            _maps(made, question)
    _use(me, made)


def _rankings(me: Visitor, made: Made, question: str) -> None:
    lists = [Dense(corpus).search(question, SHOWN) for corpus in (made.before, made.after)]
    ids = list(dict.fromkeys(hit.chunk.id for hits in lists for hit in hits))
    letters = {chunk_id: chr(ord("A") + n) for n, chunk_id in enumerate(ids)}
    tones = {letter: n for n, letter in enumerate(list(letters.values())[:TONES])}
    for column, head, corpus, hits in zip(
        st.columns(2, gap="medium"), ("Untrained", "Fine-tuned"),
        (made.before, made.after), lists, strict=True,
    ):  # fmt: skip
        with column:
            st.markdown(f"#### {head}")
            floor = corpus.floor()
            cards = [card(me, question, hit, letters, None) for hit in hits]
            drawn.ranking(cards, floor, tones)


def _shift(made: Made, question: str) -> None:
    """p(z|x): what RAG-Sequence weighs passages by."""
    shift = made.model.shift(question, made.before)
    order = np.argsort(-np.array(shift.after))
    frame = pd.DataFrame(
        {
            "passage": [shift.labels[i] for i in order],
            "untrained": [shift.before[i] for i in order],
            "fine-tuned": [shift.after[i] for i in order],
        }
    )
    st.markdown("**p(passage | question), the retriever's own distribution**")
    bar = {"min_value": 0.0, "max_value": 1.0, "format": "%.2f"}
    st.dataframe(
        frame, hide_index=True, width="stretch",
        column_config={name: st.column_config.ProgressColumn(name, **bar)
                       for name in ("untrained", "fine-tuned")},
    )  # fmt: skip


def _answers(made: Made, question: str) -> None:
    said: list[Answer] = []
    with st.spinner("Writing both answers …"):
        plain = cache.hub_generator(made.hub) if made.hub else cache.shared().generator
        for corpus, generator in ((made.before, plain), (made.after, made.generator)):
            hits = [] if made.closed else pipeline.retrieve(question, corpus, 5)
            said.append(pipeline.answer(question, hits, generator))
    reading = "without passages" if made.closed else "with 5 passages"
    for column, head, answer in zip(
        st.columns(2, gap="medium"), ("Untrained", "Fine-tuned"), said, strict=True
    ):
        with column, st.container(border=True):
            st.markdown(f"**{head}, {reading}**")
            drawn.text(answer.text or "It wrote nothing.")


def _maps(made: Made, question: str) -> None:
    """Both in the plane of the untrained vectors, so that what moved has moved."""
    _, share, project = chart.principal_plane(made.before.vectors)
    names = [chunk.document_name for chunk in made.before.chunks]
    headings = [chunk.heading for chunk in made.before.chunks]
    for column, head, corpus in zip(
        st.columns(2, gap="medium"), ("Untrained", "Fine-tuned"),
        (made.before, made.after), strict=True,
    ):  # fmt: skip
        plane = project(corpus.vectors)
        frame = pd.DataFrame(
            {"x": plane[:, 0], "y": plane[:, 1], "file": names, "heading": headings,
             "found": False}
        )  # fmt: skip
        layers: alt.LayerChart = chart.dots(frame)
        if question:
            layers = layers + chart.star(project(corpus.encoder.encode_queries([question]))[0])
        with column:
            st.markdown(f"**{head}**")
            st.altair_chart(layers.properties(height=380), width="stretch")
    st.caption(
        f"Both in the same two directions, those in which the untrained vectors differ most "
        f"({share:.0%} of their variance). The star is the question above."
    )


# -- using, saving, undoing it


def _use(me: Visitor, made: Made) -> None:
    from ragdemo.training import saved
    from ragdemo.training.head import Headed

    with st.container(horizontal=True):
        if st.button("Use it on every page", icon=":material/check:", key="tuned-use"):
            try:
                with st.spinner("Reading the documents with it …"):
                    use(me, made)
            except RagdemoError as problem:
                drawn.problem(problem)
            else:
                st.rerun()
        if isinstance(made.encoder, DPREncoder):
            st.caption("To keep a pair of towers, train it by `python -m ragdemo train retriever`.")
        elif made.trained is not None:
            kept = partial(saved.packed, made.model, made.trained)
            st.download_button(
                "Save it as a model folder (zip)", kept, "ragdemo-tuned.zip", "application/zip",
                icon=":material/download:", on_click="ignore", key="tuned-save",
            )  # fmt: skip
            if isinstance(made.encoder, Headed):
                joint = made.generator is not None
                alone = "Save it without MiniLM" if joint else "Save the head alone"
                st.download_button(
                    alone, partial(kept, small=True), "ragdemo-tuned-small.zip",
                    "application/zip", icon=":material/download:", on_click="ignore",
                    key="tuned-save-small",
                    help="Without the encoder that its head goes behind, to be loaded here again.",
                )  # fmt: skip


def use(me: Visitor, made: Made) -> None:
    """Put it into this visitor's place; nobody else's changes."""
    from ragdemo.training.head import refill

    if made.after is not made.before:
        now = base_corpus(me) if me.corpus.encoder is not made.before.encoder else me.corpus
        me.take_corpus(refill(me.empty_corpus(made.after.encoder, now.chunking), now), me.store)
    if made.generator is not None:
        replaced = made.hub or me.generator in (None, me.tuned)
        if not made.hub:
            me.tuned = made.generator  # whenever the bundled one is chosen
        if replaced:
            me.generator = made.generator


def in_use(me: Visitor) -> list[str]:
    """Names of the fine-tuned models that answer this visitor."""
    names = [me.tuned.name] if me.tuned else []
    if _own(me):
        names.append(me.generator.name)
    if me.corpus.encoder is not cache.shared().encoder:
        names.append(me.corpus.encoder.name)
    return names


def _own(me: Visitor) -> bool:
    """A Hugging Face generator that was trained here answers."""
    from ragdemo.training.generator import named

    found = me.generator
    return found is not None and found is not me.tuned and found.name == named(found.name)


def _reset(me: Visitor) -> None:
    names = in_use(me)
    if not names:
        return
    drawn.notice(f"In use on every page: {'; '.join(names)}.", icon=":green[:material/check:]")
    if st.button("Back to the untrained models", icon=":material/undo:", key="tuned-reset"):
        if me.generator is me.tuned or _own(me):
            me.generator = None
        me.tuned = None
        if me.corpus.encoder is not cache.shared().encoder:
            empty = me.empty_corpus(cache.shared().encoder, me.corpus.chunking)
            me.take_corpus(untrained(me, empty), me.store)
        st.rerun()


def _load(me: Visitor) -> None:
    with st.expander("Load a model saved here", icon=":material/upload_file:"):
        most = st.get_option("server.maxUploadSize")
        st.caption(
            "Only its numbers are read, into a model built here; no code, no settings. A file of "
            f"more than {most} MB is opened by `ragdemo.training.saved.load`."
        )
        file = st.file_uploader(
            "A saved model", type=["zip"], key=f"tuned-file-{me.uploads}",
            max_upload_size=most,
        )  # fmt: skip
        if file is None:
            return
        running.start(me, MADE, partial(_loaded, me, file.getvalue()))
        me.uploads += 1
        st.rerun()


def _loaded(me: Visitor, data: bytes, reins: running.Reins) -> Iterator[Made]:
    def updates() -> Iterator[Made]:
        from ragdemo.training import saved

        reins.tell("Reading the file", 0, 1)
        model = saved.unpacked(data, cache.shared().encoder)
        yield _ready(model, base_corpus(me), reins)

    return updates()
