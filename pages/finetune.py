"""Train the retriever, the generator or both on these documents; put it against retrieval."""

import streamlit as st

from ragdemo.ui import frame, running, tuned, tuning, versus

me = frame.begin(
    "Fine-tuning", "Teach a copy of a model your documents. What does it gain, what does it cost?"
)

if frame.ready(me):
    board = running.Board(me)
    train, against = st.tabs(
        [":material/model_training: Train", ":material/balance: Fine-tuning against RAG"]
    )
    with train:
        tuning.section(me, board)
        tuned.section(me, board)
    with against:
        versus.section(me, board)
    board.watch()
