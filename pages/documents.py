"""The documents that questions are answered from: add, look into, remove, carry away."""

import streamlit as st

from ragdemo.ui import chart, frame, library, uploading, viewer

me = frame.begin("Documents", "What questions are answered from. Yours are gone when you leave.")

if frame.ready(me):
    uploading.uploader(me)
    uploading.reports(me)
    library.listing(me)
    look, map_, summary, cut, carry = st.tabs(
        [
            ":material/article: Passages",
            ":material/scatter_plot: Map",
            ":material/summarize: Summary",
            ":material/content_cut: How they are cut",
            ":material/save: Export and import",
        ]
    )
    with look:
        viewer.viewer(me)
    with map_:
        chart.points(me)
    with summary:
        library.summary(me)
    with cut:
        library.chunking(me)
    with carry:
        library.carry(me)
