"""What raters said: who was preferred, how far they agree, and metrics against their judgement."""

from __future__ import annotations

import math
from collections.abc import Sequence

import streamlit as st

from ragdemo.evaluation import humane, record
from ragdemo.evaluation.humane import LABELS, Vote
from ragdemo.evaluation.metrics import METRICS, SCALES
from ragdemo.ui import drawn, evalplot, evalrun
from ragdemo.ui.state import Visitor

AUTOMATIC = ("rougeL", "rouge1", "rouge2", "bleu", "f1", "support")
RELIABLE, TENTATIVE = 0.8, 0.667  # Krippendorff's own thresholds


def show(me: Visitor, votes: Sequence[Vote]) -> None:
    """Everything that follows from the votes so far."""
    shown = me.rating.items
    st.subheader("What the raters said", anchor=False)
    if not votes:
        st.caption("No votes yet.")
        return
    arms = tuple(sorted({arm for item in shown for arm in item.arms}))
    _preferred(humane.preference(shown, votes, arms))
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("#### Answer and passage")
        counts = humane.labels(shown, votes)
        rows = [
            {"arm": arm, "label": LABELS[key], "value": many, "said": str(many)}
            for key in LABELS
            for arm in arms
            if (many := counts.get((arm, key), 0))
        ]
        st.vega_lite_chart(evalplot.bars(rows, arms, "label", "count"), width="stretch")
        _agreement(humane.agreements(shown, votes))
    with right:
        _scatter(me, votes)
    st.download_button(
        "Votes as CSV", record.csv_text(humane.rows(shown, votes)), "votes.csv", "text/csv",
        icon=":material/download:", key="votes-csv",
    )  # fmt: skip


def _preferred(found: humane.Preference) -> None:
    first, second = found.arms
    drawn.text(
        f"{first} was preferred {found.wins[0]} times, {second} {found.wins[1]} times, neither "
        f"{found.ties} times.",
        look="title",
    )
    if not math.isnan(found.share):
        drawn.text(
            f"{found.share:.0%} of the preferences are for {first} (95 % between {found.low:.0%} "
            f"and {found.high:.0%}, Clopper-Pearson; sign test p = {found.p:.3f}).",
            look="small quiet",
        )


def _agreement(found: dict[str, float]) -> None:
    st.markdown("#### How far the raters agree")
    names = {"preference": "Which is better", "label": "Answer and passage",
             **{name: METRICS[name].title for name in SCALES}}  # fmt: skip
    st.dataframe(
        [
            {
                "question": names[key],
                "Krippendorff's alpha": "not known" if math.isnan(value) else f"{value:.2f}",
                "that is": _reading(value),
            }
            for key, value in found.items()
        ],
        hide_index=True, width="stretch",
    )  # fmt: skip
    st.caption("1: all agree. 0: as if by chance. It needs two raters on the same question.")


def _reading(value: float) -> str:
    if math.isnan(value):
        return "too few votes, or all the same"
    if value >= RELIABLE:
        return "reliable"
    return "tentative" if value >= TENTATIVE else "the raters read the question differently"


def _scatter(me: Visitor, votes: Sequence[Vote]) -> None:
    st.markdown("#### Does a metric see what people see?")
    ran = evalrun.last(me)
    results = ran.standing.results if ran else ()
    metric = st.selectbox("Metric", AUTOMATIC, format_func=lambda k: METRICS[k].title,
                          key="scatter-metric")  # fmt: skip
    scale = st.selectbox("People's scale", SCALES, len(SCALES) - 1,
                         format_func=lambda k: METRICS[k].title, key="scatter-scale")  # fmt: skip
    found = humane.points(me.rating.items, votes, results, scale, metric)
    if not found:
        st.caption("None of the rated answers has this metric.")
        return
    st.vega_lite_chart(evalplot.scatter(found, metric, scale), width="stretch")
    r = humane.correlation(found)
    said = "not known yet" if math.isnan(r) else f"{r:.2f}"
    st.caption(
        f"{len(found)} answers. Spearman's rank correlation: {said}; 1 would mean that the metric "
        "orders answers as people do."
    )
