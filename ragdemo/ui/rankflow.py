"""Who moved where: a line for each passage through its places with every retriever."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd
import streamlit as st

from ragdemo.evaluation.race import Entry, moves
from ragdemo.text import clean
from ragdemo.ui import choosing, drawn
from ragdemo.ui.race import Race, tones

# as in drawn.css, readable under white letters and on both backgrounds
COLOURS = (
    "#2f6fb3", "#c8560f", "#2b8a4b", "#a8348c", "#6f52c9", "#94660f", "#bd3a34", "#15808f",
    "#52606f", "#747a00",
)  # fmt: skip
GREY = "#7a8592"
STEP = 0.5  # rows from one to the next among those below the first k


def show(found: Race) -> None:
    """The chart and what its letters stand for."""
    ran = [run for run in found.runs if not run.problem]
    if len(ran) < 2:
        st.caption("This needs two retrievers or more that found something.")
        return
    shared = found.entries
    st.caption(
        "Follow a letter from left to right. Flat: the retrievers agree. Steep: one of them "
        f"rates the passage much higher. Small dots stand below place {found.k}, with their exact "
        "place (– where it is not found); point at a line to follow it alone."
    )
    st.altair_chart(_chart(found, shared), width="stretch")
    legend(shared)


def legend(shared: list[Entry]) -> None:
    """Letters with their passages."""
    colour = tones(shared)
    parts: list[drawn.Run] = []
    for e in shared:
        kinds = ["tone", f"tone{colour[e.label]}"] if e.label in colour else ["tone"]
        begin = " ".join(e.chunk.text.split())[:90]
        parts += [
            {"text": e.label, "kinds": kinds},
            {"text": f"  {e.chunk.document_name}  "},
            {"text": f"{begin} …\n", "kinds": ["note"]},
        ]
    drawn.runs(parts, look="small airy")


def frame(found: Race, shared: list[Entry]) -> pd.DataFrame:
    """A row for each passage and retriever. Those below the first k stand under each other in the
    order of their places, however far apart those are."""
    rows = moves(shared, found.runs)
    files = {e.label: clean(e.chunk.document_name)[0] for e in shared}
    height = {(label, name): float(rank) for label, name, rank in rows if rank and rank <= found.k}
    for name in dict.fromkeys(name for _, name, _ in rows):
        below = [(rank or math.inf, label) for label, n, rank in rows
                 if n == name and (label, n) not in height]  # fmt: skip
        for at, (_, label) in enumerate(sorted(below)):
            height[label, name] = found.k + 1.2 + STEP * at
    return pd.DataFrame(
        {
            "passage": [label for label, _, _ in rows],
            "file": [files[label] for label, _, _ in rows],
            "retriever": [choosing.title(name) for _, name, _ in rows],
            "row": [height[label, name] for label, name, _ in rows],
            "place": ["not found" if rank is None else str(rank) for _, _, rank in rows],
            "said": [f"{label} {rank or '–'}" for label, _, rank in rows],
            "shown": [rank is not None and rank <= found.k for _, _, rank in rows],
        }
    )


def _chart(found: Race, shared: list[Entry]) -> alt.LayerChart:
    data = frame(found, shared)
    order = [choosing.title(run.name) for run in found.runs if not run.problem]
    labels = [e.label for e in shared]
    lowest = float(data["row"].max())
    colour = alt.Color(
        "passage:N",
        scale=alt.Scale(domain=labels, range=[*COLOURS, *[GREY] * len(labels)][: len(labels)]),
        legend=None,
    )
    near = alt.selection_point(on="pointerover", nearest=True, fields=["passage"], empty=True)
    base = alt.Chart(data).encode(
        x=alt.X(
            "retriever:N", sort=order, scale=alt.Scale(type="point", padding=0.3),
            axis=alt.Axis(
                title=None, orient="top", labelAngle=0 if len(order) < 6 else -30, domain=False,
                ticks=False, grid=False,
                labelFontSize=13, labelLimit=110, labelOverlap=False, labelFlush=False,
            ),
        ),
        y=alt.Y(
            "row:Q", scale=alt.Scale(domain=[0.6, lowest + 0.4], reverse=True, nice=False),
            axis=alt.Axis(
                title=None, values=list(range(1, found.k + 1)), grid=True, domain=False,
                ticks=False, labelFontSize=13, format="d",
            ),
        ),
        color=colour,
        opacity=alt.condition(near, alt.value(1), alt.value(0.15)),
        tooltip=["passage:N", "file:N", "retriever:N", "place:N"],
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=3, interpolate="monotone").encode(detail="passage:N")
    points = base.mark_circle(opacity=1).encode(
        size=alt.condition("datum.shown", alt.value(420), alt.value(60))
    )
    letters = (
        base.transform_filter("datum.shown")
        .mark_text(fontWeight="bold", fontSize=12, baseline="middle")
        .encode(text="passage:N", color=alt.value("white"))
    )
    deep = (
        base.transform_filter("!datum.shown")
        .mark_text(fontSize=12, dy=-10, baseline="middle")
        .encode(text="said:N", color=alt.value(GREY))
    )
    return (lines + points.add_params(near) + letters + deep).properties(
        height=round(58 * (lowest + 0.5))
    )
