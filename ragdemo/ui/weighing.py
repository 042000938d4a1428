"""What the generator weighed: the next token at each step, and each passage's share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd
import streamlit as st

from ragdemo.anatomy import Anatomy
from ragdemo.generation.tracing import KEPT, Left, TokenStep, left
from ragdemo.text import clean
from ragdemo.ui import drawn
from ragdemo.ui.rankflow import GREY
from ragdemo.ui.strips import BLUE

BARS = 12  # likeliest tokens drawn
SEEN = 0.0005  # a bar below would be none
WITH, WITHOUT = "With retrieval", "Without retrieval"
KEEP = {"persist_state": "session"}


def steps(a: Anatomy) -> None:
    """One step of an answer: its likeliest tokens, as temperature and top-p leave them."""
    which = st.segmented_control(
        "Answer", [WITH, WITHOUT], default=WITH, required=True, key="steps-of",
        label_visibility="collapsed", **KEEP,
    )  # fmt: skip
    part, watched = ("alone", a.alone) if which == WITHOUT else ("steps", a.steps)
    if problem := (a.problems or {}).get(part):
        drawn.notice(problem)
    elif watched is None:
        st.caption("Stopped before this was looked at.")
    elif watched:
        _watched(part, watched, a.comparison.settings.get("sample") is True)
    else:
        sure = a.comparison.grounded.confidence
        said = "" if sure is None else f": p(the passages hold an answer) = {sure:.2f}"
        st.caption(f"No word was written. Before the first, the generator refused{said}.")


def _watched(part: str, watched: tuple[TokenStep, ...], sampled: bool) -> None:
    last, unsure = len(watched), _least_sure(watched)
    key = f"step-{part}"
    if st.session_state.setdefault(key, unsure) > last:
        st.session_state[key] = unsure
    one, two, three = st.columns(3, gap="medium")
    number = one.slider(
        "Step", 1, max(2, last), key=key, disabled=last < 2,
        help="One token a step. It begins where the model was least sure.",
    )  # fmt: skip
    temperature = two.slider(
        "Temperature", 0.1, 2.0, 1.0, 0.1, key="look-temperature",
        help="Below 1 sharpens, above 1 flattens. Only looked at here; set it on the Ask page.",
        **KEEP,
    )  # fmt: skip
    top_p = three.slider(
        "Top-p", 0.05, 1.0, 0.9, 0.05, key="look-top-p",
        help="Only the likeliest tokens that together hold this share stay.", **KEEP,
    )  # fmt: skip
    step = watched[min(number, last) - 1]
    drawn.runs(_so_far(watched, number), look="airy")
    found = left(step, round(temperature, 1), top_p)
    st.altair_chart(_chart(found), width="stretch")
    st.caption(_said(watched, step, found, sampled))


def _least_sure(watched: tuple[TokenStep, ...]) -> int:
    """The number of that step, from 1."""
    return 1 + min(range(len(watched)), key=lambda n: watched[n].likely[0].p)


def _so_far(watched: tuple[TokenStep, ...], number: int) -> list[drawn.Run]:
    runs: list[drawn.Run] = []
    for place, step in enumerate(watched, start=1):
        kinds = ["support"] if place == number else ["note"] if place > number else []
        runs.append({"text": step.chosen.token, "kinds": kinds, "tip": f"id {step.chosen.id}"})
        runs.append({"text": " "})
    return runs


def _chart(found: Sequence[Left]) -> alt.LayerChart:
    found = [one for n, one in enumerate(found[:BARS]) if n == 0 or one.p >= SEEN]
    rows = pd.DataFrame(
        {
            # a token may stand twice under different ids
            "token": [f"{clean(one.choice.token)[0]}  ({one.choice.id})" for one in found],
            "p": [one.p for one in found],
            "drawn": [f"{one.drawn:.1%}" if one.drawn else "cut" for one in found],
            "kept": [bool(one.drawn) for one in found],
        }
    )
    # named, not left to the data: a chart that is updated keeps the order of the one before
    order = rows["token"].tolist()
    y = alt.Y("token:N", sort=order, title=None, axis=alt.Axis(labelFontSize=13, labelLimit=200))
    most = min(1.0, 1.25 * float(rows["p"].max()))  # room for the label
    base = alt.Chart(rows).encode(y=y)
    bars = base.mark_bar().encode(
        x=alt.X("p:Q", title="probability", scale=alt.Scale(domain=[0, most])),
        color=alt.Color(
            "kept:N", legend=None, scale=alt.Scale(domain=[True, False], range=[BLUE, GREY])
        ),
        opacity=alt.Opacity(
            "kept:N", legend=None, scale=alt.Scale(domain=[True, False], range=[1, 0.45])
        ),
        tooltip=["token:N", alt.Tooltip("p:Q", format=".4f"), "drawn:N"],
    )
    labels = base.mark_text(align="left", dx=4, color=GREY).encode(x="p:Q", text="drawn:N")
    return (bars + labels).properties(height=24 * len(rows) + 30)


def _said(
    watched: tuple[TokenStep, ...], step: TokenStep, found: Sequence[Left], sampled: bool
) -> str:
    kept = sum(bool(one.drawn) for one in found)
    more = " or more" if kept == KEPT else ""
    said = (
        f"{kept}{more} {'token' if kept == 1 else 'tokens'} left to draw from, with the chance "
        "that stands beside its bar; greedy decoding takes the first. Picked here: "
        f"p = {step.chosen.p:.3f}"
    )
    if step.passage is not None:
        said += f", copied from passage {step.passage + 1}"
    elif any(one.passage is not None for one in watched):
        said += ", a word of its own"
    if step.chosen.id != step.likely[0].id:
        said += (
            ". Not the likeliest: it was drawn by chance" if sampled
            else ". Not the likeliest: that one would repeat three tokens, which is barred"
        )  # fmt: skip
    return said + "."


def shares(a: Anatomy) -> None:
    """Each passage's share of attention, and what the answer loses without it."""
    attention = a.comparison.grounded.shares
    left_column, right = st.columns(2, gap="medium")
    with left_column:
        st.markdown("**Where the attention went**")
        if attention:
            st.altair_chart(_bars(attention, "share", "%"), width="stretch")
            st.caption("Share of the pointer's attention over all steps, by passage.")
        else:
            st.caption("This generator does not tell.")
    with right:
        st.markdown("**What the answer loses without a passage**")
        if problem := (a.problems or {}).get("dropped"):
            drawn.notice(problem)
        elif a.dropped is None:
            st.caption("Stopped before this was worked out.")
        else:
            st.altair_chart(_bars(a.dropped.drops, "drop, nats", ".1f"), width="stretch")
            st.caption(_lost(a))


def _bars(values: tuple[float, ...], title: str, form: str) -> alt.Chart:
    rows = pd.DataFrame({"passage": range(1, len(values) + 1), "value": values})
    return (
        alt.Chart(rows)
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("passage:O", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("value:Q", title=title, axis=alt.Axis(format=form)),
            tooltip=["passage:O", alt.Tooltip("value:Q", format=".3f")],
        )
        .properties(height=200)
    )


def _lost(a: Anatomy) -> str:
    drops = a.dropped.drops
    most = max(range(len(drops)), key=drops.__getitem__)
    scored = "its first sentence" if a.dropped.text != a.comparison.grounded.text else "the answer"
    if drops[most] < 0.1:
        return f"Log-likelihood of {scored}: no passage makes a difference alone."
    times = math.exp(min(drops[most], 700))
    factor = f"{times:.1f} times" if times < 1000 else f"10^{math.log10(times):.0f} times"
    return (
        f"Without passage {most + 1}, {scored} would be {factor} less likely "
        f"({drops[most]:.1f} nats). All were scored in one batch."
    )
