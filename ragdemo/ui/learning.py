"""A training as a picture: the loss of every step, the held-out questions between.

Plain Vega-Lite: it is drawn anew several times a second, which Altair's checks would fill.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from ragdemo.training.tuning import News, Point
from ragdemo.ui import drawn
from ragdemo.ui.evalplot import Spec

LINE, DOT, BAND = "#2f6fb3", "#e0552b", "#8fb4dc"


def progress(news: News) -> None:
    """Both charts; the verdict once it is over."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Loss of each step**")
        if news.losses:
            st.vega_lite_chart(_losses(news), width="stretch")
        else:
            st.caption("Nothing has been learnt yet.")
    with right:
        st.markdown(f"**{news.trained.metric} of {news.trained.watched}**")
        st.vega_lite_chart(_held(news), width="stretch")
    if news.points[-1].shares:
        _weighing(news.points)
    if not news.points[0].held.n:
        st.caption("No questions are watched, so the last weights are kept.")
        return
    st.caption(
        f"{news.progress} These questions are watched while it trains; the bar is the 95 % "
        f"bootstrap interval. The weights of step {news.trained.best_step} are kept."
    )
    if news.over:
        drawn.text(news.trained.verdict, look="strong")
        drawn.text(
            f"{news.trained.steps} steps in {news.trained.seconds:.0f} s"
            f"{', stopped early' if news.trained.stopped else ''}. The test questions took no part "
            "in choosing what to keep.",
            look="small quiet",
        )


def _weighing(points: Sequence[Point]) -> None:
    """How p(passage | question) of one watched question moves."""
    st.markdown("**p(passage | question) of one held-out question**")
    drawn.text(points[-1].shares.question, look="small")
    rows = [
        {"step": point.step, "share": share, "passage": label}
        for point in points
        for label, share in point.shares.parts
    ]
    share = {"field": "share", "type": "quantitative", "title": None, "scale": {"domain": [0, 1]}}
    legend = {"orient": "bottom", "columns": 1, "title": None, "labelLimit": 300}
    spec: Spec = {
        "data": {"values": rows},
        "height": 220 + 20 * len({row["passage"] for row in rows}),  # the legend takes its part
        "mark": "bar",
        "encoding": {
            "x": {"field": "step", "type": "ordinal", "title": "step", "axis": {"labelAngle": 0}},
            "y": {**share, "stack": "zero"},
            "color": {"field": "passage", "type": "nominal", "legend": legend},
            "tooltip": [{"field": "passage"}, _figure("share")],
        },
    }
    st.vega_lite_chart(spec, width="stretch")


def _losses(news: News) -> Spec:
    span = max(2, len(news.losses) // 10)
    smooth = pd.Series(news.losses, dtype=float).ewm(span=span).mean().tolist()
    rows = [
        {"step": step, "loss": loss, "smooth": mean}
        for step, (loss, mean) in enumerate(zip(news.losses, smooth, strict=True), start=1)
    ]
    return {
        "data": {"values": rows},
        "height": 220,
        "encoding": {"x": _step(news)},
        "layer": [
            {"mark": {"type": "circle", "size": 18, "opacity": 0.35, "color": BAND},
             "encoding": {"y": {"field": "loss", "type": "quantitative", "title": None}}},
            {"mark": {"type": "line", "color": LINE},
             "encoding": {
                 "y": {"field": "smooth", "type": "quantitative"},
                 "tooltip": [{"field": "step"}, _figure("loss")],
             }},
        ],
    }  # fmt: skip


def _held(news: News) -> Spec:
    rows = [
        {"step": p.step, "mean": p.held.mean, "low": p.held.low, "high": p.held.high}
        for p in news.points
    ]
    y = {"type": "quantitative", "title": None, "scale": {"domain": [0, 1]}}
    return {
        "data": {"values": rows},
        "height": 220,
        "encoding": {"x": _step(news)},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 3, "color": BAND},
             "encoding": {"y": {"field": "low", **y}, "y2": {"field": "high"}}},
            {"mark": {"type": "line", "color": DOT, "opacity": 0.5},
             "encoding": {"y": {"field": "mean", **y}}},
            {"mark": {"type": "circle", "size": 70, "color": DOT, "opacity": 1},
             "encoding": {
                 "y": {"field": "mean", **y},
                 "tooltip": [{"field": "step"}, *map(_figure, ("mean", "low", "high"))],
             }},
        ],
    }  # fmt: skip


def _step(news: News) -> Spec:
    scale = {"domain": [0, news.of]}
    return {"field": "step", "type": "quantitative", "title": "step", "scale": scale}


def _figure(field: str) -> Spec:
    return {"field": field, "type": "quantitative", "format": ".3f"}
