"""A page's longer work: one piece a visitor, shown where it belongs, stopped by its button.

Unlike a question on the Ask page, it goes on when the visitor clicks elsewhere: the next script
takes its place at the thread's side. `Board.watch` polls, so it comes last on a page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ragdemo.errors import Cancelled
from ragdemo.serving import Ticket
from ragdemo.ui import drawn
from ragdemo.ui.state import Job, Visitor
from ragdemo.ui.work import Work

Draw = Callable[[Any], None]


class Reins:
    """What work gets to hold: whether it should stop, and where it tells how far it is."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.said = ""
        self.share = 0.0  # of the work done

    def tell(self, said: str, done: int, of: int) -> None:
        """For progress callbacks; raises `Cancelled` once somebody pressed Stop."""
        self.said, self.share = said, done / max(1, of)
        if self.cancelled.is_set():
            raise Cancelled("Stopped.")


def start(me: Visitor, kind: str, updates: Callable[[Reins], Iterator[Any]]) -> None:
    """Begin work of this kind; whatever else ran is stopped and keeps what it had."""
    stop(me)
    me.problems.pop(kind, None)
    reins = Reins()
    me.job = Job(kind, Work(updates(reins), Ticket(cancelled=reins.cancelled)), reins)


def stop(me: Visitor) -> None:
    """End the work under way and keep its last news."""
    job, me.job = me.job, None
    if job is None:
        return
    settled = job.work.settle()
    if settled is None:
        return
    found, problem = settled
    if found is not None:
        me.results[job.kind] = found
    if problem:
        me.problems[job.kind] = problem


class Board:
    """The places on this page where work shows how far it is."""

    def __init__(self, me: Visitor) -> None:
        self._me = me
        self._places: dict[str, tuple[DeltaGenerator, DeltaGenerator, Draw]] = {}
        if me.job and me.job.work.ended:
            stop(me)

    def busy(self, kind: str) -> bool:
        return self._me.job is not None and self._me.job.kind == kind

    def place(self, kind: str, draw: Draw) -> DeltaGenerator | None:
        """Reserve this spot for work of the kind: None while some is under way, which is drawn
        here, or where to draw its result. What went wrong with the last such work is said here."""
        head = st.container()
        if not self.busy(kind):
            if problem := self._me.problems.get(kind):
                with head:
                    drawn.problem(problem)
            return st.container()
        with head, st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Stop", key=f"stop-{kind}", icon=":material/stop_circle:", type="primary",
                on_click=stop, args=(self._me,),
            )  # fmt: skip
            clock = st.empty()
        # an empty place in the result's: the old one goes at once, not when the script ends
        self._places[kind] = (clock, st.empty(), draw)
        return None

    def watch(self) -> None:
        """Draw the news until the work has ended, then start the page anew with its result."""
        me = self._me
        job = me.job
        if job is None or job.kind not in self._places:
            return
        clock, place, draw = self._places[job.kind]
        shown: object = self  # nothing has been drawn
        for update in job.work.updates():
            # at every beat: Streamlit ends a script only when it draws
            seconds = f"{time.monotonic() - job.begun:.0f} s"
            if (line := job.work.place()) and line.said:
                seconds += f" · {line.said}"
            if job.reins.said:
                clock.progress(min(1.0, job.reins.share), f"{job.reins.said} · {seconds}")
            else:
                clock.caption(f"Under way for {seconds}")
            update = job.work.last if update is None else update  # joined in the middle
            if update is not None and update is not shown:
                shown = update
                with place.container():
                    draw(update)
        if me.job is job:  # not what another script has begun meanwhile
            stop(me)
        st.rerun()
