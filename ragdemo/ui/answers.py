"""Two answers side by side: with the passages and without, and what each was made from."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ragdemo.generation.strange import strange
from ragdemo.grounding import CITE_FROM
from ragdemo.types import Answer, Comparison, Hit, Span, Support
from ragdemo.ui import drawn

ENDINGS = {
    "length": "Cut at the longest answer allowed (see Settings).",
    "cancelled": "Stopped here.",
}
LEGEND: list[drawn.Run] = [
    {"text": "1", "kinds": ["cite"]},
    {"text": " the passage that bears a sentence out   "},
    {"text": "wavy", "kinds": ["weak"]},
    {"text": ": under half of its words stand in any passage   "},
    {"text": "red", "kinds": ["loose"]},
    {"text": ": a number or name that stands in none"},
]
_COLOURS = {"template": 0, "question": 1, "history": 8, "reserve": 7}
_PASSAGES = (2, 4, 5, 6, 3)


def columns():
    """A place for each answer while it is written: (with retrieval, without)."""
    left, right = _halves()
    return left.empty(), right.empty()


def show(comparison: Comparison) -> None:
    """Both answers with their citations, and below each what it was made from."""
    if comparison.weak:
        drawn.notice(comparison.weak)
    left, right = _halves()
    for place, answer, support in (
        (left, comparison.grounded, comparison.support),
        (right, comparison.baseline, comparison.baseline_support),
    ):
        with place:
            _one(answer, support, comparison.hits)
    if comparison.support or comparison.baseline_support:
        drawn.runs(LEGEND, look="small quiet")
    _time(comparison)


def _halves():
    left, right = st.columns(2, gap="medium")
    boxes = left.container(border=True), right.container(border=True)
    boxes[0].subheader(":green[:material/library_books:] With retrieval", anchor=False)
    boxes[1].subheader(":gray[:material/psychology:] Without retrieval", anchor=False)
    boxes[0].caption("The generator reads the passages below.")
    boxes[1].caption("The same generator, from the question alone.")
    return boxes


def _one(answer: Answer, support: Sequence[Support], hits: Sequence[Hit]) -> None:
    if not answer.text:
        st.caption("Nothing was written.")
    elif answer.finish == "refused":
        drawn.text(answer.text)
    else:
        drawn.runs(sentences(answer.text, support, hits))
    facts = [answer.model, f"{answer.tokens} tokens"]
    if answer.confidence is not None:
        facts.append(f"{answer.confidence:.0%} sure that the passages hold an answer")
    drawn.text(" · ".join(facts), look="small quiet")
    if missing := _missing(answer):
        drawn.text(f"In no passage: {', '.join(missing)}", look="small quiet")
    if answer.finish in ENDINGS:
        st.caption(f":orange[:material/warning:] {ENDINGS[answer.finish]}")
    if answer.copied:
        with st.expander("Where its words come from", icon=":material/content_copy:"):
            _provenance(answer)
    with st.expander("The exact prompt", icon=":material/terminal:"):
        prompt_of(answer)


def _missing(answer: Answer) -> list[str]:
    """Names and numbers of the question that no passage it read has."""
    chunks = [hit.chunk for hit in answer.prompt.used]
    read = [f"{c.document_name} {c.heading} {c.content}" for c in chunks]
    return strange(answer.prompt.question, read) if read else []


def sentences(text: str, support: Sequence[Support], hits: Sequence[Hit]) -> list[drawn.Run]:
    """An answer as runs: weak sentences and loose words marked, a citation after each sentence."""
    parts: list[drawn.Run] = []
    at = 0
    for held in support:
        parts += drawn.split(text[at : held.start], ())
        marks = [
            (Span(s.start - held.start, s.end - held.start), "loose") for s in held.unsupported
        ]
        if held.score < CITE_FROM:
            marks.append((Span(0, held.end - held.start), "weak"))
        parts += drawn.split(text[held.start : held.end], marks)
        if held.citation and held.citation <= len(hits):
            chunk = hits[held.citation - 1].chunk
            parts.append(
                {
                    "text": str(held.citation),
                    "kinds": ["cite"],
                    "to": f"passage-{held.citation}",
                    "tip": f"Passage {held.citation}, {chunk.document_name}: {held.score:.0%} of "
                    "this sentence's own words stand in it",
                }
            )
        at = held.end
    return parts + drawn.split(text[at:], ())


def _provenance(answer: Answer) -> None:
    st.caption("Blue was copied letter by letter from a passage; the rest the model wrote itself.")
    parts: list[drawn.Run] = []
    at = 0
    for piece in sorted(answer.copied, key=lambda c: c.start):
        start = max(at, piece.start)
        if start >= piece.end:
            continue
        parts += drawn.split(answer.text[at:start], ())
        parts.append(
            {
                "text": answer.text[start : piece.end],
                "kinds": ["copied"],
                "tip": f"copied from passage {piece.passage + 1}",
            }
        )
        at = piece.end
    drawn.runs(parts + drawn.split(answer.text[at:], ()), look="small")
    if answer.shares:
        st.caption("How its attention was shared among the passages:")
        drawn.stack(
            [
                (f"passage {n}: {share:.0%}", share, _PASSAGES[(n - 1) % len(_PASSAGES)])
                for n, share in enumerate(answer.shares, start=1)
            ],
            1.0,
            "Shares of attention",
        )


def prompt_of(answer: Answer) -> None:
    """What the model read, what each part cost, and what the budget cut."""
    prompt = answer.prompt
    used = sum(s.tokens for s in prompt.segments)
    drawn.stack(
        [
            (f"{'kept for the answer' if s.name == 'reserve' else s.name}: {s.tokens}", s.tokens,
             _colour(s.name))
            for s in prompt.segments
            if s.tokens
        ],
        prompt.limit,
        f"{used} of {prompt.limit} tokens",
    )  # fmt: skip
    st.caption(f"{used:,} of {prompt.limit:,} tokens")
    for number, hit in enumerate(prompt.used, start=1):
        if lost := prompt.cut.get(hit.chunk.id):
            st.caption(
                f":orange[:material/content_cut:] Passage {number} lost its last {lost} tokens."
            )
    if prompt.dropped:
        first = len(prompt.used) + 1
        st.caption(
            f":orange[:material/content_cut:] No room for passages {first} to "
            f"{first + len(prompt.dropped) - 1}."
        )
    st.code(prompt.text or " ", language=None, wrap_lines=True, height=320)


def _colour(name: str) -> int:
    head, _, rest = name.partition(" ")
    if head == "passage":
        digits = rest.split(" ")[0]
        return _PASSAGES[(int(digits) - 1) % len(_PASSAGES)] if digits.isdigit() else _PASSAGES[0]
    return _COLOURS.get(head, 0)


def _time(comparison: Comparison) -> None:
    names = {
        "search": "look up passages",
        "prompt": "make the prompts",
        "both answers": "write both answers",
        "check": "check the answers",
    }
    parts = [
        (f"{label}: {comparison.seconds[name]:.2f} s", comparison.seconds[name], colour)
        for colour, (name, label) in enumerate(names.items(), start=1)
        if name in comparison.seconds
    ]
    total = sum(seconds for _, seconds, _ in parts)
    with st.expander(f"Time: {total:.1f} s in all", icon=":material/timer:"):
        drawn.stack(parts, total, "Seconds a stage")
        if "first word" in comparison.seconds:
            st.caption(f"First word after {comparison.seconds['first word']:.2f} s of writing.")
