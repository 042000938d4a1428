"""Retrievers over a whole question set: recall, MRR and nDCG with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import altair as alt
import pandas as pd
import streamlit as st

from ragdemo.errors import Cancelled, RagdemoError
from ragdemo.evaluation.bootstrap import interval, paired
from ragdemo.evaluation.questions import BYTES, COLUMNS, read_questions
from ragdemo.evaluation.race import MRR_DEPTH, Maker, question_set
from ragdemo.evaluation.retrieval import Measured, measure
from ragdemo.evaluation.sets import EvalSet
from ragdemo.settings import MIB
from ragdemo.ui import cache, choosing, drawn, running
from ragdemo.ui.race import KIND as RACE
from ragdemo.ui.race import duration
from ragdemo.ui.state import Visitor

KIND = "measure"
KEEP = {"persist_state": "session"}
SLOW = 20.0  # seconds from which the expected time is worth a word


@dataclass(frozen=True, slots=True)
class Scored:
    """Lines so far on one set."""

    chosen: EvalSet
    lines: tuple[Measured, ...]
    index: str  # the corpus's fingerprint


def section(me: Visitor, board: running.Board) -> None:
    """Load a set, run it, read the result."""
    st.caption(
        "One question proves nothing. A question set says for many questions where the answer "
        "stands; here it is counted how often, and how high up, each retriever finds it."
    )
    upload(me)
    name, asked = me.questions or ("the samples' questions", cache.sample_set())
    k = st.session_state.get("race-k", 5)
    chosen = question_set(name, asked, me.corpus, k)
    drawn.text(
        f"In use: {name}. {len(chosen.questions)} of its {len(asked)} questions have an answer "
        "with a known place in your documents.",
        look="small",
    )
    names = st.session_state.get("racers") or list(choosing.USUAL)
    count = len(chosen.questions)
    if count > 1:
        count = st.slider(
            "Questions to ask", 1, count, count, key=f"measure-count-{count}",
            help="Fewer are quicker, and leave wider intervals. Always the same draw.",
        )  # fmt: skip
    _expected(me, names, count)
    if st.button(
        "Measure the retrievers chosen above", icon=":material/insights:", key="measure-go",
        disabled=not chosen.questions or not names,
    ):  # fmt: skip
        makers = choosing.makers(me, names)
        running.start(me, KIND, partial(_measured, chosen, makers, count))
    body, found = board.place(KIND, _draw), me.results.get(KIND)
    if body and found:
        with body:
            _draw(found, finished=True)
            if found.index != me.corpus.fingerprint:
                drawn.notice("The documents have changed since these figures were measured.")


def upload(me: Visitor) -> None:
    """A question set of the visitor's own, for every page that uses one."""
    with st.expander("Use your own question set", icon=":material/upload_file:"):
        st.caption(
            "A CSV or JSONL file, a question a row; file and pages say where its answer stands. "
            "Columns: " + "; ".join(f"`{name}`: {about}" for name, about in COLUMNS.items()) + "."
        )
        file = st.file_uploader(
            "Question set", type=["csv", "jsonl"], key=f"questions-{me.uploads}",
            max_upload_size=BYTES // MIB,
            help=f"At most {BYTES // MIB} MB. It stays in this visit's memory.",
        )  # fmt: skip
        if file is not None:
            try:
                me.questions = (file.name, read_questions(file.getvalue(), file.name))
            except RagdemoError as problem:
                drawn.problem(problem)
            else:
                me.uploads += 1
                st.rerun()
        if me.questions and st.button("Back to the samples' questions", icon=":material/undo:"):
            me.questions = None
            st.rerun()


def _expected(me: Visitor, names: Sequence[str], count: int) -> None:
    raced = me.results.get(RACE)
    known = {run.name: run.seconds for run in raced.runs} if raced else {}
    seconds = count * sum(known.get(name, 0.0) for name in names)
    if seconds > SLOW:
        st.caption(f"This will take about {duration(seconds)}, going by the last race.")


def _measured(
    chosen: EvalSet, makers: dict[str, Maker], count: int, reins: running.Reins
) -> Iterator[Scored]:
    lines: list[Measured] = []
    index = chosen.corpus.fingerprint
    for name, make in makers.items():
        progress: Callable[[int, int], None] = partial(_asked, reins, name)
        try:
            progress(0, count)
            lines.append(measure(chosen, make(), limit=count, progress=progress))
        except Cancelled:
            return
        except RagdemoError as problem:
            lines.append(Measured(name, problem=str(problem)))
        yield Scored(chosen, tuple(lines), index)


def _asked(reins: running.Reins, name: str, done: int, of: int) -> None:
    reins.tell(f"{choosing.title(name)}: question {done} of {of}", done, of)


def _draw(found: Scored, finished: bool = False) -> None:
    good = [line for line in found.lines if not line.problem]
    for line in found.lines:
        if line.problem:
            drawn.notice(f"{choosing.title(line.retriever)}: {line.problem}")
    if not good:
        return
    _charts(found, good)
    lead = found.chosen.lead
    depth = lead.split("@")[1]
    st.caption(
        f"All from 0 to 1, higher is better. Recall@{depth}: share of the places with the answer "
        f"among the first {depth}. MRR@{MRR_DEPTH}: 1 divided by the place of the first right "
        f"passage, 0 beyond {MRR_DEPTH}. nDCG@{depth}: counts every right place, higher ones more. "
        "The line is the 95 % bootstrap interval: with other questions like these, the mean would "
        "mostly fall inside."
    )
    if finished:
        st.dataframe(table(found), hide_index=True, width="stretch")
        drawn.text(found.chosen.about, look="small quiet")


def table(found: Scored) -> pd.DataFrame:
    """A row a retriever; differences are to the first, question by question."""
    good = [line for line in found.lines if not line.problem]
    first, lead = good[0], found.chosen.lead
    rows = []
    for line in good:
        row: dict[str, str] = {"retriever": choosing.title(line.retriever)}
        for name, values in line.values.items():
            i = interval(list(values.values()))
            row[name] = f"{i.mean:.3f} ({i.low:.3f}–{i.high:.3f})"
        against = f"{lead} against {choosing.title(first.retriever)}"
        row[against] = ""
        if line is not first:
            own, other = line.values[lead], first.values[lead]
            p = paired(list(own.values()), [other[key] for key in own])
            row[against] = f"{p.difference:+.3f} ({p.low:+.3f} to {p.high:+.3f}), p {p.p:.3f}"
        row["time of a search"] = duration(line.seconds)
        rows.append(row)
    return pd.DataFrame(rows)


def _charts(found: Scored, good: Sequence[Measured]) -> None:
    """One for each measure; beside each other where there is room."""
    for column, name in zip(st.columns(len(found.chosen.measures)), found.chosen.measures,
                            strict=True):  # fmt: skip
        with column:
            st.markdown(f"**{name}**")
            st.altair_chart(_chart(name, good), width="stretch")


def _chart(name: str, good: Sequence[Measured]) -> alt.LayerChart:
    means = [interval(list(line.values[name].values())) for line in good]
    data = pd.DataFrame(
        {
            "retriever": [choosing.title(line.retriever) for line in good],
            "mean": [i.mean for i in means],
            "low": [i.low for i in means],
            "high": [i.high for i in means],
            "said": [f"{i.mean:.2f}" for i in means],
        }
    )
    axis = alt.Axis(title=None, tickCount=3, labelFontSize=12, format="~g")
    x = {"scale": alt.Scale(domain=[0, 1]), "axis": axis}
    base = alt.Chart(data).encode(
        y=alt.Y(
            "retriever:N", sort=None,
            axis=alt.Axis(title=None, domain=False, ticks=False, labelFontSize=12, labelLimit=130,
            labelFlush=False),
        ),
        tooltip=["retriever:N", *(alt.Tooltip(f"{n}:Q", format=".3f") for n in
                                  ("mean", "low", "high"))],
    )  # fmt: skip
    lines = base.mark_rule(strokeWidth=3, color="#8fb4dc").encode(
        x=alt.X("low:Q", **x), x2="high:Q"
    )
    dots = base.mark_circle(size=130, color="#2f6fb3", opacity=1).encode(x=alt.X("mean:Q", **x))
    text = base.mark_text(dy=-14, fontSize=12, color="#7a8592").encode(
        x=alt.X("mean:Q", **x), text="said:N"
    )
    return (lines + dots + text).properties(height=max(110, 48 * len(good)))
