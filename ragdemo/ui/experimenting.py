"""Experiments: predict, run, reveal. Recorded runs open at once; nothing here waits for a model
until somebody runs one live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import streamlit as st

from ragdemo.errors import RagdemoError
from ragdemo.experiments import EXPERIMENTS, Arm, Experiment, Record, from_json, recorded, to_json
from ragdemo.settings import Chunking
from ragdemo.ui import cache, drawn, running
from ragdemo.ui.state import Visitor

KEEP = {"persist_state": "session"}
APART, VIEW = "One question taken apart", "Experiments"
PARAMETER = "experiment"
HOW = {
    "recorded": ":blue-badge[:material/history: Recorded]",
    "live": ":green-badge[:material/play_circle: Run just now]",
    "opened": ":orange-badge[:material/upload_file: From a file]",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A run on the screen."""

    record: Record
    how: str  # a key of HOW


def chosen_view() -> str:
    """Which half of the page is open; a link to an experiment opens the second."""
    view = st.segmented_control(
        "View", [APART, VIEW], default=VIEW if _linked() else APART, required=True,
        key="pipeline-view", label_visibility="collapsed", **KEEP,
    )  # fmt: skip
    if view == APART:
        st.query_params.pop(PARAMETER, None)  # the address says what is on the screen
    return view


def _linked() -> str | None:
    name = st.query_params.get(PARAMETER)
    return name if name in EXPERIMENTS else None


def section(me: Visitor, board: running.Board) -> None:
    """One experiment, and a run of somebody else."""
    if opened := st.session_state.pop("experiment-opened", None):
        st.session_state["experiment-chosen"] = opened
    name = st.pills(
        "Experiment", list(EXPERIMENTS), default=_linked() or next(iter(EXPERIMENTS)),
        required=True, format_func=lambda one: EXPERIMENTS[one].title, key="experiment-chosen",
        label_visibility="collapsed", **KEEP,
    )  # fmt: skip
    st.query_params[PARAMETER] = name
    experiment = EXPERIMENTS[name]
    st.subheader(experiment.title, anchor=False)
    st.markdown(experiment.setup)
    drawn.runs([{"text": "The question: "}, {"text": experiment.question, "kinds": ["before"]}])
    prediction = st.radio(
        "What will happen? Choose before you look.", range(len(experiment.options)), index=None,
        format_func=lambda n: experiment.options[n], key=f"prediction-{name}", **KEEP,
    )  # fmt: skip
    kind = _kind(name)
    with st.container(horizontal=True):
        st.button(
            "Reveal", type="primary", icon=":material/visibility:", disabled=prediction is None,
            key=f"reveal-{name}", on_click=_reveal, args=(me, name),
            help="A run recorded with the bundled models. Nothing is loaded.",
        )  # fmt: skip
        st.button(
            "Run it live", icon=":material/play_arrow:", disabled=prediction is None,
            key=f"live-{name}", on_click=_run, args=(me, name),
            help="On the sample documents, with the generator chosen on the Ask page. The first "
            "time the models are loaded.",
        )  # fmt: skip
    if prediction is None and kind not in me.results:
        st.caption("A prediction opens both buttons. Being wrong is the better lesson.")
    body = board.place(kind, lambda shown: _draw(experiment, shown, prediction))
    if body is not None:
        shown = me.results.get(kind)
        with body:
            if shown:
                _draw(experiment, shown, prediction)
                _save(experiment, shown)
    _open(me)


def _kind(name: str) -> str:
    return f"experiment-{name}"


def _reveal(me: Visitor, name: str) -> None:
    try:
        me.results[_kind(name)] = Shown(recorded(name), "recorded")
    except (OSError, RagdemoError):
        me.problems[_kind(name)] = "The recorded run is missing or damaged. Run it live instead."


def _run(me: Visitor, name: str) -> None:
    me.results.pop(_kind(name), None)
    running.start(me, _kind(name), partial(_live, me, EXPERIMENTS[name]))


def _live(me: Visitor, experiment: Experiment, reins: running.Reins) -> Iterator[Shown]:
    shared = cache.shared()
    chosen = me.generator

    def updates() -> Iterator[Shown]:
        from ragdemo.experiments.lab import Lab

        while not shared.ready.wait(0.1):
            reins.tell(shared.stage, round(100 * shared.share), 100)
        if shared.problem:
            raise shared.problem
        reins.tell("Running", 1, 2)
        lab = Lab(shared.indexed(Chunking()), chosen or shared.generator)
        yield Shown(experiment.run(lab), "live")

    return updates()


# -- the reveal


def _draw(experiment: Experiment, shown: Shown, prediction: int | None) -> None:
    record = shown.record
    came = experiment.outcome(record)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(HOW[shown.how], width="content")
        drawn.text(_signature(record), look="small quiet")
    happened = f"What happened: **{experiment.options[came]}.**"
    if prediction is None:
        st.info(happened, icon=":material/visibility:")
    elif prediction == came:
        st.success(f"You saw it coming. {happened}", icon=":material/check_circle:")
    else:
        st.warning(
            f"You predicted: {experiment.options[prediction]}. {happened}",
            icon=":material/lightbulb:",
        )
    if record.question != experiment.question:
        drawn.text(f"Asked: {record.question}", look="small quiet")
    for start in range(0, len(record.arms), 2):
        for column, arm in zip(st.columns(2, gap="medium"), record.arms[start:], strict=False):
            with column.container(border=True):
                _arm(arm)
    if came == experiment.point:
        st.markdown(f"**Why.** {experiment.lesson}")
    else:
        st.markdown(
            "**Not what the bundled models do.** There it goes: "
            f"{experiment.options[experiment.point]}. {experiment.lesson}"
        )


def _signature(record: Record) -> str:
    weights = f" ({record.weights})" if record.weights else ""
    torch = record.versions.get("torch", "")
    return " · ".join(
        part
        for part in (
            record.made,
            record.generator + weights,
            record.encoder,
            f"torch {torch}" if torch else "",
            f"{record.seconds:.1f} s",
        )
        if part
    )


def _arm(arm: Arm) -> None:
    drawn.text(arm.title, look="strong")
    if arm.note:
        drawn.text(arm.note, look="small quiet")
    drawn.text(arm.answer or "–")
    if arm.refused:
        st.markdown(":gray-badge[says that the documents don't say]")
    elif arm.right:
        st.markdown(":green-badge[:material/check: holds what was looked for]")
    else:
        st.markdown(":red-badge[:material/close: does not hold it]")
    if not arm.read:
        st.caption("Nothing was given to read.")
        return
    holding = sum(read.holds for read in arm.read)
    count = len(arm.read)
    with st.expander(f"What it read: {count} {'passage' if count == 1 else 'passages'}"):
        st.caption(f"{holding} of them hold what was looked for.")
        for number, read in enumerate(arm.read, start=1):
            kinds = ["support"] if read.holds else []
            drawn.runs(
                [
                    {"text": f"{number} · "},
                    {"text": read.source, "kinds": kinds},
                    {"text": f" · {drawn.number(read.score)}"},
                ],
                look="small strong",
            )
            drawn.text(read.text, look="small", clipped=True)


# -- from class to class


def _save(experiment: Experiment, shown: Shown) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "This run as a file", partial(to_json, shown.record), f"{experiment.id}.json",
            "application/json", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
    address = urlsplit(st.context.url or "")
    if address.netloc:
        st.caption("A link that opens this experiment in another class:")
        page = f"{address.scheme}://{address.netloc}{address.path}"
        st.code(f"{page}?{PARAMETER}={experiment.id}", language=None, wrap_lines=True)


def _open(me: Visitor) -> None:
    with st.expander("Open a run from a file", icon=":material/upload_file:"):
        file = st.file_uploader(
            "A run saved here or in another class", type=["json"], key=f"run-{me.uploads}"
        )
        if file is None:
            return
        try:
            record = from_json(file.getvalue(), EXPERIMENTS)
        except RagdemoError as problem:
            drawn.problem(problem)
            return
        me.results[_kind(record.experiment)] = Shown(record, "opened")
        me.uploads += 1  # an empty uploader, so that the file is not opened at every run
        st.session_state["experiment-opened"] = record.experiment
        st.rerun()
