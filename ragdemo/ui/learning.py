"""A training as a picture: the loss of every step, the held-out questions between."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from ragdemo.training.tuning import News
from ragdemo.ui import drawn

LINE, DOT, BAND = "#2f6fb3", "#e0552b", "#8fb4dc"


def progress(news: News) -> None:
    """Both charts; the verdict once it is over."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Loss of each step**")
        if news.losses:
            st.altair_chart(_losses(news), width="stretch")
        else:
            st.caption("Nothing has been learnt yet.")
    with right:
        st.markdown(f"**{news.trained.metric} of held-out questions**")
        st.altair_chart(_held(news), width="stretch")
    if not news.points[0].held.n:
        st.caption("No questions are watched, so the last weights are kept.")
        return
    best = max(news.points, key=lambda p: p.held.mean)
    st.caption(
        f"{news.points[0].held.n} questions are watched while it trains; the bar is the 95 % "
        f"bootstrap interval. Untrained {news.points[0].held.mean:.2f}, best so far "
        f"{best.held.mean:.2f}. The weights of step {news.trained.best_step} are kept."
    )
    if news.over:
        drawn.text(news.trained.verdict, look="strong")
        drawn.text(
            f"{news.trained.steps} steps in {news.trained.seconds:.0f} s"
            f"{', stopped early' if news.trained.stopped else ''}. The test questions took no part "
            "in choosing what to keep.",
            look="small quiet",
        )


def _losses(news: News) -> alt.LayerChart:
    frame = pd.DataFrame({"step": range(1, len(news.losses) + 1), "loss": news.losses})
    frame["smooth"] = frame["loss"].ewm(span=max(2, len(frame) // 10)).mean()
    x = alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, news.of]))
    base = alt.Chart(frame)
    dots = base.mark_circle(size=18, opacity=0.35, color=BAND).encode(x=x, y="loss:Q")
    line = base.mark_line(color=LINE).encode(
        x=x,
        y=alt.Y("smooth:Q", title=None),
        tooltip=["step:Q", alt.Tooltip("loss:Q", format=".3f")],
    )
    return (dots + line).properties(height=220)


def _held(news: News) -> alt.LayerChart:
    frame = pd.DataFrame(
        [{"step": p.step, "mean": p.held.mean, "low": p.held.low, "high": p.held.high}
         for p in news.points]
    )  # fmt: skip
    x = alt.X("step:Q", title="step", scale=alt.Scale(domain=[0, news.of]))
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(domain=[0, 1]))
    base = alt.Chart(frame)
    bars = base.mark_rule(strokeWidth=3, color=BAND).encode(x=x, y="low:Q", y2="high:Q")
    line = base.mark_line(color=DOT, opacity=0.5).encode(x=x, y=y)
    dots = base.mark_circle(size=70, color=DOT, opacity=1).encode(
        x=x, y=y, tooltip=["step:Q", *(alt.Tooltip(f"{n}:Q", format=".3f")
                                       for n in ("mean", "low", "high"))],
    )  # fmt: skip
    return (bars + line + dots).properties(height=220)
