"""Passages as points in the plane: what is near in meaning lies near here, roughly."""

from __future__ import annotations

from contextlib import suppress

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from ragdemo.errors import RagdemoError
from ragdemo.text import clean
from ragdemo.ui.state import Visitor

MOST_NAMES = 20  # colours a reader can tell apart; the legend's too
SAMPLED = 2000  # points drawn


def points(me: Visitor) -> None:
    """The map, with the last question on it."""
    chunks, vectors = me.corpus.chunks, me.corpus.vectors
    if len(chunks) < 3:
        st.caption("The map needs three passages or more.")
        return
    plane, share, project = principal_plane(vectors)
    last = me.last
    found = {hit.chunk.id for hit in last.hits} if last else set()
    frame = pd.DataFrame(
        {
            "x": plane[:, 0],
            "y": plane[:, 1],
            "file": [chunk.document_name for chunk in chunks],
            "heading": [clean(chunk.heading)[0] for chunk in chunks],
            "found": [chunk.id in found for chunk in chunks],
        }
    )
    if len(frame) > SAMPLED:
        keep = frame["found"] | (frame.index % (len(frame) // SAMPLED + 1) == 0)
        frame = frame[keep]
    layers = dots(frame)
    if last:
        with suppress(RagdemoError):  # a map without the star, where too many wait
            query = me.corpus.encoder.encode_queries([last.question])
            layers = layers + star(project(query)[0])
    st.altair_chart(layers.properties(height=420), width="stretch")
    note = "The star is the last question; ringed passages were found for it. " if last else ""
    st.caption(
        f"{note}Two directions keep {share:.0%} of the variance of {vectors.shape[1]} dimensions "
        "(principal components), so near here is often, not always, near in meaning."
    )


def principal_plane(vectors: np.ndarray):
    """[n, 2] coordinates, the share of variance they keep, and how to place other vectors."""
    mean = vectors.mean(0)
    _, values, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    total = float((values**2).sum())
    share = float((values[:2] ** 2).sum()) / total if total else 1.0
    return (vectors - mean) @ axes[:2].T, share, lambda other: (other - mean) @ axes[:2].T


def dots(frame: pd.DataFrame) -> alt.LayerChart:
    # names in the data only, never as a field or an expression; "image" and "url" are left out of
    # the fields since tooltips would fetch those
    many = frame["file"].nunique() > MOST_NAMES
    colour = alt.Color(
        "file:N",
        legend=None if many else alt.Legend(title=None, orient="bottom", columns=2, labelLimit=150),
        scale=alt.Scale(scheme="tableau20"),
    )
    axis = alt.Axis(labels=False, ticks=False, title=None, grid=False, domain=False)
    base = alt.Chart(frame).encode(
        x=alt.X("x:Q", axis=axis, scale=alt.Scale(zero=False)),
        y=alt.Y("y:Q", axis=axis, scale=alt.Scale(zero=False)),
        tooltip=["file:N", "heading:N"],
    )
    dots = base.mark_circle(size=55, opacity=0.8).encode(color=colour)
    rings = (
        base.transform_filter("datum.found")
        .mark_point(size=190, strokeWidth=2.5, color="#e0552b")
        .encode()
    )
    return dots + rings


def star(at: np.ndarray) -> alt.Chart:
    spot = pd.DataFrame({"x": [float(at[0])], "y": [float(at[1])], "what": ["the last question"]})
    return (
        alt.Chart(spot)
        .mark_point(
            shape="M0,-1L0.23,-0.31L0.95,-0.31L0.36,0.12L0.59,0.81L0,0.38L-0.59,0.81L-0.36,0.12"
            "L-0.95,-0.31L-0.23,-0.31Z",
            size=420, filled=True, color="#e0552b", opacity=1,
        )
        .encode(x="x:Q", y="y:Q", tooltip=["what:N"])
    )  # fmt: skip
