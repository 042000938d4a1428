"""Start here: `streamlit run streamlit_app.py`. Page configuration and navigation, nothing else."""

import streamlit as st

st.set_page_config(page_title="ragdemo", page_icon="ragdemo/ui/icon.png", layout="wide")
st.navigation(
    [
        st.Page("pages/ask.py", title="Ask", icon=":material/forum:", default=True),
        st.Page("pages/documents.py", title="Documents", icon=":material/folder_open:"),
        st.Page("pages/retrievers.py", title="Retrievers", icon=":material/manage_search:"),
        st.Page("pages/pipeline.py", title="Pipeline", icon=":material/account_tree:"),
        st.Page("pages/evaluate.py", title="Evaluate", icon=":material/fact_check:"),
        st.Page("pages/finetune.py", title="Fine-tuning", icon=":material/model_training:"),
    ]
).run()
