"""One question taken apart, stage by stage; and experiments to predict, run and reveal."""

import streamlit as st

from ragdemo.ui import apart, experimenting, frame, running

me = frame.begin("Pipeline", "One question taken apart, from its words to the answer.")
board = running.Board(me)

if experimenting.chosen_view() == experimenting.VIEW:
    experimenting.section(me, board)
elif frame.ready(me):
    apart.entry(me)
    apart.show(me, board)
    st.caption("What is shown is measured on this question, with the models in use.")
board.watch()
