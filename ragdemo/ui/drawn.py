"""Sinks for text that others wrote, and the small bars beside it.

A component (drawn.js, drawn.css) that sets `textContent` from JSON: a document's `![](http://...)`,
`<script>` or `javascript:` stays letters. Streamlit's Markdown would fetch the first of them.
Streamlit loads a component's script as a blob, so a Content-Security-Policy put before the app
needs `blob:` in script-src (tried: no other violation on either page).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitDuplicateElementKey

from ragdemo.text import clean
from ragdemo.types import Span

_HERE = Path(__file__).parent
_component = st.components.v2.component(
    "ragdemo_drawn",
    html='<div class="root"></div>',
    css=(_HERE / "drawn.css").read_text("utf-8"),
    js=(_HERE / "drawn.js").read_text("utf-8"),
)

Mark = tuple[Span, str]  # a stretch and its kind, one of KINDS in drawn.js
Run = dict[str, object]


def text(body: str, marks: Iterable[Mark] = (), *, look: str = "", clipped: bool = False) -> None:
    """Text as it stands, with marked stretches. `look`: words of LOOKS in drawn.js."""
    runs(split(body, marks), look=look, clipped=clipped)


def runs(parts: Sequence[Run], *, look: str = "", clipped: bool = False) -> None:
    """Ready runs: `text`, and perhaps `kinds`, `tip`, `to` (key of the container to go to)."""
    _mount({"draw": "text", "runs": _cleaned(parts), "look": look, "clipped": clipped})


def _cleaned(parts: Sequence[Run]) -> list[Run]:
    return [
        {**part, **{name: clean(str(part[name]))[0] for name in ("text", "tip") if name in part}}
        for part in parts
    ]


def score(
    value: float,
    floor: float | None,
    label: str,
    *,
    span: tuple[float, float] = (0.0, 1.0),
    ends: tuple[str, str] = ("0", "1 same meaning"),
) -> None:
    """A score on its scale, with the place where nonsense ends."""
    ticks = [{"at": 0.0, "text": ends[0]}, {"at": 1.0, "text": ends[1]}]
    at = None if floor is None else _share(floor, span)
    if at is not None:
        # two labels would stand on each other
        ticks = [tick for tick in ticks if abs(tick["at"] - at) > 0.25]
        ticks.append({"at": at, "text": f"nonsense {number(floor)}"})
    data = {"value": _share(value, span), "floor": at, "ticks": ticks, "label": label}
    _mount({"draw": "axis", **data})


def _share(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return min(1.0, max(0.0, (value - low) / max(high - low, 1e-12)))


def span(scores: Iterable[float], floor: float | None = None) -> tuple[float, float]:
    """A scale that holds all scores and the floor, for those without fixed ends; it begins or ends
    at 0, except that scores below 0 alone (logarithms) get one of their own."""
    values = [*scores, *([] if floor is None else [floor])]
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high < 0:
        return low - 0.15 * (high - low), high
    return min(0.0, low), high


def number(value: float) -> str:
    """A score in as many digits as tell two apart: 12.3, 0.62, 0.0164."""
    size = abs(value)
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.4f}"


@dataclass(frozen=True, slots=True)
class Card:
    """A passage in a ranking, compactly."""

    rank: int
    tag: str  # the letter a passage has in every column
    title: str
    about: str
    score: float
    excerpt: Sequence[Run]
    whole: Sequence[Run]
    answers: str = ""  # said of it where it holds the answer
    note: str = ""


def ranking(cards: Sequence[Card], floor: float | None, tones: Mapping[str, int]) -> None:
    """Cards below each other; `tones`: tag -> colour 0..9, others are grey."""
    on = span((card.score for card in cards), floor)
    _mount(
        {
            "draw": "ranking",
            "floor": None if floor is None else _share(floor, on),
            "cards": [
                {
                    "rank": card.rank,
                    "tag": card.tag,
                    "tone": tones.get(card.tag, -1),
                    "title": clean(card.title)[0],
                    "about": clean(card.about)[0],
                    "note": clean(card.note)[0],
                    "score": number(card.score),
                    "share": _share(card.score, on),
                    "excerpt": _cleaned(card.excerpt),
                    "whole": _cleaned(card.whole),
                    "answers": card.answers,
                }
                for card in cards
            ],
        }
    )


def stack(parts: Sequence[tuple[str, float, int]], total: float, label: str) -> None:
    """A bar of (text, value, colour 0..8) in order; what is missing to `total` stays empty."""
    _mount(
        {
            "draw": "stack",
            "parts": [{"text": clean(t)[0], "value": v, "colour": c} for t, v, c in parts],
            "total": max(total, sum(v for _, v, _ in parts), 1e-9),
            "label": label,
        }
    )


def _mount(data: dict[str, object]) -> None:
    """Draw it under a key of its own, also where the same thing is drawn twice on a page."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    for nth in itertools.count():
        try:
            _component(data=data, key=f"drawn-{digest}-{nth}")
            return
        except StreamlitDuplicateElementKey:
            continue


def split(body: str, marks: Iterable[Mark]) -> list[Run]:
    """Cut where a mark begins or ends: "a bc", b marked -> [{a }, {b, kinds}, {c}]."""
    kept = [(max(0, s.start), min(len(body), s.end), kind) for s, kind in marks]
    kept = [mark for mark in kept if mark[0] < mark[1]]
    edges = sorted({0, len(body), *(m[0] for m in kept), *(m[1] for m in kept)})
    parts: list[Run] = []
    for start, end in itertools.pairwise(edges):
        kinds = sorted({kind for a, b, kind in kept if a <= start and end <= b})
        parts.append(
            {"text": body[start:end], "kinds": kinds} if kinds else {"text": body[start:end]}
        )
    return parts


def problem(message: object) -> None:
    """A `RagdemoError` for the visitor. Plain text: it may name a file or quote an endpoint."""
    with st.container(border=True):
        st.markdown(":red[:material/error: **That did not work**]")
        st.text(clean(str(message))[0])


def notice(message: str, *, icon: str = ":orange[:material/warning:]") -> None:
    """A sentence worth seeing that may hold others' text."""
    with st.container(border=True, horizontal=True, vertical_alignment="center", wrap=False):
        st.markdown(icon, width="content")
        st.text(clean(message)[0])
