"""The Fine-tuning page in a real browser: a complete small training, its stop, a phone."""

from __future__ import annotations

import re
import time

import pytest
from test_browser import (
    FIRST,
    WAIT,
    go,
    page,  # noqa: F401 (a fixture, used by being here)
)

pytestmark = pytest.mark.browser


def test_a_training_from_its_start_to_every_page_and_back(page, tmp_path) -> None:  # noqa: F811
    go(page, "Fine-tuning")
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text("questions are watched while it trains").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Compare before and after").wait_for(timeout=WAIT)
    said = " ".join(page.locator(".root.strong").all_inner_texts())
    assert any(word in said for word in ("It helped", "It did not help", "Nothing", "It got worse"))
    assert page.locator("[data-testid=stVegaLiteChart]:visible").count() == 2
    page.get_by_role("button", name="Compare before and after").click()
    page.get_by_role("button", name="Use it on every page").wait_for(timeout=WAIT)
    assert page.locator(".ranking").count() == 2
    field = page.get_by_role("textbox", name="A question to try")
    field.fill("Who pays for a lost badge?")
    field.press("Enter")
    page.locator(".card", has_text="onboarding").first.wait_for(timeout=WAIT)
    with page.expect_download(timeout=WAIT) as carried:
        page.get_by_role("button", name="Save the head alone").click()
    carried.value.save_as(tmp_path / "tuned.zip")
    page.get_by_role("button", name="Use it on every page").click()
    undo = page.get_by_role("button", name="Back to the untrained models")
    undo.wait_for(timeout=WAIT)
    undo.click()
    undo.wait_for(state="detached", timeout=WAIT)
    page.get_by_text("Load a model saved here").click()
    page.locator("input[type=file]").last.set_input_files(tmp_path / "tuned.zip")
    page.get_by_role("button", name="Save it as a model folder").wait_for(state="detached")
    page.get_by_role("button", name="Use it on every page").wait_for(timeout=WAIT)


def test_a_long_training_stops_at_once_and_offers_what_it_has(page) -> None:  # noqa: F811
    go(page, "Fine-tuning")
    page.get_by_role("combobox", name="What is trained").click()
    page.get_by_role("option", name="The generator: closed-book, without passages").click()
    page.get_by_text("Question in, answer out").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text(re.compile(r"Step [1-9]\d* of")).first.wait_for(timeout=WAIT)
    began = time.monotonic()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop").wait_for(state="detached", timeout=WAIT)
    assert time.monotonic() - began < 10  # not the minute that it would have taken
    assert page.get_by_role("button", name="Compare before and after").is_visible()
    assert page.get_by_role("button", name="Train", exact=True).is_enabled()


def test_reads_on_a_phone(browser, app_url) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    try:
        phone = context.new_page()
        phone.goto(f"{app_url}/finetune")
        phone.get_by_role("button", name="Train", exact=True).wait_for(timeout=FIRST)
        for tab in ("Fine-tuning against RAG", "Train"):
            phone.get_by_role("tab", name=tab).click()
            phone.wait_for_timeout(500)
            assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        context.close()
