"""Scores over all passages, not only the first few: a strip for each retriever."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from ragdemo.evaluation.race import Entry, Run
from ragdemo.retrieval import RETRIEVERS
from ragdemo.ui import drawn
from ragdemo.ui.race import Race
from ragdemo.ui.rankflow import COLOURS, GREY

DRAWN = 1500  # passages of one strip; of more, a draw and the best
HEIGHT = 120
FLOOR = "#e0552b"


def show(found: Race) -> None:
    """A strip for each retriever, two beside each other."""
    st.caption(
        "Each dot is a passage, further right is a higher score (up and down means nothing). "
        "Letters are the first passages. The dashed line is the floor: where the best passage for "
        "a nonsense question lands, so what stands left of it says nothing."
    )
    ran = [run for run in found.runs if not run.problem]
    shared = found.entries
    for start in range(0, len(ran), 2):
        for column, run in zip(st.columns(2, gap="medium"), ran[start : start + 2], strict=False):
            with column:
                _strip(run, shared, len(found.chunks))


def _strip(run: Run, shared: list[Entry], count: int) -> None:
    st.markdown(f"**{RETRIEVERS[run.name].title}**", help=RETRIEVERS[run.name].about)
    known = np.isfinite(run.scores) if run.scores is not None else np.zeros(0, bool)
    if not known.any():
        st.caption("No passage has a score.")
        return
    st.altair_chart(_chart(run, shared), width="stretch")
    st.caption(sentence(run, int(known.sum()), count))


def sentence(run: Run, known: int, count: int) -> str:
    """What a strip shows, in words."""
    best = run.hits[0].score if run.hits else float(np.max(run.scores[np.isfinite(run.scores)]))
    parts = [f"Best {drawn.number(best)}"]
    if run.floor is not None:
        margin = best - run.floor
        floor = f"the floor of {drawn.number(run.floor)}"
        side = "above" if margin >= 0 else "below"
        level = abs(margin) < 0.005 * abs(run.floor)
        parts.append(
            f"level with {floor}" if level else f"{drawn.number(abs(margin))} {side} {floor}"
        )
    if known < count:
        parts.append(f"{count - known} of {count} passages have no score: not found")
    return "; ".join(parts) + "."


def points(run: Run, shared: list[Entry]) -> pd.DataFrame:
    """One row a passage that has a score: score, height on the strip, letter or ""."""
    places = np.flatnonzero(np.isfinite(run.scores))
    if len(places) > DRAWN:
        best = places[np.argsort(-run.scores[places])[: DRAWN // 3]]
        rest = np.random.default_rng(0).choice(places, DRAWN - len(best), replace=False)
        places = np.unique(np.concatenate([best, rest]))
    height = np.random.default_rng(0).uniform(0.05, 0.95, len(run.scores))
    return pd.DataFrame({"score": run.scores[places], "height": height[places]})


def _chart(run: Run, shared: list[Entry]) -> alt.LayerChart:
    low, high = drawn.span(run.scores[np.isfinite(run.scores)].tolist(), run.floor)
    pad = 0.04 * (high - low or 1)
    x = alt.X(
        "score:Q", scale=alt.Scale(domain=[low - pad, high + pad], nice=False),
        axis=alt.Axis(title=None, grid=False, tickCount=5, labelFontSize=12),
    )  # fmt: skip
    y = alt.Y("height:Q", axis=None, scale=alt.Scale(domain=[0, 1]))
    dots = (
        alt.Chart(points(run, shared))
        .mark_circle(size=22, color=GREY, opacity=0.45)
        .encode(x=x, y=y, tooltip=[alt.Tooltip("score:Q", format=".4f")])
    )
    named = _named(run, shared)
    colour = alt.Color(
        "passage:N", legend=None,
        scale=alt.Scale(
            domain=[e.label for e in shared],
            range=[*COLOURS, *[GREY] * len(shared)][: len(shared)],
        ),
    )  # fmt: skip
    big = alt.Chart(named).encode(
        x=x, y=y, tooltip=["passage:N", "place:Q", alt.Tooltip("score:Q", format=".4f")]
    )
    layers = dots
    if run.floor is not None:
        floor = pd.DataFrame({"score": [run.floor]})
        layers = layers + alt.Chart(floor).mark_rule(
            strokeDash=[5, 4], strokeWidth=2, color=FLOOR
        ).encode(x=x)
    layers = layers + big.mark_circle(size=300, opacity=1).encode(color=colour)
    layers = layers + big.mark_text(fontSize=11, fontWeight="bold", color="white").encode(
        text="passage:N"
    )
    return layers.properties(height=HEIGHT)


def _named(run: Run, shared: list[Entry]) -> pd.DataFrame:
    label = {e.chunk.id: e.label for e in shared}
    rows = [(h.score, label[h.chunk.id], h.rank) for h in run.hits if h.chunk.id in label]
    # near scores would cover each other: neighbours in rank take different heights
    heights = [(0.78, 0.5, 0.22)[(rank - 1) % 3] for _, _, rank in rows]
    return pd.DataFrame(
        {
            "score": [s for s, _, _ in rows],
            "height": heights,
            "passage": [name for _, name, _ in rows],
            "place": [rank for _, _, rank in rows],
        }
    )
