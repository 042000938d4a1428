"""The same documents cut in two ways, and what one retriever finds in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.evaluation.race import Run, race
from ragdemo.retrieval import RETRIEVERS
from ragdemo.settings import Chunking
from ragdemo.types import Chunk, Hit
from ragdemo.ui import cache, choosing, drawn, running
from ragdemo.ui.known import answer
from ragdemo.ui.race import TONES, card, facts
from ragdemo.ui.state import Visitor

KIND = "cuts"
KEEP = {"persist_state": "session"}


@dataclass(frozen=True, slots=True)
class Cut:
    """One chunking and what was found in it."""

    chunking: Chunking
    passages: int
    tokens: float  # of a passage, mean
    run: Run


@dataclass(frozen=True, slots=True)
class Cuts:
    question: str
    now: Cut
    other: Cut
    corpus: Corpus  # the other one, to ask it again
    index: str  # fingerprint of the visitor's


def section(me: Visitor, board: running.Board) -> None:
    """Choose the second chunking, and look."""
    st.caption(
        "Short passages are found precisely and say little; long ones say more and blur what they "
        "are about. Here the same question goes to both. Nothing else of yours changes."
    )
    columns = st.columns([1, 1, 1], gap="medium")
    tokens = columns[0].slider(
        "Passage length of the second (tokens)", 32, 240, 64, 8, key="cut-tokens", **KEEP
    )
    overlap = columns[1].slider(
        "Its overlap (tokens)", 0, 120, 16, 4, key="cut-overlap",
        help="At most half the length.", **KEEP,
    )  # fmt: skip
    name = columns[2].selectbox(
        "Retriever", [n for n, c in RETRIEVERS.items() if not c.needs], format_func=choosing.title,
        key="cut-retriever", **KEEP,
    )  # fmt: skip
    question = st.session_state.get("race-question", "").strip()
    if st.button(
        "Cut again and compare", icon=":material/content_cut:", key="cut-go",
        disabled=not question or not me.corpus.chunks,
    ):  # fmt: skip
        wanted = Chunking(tokens, min(overlap, tokens // 2))
        k = st.session_state.get("race-k", 5)
        running.start(me, KIND, partial(_cut, me, question, wanted, name, k))
    body, found = board.place(KIND, lambda _: None), me.results.get(KIND)
    if body and found and found.index == me.corpus.fingerprint:
        with body:
            _draw(me, found)


def _cut(
    me: Visitor, question: str, wanted: Chunking, name: str, k: int, reins: running.Reins
) -> Iterator[Cuts]:
    mine, last = me.corpus, me.results.get(KIND)
    known = last and last.index == mine.fingerprint and last.corpus.chunking == wanted
    kept = last.corpus if known else None
    own = choosing.makers(me, [name])

    def updates() -> Iterator[Cuts]:
        other = kept or cut(mine, wanted, reins)
        theirs = choosing.makers(me, [name], other)
        runs = []
        for corpus, makers in ((mine, own), (other, theirs)):
            *_, (run,) = race(question, makers, k)
            if run.problem:
                raise RagdemoError(run.problem)
            runs.append(_cut_of(corpus, run))
        yield Cuts(question, runs[0], runs[1], other, mine.fingerprint)

    return updates()


def cut(corpus: Corpus, wanted: Chunking, reins: running.Reins) -> Corpus:
    """The same documents in another corpus. Raises Cancelled."""
    shared = cache.shared()
    new = Corpus(corpus.encoder, wanted)
    documents = list(corpus.documents.values())
    samples = None
    for number, document in enumerate(documents, start=1):
        if document.id in shared.files:
            samples = samples or shared.indexed(wanted, partial(reins.tell, "Cutting the samples"))
            shared.give(new, document.id, samples)
        else:
            said = f"Document {number} of {len(documents)}"
            new.add(document, progress=partial(reins.tell, said))
    return new


def _cut_of(corpus: Corpus, run: Run) -> Cut:
    sizes = [chunk.tokens for chunk in corpus.chunks]
    return Cut(corpus.chunking, len(sizes), sum(sizes) / max(1, len(sizes)), run)


def _draw(me: Visitor, found: Cuts) -> None:
    drawn.text(found.question, look="title")
    st.caption(
        "The same letter: the two passages overlap in the document, so they are the same place."
    )
    known = answer(me, found.question)
    letters = paired([h.chunk for h in found.now.run.hits], found.other.run.hits)
    tones = {label: n for n, label in enumerate(sorted(set(letters.values()))[:TONES])}
    for column, cut_ in zip(st.columns(2, gap="medium"), (found.now, found.other), strict=True):
        with column:
            first = cut_ is found.now
            st.markdown(
                f"#### {cut_.chunking.tokens} tokens, overlap {cut_.chunking.overlap}"
                f"{' (yours now)' if first else ''}"
            )
            st.caption(f"{cut_.passages} passages, {cut_.tokens:.0f} tokens each on average")
            st.caption(facts(cut_.run))
            drawn.ranking(
                [card(me, found.question, hit, letters, known) for hit in cut_.run.hits],
                cut_.run.floor,
                tones,
            )


def paired(left: list[Chunk], right: tuple[Hit, ...]) -> dict[str, str]:
    """Letters by chunk id: each on the right has that of the left one it overlaps most."""
    letters = {chunk.id: chr(ord("A") + n) for n, chunk in enumerate(left)}
    following = len(left)
    for hit in right:
        shared = [(_overlap(chunk, hit.chunk), chunk) for chunk in left]
        most, nearest = max(shared, key=lambda pair: pair[0], default=(0, hit.chunk))
        if most:
            letters.setdefault(hit.chunk.id, letters[nearest.id])
        else:
            letters.setdefault(hit.chunk.id, chr(ord("A") + following))
            following += 1
    return letters


def _overlap(a: Chunk, b: Chunk) -> int:
    same = a.document_id == b.document_id
    return max(0, min(a.end, b.end) - max(a.start, b.start)) if same else 0
