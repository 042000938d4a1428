"""Numbers of the search as pictures: vectors as strips, lengths and scores as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from ragdemo.anatomy import Anatomy
from ragdemo.ui import drawn
from ragdemo.ui.rankflow import GREY
from ragdemo.ui.scores import FLOOR

BINS = 40
BLUE = "#2f6fb3"


def vectors(rows: Mapping[str, np.ndarray]) -> None:
    """A strip for each vector [d], its colours on a scale of its own."""
    for name, vector in rows.items():
        most = float(np.abs(vector).max()) or 1.0
        places = np.arange(len(vector))
        table = pd.DataFrame({"from": places, "to": places + 1, "value": vector.astype(float)})
        strip = (
            alt.Chart(table)
            .mark_rect()
            .encode(
                x=alt.X(
                    "from:Q", axis=None, scale=alt.Scale(domain=[0, len(vector)], nice=False)
                ),
                x2="to:Q",
                color=alt.Color("value:Q", legend=None, scale=alt.Scale(
                    domain=[-most, 0, most], range=["#2166ac", "#f4f4f4", "#b2182b"]
                )),
                tooltip=["to:Q", alt.Tooltip("value:Q", format=".4f")],
            )
            .properties(height=40)
        )  # fmt: skip
        st.caption(name)
        st.altair_chart(strip, width="stretch")


def lengths(tokens: Sequence[int]) -> alt.Chart:
    """How many passages have how many tokens."""
    return (
        alt.Chart(pd.DataFrame({"tokens": tokens}))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("tokens:Q", bin=alt.Bin(maxbins=24), title="tokens"),
            y=alt.Y("count():Q", title="passages", axis=alt.Axis(tickMinStep=1)),
        )
        .properties(height=180)
    )


def distances(a: Anatomy) -> None:
    """The scores of all passages, with those that were taken and the floor."""
    scores = a.search.scores
    found = scores[np.isfinite(scores)]
    if not len(found):
        st.caption("No passage has a score.")
        return
    hits = sorted(a.comparison.hits, key=lambda hit: hit.rank)
    st.altair_chart(_histogram(found, a), width="stretch")
    parts = [f"All {len(scores)} passages by their score; dots are the {len(hits)} taken"]
    if a.comparison.floor is not None:
        floor = a.comparison.floor
        above = int((found > floor).sum())
        parts.append(
            f"the dashed line, {drawn.number(floor)}, is what a nonsense question reaches, and "
            f"{above} passages lie above it"
        )
    if len(found) < len(scores):
        parts.append(f"{len(scores) - len(found)} have no score: they share no word with it")
    st.caption("; ".join(parts) + ".")


def _histogram(found: np.ndarray, a: Anatomy) -> alt.LayerChart:
    counts, edges = np.histogram(found, bins=BINS)
    bars = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "passages": counts})
    x = alt.X("from:Q", title="score", scale=alt.Scale(zero=False, nice=False))
    chart = (
        alt.Chart(bars)
        .mark_rect(color=GREY, opacity=0.7)
        .encode(
            x=x, x2="to:Q", y2=alt.Y2Datum(0),
            y=alt.Y("passages:Q", title="passages", axis=alt.Axis(tickMinStep=1)),
            tooltip=[alt.Tooltip("from:Q", format=".3f"), "passages:Q"],
        )
    )  # fmt: skip
    taken = pd.DataFrame(
        [{"from": hit.score, "place": hit.rank, "at": 0} for hit in a.comparison.hits]
    )
    dots = (
        alt.Chart(taken)
        .mark_circle(size=130, color=BLUE, opacity=1, yOffset=-8)
        .encode(
            x="from:Q",
            y=alt.Y("at:Q", title="passages"),
            tooltip=["place:O", alt.Tooltip("from:Q", format=".3f")],
        )
    )
    layers = chart + dots
    if a.comparison.floor is not None:
        rule = pd.DataFrame({"from": [a.comparison.floor]})
        layers = layers + alt.Chart(rule).mark_rule(
            strokeDash=[5, 4], strokeWidth=2, color=FLOOR
        ).encode(x="from:Q")
    return layers.properties(height=220)
