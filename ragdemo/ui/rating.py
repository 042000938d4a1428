"""People rate blind pairs: alone on this page, or many in a room with a code."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from ragdemo.errors import RagdemoError
from ragdemo.evaluation import humane
from ragdemo.evaluation.humane import CHOICES, LABELS, STEPS, Item, Side, Vote
from ragdemo.evaluation.metrics import METRICS, SCALES
from ragdemo.evaluation.rooms import HOURS, ITEMS, Rooms, Seen
from ragdemo.ui import cache, drawn, evalrun, ratings, running
from ragdemo.ui.state import Rating, Visitor

SIDES = {"left": "The left one", "same": "Equally good or bad", "right": "The right one"}


def section(me: Visitor, board: running.Board) -> None:
    """Begin, join, rate, and see what came out."""
    rating = me.rating
    if not rating.items:
        if board.busy(evalrun.KIND):
            st.empty().caption("Answers can be rated when the run has ended or was stopped.")
            return
        _begin(me)
        return
    try:
        seen = cache.rooms().seen(rating.code) if rating.code else None
    except RagdemoError as problem:  # closed, or its hours are over; one's own votes stay
        drawn.problem(problem)
        rating.code = rating.key = ""
        seen = None
    _head(me, seen)
    _rate(me)
    if not rating.code or rating.key:
        ratings.show(me, _votes(rating, seen))


def _votes(rating: Rating, seen: Seen | None) -> list[Vote]:
    return list(seen.votes) if seen else [*rating.votes.values()]


# -- beginning


def _begin(me: Visitor) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("#### Rate answers of your last run")
        _host(me)
    with right:
        st.markdown("#### Join a room")
        st.caption("Somebody else opened it and told you its code of six letters.")
        code = st.text_input("Code", max_chars=12, key="room-code")
        if st.button("Join", icon=":material/login:", key="room-join", disabled=not code.strip()):
            try:
                _joined(me, cache.rooms(), code)
            except RagdemoError as problem:
                drawn.problem(problem)
            else:
                st.rerun()


def _joined(me: Visitor, rooms: Rooms, code: str) -> None:
    code, rater = rooms.join(code)
    me.rating = Rating(list(rooms.seen(code).items), {}, rater, code)


def _host(me: Visitor) -> None:
    ran = evalrun.last(me)
    arms = [line.arm for line in ran.record.lines] if ran else []
    if len(arms) < 2:
        st.caption("Run a question set on two arms first: press “Run” in the first tab.")
        return
    first = st.selectbox("One arm", arms, 0, key="rate-first")
    second = st.selectbox("Against", [a for a in arms if a != first], 0, key="rate-second")
    count = st.slider("Questions to rate", 1, 30, 8, key="rate-count", persist_state="session")
    seed = st.number_input(
        "Seed of the draw", 0, 10**6, 1, key="rate-seed",
        help="Decides which questions come, in which order, and who stands left.",
    )  # fmt: skip
    found = humane.items(
        ran.asked, ran.standing.results, (first, second), count=min(count, ITEMS), seed=int(seed)
    )
    if st.button("Rate them here, alone", icon=":material/person:", key="rate-alone",
                 disabled=not found):  # fmt: skip
        me.rating = Rating(found)
        st.rerun()
    with st.container(border=True):
        st.markdown(":orange[:material/warning:] **A room is open to everybody who has its code.**")
        st.caption(
            "They can read these questions, both answers and the passages shown with them, so open "
            "none with documents that they may not see. It lives in this app's memory only and is "
            f"gone when you close it, or after {HOURS:.0f} hours."
        )
        if st.button(f"Open a room with these {len(found)} questions", icon=":material/groups:",
                     key="room-open", disabled=not found):  # fmt: skip
            try:
                code, key = cache.rooms().open(found)
                _joined(me, cache.rooms(), code)
            except RagdemoError as problem:
                drawn.problem(problem)
            else:
                me.rating.key = key
                st.rerun()


def _head(me: Visitor, seen: Seen | None) -> None:
    rating = me.rating
    with st.container(horizontal=True, vertical_alignment="center"):
        if seen:
            st.markdown(f"## :blue[{rating.code}]", width="content")
            st.caption(
                f"Raters: {seen.raters}. Votes so far: {len(seen.votes)}. Open for another "
                f"{seen.left / 3600:.1f} hours. You are {rating.rater}."
            )
            st.button("Look again", icon=":material/refresh:", key="room-look")
        if seen and rating.key:
            done = st.button("Close the room", icon=":material/lock:", key="room-close",
                             help="Its questions and votes are gone then.")  # fmt: skip
        else:
            done = st.button("Leave" if seen else "Rate others", icon=":material/logout:",
                             key="rate-leave")  # fmt: skip
    if done:
        if rating.key:
            cache.rooms().close(rating.code, rating.key)
        me.rating = Rating()
        st.rerun()


# -- rating


def _rate(me: Visitor) -> None:
    rating = me.rating
    left = [item for item in rating.items if item.id not in rating.votes]
    done = len(rating.items) - len(left)
    st.progress(done / len(rating.items), f"{done} of {len(rating.items)} rated")
    if rating.votes:
        _revealed(rating)
    if not left:
        st.success("That was all. Thank you.", icon=":material/check_circle:")
        return
    item = left[0]
    drawn.text(item.question, look="title")
    drawn.text(f"Expected: {item.expected or 'nothing is known'}", look="small quiet")
    with st.form(f"rate-{done}", border=False):
        sides = []
        for at, column in enumerate(st.columns(2, gap="medium")):
            with column, st.container(border=True):
                st.markdown(f"#### {('Left', 'Right')[at]}")
                drawn.text(item.answers[at] or "Nothing was written.")
                sides.append(_side(at, done))
        better = st.radio("Which answer is better?", CHOICES, 1, format_func=SIDES.get,
                          horizontal=True, key=f"better-{done}")  # fmt: skip
        sent = st.form_submit_button("Vote", icon=":material/how_to_vote:", type="primary")
    _passages(item)
    if sent and None in sides:
        drawn.problem("Say of both answers which of the three they are, then vote.")
    elif sent:
        vote = Vote(item.id, rating.rater, better, tuple(sides))
        try:
            if rating.code:
                cache.rooms().vote(rating.code, vote)
        except RagdemoError as problem:
            drawn.problem(problem)
            return
        me.rating = replace(rating, votes={**rating.votes, item.id: vote})
        st.rerun()


def _side(at: int, turn: int) -> Side | None:
    """None where no label was chosen yet."""
    # nothing is chosen before: what stands there first is chosen most
    label = st.radio("Answer and passage", list(LABELS), None, format_func=LABELS.get,
                     key=f"label-{turn}-{at}")  # fmt: skip
    scales = [
        st.select_slider(METRICS[name].title, STEPS, 3, key=f"{name}-{turn}-{at}",
                         help=f"{METRICS[name].says} Not seen by it: {METRICS[name].blind}")
        for name in SCALES
    ]  # fmt: skip
    return Side(label, tuple(scales)) if label else None


def _revealed(rating: Rating) -> None:
    """The arms of the vote just given."""
    item_id, vote = list(rating.votes.items())[-1]
    item = next(i for i in rating.items if i.id == item_id)
    drawn.text(
        f"Your last vote: left was {item.arms[0]}, right was {item.arms[1]}; you said: "
        f"{SIDES[vote.better].lower()}.",
        look="small quiet",
    )


def _passages(item: Item) -> None:
    if not item.passages:
        return
    st.caption(
        "Passages that were found for this question. One side, or neither, may have had them."
    )
    for file, text in item.passages:
        with st.container(border=True):
            drawn.text(file, look="small strong")
            drawn.text(text, look="small", clipped=True)
