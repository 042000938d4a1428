"""The question set in use: the samples', a file, suggested by the model, or made by clicking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import streamlit as st

from ragdemo.evaluation.questions import Question, write_questions
from ragdemo.evaluation.suggest import Suggested, suggest
from ragdemo.text import clean
from ragdemo.types import Hit
from ragdemo.ui import cache, choosing, drawn, measuring, running
from ragdemo.ui.passages import place
from ragdemo.ui.state import Visitor

SUGGEST = "suggest"
SHOWN = 6  # passages to click
MADE, SUGGESTED = "questions made here", "questions suggested from your documents"


def in_use(me: Visitor) -> tuple[str, list[Question]]:
    """Its name and rows."""
    return me.questions or ("the samples' questions", cache.sample_set())


def section(me: Visitor, board: running.Board) -> None:
    """What is in use, and the ways to another one."""
    name, asked = in_use(me)
    known = sum(bool(q.answerable and (q.short or q.answer)) for q in asked)
    placed = sum(bool(q.answerable and q.places) for q in asked)
    silent = sum(not q.answerable for q in asked)
    drawn.text(
        f"In use: {name}. {len(asked)} questions: {known} with an accepted answer, {placed} with "
        f"the place of it, {silent} that the documents don't answer.",
        look="small",
    )
    missing = {q.file for q in asked if q.file} - {*me.corpus.files}
    if missing:
        drawn.notice(
            f"{len(missing)} of the files it names are not among your documents, such as "
            f"{min(missing)}. Its figures about passages leave those questions out."
        )
    measuring.upload(me)
    with st.expander("Have questions suggested", icon=":material/auto_awesome:"):
        _suggesting(me, board)
    with st.expander("Make questions by clicking the passage", icon=":material/ads_click:"):
        _clicking(me)
    with st.expander("Look at the questions", icon=":material/list:"):
        _listing(name, asked)


def _listing(name: str, asked: Sequence[Question]) -> None:
    rows = [
        {
            "question": q.question,
            "accepted": " / ".join(q.short) or q.answer,
            "where": "; ".join(f"{f}, page {', '.join(map(str, p))}" for f, p in q.places),
            "kind": q.kind if q.answerable else "the documents don't say",
        }
        for q in asked
    ]
    st.dataframe(rows, hide_index=True, width="stretch", height=320)
    st.download_button(
        "The set as JSONL", write_questions(asked), "questions.jsonl", "application/jsonl",
        icon=":material/download:",
    )  # fmt: skip


# -- suggested


def _suggesting(me: Visitor, board: running.Board) -> None:
    st.caption(
        "The bundled model writes a question for a passage, then has to answer it from that "
        "passage; only those it can are kept. They stay near the passage's words, so they are "
        "easier to retrieve than people's questions."
    )
    count = st.slider("How many", 5, 50, 10, 5, key="suggest-count", persist_state="session")
    if st.button(
        "Suggest questions", icon=":material/auto_awesome:", key="suggest-go",
        disabled=not me.corpus.chunks,
    ):  # fmt: skip
        me.results.pop(SUGGEST, None)
        running.start(me, SUGGEST, partial(_suggested, me, count))
    body, found = board.place(SUGGEST, _draw), me.results.get(SUGGEST)
    if not (body and found):
        return
    with body:
        _draw(found)
        if found.kept and st.button("Use these questions", icon=":material/check:"):
            me.questions = (SUGGESTED, list(found.kept))
            st.rerun()


def _suggested(me: Visitor, count: int, reins: running.Reins) -> Iterator[Suggested]:
    corpus, generator = me.corpus, cache.shared().generator

    def updates() -> Iterator[Suggested]:
        for news in suggest(corpus, generator, count, cancelled=reins.cancelled):
            reins.said = f"{len(news.kept)} of {count} questions kept"
            reins.share = len(news.kept) / count
            yield news

    return updates()


def _draw(found: Suggested) -> None:
    st.caption(
        f"{len(found.kept)} kept, {len(found.dropped)} dropped: of {found.tried} passages tried."
    )
    st.dataframe(
        [{"question": q.question, "answer": q.answer, "file": q.file} for q in found.kept]
        + [{"question": q, "answer": f"(dropped: {why})", "file": ""} for q, why in found.dropped],
        hide_index=True, width="stretch",
    )  # fmt: skip


# -- clicked


def _clicking(me: Visitor) -> None:
    st.caption(
        "Ask something you know the answer of, and click the passage where it stands. The more "
        "your questions are like your users', the more the figures are worth."
    )
    question = st.text_input("Your question", key="made-question", max_chars=1000)
    short = st.text_input(
        "Accepted short answers, parted by | (such as 20 days | twenty days)", key="made-short",
        max_chars=400,
    )  # fmt: skip
    question = clean(question)[0].strip()
    if question:
        hits = choosing.makers(me, ["rrf"])["rrf"]().search(question, SHOWN)
        for hit in hits:
            _offer(me, question, short, hit)
        st.button(
            "The documents don't say", icon=":material/block:", key="made-none",
            on_click=_take, args=(me, question, "", None),
        )  # fmt: skip
    if me.made:
        drawn.text("\n".join(f"{n}. {q.question}" for n, q in enumerate(me.made, 1)), look="small")
        with st.container(horizontal=True):
            if st.button(f"Use these {len(me.made)} questions", icon=":material/check:"):
                me.questions = (MADE, list(me.made))
                st.rerun()
            if st.button("Remove the last question", icon=":material/remove:"):
                me.made.pop()
                st.rerun()


def _offer(me: Visitor, question: str, short: str, hit: Hit) -> None:
    with st.container(border=True):
        where = " · ".join(p for p in (hit.chunk.document_name, place(me, hit.chunk)) if p)
        drawn.text(where, look="small strong")
        drawn.text(hit.chunk.content, look="small", clipped=True)
        st.button(
            "It stands here", icon=":material/ads_click:", key=f"made-{hit.rank}",
            on_click=_take, args=(me, question, short, hit),
        )  # fmt: skip


def _take(me: Visitor, question: str, short: str, hit: Hit | None) -> None:
    given = tuple(dict.fromkeys(s.strip() for s in clean(short)[0].split("|") if s.strip()))
    number = max((int(q.id.rsplit("-", 1)[1]) for q in me.made), default=0) + 1
    me.made.append(
        Question(
            id=f"made-{number}",
            question=question,
            short=given,
            file=hit.chunk.document_name if hit else "",
            pages=hit.chunk.pages if hit else (),
            answerable=hit is not None,
            kind="made here",
        )
    )
    st.session_state["made-question"] = st.session_state["made-short"] = ""
