"""A visitor whose documents, file names, questions and model are all hostile: nothing is fetched,
nothing runs, no page falls over."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from hostile_texts import ODD, docx, lures, run
from test_browser import FIRST, WAIT, _Beacon, _Server, add_files, answered, go, type_question

from ragdemo.report import from_json

pytestmark = pytest.mark.browser


class _Liar(BaseHTTPRequestHandler):
    """An endpoint that says what it was told to say; asked for the model "refuse", it refuses in
    the same words."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = self.server.words
        if asked["model"] == "refuse":
            body = json.dumps({"error": {"message": words}}).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
        else:
            pieces = [
                {"choices": [{"delta": {"content": piece}}]} for piece in re.split("(?<= )", words)
            ]
            pieces.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
            # json writes a lone surrogate as \\ud800, as a hostile server would
            body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def beacon() -> _Server:
    return _Server(_Beacon)


@pytest.fixture
def liar(beacon) -> _Server:
    server = _Server(_Liar)
    server.words = f"As the passages say {ODD} " + " ".join(lures(beacon.url))
    return server


@pytest.fixture
def page(browser, app_url: str, beacon) -> Iterator:
    """A new visitor. Afterwards: no request elsewhere, no lure answered, no page fell over."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = context.new_page()
    elsewhere: list[str] = []
    fallen: list[str] = []
    ours = (app_url, "data:", "blob:", "file:")
    opened.on("request", lambda r: None if r.url.startswith(ours) else elsewhere.append(r.url))
    opened.on("pageerror", lambda error: fallen.append(str(error)))
    opened.on("crash", lambda _: fallen.append("the tab crashed"))
    opened.on("dialog", lambda dialog: (fallen.append(dialog.message), dialog.dismiss()))
    opened.goto(app_url)
    opened.get_by_text("Answers come from").wait_for(timeout=FIRST)
    yield opened
    context.close()
    assert elsewhere == []
    assert beacon.asked == []
    assert fallen == []


def test_the_trap_is_set(browser, beacon) -> None:
    """In a page that believes its text the lures do fetch; else nothing below would mean much."""
    context = browser.new_context()
    try:
        trusting = context.new_page()
        trusting.set_content("\n".join(lures(beacon.url)[2:]))
        trusting.wait_for_timeout(1000)
    finally:
        context.close()
    assert {"/html", "/script", "/svgimage"} <= set(beacon.asked)


def sound(page) -> None:
    """What is on the screen is ours, and no exception is shown."""
    page.wait_for_timeout(400)
    page.get_by_test_id("stStatusWidget").wait_for(state="detached", timeout=WAIT)
    assert not page.get_by_test_id("stException").count()
    for found in ("iframe", "a[href^='javascript']", "img[src*='127.0.0.1']:not([src*='/media/'])"):
        assert not page.locator(found).count()


def everywhere(page) -> None:
    """Every page, every tab on it."""
    links = page.get_by_test_id("stSidebarNavLink")
    for name in [link.inner_text().strip().splitlines()[-1] for link in links.all()]:
        go(page, name)
        sound(page)
        for tab in page.get_by_role("tab").all():
            tab.click()
            page.wait_for_timeout(300)
        sound(page)


def hostile_files(url: str) -> list[tuple[str, bytes]]:
    lured = lures(url)
    raw = ODD.encode("utf-8", "surrogatepass").replace(b"\x00", b"")
    body = b"# Lures " + " ".join(lured[:3]).encode() + b"\n\n" + raw + b"\n\n"
    body += "\n\n".join(lured).encode()
    escaped = [lure.replace("&", "&amp;").replace("<", "&lt;") for lure in lured]
    name = url.replace("/", "%2f")
    return [
        (f"![]({name}) \u202efdp.\u200b<img src={name}>.md", body),
        (f"<svg onload=fetch('{name}')>.csv", f"lure,{lured[2]}\n{lured[0]},b\n".encode()),
        (f"[x](javascript:fetch('{name}')).html", f"<p>{'<p>'.join(escaped)}<p>&#xD800;".encode()),
        (f":material.home: $x$ {name}.docx", docx("".join(map(run, escaped)))),
        (f"no such kind {name} <b>.exe", b"MZ\x90"),
    ]


def test_nothing_a_stranger_writes_is_fetched_or_run(page, beacon, liar) -> None:
    go(page, "Documents")
    page.get_by_role("button", name="Remove the sample documents").click()
    page.get_by_text("Documents (0)").wait_for(timeout=WAIT)
    add_files(page, *hostile_files(beacon.url))
    page.get_by_text("Documents (4)").wait_for(timeout=WAIT)
    sound(page)
    everywhere(page)

    go(page, "Ask")  # the bundled model copies from passages, so the lures come back as its words
    lured = f"{lures(beacon.url)[0]} <img src='{beacon.url}/q'>"
    type_question(page, f"What do the lures say? {lured} \u202eabc\u200b")
    answered(page, "What do the lures say?")
    sound(page)
    shown = " ".join(page.locator(".text").all_inner_texts())
    assert f"<script>fetch('{beacon.url}/script')</script>" in shown  # as letters

    page.get_by_text("Who writes it").click()
    page.get_by_test_id("stRadio").get_by_text("Endpoint", exact=True).click()
    for model, end in (
        ("refuse", "refused the request"),
        (lures(beacon.url)[0], "As the passages"),
    ):
        page.get_by_label("Base URL").fill(f"{liar.url}/v1")
        page.get_by_label("Model", exact=True).fill(model)
        page.get_by_role("button", name="Use it").click()
        page.get_by_text(f"{model} at 127.0.0.1").first.wait_for(timeout=WAIT)
        type_question(page, f"And what says {model[:6]}?")
        page.get_by_text(end).first.wait_for(timeout=WAIT)
        sound(page)
    answered(page, "And what says")
    everywhere(page)

    go(page, "Ask")
    with page.expect_download() as coming:
        page.get_by_role("button", name="Comparison as JSON").click()
    saved = from_json(coming.value.path().read_bytes())
    assert f"{beacon.url}/html" in saved.grounded.text
    assert "\u202e" not in saved.grounded.text
    with page.expect_download() as coming:
        page.get_by_role("button", name="Comparison as HTML").click()
    page.goto(f"file://{coming.value.path()}")
    page.wait_for_timeout(500)


def test_half_a_character_costs_its_sender_the_question_and_no_more(page) -> None:
    """Streamlit's own reader refuses such a message and closes the connection; the page comes back
    by itself."""
    page.get_by_test_id("stChatInputTextArea").focus()
    page.evaluate("document.execCommand('insertText', false, 'x' + String.fromCharCode(0xd800))")
    page.keyboard.press("Enter")
    page.wait_for_timeout(4000)
    sound(page)
    page.get_by_text("Answers come from").wait_for(timeout=WAIT)
    type_question(page, "Who approves journeys outside Europe?")
    answered(page, "Who approves journeys outside Europe?")
    sound(page)
