"""Why a passage matched: the words that counted, and the words that are near in meaning."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ragdemo.errors import RagdemoError
from ragdemo.evaluation.race import Entry
from ragdemo.retrieval.matching import Match, matched_terms, matched_tokens
from ragdemo.text import STOP_WORDS, content_words
from ragdemo.types import Hit
from ragdemo.ui import cache, choosing, drawn
from ragdemo.ui.known import answer
from ragdemo.ui.race import Race
from ragdemo.ui.state import Visitor

COUNTED = ("bm25", "tfidf")
HEATS = (0.4, 0.5, 0.65, 0.8)  # cosines from which a word is coloured, and stronger


@st.fragment
def show(me: Visitor, found: Race) -> None:
    """One passage under a lens."""
    shared = found.entries
    if not shared:
        st.caption("Nothing was found.")
        return
    known = answer(me, found.question)
    held = [n for n, e in enumerate(shared) if known and known.holds(e.chunk)]
    names = {e.label: f"{e.label} · {e.chunk.document_name}" for e in shared}
    label = st.selectbox(
        "Passage",
        list(names),
        held[0] if held else 0,
        format_func=lambda i: names.get(i, "?"),
        key=f"words-{found.question}",
    )
    entry = next((e for e in shared if e.label == label), shared[0])
    left, right = st.columns(2, gap="medium")
    with left:
        _counted(me, found, entry)
    with right:
        _meant(found, entry)
    _parts(found, entry)


def _counted(me: Visitor, found: Race, entry: Entry) -> None:
    st.markdown("#### Words they share")
    st.caption(
        "BM25 adds a weight for every word of the question that stands in the passage, its "
        "endings cut off: the rarer in your documents, the heavier."
    )
    retriever = choosing.makers(me, ["bm25"])["bm25"]()
    hits = retriever.search(found.question, len(found.chunks))
    hit = next((h for h in hits if h.chunk.id == entry.chunk.id), None)
    weights = dict(hit.parts) if hit else {}
    missing = [w for w in dict.fromkeys(content_words(found.question)) if w not in weights]
    if weights:
        order = sorted(weights.items(), key=lambda item: -item[1])
        drawn.stack(
            [(f"{word} {weight:.2f}", weight, 1 + n % 8) for n, (word, weight) in enumerate(order)],
            sum(weights.values()),
            "Weights of the words",
        )
        st.caption(f"Together {sum(weights.values()):.2f}, this passage's BM25 score.")
    else:
        st.caption("They share no word that counts, so BM25 cannot find this passage.")
    if missing:
        drawn.text(f"Asked, but not in this passage: {', '.join(missing)}", look="small quiet")
    heaviest = max(weights.values(), default=1.0)
    met = matched_terms(weights, entry.chunk.text, retriever.terms)
    drawn.runs(
        _runs(entry.chunk.text, met, [heaviest * s for s in (0, 0.3, 0.55, 0.8)], "weight"),
        clipped=True,
    )


def _meant(found: Race, entry: Entry) -> None:
    st.markdown("#### Words near in meaning")
    st.caption(
        "The encoder turns every word into a vector that depends on its neighbours. The stronger "
        "the colour, the nearer a word is to some word of the question (cosine, −1 to 1); point "
        "at it to see which. The passage's own score compares whole texts; it is no sum of these."
    )
    try:
        met = matched_tokens(cache.shared().encoder, found.question, entry.chunk.text)
    except RagdemoError as problem:
        drawn.problem(problem)
        return
    met = [m for m in met if _word(entry, m).casefold() not in STOP_WORDS]
    pairs: dict[tuple[str, str], float] = {}
    for match in met:
        pair = (match.word.casefold(), _word(entry, match).casefold())
        pairs[pair] = max(match.weight, pairs.get(pair, -1.0))
    best = sorted(pairs.items(), key=lambda item: -item[1])[:6]
    drawn.text(
        "Nearest: " + ", ".join(f"{a} ↔ {b} {value:.2f}" for (a, b), value in best),
        look="small",
    )
    drawn.runs(_runs(entry.chunk.text, met, HEATS, "cosine"), clipped=True)


def _word(entry: Entry, match: Match) -> str:
    return entry.chunk.text[match.span.start : match.span.end]


def _runs(text: str, met: Sequence[Match], steps: Sequence[float], unit: str) -> list[drawn.Run]:
    """The text, each matched word in a heat from 1 to 4 with what it met."""
    parts: list[drawn.Run] = []
    at = 0
    for match in sorted(met, key=lambda m: m.span.start):
        heat = sum(match.weight >= step for step in steps)
        if match.span.start < at or not heat:
            continue
        parts += drawn.split(text[at : match.span.start], ())
        parts.append(
            {
                "text": text[match.span.start : match.span.end],
                "kinds": [f"heat{heat}"],
                "tip": f"meets “{match.word}”, {unit} {match.weight:.2f}",
            }
        )
        at = match.span.end
    return parts + drawn.split(text[at:], ())


def _parts(found: Race, entry: Entry) -> None:
    """What the other retrievers' scores are made of."""
    rows: list[tuple[str, Hit]] = [
        (run.name, hit)
        for run in found.runs
        for hit in run.hits
        if hit.chunk.id == entry.chunk.id and hit.parts and run.name not in COUNTED
    ]
    if not rows:
        return
    with st.expander("What the other scores are made of", icon=":material/functions:"):
        for name, hit in rows:
            made = ", ".join(f"{part} {drawn.number(v)}" for part, v in hit.parts.items())
            drawn.text(f"{choosing.title(name)} {drawn.number(hit.score)}: {made}", look="small")
