"""Race retrievers on one question, then look at whole question sets, chunkings and indexes."""

import streamlit as st

from ragdemo.ui import (
    costs,
    frame,
    measuring,
    overlap,
    race,
    rankflow,
    running,
    scores,
    sidebyside,
    storing,
    words,
)

me = frame.begin("Retrievers", "One question, several ways to find passages. Who finds what, why?")

if frame.ready(me):
    board = running.Board(me)
    race.entry(me, board)
    side, flow, strip, why, common = st.tabs(
        [
            ":material/view_column: Side by side",
            ":material/moving: Who moved where",
            ":material/scatter_plot: All scores",
            ":material/search: Why it matched",
            ":material/join: Overlap and time",
        ]
    )
    with side:
        race.columns(me, board)
    for tab, draw in (
        (flow, rankflow.show),
        (strip, scores.show),
        (why, lambda found: words.show(me, found)),
        (common, overlap.show),
    ):
        with tab:
            race.after(me, board, draw)

    st.subheader("Beyond one question", anchor=False)
    many, cuts, index, store = st.tabs(
        [
            ":material/insights: A question set",
            ":material/content_cut: Two chunkings",
            ":material/speed: What an index costs",
            ":material/database: Vector stores",
        ]
    )
    with many:
        measuring.section(me, board)
    with cuts:
        sidebyside.section(me, board)
    with index:
        costs.section(me, board)
    with store:
        storing.section(me)
    board.watch()
