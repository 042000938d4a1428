"""The Evaluate page without a browser: cold, and a journey through each of its parts."""

from __future__ import annotations

import csv
import io
import threading
import time

from samples import PHONES, document
from streamlit.testing.v1 import AppTest
from test_pages import (
    NASTY,
    _forget,
    _fresh_visitor,  # noqa: F401 (a fixture, used by being here)
    me,
    press,
    ran,
    shown,
    start,
    upload,
)

from ragdemo.evaluation import humane, record
from ragdemo.evaluation.rooms import Rooms
from ragdemo.ui import cache, evalarms, evalrun, running

PAGE = "pages/evaluate.py"
SET = (
    "id,question,answer,short,file,pages,answerable,kind\n"
    "lost,How soon must a lost or stolen phone be reported?,,24 hours|two hours|one hour,"
    "mobile-phone-policy.pdf,2,yes,plain\n"
    "stretch,How many days of annual leave may I take in one stretch?,At most 15 working days of "
    "annual leave may be taken in one stretch.,15 working days,annual-leave-policy.pdf,2,yes,"
    "plain\n"
    "pets,May I bring my dog to the office?,,,,,no,unanswerable\n"
)


def charts(app) -> int:
    return len(app.get("vega_lite_chart"))


def go(app, questions: int | None = None):
    """Run the set chosen to its end."""
    if questions:
        next(s for s in app.slider if s.label == "Questions to ask").set_value(questions)
        app = ran(app.run())
    return press(app, next(b.label for b in app.button if b.key == "eval-go"))


def small(page: str = PAGE):
    return upload(start(page), ("mine.csv", SET.encode()))


def last(app) -> evalrun.Ran:
    return me(app).results["evaluate"]


def test_cold_it_says_what_it_would_do() -> None:
    app = start(PAGE)
    assert app.title[0].value == "Evaluate"
    assert "the samples' questions. 154 questions: 126 with an accepted answer" in shown(app)
    assert "20 questions × 2 arms: 40 answers to write." in [c.value for c in app.caption]
    assert [t.label.split(": ")[-1] for t in app.tabs] == [
        "Run", "Results", "Faults", "People rate", "Report"
    ]  # fmt: skip


def test_a_run_its_results_faults_and_report() -> None:
    app = go(small())
    found = last(app)
    assert (found.standing.done, found.standing.of) == (6, 6)
    assert found.record.lines[0].arm == "no retrieval"
    assert charts(app) >= 6
    assert "Right answers: no retrieval " in shown(app)
    table = next(d.value for d in app.dataframe if "retrieval less no retrieval" in d.value)
    assert list(table["metric"][:2]) == ["Answer contains", "Exact match"]
    faults = found.record.faults
    assert {f.result.arm for f in faults} >= {"no retrieval"}
    listed = next(d.value for d in app.dataframe if "evidence" in d.value)
    assert len(listed) == len(faults)
    assert faults[0].asked.question in shown(app)
    labels = {b.label for b in app.get("download_button")}
    assert {"Report as HTML", "Answers as CSV", "Everything as JSON"} <= labels
    rows = list(csv.DictReader(io.StringIO(record.to_csv(found.record))))
    assert len(rows) == 6


def test_faults_are_filtered_and_one_is_taken_apart() -> None:
    app = go(small())
    app.selectbox(key="fault-kind").set_value("nothing to go by")
    app = ran(app.run())
    listed = next(d.value for d in app.dataframe if "evidence" in d.value)
    assert set(listed["fault"]) == {"nothing to go by"}
    said = shown(app)
    fault = next(f for f in last(app).record.faults if f.kind == "nothing to go by")
    both = [r.answer for r in last(app).standing.results if r.id == fault.asked.id]
    assert len(both) == 2
    assert all(answer.split(".")[0] in said for answer in both)
    assert "from the question alone" in said


def test_a_stopped_run_keeps_what_it_has_and_goes_on() -> None:
    app = start(PAGE)
    visitor = me(app)
    begun = threading.Event()

    def half(reins):
        bench = evalarms.bench(visitor, reins)
        whole = cache.sample_set()[:3]
        arms = [evalarms._here(visitor, arm) for arm in evalarms.USUAL]
        plan = evalrun.plan(cache.sample_set(), arms, visitor.corpus.fingerprint, visitor.decoding)
        going = evalrun.run(whole, arms, bench)
        next(going)
        standing = next(going)
        yield evalrun.Ran("half", tuple(whole), tuple(arms), visitor.decoding, visitor.corpus,
                          plan, standing)  # fmt: skip
        begun.set()
        while not reins.cancelled.is_set():
            time.sleep(0.01)

    running.start(visitor, "evaluate", half)
    assert begun.wait(60)
    running.stop(visitor)
    app = start(PAGE)
    assert any("Stopped. What was finished is kept" in c.value for c in app.caption)
    assert last(app).record is not None  # summed up all the same
    assert {r.arm for r in last(app).standing.results} == {"retrieval"}
    app = ran(next(s for s in app.slider if s.label == "Questions to ask").set_value(3).run())
    assert any(b.label == "Go on" for b in app.button)


def test_a_longer_run_asks_only_what_is_new() -> None:
    app = go(small(), 2)
    assert last(app).standing.done == 4
    before = {r.key: r for r in last(app).standing.results}
    next(s for s in app.slider if s.label == "Questions to ask").set_value(3)
    app = ran(app.run())
    # the smaller draw lies within the larger one
    assert "4 are there from before" in " ".join(c.value for c in app.caption)
    app = press(app, "Go on")
    after = {r.key: r for r in last(app).standing.results}
    assert len(after) == 6
    assert all(after[key] is result for key, result in before.items())
    assert not any(b.label == "Go on" for b in app.button)


def test_presets_and_an_arm_of_ones_own() -> None:
    app = start(PAGE)
    corpus = me(app).corpus
    for document_id in list(corpus.documents):
        corpus.remove(document_id)
    corpus.add(document("phones.md", PHONES))  # quickly cut anew
    rows = (
        "question,short,file,pages\nHow soon must a lost phone be reported?,24 hours,phones.md,1\n"
    )
    app = upload(app, ("mine.csv", rows.encode()))
    app.radio(key="eval-preset").set_value("Three chunk lengths")
    app = go(ran(app.run()))
    found = last(app)
    assert [line.arm for line in found.record.lines] == ["40 tokens", "100 tokens", "200 tokens"]
    lengths = {
        r.arm: max(len(h.chunk.text) for h in r.hits) for r in found.standing.results if r.hits
    }
    assert lengths["40 tokens"] < lengths["200 tokens"]
    app.radio(key="eval-preset").set_value("Your own")
    app = ran(app.run())
    next(f for f in app.text_input if f.label == "Name").set_value("words only")
    next(s for s in app.selectbox if s.label == "Passages found by").set_value("bm25")
    app = press(app, "Add this arm")
    assert [arm.name for arm in me(app).arms] == ["no retrieval", "retrieval", "words only"]
    assert me(app).arms[-1].retriever == "bm25"
    next(f for f in app.text_input if f.label == "Name").set_value("words only")
    app = press(app, "Add this arm")
    assert "there is an arm of this name already" in shown(app)


def test_questions_made_by_clicking_the_passage() -> None:
    app = start(PAGE)
    app.text_input(key="made-question").set_value("How soon must a lost phone be reported?")
    app.text_input(key="made-short").set_value("two hours | 2 hours")
    app = ran(app.run())
    assert "mobile-phone-policy.pdf" in shown(app)
    app = ran(app.button(key="made-1").click().run())
    (made,) = me(app).made
    assert made.short == ("two hours", "2 hours")
    assert made.pages
    assert app.text_input(key="made-question").value == ""
    app.text_input(key="made-question").set_value("Which pets?")
    app = ran(ran(app.run()).button(key="made-none").click().run())
    assert [q.answerable for q in me(app).made] == [True, False]
    app = press(app, "Use these 2 questions")
    assert "questions made here. 2 questions" in shown(app)


def test_suggested_questions_can_be_used() -> None:
    app = start(PAGE)
    app.slider(key="suggest-count").set_value(5)
    app = press(ran(app.run()), "Suggest questions")
    found = me(app).results["suggest"]
    assert len(found.kept) == 5
    app = press(app, "Use these questions")
    assert "suggested from your documents. 5 questions" in shown(app)
    assert me(app).questions[1] == list(found.kept)


def rate(app, better: str = "left"):
    """Vote on the item shown."""
    turn = len(me(app).rating.votes)
    app.radio(key=f"better-{turn}").set_value(better)
    app.radio(key=f"label-{turn}-0").set_value("right")
    app.radio(key=f"label-{turn}-1").set_value("both")
    app.select_slider(key=f"accuracy-{turn}-0").set_value(5)
    return press(app, "Vote")


def test_answers_are_rated_blind_and_alone() -> None:
    app = go(small())
    app.slider(key="rate-count").set_value(2)
    app = press(ran(app.run()), "Rate them here, alone")
    items = me(app).rating.items
    assert len(items) == 2
    said = shown(app)
    assert items[0].question in said
    assert "left was" not in said  # the arms are hidden until the vote
    app = press(app, "Vote")
    assert "Say of both answers" in shown(app)
    assert not me(app).rating.votes
    app = rate(app)
    assert f"left was {items[0].arms[0]}, right was {items[0].arms[1]}" in shown(app)
    app = rate(app, "same")
    assert [s.value for s in app.success] == ["That was all. Thank you."]
    votes = list(me(app).rating.votes.values())
    assert [v.better for v in votes] == ["left", "same"]
    assert votes[0].sides[0].scales == (3, 3, 5)
    assert humane.preference(items, votes, items[0].arms).wins == (1, 0)
    assert any("Spearman" in c.value for c in app.caption)
    app = press(app, "Rate others")
    assert me(app).rating.items == []


def test_a_room_needs_a_press_and_another_visitor_sees_only_what_is_in_it() -> None:
    app = go(small())
    rooms: Rooms = cache.rooms()
    assert any("everybody who has its code" in m.value for m in app.markdown)
    app = ran(app.button(key="room-open").click().run())
    host = me(app).rating
    assert host.key
    assert any(host.code in m.value for m in app.markdown)
    app = rate(app)
    AppTest.from_function(_forget).run()  # another visitor
    guest = start(PAGE)
    assert me(guest).rating.items == []
    guest.text_input(key="room-code").set_value("NOPE22")
    guest = press(ran(guest.run()), "Join")
    assert "There is no room with this code" in shown(guest)
    guest.text_input(key="room-code").set_value(host.code.lower())
    guest = press(ran(guest.run()), "Join")
    assert me(guest).rating.rater == "rater 2"
    assert me(guest).rating.items == host.items
    assert not me(guest).rating.key
    guest = rate(guest, "right")
    assert [v.better for v in rooms.seen(host.code).votes] == ["left", "right"]
    assert not any(s.value == "What the raters said" for s in guest.subheader)
    rooms.close(host.code, host.key)
    guest = ran(guest.run())
    assert "There is no room with this code" in shown(guest)


def test_nothing_untrusted_is_markdown_here() -> None:
    rows = f'question,answer,short,kind\n"elephant {NASTY}","{NASTY.replace(chr(34), "")}",,"{NASTY.replace(chr(34), "")}"\n'  # noqa: E501
    rows += "What is form HR-14 for?,To work remotely.,,plain\n"
    app = upload(start(PAGE), (f"{NASTY[:20]}.csv", rows.encode()))
    app = go(app)
    app = press(app, "Rate them here, alone")
    app = rate(app)
    assert "127.0.0.1" in shown(app)
    for kind in ("markdown", "caption", "subheader", "title", "button", "info", "expander",
                 "success", "tab"):  # fmt: skip
        for node in app.get(kind):
            said = f"{getattr(node, 'value', '')} {getattr(node, 'label', '')}"
            assert "127.0.0.1" not in said, (kind, said)


def test_no_documents_no_figures_about_passages() -> None:
    app = small()
    visitor = me(app)
    for document_id in list(visitor.corpus.documents):
        visitor.corpus.remove(document_id)
    app = go(ran(app.run()))
    assert last(app).standing.done == 6
    assert "recall" not in last(app).record.lines[0].means
    assert {f.kind for f in last(app).record.faults} <= {"gold is odd", "should have refused"}
