"""How far to trust it: question sets, arms, metrics, faults, people, a report."""

import streamlit as st

from ragdemo.ui import evalfaults, evalreport, evalresults, evalrun, frame, rating, running

me = frame.begin(
    "Evaluate", "Is it any good? Many questions, several set-ups, and what went wrong."
)

if frame.ready(me):
    board = running.Board(me)
    run, results, faults, people, report = st.tabs(
        [
            ":material/play_arrow: Run",
            ":material/bar_chart: Results",
            ":material/bug_report: Faults",
            ":material/groups: People rate",
            ":material/description: Report",
        ]
    )
    with run:
        evalrun.section(me, board)
    for tab, draw in (
        (results, evalresults.show),
        (faults, lambda ran: evalfaults.show(me, ran)),
        (report, evalreport.show),
    ):
        with tab:
            evalrun.after(me, board, draw)
    with people:
        rating.section(me, board)
    board.watch()
