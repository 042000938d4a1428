"""The Pipeline page without a browser: every box, the question carried over, the experiments."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest
from test_pages import (
    NASTY,
    ROOT,
    _fresh_visitor,  # noqa: F401 (a fixture, used by being here)
    ask,
    me,
    press,
    ran,
    shown,
    start,
    upload,
)

from ragdemo.experiments import EXPERIMENTS, recorded, to_json
from ragdemo.ui import explained, glossary
from ragdemo.ui.asking import EXAMPLES

PAGE = "pages/pipeline.py"
QUESTION = "How long are backups of Quillmere drives kept?"


def flow(app: AppTest) -> dict:
    """What the diagram was given."""
    drawn = [json.loads(node.proto.json) for node in app.get("bidi_component")]
    return next(data for data in drawn if "boxes" in data)


def opened(app: AppTest) -> str:
    """The title of the open box."""
    return app.subheader[0].value.split(" · ")[-1]


def charts(app: AppTest) -> int:
    return len(app.get("vega_lite_chart"))


def experiments(name: str | None = None) -> AppTest:
    app = AppTest.from_file(str(ROOT / PAGE), default_timeout=180)
    if name:
        app.query_params["experiment"] = name
        return ran(app.run())
    app.run()
    return ran(app.segmented_control(key="pipeline-view").set_value("Experiments").run())


# -- one question taken apart


def depths(app: AppTest) -> None:
    box = explained.BOXES["question"]
    app.segmented_control(key="depth").set_value("In a paragraph")
    assert box.paragraph in [m.value for m in ran(app.run()).markdown]
    app.segmented_control(key="depth").set_value("As a formula")
    app = ran(app.run())
    assert len(app.latex) == 1
    assert any(box.formula.address in m.value for m in app.markdown)
    app = press(app, "Next")
    assert len(app.latex) == 1  # the depth stays


def test_every_box_opens_with_this_questions_data() -> None:
    app = start(PAGE)
    boxes = flow(app)["boxes"]
    assert [box["title"] for box in boxes] == [box.title for box in explained.BOXES.values()]
    figures = {box["id"]: box["figure"] for box in boxes}
    found = me(app).results["apart"]
    assert figures["question"] == EXAMPLES[1]
    assert figures["answer"] == found.comparison.grounded.text
    assert figures["chunks"].startswith(f"{len(me(app).corpus.chunks)} passages")
    assert all(figures.values())
    drawn_charts = []
    for number, box in enumerate(explained.BOXES.values()):
        assert opened(app) == box.title
        assert flow(app)["chosen"] == list(explained.BOXES)[number]
        assert box.sentence in [m.value.removeprefix("#### ") for m in app.markdown]
        drawn_charts.append(charts(app))
        app = press(app, "Next")
    assert drawn_charts == [0, 1, 1, 3, 1, 0, 0, 1, 2]
    assert opened(app) == "Question"  # round again
    assert "report" in shown(app)
    assert "3189" in shown(app)  # the id of "report" in BERT's vocabulary
    depths(app)


def test_a_retriever_of_words_and_a_stop_are_said() -> None:
    app = start("pages/ask.py")
    app.selectbox(key="retriever").set_value("bm25")
    ran(app.run())
    app = start(PAGE)
    found = me(app).results["apart"]
    assert found.comparison.settings["retriever"] == "bm25"
    stopped = replace(found, search=None, steps=None, alone=None, dropped=None)
    for anatomy, said in ((found, "Counts the words they share"), (stopped, "Stopped before")):
        me(app).results["apart"] = anatomy
        me(app).box = "index"
        app = ran(app.run())
        assert any(said in caption.value for caption in app.caption)
    for name in explained.BOXES:
        me(app).box = name
        app = ran(app.run())
        assert "no documents" not in " ".join(caption.value for caption in app.caption)


def test_the_steps_move_with_the_sliders() -> None:
    app = start(PAGE)
    app = press(app, "Back")
    app = press(app, "Back")
    assert opened(app) == "Generator"
    steps = me(app).results["apart"].steps
    slider = next(s for s in app.slider if s.label == "Step")
    least = min(range(len(steps)), key=lambda n: steps[n].likely[0].p)
    assert (slider.value, slider.max) == (least + 1, len(steps))
    assert f"p = {steps[least].chosen.p:.3f}" in app.caption[-2].value
    app.slider(key="look-temperature").set_value(0.1)
    app.slider(key="look-top-p").set_value(0.05)
    app = ran(app.run())
    assert app.caption[-2].value.startswith("1 token left")
    app.segmented_control(key="steps-of").set_value("Without retrieval")
    app = ran(app.run())
    slider = next(s for s in app.slider if s.label == "Step")
    assert slider.max == len(me(app).results["apart"].alone)


def test_a_question_asked_elsewhere_is_carried_over_without_asking_again() -> None:
    asked = ask(start("pages/ask.py"), QUESTION)
    last = me(asked).last
    app = start(PAGE)
    assert me(app).results["apart"].comparison is last
    assert flow(app)["boxes"][0]["figure"] == QUESTION
    app.text_input(key="apart-question").set_value("What is form HR-14 for?")
    app = press(app, "Take it apart")
    assert me(app).results["apart"].question == "What is form HR-14 for?"
    app = start(PAGE)  # the older question of the Ask page does not come back
    assert me(app).results["apart"].question == "What is form HR-14 for?"


def test_a_comparison_from_a_file_is_asked_anew() -> None:
    """It may claim anything of passages and settings."""
    from ragdemo import report

    asked = ask(start("pages/ask.py"), QUESTION)
    saved = json.loads(report.to_json(me(asked).last))
    for where in (saved["comparison"], saved["comparison"]["grounded"]["prompt"]):
        hit = where["hits" if "hits" in where else "used"][0]
        hit["chunk"]["heading"] = "forged"
    data = json.dumps(saved).encode()
    ran(asked.file_uploader[0].set_value(("c.json", data, "application/json")).run())
    app = start(PAGE)
    found = me(app).results["apart"].comparison
    assert found is not me(app).last
    assert found.question == QUESTION
    assert all(hit.chunk.heading != "forged" for hit in found.hits)


def test_refusals_and_empty_corpora_have_their_say() -> None:
    app = start(PAGE)
    app.text_input(key="apart-question").set_value("What does the canteen serve on Thursdays?")
    app = press(app, "Take it apart")
    for title in ("Answer", "Generator"):
        app = press(app, "Back")
        assert opened(app) == title
        said = " ".join(c.value for c in app.caption) + shown(app)
        assert "refused" in said
    press(start("pages/documents.py"), "Remove the sample documents")
    app = start(PAGE)
    for _ in explained.BOXES:
        app = press(app, "Next")
    assert flow(app)["boxes"][2]["figure"] == "0 passages of 0 documents"


def test_nothing_untrusted_is_ever_markdown() -> None:
    name = "![](http:__127.0.0.1:9_x).md"
    upload(start("pages/documents.py"), (name, f"# {NASTY}\n\n{NASTY}".encode()))
    ask(start("pages/ask.py"), NASTY)
    app = start(PAGE)
    for _ in explained.BOXES:
        for kind in ("markdown", "caption", "subheader", "title", "button", "expander"):
            for node in app.get(kind):
                said = f"{getattr(node, 'value', '')} {getattr(node, 'label', '')}"
                assert "127.0.0.1" not in said, (kind, said)
        app = press(app, "Next")
    assert "127.0.0.1" in flow(app)["boxes"][0]["figure"]


# -- experiments


@pytest.mark.parametrize("name", ["four-arms", "budget", "scanned"])
def test_a_link_opens_an_experiment_and_a_prediction_reveals_it(name: str) -> None:
    app = experiments(name)
    experiment = EXPERIMENTS[name]
    assert app.subheader[0].value == experiment.title
    buttons = {b.label: b for b in app.button}
    assert buttons["Reveal"].disabled
    assert buttons["Run it live"].disabled
    wrong = (experiment.point + 1) % len(experiment.options)
    app.radio(key=f"prediction-{name}").set_value(wrong)
    app = press(ran(app.run()), "Reveal")
    said = [w.value for w in app.warning]
    assert len(said) == 1
    assert experiment.options[wrong] in said[0]
    assert f"**{experiment.options[experiment.point]}.**" in said[0]
    for arm in recorded(name).arms:
        assert arm.answer in shown(app)
        assert arm.title in shown(app)
    assert recorded(name).made in shown(app)
    app.radio(key=f"prediction-{name}").set_value(experiment.point)
    assert ran(app.run()).success


def test_an_experiment_replays_live() -> None:
    app = experiments("rewrite")
    app.radio(key="prediction-rewrite").set_value(1)
    app = press(ran(app.run()), "Run it live")
    run = me(app).results["experiment-rewrite"]
    assert run.how == "live"
    assert EXPERIMENTS["rewrite"].outcome(run.record) == 1
    assert "90 days" in shown(app)
    assert app.success


def test_a_run_from_another_class_opens_and_a_broken_one_does_not() -> None:
    app = experiments()
    data = to_json(recorded("superseded")).replace("paid annual leave", NASTY.replace('"', "'"))
    app = upload(app, ("run.json", data.encode()))
    assert app.subheader[0].value == EXPERIMENTS["superseded"].title
    assert me(app).results["experiment-superseded"].how == "opened"
    assert "127.0.0.1" in shown(app)
    assert not any("127.0.0.1" in str(m.value) for m in (*app.markdown, *app.caption, *app.info))
    app = upload(app, ("run.json", b'{"format": "ragdemo-experiment-1", "run": {}}'))
    assert "not a run of an experiment" in shown(app)
    assert me(app).results["experiment-superseded"].how == "opened"


def test_recorded_experiments_need_no_model() -> None:
    """A process of its own: the page, a prediction, a reveal, and still no torch."""
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(ROOT / PAGE)!r}, default_timeout=120)
app.query_params["experiment"] = "order"
app.run()
app.radio(key="prediction-order").set_value(1).run()
next(b for b in app.button if b.label == "Reveal").click().run()
assert app.success and not app.exception
print([m for m in "torch transformers sentence_transformers faiss".split() if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("[]")


# -- the glossary


def test_the_glossary_is_on_every_page() -> None:
    parts = glossary.terms()
    assert sum(map(len, parts.values())) >= 40
    assert all(meaning.endswith(".") for own in parts.values() for meaning in own.values())
    for page in ("ask", "documents"):  # `frame.begin` puts it there, for all of them
        app = start(f"pages/{page}.py")
        said = "\n".join(m.value for m in app.markdown)
        assert "**BM25**: Search by shared words" in said
        assert "**Fusion-in-decoder**" in said
