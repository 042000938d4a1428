"""The Fine-tuning page without a browser: cold, and a journey through training and its result."""

from __future__ import annotations

import threading
import time
from functools import partial

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_pages import (
    _forget,
    _fresh_visitor,  # noqa: F401 (a fixture, used by being here)
    ask,
    me,
    press,
    shown,
    start,
)
from tiny_models import dpr

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


def test_a_training_stopped_early_keeps_what_it_has() -> None:
    app = start(PAGE)
    visitor = me(app)
    app.selectbox(key="tune-what").set_value(tuning.CLOSED)
    app = app.run()
    pairs = tuning.from_questions(cache.sample_set()[:30], visitor.corpus)
    plan = tuning.Plan(steps=500, rate=1e-4)
    order = tuning.Order(tuning.HEAD, tuple(pairs), plan)
    running.start(visitor, tuning.KIND, partial(tuning._trained, visitor, order))
    while visitor.job.work.last is None or visitor.job.work.last.news.step < 3:
        time.sleep(0.01)
        assert not visitor.job.work.ended
    running.stop(visitor)
    lab = visitor.results[tuning.KIND]
    assert 3 <= lab.news.step < 500
    assert lab.news.trained.stopped
    assert lab.news.trained.make().dimension == 384


def test_others_answer_as_before_while_one_trains() -> None:
    """The shared models are the same objects with the same weights; answers go on."""
    app = start("pages/ask.py")
    shared = cache.shared()
    before = shared.encoder.encode_queries(["How many days of leave?"])
    weights = [p.clone() for p in shared.generator._generator._model.parameters()]
    visitor = me(app)
    pairs = tuning.from_questions(cache.sample_set(), visitor.corpus)
    order = tuning.Order(tuning.JOINT, tuple(pairs), tuning.Plan(steps=3, rate=1e-3))
    running.start(visitor, tuning.KIND, partial(tuning._trained, visitor, order))
    while visitor.job.work.last is None and not visitor.job.work.ended:
        time.sleep(0.05)
    during = shared.encoder.encode_queries(["How many days of leave?"])
    np.testing.assert_array_equal(before, during)
    running.stop(visitor)
    for one, other in zip(weights, shared.generator._generator._model.parameters(), strict=True):
        assert one.equal(other)


def test_only_one_trains_at_a_time() -> None:
    app = start(PAGE)
    with cache.heavy():
        app = press(app, "Train")
    assert "Somebody else is training" in shown(app)


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


def four(stale: float) -> Versus:
    def said(group: str, value: float, new: float = 0.0) -> Said:
        return Said(group, "Q?", "A.", "A.", value, new, stale)

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
    assert len(lines) == 5
    assert "so here. Closed-book F1 0.90 on learnt questions, 0.30" in lines[0]
    assert ": so here. Of 1 changed answers the closed-book model gives 1 old" in lines[1]
    assert ": not so here." in versus.claims(four(stale=0.0))[1]
    table = versus.table(four(1.0))
    assert list(table["way"]) == list(ARMS)
    assert list(table["training"]) == ["none", "60.0 s", "none", "60.0 s"]


def test_too_few_questions_cannot_be_compared() -> None:
    app = start(PAGE)
    app.multiselect(key="versus-documents").set_value([])
    app = app.run()
    assert next(b for b in app.button if b.label == "Run all four").disabled
