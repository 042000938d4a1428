"""What stands in each box of the Pipeline page's diagram: a figure for outside, and the inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import streamlit as st

from ragdemo.anatomy import Anatomy
from ragdemo.anatomy.pieces import Token
from ragdemo.retrieval import RETRIEVERS
from ragdemo.text import clean
from ragdemo.types import Chunk
from ragdemo.ui import answers, choosing, drawn, marginal, strips, weighing
from ragdemo.ui.passages import place
from ragdemo.ui.race import card, duration
from ragdemo.ui.state import Visitor

SHOWN = 400  # tokens drawn of a passage
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def figures(a: Anatomy) -> dict[str, str]:
    """A line for each box; a box that has nothing yet is left out."""
    c, search = a.comparison, a.search
    lines = {
        "question": c.question,
        "chunks": f"{len(a.chunks)} passages of {len(c.files)} documents",
        "answer": c.grounded.text,
        "top k": f"{len(c.hits)} of {len(a.chunks)}",
    }
    if search:
        read, size = len(search.question_tokens), len(search.question)
        lines["query encoder"] = f"{read or '?'} tokens → {size} numbers"
        lines["passage encoder"] = f"{len(a.chunks)} × {size} numbers"
        lines["index"] = f"{len(a.chunks)} scores"
        best = max(hit.score for hit in c.hits)
        lines["top k"] += f", the best {drawn.number(best)}"
    prompt = c.grounded.prompt
    tokens = sum(s.tokens for s in prompt.segments if not s.name.startswith("reserve"))
    lines["fusion"] = f"{len(prompt.used)} passages, {tokens:,} tokens"
    if prompt.dropped or prompt.cut:
        lines["fusion"] += f"; {len(prompt.dropped) + len(prompt.cut)} cut"
    lines["generator"] = f"{c.grounded.model}, {c.grounded.tokens} tokens written"
    return lines


def times(a: Anatomy) -> dict[str, float]:
    """Seconds by box, where they were measured."""
    own, told = a.comparison.seconds, a.seconds or {}
    found = {
        "query encoder": told.get("encode"),
        "index": told.get("look up"),
        "fusion": own.get("prompt"),
        "generator": own.get("both answers"),
        "answer": own.get("check"),
    }
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def tokens(read: Sequence[Token], problem: str) -> None:
    """Tokens with their ids, in two colours in turn."""
    if not read:
        st.caption(problem or "No tokens are shown of this encoder.")
        return
    runs: list[drawn.Run] = []
    for number, token in enumerate(read[:SHOWN]):
        runs += [
            # no line break between a token and its number
            {"text": f"\xa0{token.text}\xa0", "kinds": [("before", "after")[number % 2]]},
            {"text": f"\xa0{token.id}", "kinds": ["note"]},
            {"text": "  "},
        ]
    drawn.runs(runs, look="airy")
    rest = len(read) - SHOWN
    st.caption(
        f"{len(read)} tokens, each with its number in the vocabulary."
        + (f" The last {rest} are not drawn." if rest > 0 else "")
    )


def _question(me: Visitor, a: Anatomy) -> None:
    drawn.text(a.question, look="title")
    if not _searched(a):
        return
    if a.search.asked != a.question:
        drawn.text(f"Looked up as: {a.search.asked}", look="small quiet")
    tokens(a.search.question_tokens, a.search.problem)


def _query_encoder(me: Visitor, a: Anatomy) -> None:
    if _searched(a):
        strips.vectors({"question": a.search.question})
        st.caption(
            f"{len(a.search.question)} numbers; blue below 0, red above. Its length is "
            f"{np.linalg.norm(a.search.question):.2f}."
        )
        st.markdown("**Nearest passages**")
        if _retriever(a) == "dpr":
            st.caption("DPR reads with a pair of encoders of its own; this is the documents'.")
        best = np.argsort(-a.search.cosines, kind="stable")[:5]
        _near(me, a, [(int(i), float(a.search.cosines[i])) for i in best])


def _chunks(me: Visitor, a: Anatomy) -> None:
    st.altair_chart(strips.lengths([chunk.tokens for chunk in a.chunks]), width="stretch")
    chunking = a.comparison.settings.get("chunking")
    aim = chunking.get("tokens") if isinstance(chunking, dict) else None
    st.caption(
        f"{len(a.chunks)} passages by their length in tokens"
        + (f"; they aim at {aim}." if isinstance(aim, int) else ".")
    )
    if a.search:
        best = a.chunks[a.search.best]
        st.markdown("**One of them: the best for this question**")
        drawn.text(_named(me, best), look="small quiet")
        drawn.text(best.text, look="small", clipped=True)


def _passage_encoder(me: Visitor, a: Anatomy) -> None:
    if not _searched(a):
        return
    search = a.search
    product = search.question * search.passage
    strips.vectors({"question": search.question, "passage": search.passage, "product": product})
    st.caption(
        "The best passage's vector under the question's. Number by number they are multiplied "
        f"(third strip); the sum of all products, {product.sum():.2f}, is their cosine."
    )
    st.markdown("**What it read: the best passage in tokens**")
    drawn.text(_named(me, a.chunks[search.best]), look="small quiet")
    tokens(search.passage_tokens, search.problem)
    st.markdown("**Its nearest neighbours among the other passages**")
    _near(me, a, search.near)


def _index(me: Visitor, a: Anatomy) -> None:
    if _searched(a):
        strips.distances(a)
        if _retriever(a) != "dense":
            choosing.about(_retriever(a))


def _top(me: Visitor, a: Anatomy) -> None:
    c = a.comparison
    if not c.hits:
        st.caption("Nothing was found.")
        return
    hits = sorted(c.hits, key=lambda hit: hit.rank)
    letters = {hit.chunk.id: LETTERS[n] for n, hit in enumerate(hits)}
    drawn.ranking(
        [card(me, c.question, hit, letters, None) for hit in hits],
        c.floor,
        {letter: n for n, letter in enumerate(letters.values())},
    )
    if c.floor is not None:
        st.caption(
            f"The mark on each bar, {drawn.number(c.floor)}, is what a nonsense question reaches."
        )


def _fusion(me: Visitor, a: Anatomy) -> None:
    answers.prompt_of(a.comparison.grounded)
    if a.comparison.marginal:
        marginal.show(a.comparison)


def _searched(a: Anatomy) -> bool:
    if a.search is None:
        st.caption(
            "Stopped before this was looked at." if a.comparison.hits
            else "Nothing was searched: there are no documents."
        )  # fmt: skip
    return a.search is not None


def _retriever(a: Anatomy) -> str:
    """The key of `RETRIEVERS` that found the passages."""
    name = str(a.comparison.settings.get("retriever"))
    return name if name in RETRIEVERS else "dense"


def _near(me: Visitor, a: Anatomy, rows: Sequence[tuple[int, float]]) -> None:
    table = {
        "passage": [clean(_named(me, a.chunks[i]))[0] for i, _ in rows],
        "cosine": [value for _, value in rows],
    }
    st.dataframe(
        pd.DataFrame(table), hide_index=True, width="stretch",
        column_config={
            "cosine": st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1)
        },
    )  # fmt: skip


def _named(me: Visitor, chunk: Chunk) -> str:
    parts = (chunk.document_name, place(me, chunk), chunk.heading.split(" > ")[-1])
    return " · ".join(part for part in parts if part)


def _time(a: Anatomy) -> None:
    parts = {
        "encode the question": (a.seconds or {}).get("encode"),
        "look it up": (a.seconds or {}).get("look up"),
        "make the prompts": a.comparison.seconds.get("prompt"),
        "write both answers": a.comparison.seconds.get("both answers"),
        "check the answers": a.comparison.seconds.get("check"),
    }
    known = [(name, seconds) for name, seconds in parts.items() if seconds is not None]
    st.markdown("**Where the time went**")
    drawn.stack(
        [
            (f"{name}: {duration(seconds)}", seconds, n)
            for n, (name, seconds) in enumerate(known, 1)
        ],
        sum(seconds for _, seconds in known),
        "Seconds a stage",
    )


def _answer(me: Visitor, a: Anatomy) -> None:
    c = a.comparison
    runs = answers.sentences(c.grounded.text, c.support, c.hits)
    # no passages stand on this page to jump to
    drawn.runs([{k: v for k, v in run.items() if k != "to"} for run in runs], look="title")
    weighing.shares(a)
    _time(a)


DETAILS: Mapping[str, Callable[[Visitor, Anatomy], None]] = {
    "question": _question,
    "query encoder": _query_encoder,
    "chunks": _chunks,
    "passage encoder": _passage_encoder,
    "index": _index,
    "top k": _top,
    "fusion": _fusion,
    "generator": lambda me, a: weighing.steps(a),
    "answer": _answer,
}
