"""Fine-tuning against RAG, four ways side by side, and what a new version of a document does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd
import streamlit as st

from ragdemo.embedding import Encoder
from ragdemo.evaluation.bootstrap import interval
from ragdemo.generation import create
from ragdemo.generation.base import Generator
from ragdemo.training.versus import (
    BASE,
    CLOSED_BOOK,
    GROUPS,
    RAG,
    RAG_TUNED,
    SHOWN,
    Arm,
    Said,
    Versus,
    busiest,
    compare,
    known,
)
from ragdemo.ui import cache, drawn, running
from ragdemo.ui.race import duration
from ragdemo.ui.state import Visitor
from ragdemo.ui.tuning import GENERATOR, alone, base_corpus

KIND = "versus"
OTHERS = 12  # questions about other documents: fewer than the command's, nobody waits ten minutes
# of the samples: what it says stands in it alone. Annual leave, with most questions, has an old
# version beside it that misleads retrieval: a lesson of its own, not the first one
FIRST = "mobile-phone-policy.pdf"
KEEP = {"persist_state": "session"}


def section(me: Visitor, board: running.Board) -> None:
    """Choose the documents, run it, read it."""
    st.caption(
        "The bundled generator answers the same questions four ways: as it is; fine-tuned to know "
        "the answers by heart; as it is, with retrieved passages; and fine-tuned to read passages. "
        "Then some numbers in the documents change, in a copy, and the questions are asked again."
    )
    _, asked = me.questions or ("", cache.sample_set())
    own = known(asked, me.corpus)
    names = list(busiest(own, 50))
    chosen = st.multiselect(
        "Documents to learn from", names, [FIRST] if FIRST in names else names[:1],
        key="versus-documents",
        help="Half of the questions about them are learnt, half held out.", **KEEP,
    )  # fmt: skip
    about = sum(e.file in chosen for e in own)
    st.caption(
        f"{about} questions are about these. Two to five minutes on two cores, about ten on old "
        "ones."
    )
    if st.button(
        "Run all four", type="primary", icon=":material/balance:", key="versus-go",
        disabled=about < 6,
    ):  # fmt: skip
        running.start(me, KIND, partial(_compared, me, own, chosen))
    body, found = board.place(KIND, draw), me.results.get(KIND)
    if body and found:
        with body:
            draw(found)
            _example(found)
            if not found.doing and len(found.arms) == 4:
                _lesson(found)


def _compared(me: Visitor, own: list, chosen: list[str], reins: running.Reins):
    def updates() -> Iterator[Versus]:
        with alone(GENERATOR):
            reins.tell("Getting ready", 0, 1)
            for found in compare(
                own, base_corpus(me), partial(_loaded, encoder=cache.shared().encoder),
                documents=chosen, others=OTHERS, cancelled=reins.cancelled,
            ):  # fmt: skip
                part = found.news.step / found.news.of if found.news else 0.5
                reins.said, reins.share = found.doing, (len(found.arms) + part) / 4
                yield found

    return updates()


def _loaded(training: bool, encoder: Encoder) -> Generator:
    return create("mini", encoder=encoder, bf16=False if training else None)


def draw(found: Versus) -> None:
    """As far as it is. Drawn anew at every step, so there is nothing to choose in it."""
    if not found.arms:
        st.caption("The first figures come in some seconds.")
        return
    st.dataframe(
        table(found), hide_index=True, width="stretch",
        column_config={"way": st.column_config.TextColumn(width=170)},
    )  # fmt: skip
    said = "; ".join(f"{group}: {GROUPS[group]}" for group in SHOWN)
    st.caption(
        f"Word F1 of the answer against the expected one, 0 to 1, with its 95 % bootstrap "
        f"interval. {said[0].upper()}{said[1:]}. Memory: weights, and the index where one is "
        "searched."
    )
    st.markdown("**The step that decides it: a new version of the document**")
    changed = [arm.of("changed") for arm in found.arms]
    frame = pd.DataFrame(
        {
            "question": [question for question, _, _ in found.changes],
            "before": [old for _, old, _ in found.changes],
            "now": [new for _, _, new in found.changes],
            **{arm.name: [verdict(s) for s in part]
               for arm, part in zip(found.arms, changed, strict=True)},
        }
    )  # fmt: skip
    if len(frame):
        # the verdicts are what the table is for: a long question must not push them out of sight
        st.dataframe(
            frame, hide_index=True, width="stretch",
            column_config={"question": st.column_config.TextColumn(width=185)},
        )  # fmt: skip
        st.caption(
            f"The new version was read into the index in {duration(found.republish_seconds)}. "
            "“stale”: the answer still says the old number."
        )
    else:
        st.caption("No learnt answer holds a number that could be changed.")


def table(found: Versus) -> pd.DataFrame:
    """A row an arm."""
    return pd.DataFrame(
        [
            {
                "way": arm.name,
                **{f"F1, {group}": _mean(arm.of(group)) for group in SHOWN},
                "training": duration(arm.training_seconds) if arm.training_seconds else "none",
                "an answer": duration(arm.answer_seconds),
                "memory": f"{arm.megabytes:.0f} MB",
            }
            for arm in found.arms
        ]
    )


def _mean(said: tuple[Said, ...]) -> str:
    if not said:
        return "none"
    i = interval([one.f1 for one in said], resamples=999)
    return f"{i.mean:.2f} ({i.low:.2f}–{i.high:.2f})"


def verdict(said: Said) -> str:
    return "new" if said.found else "stale" if said.stale else "neither"


def _example(found: Versus) -> None:
    """One question of one's choice, all answers to it."""
    if not found.arms:
        return
    groups = [(one.group, one.question) for one in found.arms[0].said]
    chosen = st.selectbox(
        "All answers to one question", range(len(groups)), key="versus-example",
        format_func=lambda n: f"{groups[n][0]}: {groups[n][1]}" if n < len(groups) else "",
    )  # fmt: skip
    if chosen is None or chosen >= len(groups):
        return
    drawn.text(f"Expected: {found.arms[0].said[chosen].expected}", look="small")
    for start in range(0, len(found.arms), 2):
        pair = found.arms[start : start + 2]
        for column, arm in zip(st.columns(2, gap="small"), pair, strict=False):
            one = arm.said[chosen]
            with column, st.container(border=True):
                st.markdown(f"**{arm.name}** · F1 {one.f1:.2f}")
                drawn.text(one.answer or "It says that it does not know.")


def _lesson(found: Versus) -> None:
    """What the literature says for and against each, beside the number here."""
    st.markdown("**What is said of both, and what it came to here**")
    for line in claims(found):
        drawn.text(line, look="small")


def claims(found: Versus) -> list[str]:
    """A sentence a claim, each with its figures from this run."""
    by: dict[str, Arm] = {arm.name: arm for arm in found.arms}

    def mean(name: str, group: str) -> float:
        values = [one.f1 for one in by[name].of(group)]
        return sum(values) / len(values) if values else 0.0

    def says(claim: str, holds: bool | None, figures: str) -> str:
        """`holds` is None where this run can't tell."""
        told = (
            "nothing to tell it by here" if holds is None else "so here" if holds else "not so here"
        )
        return f"{claim}: {told}. {figures}"

    changed = by[CLOSED_BOOK].of("changed")
    stale, new = sum(s.stale for s in changed), sum(s.found for s in by[RAG].of("changed"))
    gap = mean(CLOSED_BOOK, "learnt") - mean(CLOSED_BOOK, "held out")
    forgot = mean(RAG, "other") - mean(RAG_TUNED, "other")
    gain = mean(RAG_TUNED, "held out") - mean(RAG, "held out")
    times = by[RAG].answer_seconds / max(by[BASE].answer_seconds, 1e-6)
    more = by[RAG].megabytes - by[BASE].megabytes
    learnt = mean(CLOSED_BOOK, "held out") - mean(BASE, "held out")
    read = [one for one in by[RAG].said if one.group in SHOWN]
    reached, missed = ([one.f1 for one in read if one.reached is there] for there in (True, False))

    def average(values: list[float]) -> float:
        return sum(values) / len(values) if values else 0.0

    return [
        says(
            "Fine-tuning knows only what it was taught, and overfits", gap > 0.1,
            f"Closed-book F1 {mean(CLOSED_BOOK, 'learnt'):.2f} on learnt questions, "
            f"{mean(CLOSED_BOOK, 'held out'):.2f} on others about the same documents.",
        ),
        says(
            "Its knowledge goes stale, retrieval's does not", stale > 0 and new > 0,
            f"Of {len(changed)} changed answers the closed-book model gives {stale:.0f} old and "
            f"{sum(s.found for s in changed):.0f} new; RAG gives {new:.0f} new. Teaching it anew "
            f"costs {by[CLOSED_BOOK].training_seconds:.0f} s, indexing anew "
            f"{found.republish_seconds:.1f} s.",
        ),
        says(
            "Fine-tuning forgets what it knew", forgot > 0.02,
            f"With passages, F1 on other documents' questions went from {mean(RAG, 'other'):.2f} "
            f"to {mean(RAG_TUNED, 'other'):.2f}.",
        ),
        says(
            "Fine-tuning the reader helps RAG", gain > 0.02,
            f"Held-out F1 {mean(RAG, 'held out'):.2f} before, {mean(RAG_TUNED, 'held out'):.2f} "
            "after.",
        ),
        says(
            "So few questions are too little data to fine-tune on", learnt <= 0.02,
            f"{found.learnt} learnt questions moved closed-book F1 on held-out ones from "
            f"{mean(BASE, 'held out'):.2f} to {mean(CLOSED_BOOK, 'held out'):.2f}.",
        ),
        says(
            "RAG is only as good as what it retrieves",
            average(missed) < average(reached) if missed and reached else None,
            f"F1 {average(reached):.2f} on the {len(reached)} questions whose passage was found, "
            + (f"{average(missed):.2f} on the other {len(missed)}." if missed else "all of them."),
        ),
        says(
            "RAG is more complex: there is an index to build and to keep", more > 0,
            f"It holds {more:.1f} MB beside the same weights, and a new version is read into it in "
            f"{found.republish_seconds:.1f} s.",
        ),
        says(
            "Retrieval makes answers slower", times > 1.2,
            f"An answer takes {by[RAG].answer_seconds:.2f} s instead of "
            f"{by[BASE].answer_seconds:.2f} s.",
        ),
    ]  # fmt: skip
