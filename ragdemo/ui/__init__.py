"""Everything Streamlit, apart from the pages themselves.

`state` holds what belongs to one visitor, `cache` what all share; the rest draws. Text that others
wrote (documents, file names, questions, answers) is drawn by `drawn`, `st.text`, `st.code` and
`st.dataframe` only: those cannot fetch or run anything it contains. Labels are never made of it.
"""
