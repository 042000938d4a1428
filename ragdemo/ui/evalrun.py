"""Running a question set: what, on which arms, how far, and going on after a stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import streamlit as st

from ragdemo.corpus import Corpus
from ragdemo.evaluation import record
from ragdemo.evaluation.arms import Arm
from ragdemo.evaluation.journal import plan
from ragdemo.evaluation.questions import Question
from ragdemo.evaluation.record import Record
from ragdemo.evaluation.retrieval import drawn as draw_ids
from ragdemo.evaluation.run import Standing, run
from ragdemo.types import Decoding
from ragdemo.ui import drawn, evalarms, evalset, running
from ragdemo.ui.race import duration
from ragdemo.ui.state import Visitor

KIND = "evaluate"
FEW = 20  # questions of the first run: about ten seconds on two cores


@dataclass(frozen=True, slots=True)
class Ran:
    """A run, under way, stopped or finished."""

    title: str
    asked: tuple[Question, ...]
    arms: tuple[Arm, ...]
    decoding: Decoding
    corpus: Corpus
    plan: str  # of the whole set: a run with another one starts anew
    standing: Standing
    record: Record | None = None  # summed up, once it has ended

    @property
    def stopped(self) -> bool:
        return self.standing.done < self.standing.of


def section(me: Visitor, board: running.Board) -> None:
    """Questions, arms, and the start."""
    st.subheader("1 · Questions", anchor=False)
    evalset.section(me, board)
    name, whole = evalset.in_use(me)
    count = _count(len(whole))
    st.subheader("2 · Arms", anchor=False)
    arms = evalarms.choose(me)
    st.subheader("3 · Run", anchor=False)
    asked = _drawn(whole, count)
    digest = plan(whole, arms, me.corpus.fingerprint, me.decoding)
    last = me.results.get(KIND)
    same = last is not None and last.plan == digest
    have = {r.key for r in last.standing.results} if same else set()
    todo = sum((q.id, arm.name) not in have for q in asked for arm in arms)
    with st.container(horizontal=True, vertical_alignment="center"):
        go = st.button(
            "Go on" if have and todo else "Run", type="primary", key="eval-go",
            icon=":material/play_arrow:", disabled=not asked or not todo,
        )  # fmt: skip
        again = have and st.button("Run all again", icon=":material/replay:", key="eval-again")
    kept = f"; {len(asked) * len(arms) - todo} are there from before" if have else ""
    st.caption(f"{len(asked)} questions × {len(arms)} arms: {todo} answers to write{kept}.")
    if go or again:
        done = last.standing.results if same and not again else ()
        title = f"{name}: {len(asked)} of {len(whole)} questions, {len(arms)} arms"
        ran = Ran(
            title, tuple(asked), tuple(arms), me.decoding, me.corpus, digest,
            Standing(len(done), len(asked) * len(arms), None, tuple(done), {}),
        )  # fmt: skip
        running.start(me, KIND, partial(_run, me, ran))
    body, found = board.place(KIND, _draw), me.results.get(KIND)
    if body and found:
        with body:
            _draw(found)
            if not found.stopped:
                st.caption(
                    ":green[:material/check_circle:] Finished: see Results, and Faults for what "
                    "went wrong."
                )
            else:
                st.caption(
                    ":orange[:material/pause_circle:] Stopped. What was finished is kept: see "
                    "Results, or press “Go on”."
                )
            if found.corpus.fingerprint != me.corpus.fingerprint or found.corpus is not me.corpus:
                drawn.notice("The documents have changed since these answers were written.")


def _count(most: int) -> int:
    if most < 2:
        return most
    return st.slider(
        "Questions to ask", 1, most, min(FEW, most), key=f"eval-count-{most}",
        help="Fewer are quicker, and leave wider intervals. Always the same draw.",
        persist_state="session",
    )  # fmt: skip


def _drawn(whole: Sequence[Question], count: int) -> list[Question]:
    known = {q.id: q for q in whole}
    return (
        [known[key] for key in draw_ids({q.id: q.question for q in whole}, count)] if count else []
    )


def _run(me: Visitor, ran: Ran, reins: running.Reins) -> Iterator[Ran]:
    bench = evalarms.bench(me, reins)

    def updates() -> Iterator[Ran]:
        now = ran
        for standing in run(
            ran.asked, ran.arms, bench, decoding=ran.decoding, done=ran.standing.results,
            cancelled=reins.cancelled,
        ):  # fmt: skip
            reins.said, reins.share = _said(standing), standing.done / max(1, standing.of)
            now = replace(ran, standing=standing)
            yield now
        if not reins.cancelled.is_set():
            reins.said = "Working out the intervals"
            yield _summed(now)

    return updates()


def _said(standing: Standing) -> str:
    left = "" if not standing.left else f", about {duration(max(1.0, standing.left))} left"
    return f"{standing.done} of {standing.of} answers{left}"


def _summed(ran: Ran) -> Ran:
    made = record.finished(ran.title, ran.asked, ran.arms, ran.corpus, ran.decoding, ran.standing)
    return replace(ran, record=made)


def last(me: Visitor) -> Ran | None:
    """The last run that has results, summed up; one that was stopped is summed up here."""
    ran = me.results.get(KIND)
    if ran is None or not ran.standing.results:
        return None
    if ran.record is None:
        with st.spinner("Working out the intervals …"):
            ran = me.results[KIND] = _summed(ran)
    return ran


def after(me: Visitor, board: running.Board, show) -> None:
    """What is drawn of a run that has ended, or why there is nothing yet."""
    if board.busy(KIND):
        st.empty().caption("This is drawn when the run has ended or was stopped.")
        return
    found = last(me)
    if found is None:
        st.empty().caption("Run a question set first: press “Run” in the first tab.")
        return
    with st.container():
        show(found)


def _draw(ran: Ran) -> None:
    """How every arm does so far."""
    standing = ran.standing
    for arm, said in standing.problems.items():
        drawn.notice(f"{arm}: {said}")
    rows = []
    for arm in ran.arms:
        own = [r for r in standing.results if r.arm == arm.name]
        judged = [r for r in own if r.right is not None]
        right = sum(bool(r.right) for r in judged)
        rows.append(
            {
                "arm": arm.name,
                "answered": f"{len(own)} of {len(ran.asked)}",
                "right": right / len(judged) if judged else None,
                "last answer": own[-1].answer if own else "",
            }
        )
    st.dataframe(
        rows, hide_index=True, width="stretch",
        column_config={"right": st.column_config.ProgressColumn(min_value=0, max_value=1,
                                                                       format="percent")},
    )  # fmt: skip
