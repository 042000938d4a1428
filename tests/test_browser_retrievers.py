"""The Retrievers page in a real browser: racing, stopping, a phone, a hostile document."""

from __future__ import annotations

import time

import pytest
from test_browser import (
    FIRST,
    WAIT,
    _Beacon,
    _Server,
    add_files,
    go,
    page,  # noqa: F401 (a fixture, used by being here)
)

from ragdemo.ui.known import SAMPLES

pytestmark = pytest.mark.browser


def raced(page, question: str) -> None:  # noqa: F811
    page.locator(".root.title", has_text=question[:40]).first.wait_for(timeout=WAIT)
    page.get_by_role("button", name="Stop").wait_for(state="detached", timeout=WAIT)


def ranking(page, number: int):  # noqa: F811
    """The column of the nth retriever."""
    return page.locator(".ranking").nth(number)


def test_a_race_its_cards_and_its_charts(page) -> None:  # noqa: F811
    go(page, "Retrievers")
    raced(page, SAMPLES[0].question)
    page.get_by_role("button", name=SAMPLES[1].button).click()
    raced(page, SAMPLES[1].question)
    dense = ranking(page, 2)
    assert "holds the answer" in dense.locator(".card").first.inner_text()
    assert "holds the answer" not in ranking(page, 0).inner_text()
    body = dense.locator(".body").first
    short = body.bounding_box()["height"]
    body.click()
    assert body.get_attribute("aria-expanded") == "true"
    assert body.bounding_box()["height"] > short
    for tab in ("Who moved where", "All scores", "Overlap and time"):
        page.get_by_role("tab", name=tab).click()
        drawn = page.locator("[data-testid=stVegaLiteChart]:visible").locator("canvas, svg")
        drawn.first.wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Why it matched").click()
    assert page.get_by_text("They share no word that counts").is_visible()
    page.locator(".heat2:visible").first.wait_for(timeout=WAIT)


def test_a_long_measurement_goes_on_beside_other_clicks_and_stops(page) -> None:  # noqa: F811
    go(page, "Retrievers")
    raced(page, SAMPLES[0].question)
    page.get_by_role("tab", name="What an index costs").click()
    page.get_by_text("100,000 synthetic").click()
    page.get_by_text("GB of memory while it runs").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Measure the indexes").click()
    page.get_by_text("of 100,000 vectors").first.wait_for(timeout=WAIT)
    page.get_by_role("tab", name="Vector stores").click()
    page.get_by_role("combobox", name="Store").click()  # a click that runs the page anew
    page.get_by_role("option", name="FAISS, HNSW").click()
    page.get_by_text("walks a graph", exact=False).first.wait_for(timeout=WAIT)
    page.get_by_role("tab", name="What an index costs").click()
    page.get_by_text("of 100,000 vectors").first.wait_for(timeout=WAIT)
    began = time.monotonic()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop").wait_for(state="detached", timeout=WAIT)
    assert time.monotonic() - began < 5
    assert page.get_by_role("button", name="Measure the indexes").is_enabled()


def test_a_hostile_document_fetches_nothing_here(page) -> None:  # noqa: F811
    beacon = _Server(_Beacon)
    lures = (
        f"![]({beacon.url}/image) <img src='{beacon.url}/html'> "
        f"<script>fetch('{beacon.url}/script')</script> [a](javascript:fetch('{beacon.url}/js'))"
    )
    name = f"![](http:%2f%2f127.0.0.1) <img src={beacon.url.removeprefix('http://')}>.md"
    go(page, "Documents")
    page.get_by_role("button", name="Remove the sample documents").click()
    page.get_by_text("Documents (0)").wait_for(timeout=WAIT)
    add_files(page, (name, f"# Lures {lures}\n\nkumquat {lures}".encode()))
    go(page, "Retrievers")
    field = page.get_by_role("textbox", name="Question", exact=True)
    field.fill(f"kumquat {lures}")
    field.press("Enter")
    page.get_by_role("button", name="Race", exact=True).click()
    raced(page, "kumquat")
    for tab in ("Who moved where", "All scores", "Why it matched", "Overlap and time"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(700)
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    page.get_by_role("tab", name="Who moved where").click()
    chart.hover()
    page.wait_for_timeout(500)
    page.get_by_role("tab", name="Two chunkings").click()
    page.get_by_role("button", name="Cut again and compare").click()
    page.get_by_text("tokens each on average").first.wait_for(timeout=WAIT)
    assert f"![]({beacon.url}/image)" in " ".join(page.locator(".ranking").all_inner_texts())
    for found in ("img[src*='127.0.0.1']:not([src*='/media/'])", "iframe", "a[href^='javascript']"):
        assert not page.locator(found).count()
    assert beacon.asked == []


def test_reads_on_a_phone(browser, app_url) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    try:
        phone = context.new_page()
        phone.goto(f"{app_url}/retrievers")
        phone.get_by_role("tab", name="Side by side").wait_for(timeout=FIRST)
        raced(phone, SAMPLES[0].question)
        # both at one moment: what stands above may still be moving them
        first, second = phone.locator(".ranking").evaluate_all(
            "columns => columns.slice(0, 2).map(column => column.getBoundingClientRect().toJSON())"
        )
        assert second["top"] > first["bottom"]  # one below the other
        assert first["width"] > 300
        for tab in ("Who moved where", "Overlap and time", "A question set"):
            phone.get_by_role("tab", name=tab).click()
            phone.wait_for_timeout(500)
            assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        context.close()
