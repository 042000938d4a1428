"""What a run came to: in a sentence, in charts, in a table, and what each metric cannot see."""

from __future__ import annotations

import streamlit as st

from ragdemo.evaluation import record
from ragdemo.evaluation.metrics import METRICS
from ragdemo.ui import drawn, evalplot
from ragdemo.ui.evalrun import Ran

GROUPS = {
    "answer": ":material/chat: Answers against the expected ones",
    "retrieval": ":material/manage_search: Passages found",
    "grounding": ":material/fact_check: Borne out by the passages",
    "refusing": ":material/block: Refusals",
    "time": ":material/timer: Time",
}
UNKNOWN = "no kind given"


def show(ran: Ran) -> None:
    """Everything about the last run."""
    found = ran.record
    for arm, said in found.problems.items():
        drawn.notice(f"{arm}: {said}")
    _sentence(ran)
    left, right = st.columns(2, gap="large")
    for column, groups in ((left, ("answer",)), (right, ("retrieval", "grounding", "refusing"))):
        with column:
            for group in groups:
                _group(ran, group)
    _kinds(ran)
    _group(ran, "time")
    st.markdown("#### The figures")
    heads, *rows = record.table(found.lines)
    st.dataframe(
        [dict(zip(_apart(heads), row, strict=True)) for row in rows], hide_index=True,
        width="stretch", height=38 + 35 * len(rows),
    )  # fmt: skip
    st.caption(
        "Mean over the questions a metric applies to (95 % bootstrap interval): with other "
        "questions like these, the mean would mostly fall inside. Differences are taken question "
        "by question; p is how often chance alone would make one this large. With this many "
        "metrics, one in twenty is below 0.05 by chance."
    )
    with st.expander("What each metric says, and what it cannot see", icon=":material/visibility:"):
        st.dataframe(
            [
                {
                    "metric": m.title,
                    "scale": m.scale,
                    "says": m.says,
                    "cannot see": m.blind,
                    "source": m.source,
                }
                for m in METRICS.values()
            ],
            hide_index=True, width="stretch",
            column_config={"source": st.column_config.LinkColumn(display_text="paper")},
        )  # fmt: skip


def _apart(heads: list[str]) -> list[str]:
    """Heads as keys: "p" comes once for each arm."""
    seen: dict[str, int] = {}
    for head in heads:
        seen[head] = seen.get(head, 0) + 1
    counts = dict.fromkeys(heads, 0)
    found = []
    for head in heads:
        counts[head] += 1
        found.append(f"{head} ({counts[head]})" if seen[head] > 1 else head)
    return found


def _sentence(ran: Ran) -> None:
    parts: list[drawn.Run] = []
    for line in ran.record.lines:
        own = [r for r in ran.standing.results if r.arm == line.arm and r.right is not None]
        if own:
            right = sum(bool(r.right) for r in own)
            parts += [
                {"text": ("; " if parts else "Right answers: ") + f"{line.arm} "},
                {"text": f"{right} of {len(own)}", "kinds": ["support"]},
                {"text": f" ({right / len(own):.0%})"},
            ]
    if parts:
        drawn.runs([*parts, {"text": "."}], look="title")
        st.caption(
            "Right: an accepted short answer stands in it; where only a sentence is known, F1 with "
            "it is at least 0.5; where the documents don't say, it says so."
        )
    else:
        st.caption("The set holds no accepted answers, so nobody can say which answers are right.")


def _group(ran: Ran, group: str) -> None:
    chart = evalplot.dots(ran.record.lines, group)
    if chart is not None:
        st.markdown(f"#### {GROUPS[group]}")
        st.vega_lite_chart(chart, width="stretch")


def _kinds(ran: Ran) -> None:
    """Share of right answers by kind of question."""
    kinds = {q.id: q.kind or UNKNOWN for q in ran.asked}
    if len({*kinds.values()}) < 2:
        return
    arms = [line.arm for line in ran.record.lines]
    rows = []
    for kind in dict.fromkeys(kinds.values()):
        for arm in arms:
            own = [
                r for r in ran.standing.results
                if r.arm == arm and kinds.get(r.id) == kind and r.right is not None
            ]  # fmt: skip
            if own:
                right = sum(bool(r.right) for r in own)
                rows.append({"arm": arm, "kind": kind, "value": right / len(own),
                             "said": f"{right} of {len(own)}"})  # fmt: skip
    if rows:
        st.markdown("#### :material/category: Right answers by kind of question")
        st.vega_lite_chart(evalplot.bars(rows, arms, "kind", "share"), width="stretch")
