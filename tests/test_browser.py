"""The app in a real browser: what a visitor does, and what a hostile document cannot do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import served

from ragdemo import report
from ragdemo.ui.asking import EXAMPLES

pytestmark = pytest.mark.browser
FIRST = 120_000  # ms; the first visit loads the models
WAIT = 30_000


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Beacon(BaseHTTPRequestHandler):
    """Writes down who was lured."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_) -> None:
        pass


class _Slow(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that writes a word every quarter of a second, for ever."""

    def do_POST(self) -> None:
        self.server.asked.append(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for number in range(400):
                piece = {"choices": [{"delta": {"content": f"word{number} "}}]}
                self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.25)
        except OSError:
            self.server.asked.append("gone")

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def page(browser, app_url: str) -> Iterator:
    """A new visitor on the Ask page, ready to ask. No request may leave for another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    elsewhere: list[str] = []
    opened.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((app_url, "data:", "blob:"))
            else elsewhere.append(request.url)
        ),
    )
    opened.goto(app_url)
    opened.get_by_text("Answers come from").wait_for(timeout=FIRST)
    yield opened
    context.close()
    assert not elsewhere


def example(page, question: str = EXAMPLES[0]) -> None:
    page.get_by_role("button", name=question).click()
    answered(page, question)


def type_question(page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")


def answered(page, question: str) -> None:
    page.locator(".root.title", has_text=question[:40]).wait_for(timeout=WAIT)
    page.get_by_role("button", name="Comparison as JSON").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Stop").wait_for(state="detached", timeout=WAIT)


def go(page, name: str) -> None:
    page.get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for(timeout=WAIT)


def passage(page, number: int):
    return page.locator(f".st-key-passage-{number}")


def text_of(page, number: int) -> str:
    """What a passage shows; its text stands in shadow trees."""
    passage(page, number).locator(".text").first.wait_for(timeout=WAIT)
    return "\n".join(passage(page, number).locator(".text").all_inner_texts())


def add_files(page, *files: tuple[str, bytes]) -> None:
    page.locator("input[type=file]").first.set_input_files(
        [{"name": n, "mimeType": "application/octet-stream", "buffer": d} for n, d in files]
    )
    page.get_by_role("button", name="Hide").wait_for(timeout=WAIT)


def test_the_first_link_after_a_start_has_the_apps_own_navigation(browser) -> None:
    with served("streamlit_app.py") as url:
        page = browser.new_page()
        try:
            page.goto(f"{url}/finetune")
            page.get_by_role("link", name="Fine-tuning").wait_for(timeout=FIRST)
            assert page.get_by_role("link", name="streamlit app").count() == 0
            page.get_by_role("heading", name="Fine-tuning", exact=True).wait_for(timeout=FIRST)
        finally:
            page.close()


def test_first_visit_example_and_citation(page) -> None:
    assert page.get_by_role("heading", name="Ask", exact=True).is_visible()
    example(page)
    assert page.get_by_role("heading", name="With retrieval").is_visible()
    assert page.get_by_role("heading", name="Without retrieval").is_visible()
    first = passage(page, 1)
    assert "mobile-phone-policy.pdf" in text_of(page, 1)
    assert first.locator(".word").count()
    first.get_by_text("Show it on the page").click()
    first.locator("img").wait_for(timeout=WAIT)
    cites = page.locator("button.cite")
    if cites.count():  # whether a sentence is borne out is the model's affair
        target = cites.first.inner_text()
        cites.first.click()
        page.wait_for_function(
            "key => document.activeElement.classList.contains(key)", arg=f"st-key-passage-{target}"
        )


def test_own_documents_are_answered_from(page, make_pdf) -> None:
    go(page, "Documents")
    lamps = make_pdf("The green lamp in the tower is repaired by Ottilie Brandt every June.")
    boats = make_pdf(
        "This page tells of the harbour's history. " * 40, "The red boat leaves at 7:45, pier nine."
    )
    add_files(page, ("lamps.pdf", lamps), ("boats.pdf", boats))
    assert page.get_by_text("2 pages read").is_visible()
    go(page, "Ask")
    question = "When does the red boat leave?"
    type_question(page, question)
    answered(page, question)
    top = text_of(page, 1)
    assert "boats.pdf" in top
    assert "pages 1–2" in top


def test_answer_survives_a_switch_of_page_and_is_nobody_elses(page, browser, app_url) -> None:
    example(page)
    page.wait_for_timeout(1000)
    before = text_of(page, 1)
    go(page, "Documents")
    go(page, "Ask")
    deadline = time.monotonic() + WAIT / 1000  # the passage is drawn in several strokes
    while text_of(page, 1) != before and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert text_of(page, 1) == before
    other = browser.new_context()
    try:
        second = other.new_page()
        second.goto(app_url)
        second.get_by_text("Answers come from").wait_for(timeout=FIRST)
        assert not passage(second, 1).count()
        assert not second.locator(".root.title").count()
    finally:
        other.close()


def test_downloads_open_again(page, tmp_path) -> None:
    example(page)
    saved = {}
    for kind in ("HTML", "JSON"):
        with page.expect_download() as coming:
            page.get_by_role("button", name=f"Comparison as {kind}").click()
        saved[kind] = tmp_path / f"comparison.{kind.lower()}"
        coming.value.save_as(saved[kind])
    comparison = report.from_json(saved["JSON"].read_bytes())
    assert comparison.question == EXAMPLES[0]
    assert comparison.hits[0].chunk.text.split()[0] in saved["HTML"].read_text("utf-8")
    page.get_by_role("button", name="Clear the conversation").click()
    passage(page, 1).wait_for(state="detached", timeout=WAIT)
    page.get_by_text("Open a saved comparison").click()
    page.locator("input[type=file]").first.set_input_files(saved["JSON"])
    answered(page, EXAMPLES[0])
    assert comparison.hits[0].chunk.document_name in text_of(page, 1)


def test_stop_ends_the_work_and_keeps_the_words(page) -> None:
    slow = _Server(_Slow)
    page.get_by_text("Who writes it").click()
    page.get_by_test_id("stRadio").get_by_text("Endpoint", exact=True).click()
    page.get_by_label("Base URL").fill(f"{slow.url}/v1")
    page.get_by_label("Model", exact=True).fill("slowpoke")
    page.get_by_role("textbox", name="Key").fill("sk-secret-of-the-test")
    page.get_by_role("button", name="Use it").click()
    page.get_by_text("slowpoke at 127.0.0.1").wait_for(timeout=WAIT)
    page.get_by_role("button", name=EXAMPLES[0]).click()
    page.get_by_text("word3").first.wait_for(timeout=WAIT)
    began = time.monotonic()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped here").first.wait_for(timeout=WAIT)
    assert time.monotonic() - began < 3
    page.get_by_text("word3").first.wait_for(timeout=WAIT)
    for _ in range(50):
        if slow.asked.count("gone") == 2:
            break
        time.sleep(0.1)
    assert slow.asked.count("gone") == 2  # both requests were given up
    assert "Bearer sk-secret-of-the-test" in slow.asked
    page.wait_for_function(
        "key => !document.documentElement.outerHTML.includes(key)", arg="sk-secret-of-the-test"
    )


def test_a_hostile_document_fetches_and_runs_nothing(page) -> None:
    beacon = _Server(_Beacon)
    url = beacon.url
    lures = [
        f"![]({url}/image)", f"![a][b]\n\n[b]: {url}/reference", f"<img src='{url}/html'>",
        f"<script>fetch('{url}/script')</script>", f"<style>@import '{url}/css'</style>",
        f"[click](javascript:fetch('{url}/js'))", f"<iframe src='{url}/frame'></iframe>",
        f":material/home: ![x]({url}/y \"t\") <{url}/auto> {url}/bare www.127.0.0.1/z",
        f"<svg onload=\"fetch('{url}/svg')\"></svg> $\\includegraphics{{{url}/tex}}$",
    ]  # fmt: skip
    name = f"![](http:%2f%2f127.0.0.1) <img src={url.removeprefix('http:').replace('/', '')}>.md"
    body = "# Lures " + " ".join(lures) + "\n\n" + "\n\n".join(lures)
    go(page, "Documents")
    page.get_by_role("button", name="Remove the sample documents").click()
    page.get_by_text("Documents (0)").wait_for(timeout=WAIT)
    add_files(page, (name, body.encode()), ("plain.md", b"# A\n\nNothing.\n\n# B\n\nMore."))
    page.get_by_text("Documents (2)").wait_for(timeout=WAIT)
    page.get_by_role("combobox", name="Document to look into").click()
    page.keyboard.press("ArrowDown")
    page.get_by_text("options available").wait_for(state="attached", timeout=WAIT)
    page.wait_for_timeout(500)
    page.keyboard.press("Escape")
    for tab in ("Map", "Summary", "Passages"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(700)
    go(page, "Ask")
    question = f"What do the lures say? {lures[0]} {lures[2]} {lures[3]}"
    type_question(page, question)
    answered(page, "What do the lures say?")
    text = " ".join(page.locator(".text").all_inner_texts())
    assert f"![]({url}/image)" in text  # it stands there, as letters
    assert f"<script>fetch('{url}/script')</script>" in text
    for found in ("img[src*='127.0.0.1']:not([src*='/media/'])", "iframe", "a[href^='javascript']"):
        assert not page.locator(found).count()
    type_question(page, "And then?")
    answered(page, "And then?")
    page.get_by_text("Earlier questions").click()
    page.wait_for_timeout(500)
    with page.expect_download() as coming:
        page.get_by_role("button", name="Comparison as HTML").click()
    page.context.new_page().goto(f"file://{coming.value.path()}")
    page.wait_for_timeout(500)
    assert beacon.asked == []


def test_reads_on_a_phone(browser, app_url) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    try:
        phone = context.new_page()
        phone.goto(app_url)
        phone.get_by_text("Answers come from").wait_for(timeout=FIRST)
        example(phone)
        wide = phone.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        left = phone.get_by_role("heading", name="With retrieval").bounding_box()
        right = phone.get_by_role("heading", name="Without retrieval").bounding_box()
        assert right["y"] > left["y"] + 50  # one below the other
    finally:
        context.close()
