"""The Pipeline page in a real browser: boxes by mouse and keyboard, experiments, a phone."""

from __future__ import annotations

import json

import pytest
from test_browser import (
    FIRST,
    WAIT,
    go,
    page,  # noqa: F401 (a fixture, used by being here)
    type_question,
)

from ragdemo.ui.explained import BOXES

pytestmark = pytest.mark.browser
QUESTION = "How long are backups of Quillmere drives kept?"


def box(page, name: str):  # noqa: F811
    return page.locator(".flow .box").nth(list(BOXES).index(name))


def opens(page, name: str) -> None:  # noqa: F811
    number = list(BOXES).index(name) + 1
    page.get_by_role("heading", name=f"{number} · {BOXES[name].title}").wait_for(timeout=WAIT)
    assert box(page, name).get_attribute("aria-pressed") == "true"


def test_a_question_of_ones_own_is_taken_apart(page) -> None:  # noqa: F811
    type_question(page, QUESTION)
    page.get_by_role("button", name="Comparison as JSON").wait_for(timeout=WAIT)
    go(page, "Pipeline")
    box(page, "answer").wait_for(timeout=WAIT)
    assert QUESTION in box(page, "question").inner_text()
    assert "35 days" in page.locator(".flow").inner_text()
    for name in ("query encoder", "index", "generator", "answer"):
        box(page, name).click()
        opens(page, name)
    charts = page.locator("[data-testid=stVegaLiteChart]:visible").locator("canvas, svg")
    charts.nth(1).wait_for(timeout=WAIT)
    box(page, "passage encoder").focus()
    page.keyboard.press("Enter")
    opens(page, "passage encoder")
    strip = page.locator("[data-testid=stVegaLiteChart]").locator("canvas, svg").first
    strip.wait_for(timeout=WAIT)
    assert strip.bounding_box()["height"] > 20
    page.get_by_text("As a formula").click()
    page.locator(".katex").first.wait_for(timeout=WAIT)
    page.get_by_role("button", name="Next").click()
    opens(page, "index")


def test_predict_reveal_and_hand_on(page, app_url) -> None:  # noqa: F811
    page.goto(f"{app_url}/pipeline?experiment=superseded")
    page.get_by_role("heading", name="An old policy that outranks the new one").wait_for(
        timeout=WAIT
    )
    reveal = page.get_by_role("button", name="Reveal")
    assert reveal.is_disabled()
    page.get_by_text("27 days: the newer document wins").click()
    page.wait_for_function("!document.querySelector('.st-key-reveal-superseded button').disabled")
    reveal.click()
    page.get_by_text("You predicted: 27 days").wait_for(timeout=WAIT)
    page.get_by_text(f"{app_url}/pipeline?experiment=superseded").wait_for(timeout=WAIT)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="This run as a file").click()
    saved = json.loads(waiting.value.path().read_text("utf-8"))
    assert saved["run"]["experiment"] == "superseded"
    page.get_by_text("A scanned page", exact=True).click()
    page.get_by_role("heading", name="A scanned page").wait_for(timeout=WAIT)
    assert page.url.endswith("experiment=scanned")
    page.get_by_text("One question taken apart", exact=True).click()
    box(page, "answer").wait_for(timeout=WAIT)
    assert "experiment" not in page.url


def test_the_glossary_opens_without_a_new_run(page) -> None:  # noqa: F811
    page.get_by_role("button", name="Glossary").click()
    page.get_by_text("Search by shared words").wait_for(timeout=WAIT)


def test_reads_on_a_phone(browser, app_url) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    try:
        phone = context.new_page()
        phone.goto(f"{app_url}/pipeline")
        box(phone, "answer").wait_for(timeout=FIRST)
        first, last = (box(phone, n).bounding_box() for n in ("question", "answer"))
        assert last["y"] > first["y"] + 200  # below each other
        assert last["width"] > 300
        for name in ("passage encoder", "answer"):
            box(phone, name).click()
            opens(phone, name)
            phone.wait_for_timeout(500)
            assert phone.evaluate("document.documentElement.scrollWidth") <= 390
        heading = phone.get_by_role("heading", name="9 · Answer")
        heading.wait_for(timeout=WAIT)
        phone.wait_for_timeout(800)
        assert 0 <= heading.bounding_box()["y"] < 844  # what opened came into sight
    finally:
        context.close()
