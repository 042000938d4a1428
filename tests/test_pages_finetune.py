"""The Fine-tuning page without a browser: cold, and a journey through training and its result."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_generators import gpt2
from test_pages import (
    _forget,
    _fresh_visitor,  # noqa: F401 (a fixture, used by being here)
    ask,
    me,
    press,
    ran,
    shown,
    start,
)
from tiny_models import dpr

from ragdemo import pipeline
from ragdemo.errors import LimitReached
from ragdemo.training import saved
from ragdemo.training.versus import ARMS, Arm, Said, Versus
from ragdemo.ui import cache, running, tuned, tuning, versus
from ragdemo.ui.state import Tuning

PAGE = "pages/finetune.py"


@pytest.fixture(autouse=True)
def _one_trains_at_a_time():
    """A training of the test before may still hold the machine for a moment."""
    assert cache.heavy().acquire(timeout=20)
    cache.heavy().release()


def trained(steps: int = 40) -> AppTest:
    app = start(PAGE)
    app.slider(key="tune-steps-head").set_value(steps)
    return press(app, "Train")


def test_it_starts_cold_and_says_what_there_is_to_learn_from() -> None:
    app = start(PAGE)
    assert app.title[0].value == "Fine-tuning"
    assert "questions have an answer with a known place" in shown(app)
    assert not me(app).results


def test_a_head_is_trained_tried_used_saved_loaded_and_undone() -> None:
    app = trained()
    lab = me(app).results[tuning.KIND]
    assert lab.news.over
    assert len(lab.news.losses) == 40
    assert lab.news.losses[-1] < lab.news.losses[0]
    assert lab.news.trained.verdict in shown(app)
    assert len(app.get("vega_lite_chart")) >= 2

    app = press(app, "Compare before and after")
    made = me(app).results[tuned.MADE]
    assert {"#### Untrained", "#### Fine-tuned"} <= {m.value for m in app.markdown}
    base = me(app).corpus
    app = press(app, "Use it on every page")
    mine = me(app).corpus
    assert mine.encoder is made.after.encoder
    assert mine.fingerprint != base.fingerprint
    assert [c.id for c in mine.chunks] == [c.id for c in base.chunks]
    assert mine.encoder.name in shown(app)

    asked = ask(start("pages/ask.py"), "How soon must I report a lost work phone?")
    assert me(asked).last.settings["encoder"] == mine.encoder.name
    assert me(asked).last.hits[0].chunk.document_name == "mobile-phone-policy.pdf"

    data = saved.packed(made.model, made.trained, small=True)
    assert len(data) < 2**20
    again = saved.unpacked(data, cache.shared().encoder)
    np.testing.assert_array_equal(again.matrix, made.model.matrix)

    app = press(start(PAGE), "Back to the untrained models")
    assert me(app).corpus.encoder is cache.shared().encoder
    np.testing.assert_array_equal(me(app).corpus.vectors, base.vectors)


def test_samples_brought_back_are_read_by_the_encoder_in_use() -> None:
    app = press(trained(20), "Compare before and after")
    app = press(app, "Use it on every page")
    mine = me(app).corpus
    key = next(iter(mine.documents))
    before = mine.vectors_of(key).copy()
    mine.remove(key)
    cache.shared().give(mine, key, cache.shared().indexed(mine.chunking))
    # rounding of bf16 batches aside, the same vectors, and not the untrained ones
    np.testing.assert_allclose((mine.vectors_of(key) * before).sum(1), 1, atol=0.01)
    assert mine.originals[key] == cache.shared().files[key]


def test_dprs_towers_are_trained_and_answer(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(tuning.MEMORY, tuning.DPR, 0.0)
    app = start(PAGE)
    questions, passages = dpr(tmp_path)
    me(app).tuning = Tuning(questions=questions, passages=passages)
    app.selectbox(key="tune-what").set_value(tuning.DPR)
    app.run().slider(key="tune-steps-dpr").set_value(5)
    app = press(app, "Train")
    lab = me(app).results[tuning.KIND]
    assert lab.news.over
    assert lab.corpus.encoder.name == f"dpr {questions} + {passages}"
    app = press(press(app, "Compare before and after"), "Use it on every page")
    assert {"#### Untrained", "#### Fine-tuned"} <= {m.value for m in app.markdown}
    mine = me(app).corpus
    assert mine.encoder.similarity == "dot"
    asked = ask(start("pages/ask.py"), "How soon must I report a lost work phone?")
    assert me(asked).last.settings["encoder"] == mine.encoder.name
    assert len(me(asked).last.hits) == 5
    press(start(PAGE), "Back to the untrained models")
    assert me(app).corpus.encoder is cache.shared().encoder


def test_a_pair_that_cannot_be_had_says_so(monkeypatch) -> None:
    monkeypatch.setitem(tuning.MEMORY, tuning.DPR, 0.0)
    app = start(PAGE)
    me(app).tuning = Tuning(questions="/nowhere/q", passages="/nowhere/p")
    app.selectbox(key="tune-what").set_value(tuning.DPR)
    app = press(app.run(), "Train")
    assert "/nowhere/q" in shown(app)
    assert "Choose another" in shown(app)


def test_a_passage_can_be_marked_as_the_answer() -> None:
    app = start(PAGE)
    app.text_input(key="mark-question").set_value("Who may borrow a handset?")
    app = app.run()
    app = press(app, "This one answers it")
    (pair,) = me(app).marked
    assert pair.question == "Who may borrow a handset?"
    assert pair.gold in me(app).corpus.chunks
    assert "Marked so far: 1" in shown(app)


def begin(visitor, what: str, plan: tuning.Plan, asked=None, **order) -> None:
    """Train on these questions, a dozen from all documents unless given, as the page would."""
    asked = cache.sample_set()[::12] if asked is None else asked
    pairs = tuple(tuning.from_questions(asked, visitor.corpus))
    wanted = tuning.Order(what, pairs, plan, **order)
    running.start(visitor, tuning.KIND, partial(tuning._trained, visitor, wanted))


def test_a_training_stopped_early_keeps_what_it_has() -> None:
    app = start(PAGE)
    visitor = me(app)
    app.selectbox(key="tune-what").set_value(tuning.CLOSED)
    app = app.run()
    begin(visitor, tuning.HEAD, tuning.Plan(steps=500, rate=1e-4), cache.sample_set()[:30])
    while visitor.job.work.last is None or visitor.job.work.last.news.step < 3:
        time.sleep(0.01)
        assert not visitor.job.work.ended
    running.stop(visitor)
    lab = visitor.results[tuning.KIND]
    assert 3 <= lab.news.step < 500
    assert lab.news.trained.stopped
    assert lab.news.trained.make().dimension == 384


def answer_of(corpus) -> str:
    question = "How soon must I report a lost work phone?"
    return pipeline.compare(question, corpus, cache.shared().generator).grounded.text


def test_others_answer_as_before_while_one_trains() -> None:
    """The shared models are the same objects with the same weights; answers go on."""
    app = start("pages/ask.py")
    shared = cache.shared()
    before = shared.encoder.encode_queries(["How many days of leave?"])
    answered = answer_of(me(app).corpus)
    weights = [p.clone() for p in shared.generator._generator._model.parameters()]
    visitor = me(app)
    begin(visitor, tuning.JOINT, tuning.Plan(steps=3, rate=1e-3), cache.sample_set())
    while visitor.job.work.last is None or visitor.job.work.last.news.step < 1:
        time.sleep(0.05)
        assert not visitor.job.work.ended
    during = shared.encoder.encode_queries(["How many days of leave?"])
    np.testing.assert_array_equal(before, during)
    assert answer_of(visitor.corpus) == answered
    running.stop(visitor)
    assert not visitor.problems
    for one, other in zip(weights, shared.generator._generator._model.parameters(), strict=True):
        assert one.equal(other)


def test_only_one_trains_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(tuning, "TURN", 0.1)
    app = start(PAGE)
    with cache.heavy():
        app = press(app, "Train")
    assert tuning.BUSY in shown(app)


@pytest.mark.parametrize("what", [tuning.ENCODER, tuning.GENERATOR, tuning.JOINT])
def test_a_training_leaves_the_machine_within_a_second_of_stop(what: str) -> None:
    app = start(PAGE)
    visitor = me(app)
    begin(visitor, what, tuning.Plan(steps=50, rate=1e-5))
    while visitor.job.work.last is None:  # measured once; now it is in its first step
        time.sleep(0.02)
        assert not visitor.job.work.ended
    running.stop(visitor)
    assert cache.heavy().acquire(timeout=1)
    cache.heavy().release()


@pytest.mark.parametrize("what", [tuning.GENERATOR, tuning.JOINT, tuning.JOINT_ENCODER])
def test_a_generator_is_trained_compared_used_and_undone(what: str) -> None:
    app = start(PAGE)
    visitor = me(app)
    begin(visitor, what, tuning.Plan(steps=1, rate=1e-4))
    while not visitor.job.work.ended:
        time.sleep(0.05)
    app = app.run()
    weighing = "**p(passage | question) of one held-out question**"
    assert (weighing in [m.value for m in app.markdown]) == (what != tuning.GENERATOR)
    app = press(app, "Compare before and after")
    made = visitor.results[tuned.MADE]
    assert made.generator._generator._encoder is not None  # weighs sentences as the untrained does
    said = [m.value for m in app.markdown]
    assert "**Untrained, with 5 passages**" in said
    assert ("**p(passage | question), the retriever's own distribution**" in said) == (
        what != tuning.GENERATOR
    )
    app = press(app, "Use it on every page")
    assert visitor.generator is made.generator
    asked = ask(start("pages/ask.py"), "How soon must I report a lost work phone?")
    assert me(asked).last.grounded.model.endswith(", fine-tuned")
    press(start(PAGE), "Back to the untrained models")
    assert visitor.generator is None
    assert visitor.corpus.encoder is cache.shared().encoder


def test_a_document_that_goes_meanwhile_changes_nothing_that_was_trained() -> None:
    app = press(trained(20), "Compare before and after")
    visitor = me(app)
    made = visitor.results[tuned.MADE]
    count = len(made.before.chunks)
    visitor.corpus.remove(next(iter(visitor.corpus.documents)))
    ran(app.run())
    assert len(made.before.chunks) == len(made.after.chunks) == count


def test_a_hugging_face_generator_is_trained_and_used_in_its_own_place(tmp_path) -> None:
    gpt2(tmp_path)
    folder = str(tmp_path)
    app = start(PAGE)
    visitor = me(app)
    hub = visitor.generator = cache.hub_generator(folder)
    assert tuning._bytes(hub) == 4 * sum(p.numel() for p in hub._generator._model.parameters())
    begin(visitor, tuning.CLOSED, tuning.Plan(steps=1, rate=1e-3), hub=folder)
    while not visitor.job.work.ended:
        time.sleep(0.05)
    running.stop(visitor)
    model = visitor.results[tuning.KIND].news.trained.make()
    made = replace(tuned._ready(model, visitor.corpus, running.Reins()), hub=folder)
    tuned.use(visitor, made)
    assert visitor.generator is made.generator is not hub
    assert visitor.tuned is None  # the bundled one stays as it is
    assert tuned.in_use(visitor) == [made.generator.name]


def test_a_large_model_needs_room_for_all_that_training_keeps(monkeypatch) -> None:
    monkeypatch.setattr(tuning, "available", lambda: 4 * 2**30)
    tuning.check_memory(tuning.GENERATOR)
    tuning.check_memory(tuning.GENERATOR, 0.5e9, lora=True)
    with pytest.raises(LimitReached, match="GB of memory"):
        tuning.check_memory(tuning.GENERATOR, 2e9)


def test_a_training_without_room_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(tuning, "available", lambda: 700 * 2**20)
    with pytest.raises(LimitReached, match="linear head"):
        tuning.check_memory(tuning.ENCODER)
    tuning.check_memory(tuning.HEAD)


def test_training_ends_for_a_visitor_who_left() -> None:
    app = start(PAGE)
    left = me(app)
    ended = threading.Event()

    def forever(reins):
        while not reins.cancelled.is_set():
            time.sleep(0.01)
            yield 1
        ended.set()

    running.start(left, tuning.KIND, forever)
    AppTest.from_function(_forget).run()
    assert ended.wait(5)


def four(stale: float, reached: bool = True) -> Versus:
    def said(group: str, value: float, new: float = 0.0) -> Said:
        return Said(group, "Q?", "A.", "A.", value, new, stale, reached)

    arms = tuple(
        Arm(
            name,
            (said("learnt", 0.9), said("held out", 0.3), said("other", 0.5),
             said("changed", 0.5, float(name.startswith("RAG")))),
            60.0 if "fine" in name else 0.0, 0.5, 64.0,
        )
        for name in ARMS
    )  # fmt: skip
    return Versus(("a.pdf",), 8, arms, (("Q?", "27 days", "29 days"),), 0.4)


def test_each_claim_stands_beside_its_number() -> None:
    lines = versus.claims(four(stale=1.0))
    assert len(lines) == 8
    assert "8 learnt questions moved closed-book F1 on held-out ones from 0.30 to 0.30" in lines[4]
    assert (
        ": nothing to tell it by here. F1 0.57 on the 3 questions whose passage was found, all of"
        in lines[5]
    )
    missed = versus.claims(four(stale=1.0, reached=False))[5]
    assert (
        ": nothing to tell it by here. F1 0.00 on the 0 questions whose passage was found, 0.57 on"
        in missed
    )
    assert "so here. Closed-book F1 0.90 on learnt questions, 0.30" in lines[0]
    assert ": so here. Of 1 changed answers the closed-book model gives 1 old" in lines[1]
    assert ": not so here." in versus.claims(four(stale=0.0))[1]
    table = versus.table(four(1.0))
    assert list(table["way"]) == list(ARMS)
    assert list(table["training"]) == ["none", "60.0 s", "none", "60.0 s"]


def test_the_four_are_drawn_at_every_step_and_a_question_is_chosen_after_the_last() -> None:
    app = start(PAGE)

    def steps(_reins):
        whole = four(stale=1.0)
        for n in range(1, 5):
            time.sleep(0.3)
            yield replace(whole, arms=whole.arms[:n], doing="" if n == 4 else "the next")

    running.start(me(app), versus.KIND, steps)
    app = app.run(timeout=60)
    assert not app.exception
    assert app.selectbox(key="versus-example").options == [
        f"{a.group}: Q?" for a in four(1.0).arms[0].said
    ]


def test_too_few_questions_cannot_be_compared() -> None:
    app = start(PAGE)
    app.multiselect(key="versus-documents").set_value([])
    app = app.run()
    assert next(b for b in app.button if b.label == "Run all four").disabled
