"""The pages as a visitor sees them, without a browser: cold starts and a journey (AppTest)."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from ragdemo.serving import Ticket
from ragdemo.settings import Chunking
from ragdemo.ui import cache, drawn, state
from ragdemo.ui.asking import EXAMPLES
from ragdemo.ui.state import Visitor
from ragdemo.ui.work import Work

ROOT = Path(__file__).parents[1]
PHONE = EXAMPLES[0]
NASTY = '![](http://127.0.0.1:9/x) <img src="http://127.0.0.1:9/y"> [a](javascript:alert(1)) $x$'


@pytest.fixture(autouse=True)
def _fresh_visitor():
    """AppTest's session id is always the same, so one test's visitor would be the next one's. The
    shared models stay."""
    cache.shared().ready.wait(180)
    AppTest.from_function(_forget).run()


def _forget() -> None:
    from ragdemo.ui.state import visitor

    visitor.clear()


def start(page: str = "streamlit_app.py") -> AppTest:
    return ran(AppTest.from_file(str(ROOT / page), default_timeout=180).run())


def ran(app: AppTest) -> AppTest:
    assert not app.exception, [e.value for e in app.exception]
    return app


def me(app: AppTest) -> Visitor:
    """The visitor behind the page."""
    found: list[Visitor] = []
    probe = AppTest.from_function(_tell, args=(found,))
    probe.run()
    return found[0]


def _tell(found: list) -> None:
    from ragdemo.ui.state import visitor

    found.append(visitor())


def shown(app: AppTest) -> str:
    """All text that went through the safe sinks."""
    found = [t.value for t in app.text]
    for node in app.get("bidi_component"):
        data = json.loads(node.proto.json)
        found.append("".join(run["text"] for run in data.get("runs", ())))
    return "\n".join(found)


def press(app: AppTest, label: str) -> AppTest:
    return ran(next(b for b in app.button if b.label == label).click().run())


def upload(app: AppTest, *files: tuple[str, bytes]) -> AppTest:
    given = [(name, data, "application/octet-stream") for name, data in files]
    return ran(app.file_uploader[0].set_value(given).run())


def ask(app: AppTest, question: str) -> AppTest:
    return ran(app.chat_input[0].set_value(question).run())


# -- cold


@pytest.mark.parametrize(
    "page", [*(f"pages/{p.name}" for p in (ROOT / "pages").glob("*.py")), "streamlit_app.py"]
)
def test_every_page_starts_cold(page: str) -> None:
    title = start(page).title[0].value
    assert title == "Ask" if page == "streamlit_app.py" else title


def test_models_are_not_looked_through_for_garbage_after_every_script() -> None:
    cache.shared().ready.wait(180)
    assert gc.get_freeze_count() > 100_000


def test_what_a_visitor_had_is_let_go_though_the_session_is_kept(monkeypatch) -> None:
    monkeypatch.setattr(state, "LINGER", 0.05)
    app = start("pages/documents.py")
    app = upload(app, ("mine.md", b"# Mine\n\nOttilie Brandt repairs the lamp."))
    left = me(app)  # as Streamlit's fragments and buttons hold it
    corpus = weakref.ref(left.corpus)
    waiting = left.turn()
    AppTest.from_function(_forget).run()
    assert waiting.cancelled.wait(5)
    for _ in range(100):
        if left.corpus is None:
            break
        time.sleep(0.05)
    del app
    gc.collect()
    assert left.corpus is None
    assert corpus() is None


def test_two_scripts_that_watch_one_piece_of_work_both_end() -> None:
    go = threading.Event()

    def slow():
        yield 1
        go.wait(10)
        yield 2

    work = Work(slow(), Ticket())
    seen: list[list] = [[], []]
    threads = [
        threading.Thread(target=lambda into=into: into.extend(work.updates())) for into in seen
    ]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert work.settle() == (2, "")


# -- asking


def test_an_example_question_is_one_click() -> None:
    app = press(start(), PHONE)
    heads = [h.value.split("] ")[-1] for h in app.subheader]
    assert {"With retrieval", "Without retrieval", "Passages found (5)"} <= set(heads)
    last = me(app).last
    assert last.question == PHONE
    assert last.hits[0].chunk.document_name == "mobile-phone-policy.pdf"
    said = shown(app)
    assert "mobile-phone-policy.pdf" in said
    assert last.hits[0].chunk.text in said
    for answer in (last.grounded, last.baseline):
        assert answer.prompt.text in [c.value for c in app.code]


def test_a_name_asked_for_that_stands_in_no_passage_is_said() -> None:
    app = ask(start("pages/ask.py"), "How many days did Zebulon take off in 1723?")
    assert shown(app).count("In no passage: Zebulon, 1723") == 1  # the baseline read none
    app = ask(app, "How many days of leave do I get?")
    assert "In no passage" not in shown(app)


def test_settings_reach_the_question() -> None:
    app = start("pages/ask.py")
    app.slider(key="k").set_value(2)
    ran(app.run())
    app = ask(app, "Who approves travel abroad?")
    assert len(me(app).last.hits) == 2
    assert me(app).last.settings["k"] == 2


def test_the_retriever_chosen_finds_the_passages() -> None:
    app = start("pages/ask.py")
    app.selectbox(key="retriever").set_value("bm25")
    app = press(ran(app.run()), PHONE)
    last = me(app).last
    assert last.settings["retriever"] == "bm25"
    assert {hit.retriever for hit in last.hits} == {"bm25"}
    assert "above nonsense" in shown(app)


def test_candidates_of_each_passage_are_weighed_and_shown() -> None:
    app = start("pages/ask.py")
    app.radio(key="fusion").set_value("marginalise")
    app = press(ran(app.run()), PHONE)
    m = me(app).last.marginal
    (table,) = [d.value for d in app.dataframe]
    assert table["candidate"][0] == m.candidates[m.winner] == me(app).last.grounded.text
    assert len(table) == len(m.candidates)
    assert sum(name.startswith("passage ") for name in table.columns) == len(m.prior)


def test_earlier_turns_stay_and_can_be_cleared() -> None:
    app = ask(ask(start("pages/ask.py"), "How much is the allowance?"), "And for managers?")
    assert "How much is the allowance?" in shown(app)
    assert len(me(app).turns) == 2
    assert me(app).last.settings["searched_for"] == "And for managers?"
    app = press(app, "Clear the conversation")
    assert not me(app).turns
    assert "How much is the allowance?" not in shown(app)


def test_a_follow_up_may_use_the_turn_before() -> None:
    app = start("pages/ask.py")
    app.checkbox(key="follow").check()
    app = ask(ask(app, "How many days of leave do I get?"), "And for managers?")
    assert "days of leave" in me(app).last.settings["searched_for"]


def test_a_saved_comparison_opens_on_the_same_screen() -> None:
    from ragdemo import report

    app = press(start("pages/ask.py"), PHONE)
    saved = report.to_json(me(app).last).encode()
    before = shown(app)
    app = press(app, "Clear the conversation")
    opened = app.file_uploader[0].set_value(("c.json", saved, "application/json"))
    assert shown(ran(opened.run())) == before
    app.file_uploader[0].set_value(("c.json", b"{}", "application/json"))
    assert "not a comparison saved by ragdemo" in shown(ran(app.run()))
    assert me(app).last.question == PHONE  # what was there stays


def test_an_unreachable_model_is_a_sentence_and_the_rest_works() -> None:
    app = start("pages/ask.py")
    app.radio(key="generator").set_value("Hub")
    ran(app.run())
    app.selectbox(key="hub_model").set_value("distilgpt2")
    app = press(app, "Look it up")
    assert "can't be reached" in shown(app) or "Download" in shown(app)
    app = press(app, PHONE)
    assert me(app).last.grounded.model == "ragdemo-mini"


def test_a_key_is_kept_out_of_everything() -> None:
    from ragdemo import report

    app = start("pages/ask.py")
    app.radio(key="generator").set_value("Endpoint")
    ran(app.run())
    fields = {field.label: field for field in app.text_input}
    fields["Base URL"].set_value("http://127.0.0.1:9/v1")
    fields["Model"].set_value("m")
    fields["Key"].set_value("sk-very-secret")
    app = press(app, "Use it")
    app = press(app, PHONE)
    assert not me(app).turns  # nobody listens there, and private addresses are refused
    assert me(app).failed
    everything = shown(app) + repr(vars(me(app))) + repr(me(app).generator)
    assert "sk-very-secret" not in everything
    assert not any(field.value == "sk-very-secret" for field in app.text_input)
    app.radio(key="generator").set_value("Bundled")
    app = press(ran(app.run()), PHONE)
    assert "sk-very-secret" not in report.to_json(me(app).last) + report.to_html(me(app).last)


# -- documents


def test_two_files_are_added_asked_about_and_removed(make_pdf) -> None:
    app = upload(
        start("pages/documents.py"),
        ("lamps.pdf", make_pdf("The green lamp is repaired by Ottilie Brandt.", title="Lamps")),
        ("boats.pdf", make_pdf("", "The red boat leaves at 7:45 from pier nine.", title="Boats")),
    )
    names = {document.name for document in me(app).corpus.documents.values()}
    assert {"lamps.pdf", "boats.pdf", "mobile-phone-policy.pdf"} <= names
    assert "1 page read" in shown(app)
    found = ask(start("pages/ask.py"), "Who repairs the green lamp?")
    assert me(found).last.hits[0].chunk.document_name == "lamps.pdf"
    lamp = next(d.id for d in me(app).corpus.documents.values() if d.name == "lamps.pdf")
    app = start("pages/documents.py")
    ran(app.button(key=f"remove-{lamp[:16]}").click().run())
    assert lamp not in me(app).corpus.documents
    app = press(app, "Remove the sample documents")
    assert [d.name for d in me(app).corpus.documents.values()] == ["boats.pdf"]
    app = press(app, "Bring the sample documents back")
    assert len(me(app).corpus.documents) == len(cache.shared().files) + 1


def test_bad_files_say_why_and_stop_nothing(make_pdf) -> None:
    good = make_pdf("Anything at all about kites.")
    app = upload(
        start("pages/documents.py"),
        ("broken.pdf", b"%PDF-1.7 nothing"),
        ("picture.pdf", b"\x89PNG not a pdf"),
        ("good.pdf", good),
        ("again.pdf", good),
        ("locked.pdf", make_pdf("The secret is a heron.", password="open")),
    )
    reports = {report.name: report for report in me(app).reports}
    assert reports["broken.pdf"].error
    assert reports["picture.pdf"].error
    assert reports["again.pdf"].duplicate_of == "good.pdf"
    assert reports["locked.pdf"].needs_password
    said = shown(app)
    assert "its content is that of good.pdf" in said
    field = next(f for f in app.text_input if f.label == "Password of this file")
    field.set_value("open")
    app = press(app, "Open it")
    assert "locked.pdf" in {d.name for d in me(app).corpus.documents.values()}
    assert not me(app).locked


def test_two_files_of_one_name_are_told_apart(make_pdf) -> None:
    app = upload(
        start("pages/documents.py"), ("a.pdf", make_pdf("First.")), ("a.pdf", make_pdf("Second."))
    )
    assert {"a.pdf", "a (2).pdf"} <= {d.name for d in me(app).corpus.documents.values()}


def test_another_chunking_indexes_everything_anew(make_pdf) -> None:
    app = press(start("pages/documents.py"), "Remove the sample documents")
    text = " ".join(f"Sentence number {n} is about rivers and bridges." for n in range(80))
    app = upload(app, ("long.pdf", make_pdf(text)))
    before = len(me(app).corpus.chunks)
    sliders = {slider.label: slider for slider in app.slider}
    sliders["Passage length (tokens)"].set_value(64)
    sliders["Overlap (tokens)"].set_value(16)
    app = press(app, "Cut and index anew")
    assert me(app).chunking == Chunking(64, 16)
    assert len(me(app).corpus.chunks) > before
    assert me(app).corpus.originals  # page pictures still work


def test_summary_names_its_passages() -> None:
    app = press(start("pages/documents.py"), "Summarise")
    (points,) = me(app).summaries.values()
    assert points
    assert all(text in shown(app) for text, _ in points)


def test_nothing_untrusted_is_ever_markdown(make_pdf) -> None:
    """Names, text, headings, questions: no element that renders Markdown may hold any of it."""
    name = "![](http:__127.0.0.1:9_x).md"
    app = upload(start("pages/documents.py"), (name, f"# {NASTY}\n\n{NASTY}".encode()))
    asked = ask(start("pages/ask.py"), NASTY)
    for page in (app, start("pages/documents.py"), asked):
        assert "127.0.0.1" in shown(page)
        for kind in ("markdown", "caption", "subheader", "title", "button", "checkbox", "expander"):
            for node in page.get(kind):
                said = f"{getattr(node, 'value', '')} {getattr(node, 'label', '')}"
                assert "127.0.0.1" not in said, (kind, said)


# -- marks


def test_marks_may_overlap() -> None:
    from ragdemo.types import Span

    parts = drawn.split("abcdef", [(Span(1, 4), "support"), (Span(2, 9), "word")])
    assert "".join(str(part["text"]) for part in parts) == "abcdef"
    assert parts[2] == {"text": "cd", "kinds": ["support", "word"]}
    assert drawn.split("", []) == []
