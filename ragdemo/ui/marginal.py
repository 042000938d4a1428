"""RAG-Sequence at work: every candidate answer under every passage, and why one of them won."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from ragdemo.text import clean
from ragdemo.types import Comparison, Marginal
from ragdemo.ui import drawn


def show(comparison: Comparison) -> None:
    """The matrix, best candidate first."""
    m = comparison.marginal
    with st.expander("How the answer was weighed (RAG-Sequence)", icon=":material/balance:"):
        st.caption(
            "One candidate was written from each passage alone. Every candidate was then scored "
            "under every passage: log p(candidate | question, passage), 0 for certain, the further "
            "below the less likely. The sum weighs each passage by how well it matches the "
            "question; the candidate with the highest sum is the answer above."
        )
        drawn.stack(
            [(f"passage {n}: {p:.0%}", p, 1 + (n - 1) % 8) for n, p in enumerate(m.prior, start=1)],
            1.0,
            "Weights of the passages",
        )
        st.caption(
            "The weight of each passage, p(passage | question): the softmax of its score divided "
            f"by {m.temperature:.3g}."
        )
        st.dataframe(frame(m), hide_index=True, width="stretch")


def frame(m: Marginal) -> pd.DataFrame:
    """A row a candidate: where from, log-likelihood under each passage, the log of the sum."""
    order = sorted(range(len(m.candidates)), key=lambda row: -m.log_marginals[row])
    columns: dict[str, list[object]] = {
        "candidate": [clean(m.candidates[row])[0] for row in order],
        "written from": [", ".join(str(n + 1) for n in m.written_from[row]) for row in order],
    }
    columns["log of the sum"] = [_number(m.log_marginals[row]) for row in order]
    for n in range(len(m.prior)):
        columns[f"passage {n + 1}"] = [_number(m.log_likelihoods[row][n]) for row in order]
    return pd.DataFrame(columns)


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "−∞"
