"""One question, several retrievers side by side: asking it, and the rankings in columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import streamlit as st

from ragdemo.evaluation.race import Entry, Run, entries, landed, race
from ragdemo.grounding import marked
from ragdemo.retrieval import RETRIEVERS
from ragdemo.text import sentences
from ragdemo.types import Chunk, Hit, Span
from ragdemo.ui import choosing, drawn, running
from ragdemo.ui.known import SAMPLES, Answer, answer
from ragdemo.ui.passages import place
from ragdemo.ui.state import Visitor

KIND = "race"
TOUCHING = 4  # columns that fit beside each other
TONES = 10  # colours told apart
KEEP = {"persist_state": "session"}


@dataclass(frozen=True, slots=True)
class Race:
    """What the page shows of a question."""

    question: str
    k: int
    runs: tuple[Run, ...]
    chunks: Sequence[Chunk]  # of the corpus as it was

    @property
    def entries(self) -> list[Entry]:
        return entries(self.runs, self.chunks)


def entry(me: Visitor, board: running.Board) -> None:
    """The question, who races, and the start."""
    st.session_state.setdefault("race-question", SAMPLES[0].question)
    question = st.text_input("Question", key="race-question", max_chars=1000, **KEEP)
    left, right = st.columns([3, 1], gap="medium", vertical_alignment="bottom")
    with left:
        names = choosing.several()
    k = right.slider(
        "Places shown", 3, 10, 5, key="race-k",
        help="How many of the best passages each shows; “the first k” everywhere on this page.",
        **KEEP,
    )  # fmt: skip
    with st.expander("How the retrievers work", icon=":material/tune:"):
        choosing.tuning(me)
    with st.container(horizontal=True, gap="small"):
        go = st.button(
            "Race", icon=":material/flag:", type="primary", key="race-go",
            disabled=not names or not question.strip(),
        )  # fmt: skip
        for number, sample in enumerate(SAMPLES):
            go |= st.button(
                sample.button, icon=sample.icon, key=f"race-sample-{number}",
                on_click=_say, args=(sample.question,), help="About the sample documents.",
            )  # fmt: skip
    first = KIND not in me.results and not me.job  # nobody should meet an empty page
    if (go or first) and names and question.strip():
        me.results.setdefault(KIND, None)
        running.start(me, KIND, partial(_race, me, question.strip(), names, k))


def _say(question: str) -> None:
    st.session_state["race-question"] = question


def _race(
    me: Visitor, question: str, names: Sequence[str], k: int, reins: running.Reins
) -> Iterator[Race]:
    # what must be downloaded comes last, so that nobody waits for it
    names = sorted(names, key=lambda name: RETRIEVERS[name].needs == "download")
    makers, chunks = choosing.makers(me, names), me.corpus.chunks

    def updates() -> Iterator[Race]:
        for runs in race(question, makers, k, reins.cancelled):
            yield Race(question, k, runs, chunks)

    return updates()


def last(me: Visitor) -> Race | None:
    """The finished or stopped race; None where the documents have changed since."""
    found = me.results.get(KIND)
    return found if found and found.chunks is me.corpus.chunks else None


# -- side by side


def columns(me: Visitor, board: running.Board) -> None:
    """The rankings, growing while the race is on."""
    body = board.place(KIND, partial(draw, me))
    if body is None:
        return
    found = last(me)
    with body:
        if found is None:
            st.caption("Press “Race”.")
        else:
            draw(me, found)


def after(me: Visitor, board: running.Board, show: Callable[[Race], None]) -> None:
    """What is drawn of a race that has ended, or why there is nothing yet."""
    found = last(me)
    if board.busy(KIND) or found is None or not found.runs:
        st.empty().caption("This is drawn when a race has ended.")
        return
    with st.container():
        show(found)


def draw(me: Visitor, found: Race) -> None:
    """All columns of one race."""
    shared = found.entries
    letters = {e.chunk.id: e.label for e in shared}
    known = answer(me, found.question)
    drawn.text(found.question, look="title")
    if known:
        _landed(found, known)
    st.caption(
        "A letter is one passage wherever it stands. The bar is its score on this retriever's own "
        "scale; the black line is where nonsense questions land. Click a text to read all of it."
    )
    for start in range(0, len(found.runs), TOUCHING):
        row = found.runs[start : start + TOUCHING]
        for column, run in zip(st.columns(max(len(row), 2), gap="small"), row, strict=False):
            with column:
                _column(me, found.question, run, letters, known)


def tones(shared: Sequence[Entry]) -> dict[str, int]:
    """A colour for each of the first passages."""
    return {e.label: n for n, e in enumerate(shared[:TONES])}


def _landed(found: Race, known: Answer) -> None:
    ranks = {r.name: landed(r, found.chunks, known.holds) for r in found.runs if not r.problem}
    parts: list[drawn.Run] = [{"text": f"The answer stands in {known.where}. Found there: "}]
    for number, (name, rank) in enumerate(ranks.items()):
        where = "not at all" if rank is None else ordinal(rank)
        kinds = ["support"] if rank and rank <= found.k else ["loose"]
        parts += [
            {"text": ("; " if number else "") + f"{choosing.title(name)} "},
            {"text": where, "kinds": kinds},
        ]
    drawn.runs([*parts, {"text": "."}])
    lesson = next((s.lesson for s in SAMPLES if s.question == found.question), "")
    if lesson:
        st.info(lesson, icon=":material/lightbulb:")


def ordinal(number: int) -> str:
    """1 -> "1st", 12 -> "12th"."""
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number}{ending}"


def _column(
    me: Visitor, question: str, run: Run, letters: dict[str, str], known: Answer | None
) -> None:
    choice = RETRIEVERS[run.name]
    st.markdown(
        f"#### {choice.title}",
        help=f"{choice.about}\n\n[Paper]({choice.paper})",
    )
    if run.problem:
        drawn.problem(run.problem)
        return
    st.caption(facts(run))
    if not run.hits:
        st.caption("Found nothing: no passage shares a word with the question.")
        return
    drawn.ranking(
        [card(me, question, hit, letters, known) for hit in run.hits],
        run.floor,
        {label: n for n, label in enumerate(list(letters.values())[:TONES])},
    )


def facts(run: Run) -> str:
    """Its time and floor, in a line."""
    parts = [duration(run.seconds)]
    if run.prepared >= 0.01:
        parts.append(f"{duration(run.prepared)} to get ready")
    if run.floor is not None:
        parts.append(f"nonsense reaches {drawn.number(run.floor)}")
    elif not run.done:
        parts.append("floor not known yet")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """0.0123 -> "12 ms", 2.5 -> "2.5 s", 130 -> "2 min"."""
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def card(
    me: Visitor,
    question: str,
    hit: Hit,
    letters: dict[str, str],
    known: Answer | None,
) -> drawn.Card:
    """A hit, with the sentence first that shares most with the question."""
    chunk = hit.chunk
    spans = marked(question, chunk.text)
    whole = drawn.split(chunk.text, [(s, "word") for s in spans])
    begins = _telling(chunk.text, spans)
    inside = [Span(s.start - begins, s.end - begins) for s in spans if s.start >= begins]
    excerpt = drawn.split(chunk.text[begins:], [(s, "word") for s in inside])
    if begins:
        excerpt = [{"text": "… "}, *excerpt]
    own = [label for i, label in letters.items() if i == chunk.id]
    return drawn.Card(
        hit.rank,
        own[0] if own else "+",
        chunk.document_name,
        " · ".join(part for part in (place(me, chunk), chunk.heading.split(" > ")[-1]) if part),
        hit.score,
        excerpt,
        whole,
        known.mark if known and known.holds(chunk) else "",
        "" if own else "joined from several passages",
    )


def _telling(text: str, spans: Sequence[Span]) -> int:
    """Where the sentence begins that holds most of these words."""
    held = [(sum(s.start <= at.start < s.end for at in spans), -s.start) for s in sentences(text)]
    most = max(held, default=(0, 0))
    return -most[1] if most[0] else 0
