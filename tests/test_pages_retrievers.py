"""The Retrievers page without a browser: cold, and a journey through each of its parts."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_pages import (
    NASTY,
    _forget,
    _fresh_visitor,  # noqa: F401 (a fixture, used by being here)
    ask,
    me,
    press,
    ran,
    shown,
    start,
    upload,
)

from ragdemo.errors import LimitReached
from ragdemo.evaluation.race import landed
from ragdemo.ui import costs, known, running
from ragdemo.ui.store import FOLDER

PAGE = "pages/retrievers.py"
PLAIN, PARAPHRASE, CODE = known.SAMPLES


def cards(app) -> list[dict]:
    """Every passage drawn in a ranking."""
    drawn = [json.loads(node.proto.json) for node in app.get("bidi_component")]
    return [card for data in drawn for card in data.get("cards", ())]


def places(app) -> dict[str, int | None]:
    """Where the answer landed with each retriever of the last race."""
    found = me(app).results["race"]
    answer = known.answer(me(app), found.question)
    return {run.name: landed(run, found.chunks, answer.holds) for run in found.runs}


def charts(app) -> int:
    return len(app.get("vega_lite_chart"))


def test_nobody_meets_an_empty_page() -> None:
    app = start(PAGE)
    found = me(app).results["race"]
    assert [run.name for run in found.runs] == ["bm25", "tfidf", "dense", "rrf"]
    assert all(run.done and len(run.hits) == 5 for run in found.runs)
    assert len(cards(app)) == 20
    assert charts(app) >= 7  # the flow, a strip each, overlap, time
    heads = {m.value for m in app.markdown}
    assert {"#### BM25", "#### Dense", "#### Words they share"} <= heads


def test_a_paraphrase_loses_words_and_a_code_loses_meaning() -> None:
    """What the buttons promise, with the real models."""
    app = press(start(PAGE), PLAIN.button)
    assert set(places(app).values()) == {1}
    app = press(app, PARAPHRASE.button)
    after = places(app)
    assert after["dense"] == 1
    assert after["bm25"] is None or after["bm25"] > 5
    assert after["tfidf"] is None or after["tfidf"] > 5
    app = press(app, CODE.button)
    after = places(app)
    assert after["bm25"] == 1
    assert after["dense"] is None or after["dense"] > 5
    assert CODE.question in shown(app)
    assert any(card["answers"] for card in cards(app))


def test_every_retriever_runs_and_one_out_of_reach_says_so() -> None:
    app = start(PAGE)
    fields = {field.label: field for field in app.text_input}
    fields["DPR: encoder of questions"].set_value("nobody-at-all/no-such-model")
    app.multiselect(key="racers").set_value(["dpr", "weighted", "mmr", "neighbours", "bm25"])
    app = press(app, "Race")
    runs = {run.name: run for run in me(app).results["race"].runs}
    assert set(runs) == {"dpr", "weighted", "mmr", "neighbours", "bm25"}
    assert "nobody-at-all" in runs["dpr"].problem
    assert runs["dpr"].problem in shown(app)
    assert all(run.hits for name, run in runs.items() if name != "dpr")


def test_settings_reach_the_retrievers() -> None:
    app = start(PAGE)
    before = {run.name: run.hits for run in me(app).results["race"].runs}
    app.slider(key="b").set_value(0.0)
    app.slider(key="k1").set_value(3.0)
    app.slider(key="race-k").set_value(3)
    app = press(app, "Race")
    after = {run.name: run.hits for run in me(app).results["race"].runs}
    assert {len(hits) for hits in after.values()} == {3}
    assert after["bm25"][0].score != before["bm25"][0].score
    assert after["dense"] == before["dense"][:3]


def test_the_words_of_a_passage_add_up_to_its_score() -> None:
    app = press(start(PAGE), PLAIN.button)
    found = me(app).results["race"]
    best = found.runs[0].hits[0]
    assert best.score == pytest.approx(sum(best.parts.values()), rel=1e-5)
    said = [c.value for c in app.caption]
    assert f"Together {best.score:.2f}, this passage's BM25 score." in said
    assert "Nearest: " in shown(app)


def test_a_question_set_is_measured_and_a_faulty_one_refused() -> None:
    app = start(PAGE)
    rows = (
        "question,file,pages\nWhen must a lost phone be reported?,mobile-phone-policy.pdf,2\n"
        "What is form HR-14 for?,remote-work-policy.pdf,1\nWho knows?,gone.pdf,1\n"
    )
    app = upload(app, ("mine.csv", rows.encode()))
    assert "mine.csv. 2 of its 3 questions" in shown(app)
    app.multiselect(key="racers").set_value(["bm25", "dense"])
    app = press(ran(app.run()), "Measure the retrievers chosen above")
    lines = {line.retriever: line for line in me(app).results["measure"].lines}
    assert list(lines["bm25"].values["recall@5"].values()) == [1.0, 1.0]
    table = next(d.value for d in app.dataframe if "recall@5" in d.value)
    assert list(table["retriever"]) == ["BM25", "Dense"]
    assert "(1.000–1.000)" in table["recall@5"][0]
    app = upload(app, ("bad.csv", b"question,pages\nWhere?,two\n"))
    assert "bad.csv was not taken" in shown(app)
    assert me(app).questions[0] == "mine.csv"


def test_two_chunkings_of_the_same_documents() -> None:
    app = press(start(PAGE), "Cut again and compare")
    found = me(app).results["cuts"]
    assert found.now.chunking == me(app).chunking
    assert found.other.chunking.tokens == 64
    assert found.other.passages > found.now.passages
    assert me(app).corpus.documents.keys() == found.corpus.documents.keys()
    assert found.other.run.hits[0].chunk.text in found.corpus.documents[
        found.other.run.hits[0].chunk.document_id
    ].text  # fmt: skip
    assert "#### 64 tokens, overlap 16" in {m.value for m in app.markdown}


def test_what_an_index_costs_and_what_is_too_much() -> None:
    app = press(start(PAGE), "Measure the indexes")
    found = me(app).results["costs"]
    assert [c.kind for c in found] == ["flat IP", "flat L2", "HNSW", "IVF", "PQ"]
    assert found[0].recall == 1.0
    assert str(len(me(app).corpus.chunks)) in shown(app)
    with pytest.raises(LimitReached, match="GB are free"):
        costs.check(10**9, 384)


def test_another_store_holds_the_vectors_and_lets_go_of_them() -> None:
    app = start(PAGE)
    app.selectbox(key="store").set_value("faiss HNSW")
    app = press(ran(app.run()), "Keep the vectors there")
    assert me(app).corpus.store.kind == "HNSW"
    pytest.importorskip("milvus_lite", reason='pip install "pymilvus>=3" "milvus-lite>=3"')
    app.selectbox(key="store").set_value("milvus")
    app = press(ran(app.run()), "Keep the vectors there")
    corpus = me(app).corpus
    assert corpus.store.name == "milvus"
    assert len(corpus.store) == len(corpus.chunks)
    file = Path(corpus.store._file)
    assert file.exists()
    assert file.parent.name.startswith(FOLDER)
    asked = ask(start("pages/ask.py"), PLAIN.question)
    assert me(asked).last.hits[0].chunk.document_name == "mobile-phone-policy.pdf"
    app = start(PAGE)
    app.selectbox(key="store").set_value("faiss flat IP")
    app = press(ran(app.run()), "Keep the vectors there")
    assert me(app).corpus.store.kind == "flat IP"
    assert not file.parent.exists()


def test_a_key_for_a_store_is_kept_nowhere() -> None:
    pytest.importorskip("pinecone", reason='pip install "pinecone>=10"')
    app = start(PAGE)
    app.selectbox(key="store").set_value("pinecone")
    ran(app.run())
    next(f for f in app.text_input if f.label == "Key").set_value("pc-very-secret")
    app = press(app, "Keep the vectors there")
    assert me(app).store is None  # refused, or out of reach
    assert "Pinecone" in shown(app)
    everything = shown(app) + repr(vars(me(app)))
    assert "pc-very-secret" not in everything


def test_nothing_untrusted_is_markdown_here() -> None:
    name = "![](http:__127.0.0.1:9_x).md"
    upload(start("pages/documents.py"), (name, f"# {NASTY}\n\n{NASTY} elephant".encode()))
    app = start(PAGE)
    field = next(f for f in app.text_input if f.label == "Question")
    field.set_value(f"elephant {NASTY}")
    app = press(app, "Race")
    assert any("127.0.0.1" in card["title"] for card in cards(app))
    for kind in ("markdown", "caption", "subheader", "title", "button", "info", "expander"):
        for node in app.get(kind):
            said = f"{getattr(node, 'value', '')} {getattr(node, 'label', '')}"
            assert "127.0.0.1" not in said, (kind, said)


def test_nothing_goes_on_for_a_visitor_who_left() -> None:
    app = start(PAGE)
    left = me(app)
    cancelled = threading.Event()

    def forever(reins):
        while not reins.cancelled.is_set():
            time.sleep(0.01)
            yield 1
        cancelled.set()

    running.start(left, "measure", forever)
    AppTest.from_function(_forget).run()
    assert cancelled.wait(5)
