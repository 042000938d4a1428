"""Wrong answers sorted by where they went wrong, and one of them taken apart."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from ragdemo.evaluation.answers import contains
from ragdemo.evaluation.faults import FAULTS, Fault
from ragdemo.evaluation.run import Result
from ragdemo.grounding import support
from ragdemo.text import sentences
from ragdemo.types import Support
from ragdemo.ui import answers, drawn, evalplot, passages
from ragdemo.ui.evalrun import Ran
from ragdemo.ui.state import Visitor

ASK = "pages/ask.py"
ENDINGS = {True: ("support", "right"), False: ("loose", "wrong"), None: ("note", "not judged")}


def show(me: Visitor, ran: Ran) -> None:
    """Counts, filters, and one fault at a time."""
    found = ran.record.faults
    if not found:
        st.caption("No wrong answers: there is nothing to sort.")
        return
    arms = [line.arm for line in ran.record.lines]
    many = Counter((f.kind, f.result.arm) for f in found)
    present = [kind for kind in FAULTS if any(many[kind, arm] for arm in arms)]
    rows = [
        {"arm": arm, "fault": kind, "value": many[kind, arm], "said": str(many[kind, arm])}
        for kind in present
        for arm in arms
        if many[kind, arm]
    ]
    st.vega_lite_chart(evalplot.bars(rows, arms, "fault", "count"), width="stretch")
    st.dataframe(
        [{"fault": kind, "what it means": FAULTS[kind]} for kind in present],
        hide_index=True, width="stretch",
    )  # fmt: skip
    left, right = st.columns(2, gap="medium")
    kind = left.selectbox("Fault", ["all", *present], key="fault-kind")
    arm = right.selectbox("Arm", ["all", *arms], key="fault-arm")
    chosen = [
        f for f in found if kind in ("all", f.kind) and arm in ("all", f.result.arm)
    ]  # fmt: skip
    if not chosen:
        st.caption("No such fault.")
        return
    st.dataframe(
        [
            {"question": f.asked.question, "arm": f.result.arm, "fault": f.kind,
             "answer": f.result.answer, "expected": _expected(f), "evidence": f.because}
            for f in chosen
        ],
        hide_index=True, width="stretch", height=min(38 + 35 * len(chosen), 320),
    )  # fmt: skip
    number = st.selectbox(
        "Take one apart", range(len(chosen)), key=f"fault-{kind}-{arm}",
        format_func=lambda n: f"{chosen[n].asked.question} · {chosen[n].result.arm}",
    )  # fmt: skip
    _one(me, ran, chosen[min(number, len(chosen) - 1)])


def _expected(fault: Fault) -> str:
    asked = fault.asked
    if not asked.answerable:
        return "The documents don't say."
    return " / ".join(asked.short) or asked.answer


def _one(me: Visitor, ran: Ran, fault: Fault) -> None:
    asked = fault.asked
    drawn.text(asked.question, look="title")
    where = "; ".join(f"{file}, page {', '.join(map(str, p))}" for file, p in asked.places)
    drawn.runs(
        [
            {"text": f"{fault.kind}: ", "kinds": ["loose"]},
            {"text": f" {fault.because} Expected: {_expected(fault)}"},
            *([{"text": f" ({where})"}] if where else []),
        ]
    )
    found = {r.arm: r for r in ran.standing.results if r.id == asked.id}
    same = [found[arm.name] for arm in ran.arms if arm.name in found]
    for start in range(0, len(same), 3):
        part = same[start : start + 3]
        for column, result in zip(st.columns(max(2, len(part))), part, strict=False):
            with column, st.container(border=True):
                _answer(asked.question, result, fault.result)
    if st.button("Ask it on the Ask page", icon=":material/forum:", key="fault-ask"):
        me.asking = asked.question
        st.switch_page(ASK)
    hits = fault.result.hits
    if hits:
        held = support(fault.result.answer, hits, asked.question)
        passages.show(me, asked.question, hits, None, support=[*held, *_gold(fault)])


def _gold(fault: Fault) -> list[Support]:
    """The sentence that holds the accepted answer, to be marked in its passage."""
    if fault.at is None:
        return []
    text = fault.result.hits[fault.at - 1].chunk.text
    spans = [s for s in sentences(text) if contains(text[s.start : s.end], fault.asked.short)]
    return [Support(0, 0, 1.0, fault.at, span) for span in spans]


def _answer(question: str, result: Result, fault: Result) -> None:
    kind, said = ENDINGS[result.right]
    drawn.runs([{"text": f"{result.arm} "}, {"text": said, "kinds": [kind]}],
               look="strong" if result.arm == fault.arm else "")  # fmt: skip
    held = () if result.refused else support(result.answer, result.hits, question)
    if held and result.hits:
        drawn.runs(answers.sentences(result.answer, held, result.hits))
    else:
        drawn.text(result.answer or "Nothing was written.")
    drawn.text(
        f"{len(result.hits)} passages, {result.read} read · {result.seconds:.2f} s"
        if result.hits
        else f"from the question alone · {result.seconds:.2f} s",
        look="small quiet",
    )
