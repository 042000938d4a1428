"""How much the rankings have in common, and what each cost in time."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from ragdemo.evaluation.race import overlap
from ragdemo.ui import choosing
from ragdemo.ui.race import Race, duration


def show(found: Race) -> None:
    """Two small charts beside each other."""
    ran = [run for run in found.runs if not run.problem]
    if not ran:
        st.caption("No retriever found anything.")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown(f"#### Shared of the first {found.k}")
        st.caption(
            "How many passages two retrievers both found. Few: they see different things, so "
            "joining them can help."
        )
        st.altair_chart(_matrix(found), width="stretch")
    with right:
        st.markdown("#### Time of one search")
        st.caption(
            "On this machine, the question's embedding included where there is one, the index "
            "ready. Each step on the scale is ten times the one before."
        )
        st.altair_chart(_times(found), width="stretch")


def _matrix(found: Race) -> alt.LayerChart:
    rows = overlap(found.entries, found.runs)
    order = [choosing.title(run.name) for run in found.runs if not run.problem]
    data = pd.DataFrame(
        {
            "one": [choosing.title(a) for a, _, _ in rows],
            "other": [choosing.title(b) for _, b, _ in rows],
            "shared": [count for _, _, count in rows],
        }
    )
    axis = alt.Axis(
        title=None,
        labelOverlap=False,
        domain=False,
        ticks=False,
        labelFontSize=12,
        labelLimit=90,
        labelFlush=False,
    )
    gaps = alt.Scale(paddingInner=0.05)
    base = alt.Chart(data).encode(
        x=alt.X("one:N", sort=order, axis=_turned(axis, len(order)), scale=gaps),
        y=alt.Y("other:N", sort=order, axis=axis, scale=gaps),
        tooltip=["one:N", "other:N", "shared:Q"],
    )
    top = max(1, found.k)
    cells = base.mark_rect(cornerRadius=4).encode(
        color=alt.Color(
            "shared:Q", legend=None,
            scale=alt.Scale(domain=[0, top], range=["#dbe7f4", "#1d5fa8"], clamp=True),
        )
    )  # fmt: skip
    text = base.mark_text(fontSize=15, fontWeight="bold").encode(
        text="shared:Q",
        color=alt.condition(
            f"datum.shared > {0.55 * top}", alt.value("white"), alt.value("#1b2430")
        ),
    )
    return (cells + text).properties(height=max(150, 52 * len(order)))


def _turned(axis: alt.Axis, names: int) -> alt.Axis:
    """Names beside each other stand at an angle where there are many."""
    turned = axis.copy()
    turned.labelAngle = 0 if names < 5 else -40
    return turned


def _times(found: Race) -> alt.LayerChart:
    ran = [run for run in found.runs if not run.problem]
    data = pd.DataFrame(
        {
            "retriever": [choosing.title(run.name) for run in ran],
            "ms": [max(0.01, run.seconds * 1000) for run in ran],
            "said": [duration(run.seconds) for run in ran],
        }
    )
    low = min(0.1, float(data["ms"].min()) / 2)
    powers = [10.0**n for n in range(-2, 6)]
    high = max(10.0, float(data["ms"].max()) * 8)
    base = alt.Chart(data).encode(
        y=alt.Y(
            "retriever:N", sort=None,
            axis=alt.Axis(title=None, domain=False, ticks=False, labelFontSize=12, labelLimit=130,
                          labelFlush=False),
        ),
        tooltip=["retriever:N", "said:N"],
    )  # fmt: skip
    dots = base.mark_circle(size=160, color="#2f6fb3", opacity=1).encode(
        x=alt.X(
            "ms:Q", scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=alt.Axis(title="milliseconds", values=powers, format="~g"),
        ),
    )  # fmt: skip
    text = base.mark_text(align="left", dx=12, fontSize=13, color="#7a8592").encode(
        x="ms:Q", text="said:N"
    )
    return (dots + text).properties(height=max(150, 52 * len(ran)))
