"""The Evaluate page in a real browser: a run, a stop, two people in a room, a phone."""

from __future__ import annotations

import json
import re

import pytest
from test_browser import (
    FIRST,
    WAIT,
    _Beacon,
    _Server,
    go,
    page,  # noqa: F401 (a fixture, used by being here)
)

pytestmark = pytest.mark.browser
LONG = 120_000
SET = (
    "id,question,answer,short,file,pages,answerable,kind\n"
    "lost,How soon must a lost or stolen phone be reported?,,one hour|two hours|24 hours,"
    "mobile-phone-policy.pdf,2,yes,plain\n"
    "pets,May I bring my dog to the office?,,,,,no,unanswerable\n"
)


def tab(page, name: str) -> None:  # noqa: F811
    page.get_by_role("tab", name=re.compile(f"{name}$")).click()


def load(page, data: str, name: str = "mine.csv") -> None:  # noqa: F811
    page.get_by_text("Use your own question set").click()
    page.locator("input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": data.encode()}
    )
    page.get_by_text(f"In use: {name}").wait_for(timeout=WAIT)


def run(page) -> None:  # noqa: F811
    page.get_by_role("button", name="Run", exact=False).first.click()
    page.get_by_text("Finished: see Results").wait_for(timeout=LONG)


def test_a_run_its_figures_its_faults_and_its_report(page) -> None:  # noqa: F811
    go(page, "Evaluate")
    load(page, SET)
    run(page)
    tab(page, "Results")
    page.get_by_text("Right answers: no retrieval").wait_for(timeout=WAIT)
    drawn = page.locator("[data-testid=stVegaLiteChart]:visible").locator("canvas, svg")
    drawn.first.wait_for(timeout=WAIT)
    assert drawn.count() >= 5
    tab(page, "Report")
    with page.expect_download() as news:
        page.get_by_role("button", name="Everything as JSON").click()
    facts = json.loads(news.value.path().read_text("utf-8"))
    assert len(facts["results"]) == 4
    tab(page, "Faults")
    page.get_by_role("button", name="Ask it on the Ask page").click()
    page.get_by_role("button", name="Comparison as JSON").wait_for(timeout=LONG)


def test_a_stop_keeps_what_is_done_and_the_run_goes_on(page) -> None:  # noqa: F811
    go(page, "Evaluate")
    page.get_by_text("40 answers to write").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Run", exact=False).first.click()
    page.get_by_text(re.compile(r"^(8|16) of 40 answers")).first.wait_for(timeout=LONG)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped. What was finished is kept").wait_for(timeout=WAIT)
    tab(page, "Results")
    page.get_by_text("Right answers: ").wait_for(timeout=WAIT)
    tab(page, "Run")
    assert page.get_by_role("button", name="Go on").is_enabled()


def test_two_people_rate_in_one_room_and_a_hostile_set_fetches_nothing(
    page,  # noqa: F811
    browser,
    app_url,
) -> None:
    beacon = _Server(_Beacon)
    lure = f"![]({beacon.url}/image) <img src='{beacon.url}/html'>"
    row = f"lure,What about kumquats {lure}?,{lure},{lure},,,yes,{lure}\n"
    go(page, "Evaluate")
    load(page, SET + row)
    run(page)
    tab(page, "Results")
    page.wait_for_timeout(700)
    tab(page, "Faults")
    page.wait_for_timeout(700)
    tab(page, "People rate")
    page.get_by_text("A room is open to everybody who has its code").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Open a room").click()
    code = page.locator("h2").filter(has_text=re.compile(r"^[A-Z2-9]{6}$")).inner_text(timeout=WAIT)
    context = browser.new_context(viewport={"width": 390, "height": 844})
    try:
        guest = context.new_page()
        guest.goto(f"{app_url}/evaluate")
        guest.get_by_role("tab", name="People rate").click(timeout=FIRST)
        guest.get_by_role("textbox", name="Code").fill(code.lower())
        guest.get_by_role("textbox", name="Code").press("Enter")
        guest.get_by_role("button", name="Join").click()
        vote(guest)
        guest.get_by_text("1 of 3 rated").wait_for(timeout=WAIT)
        guest.get_by_text("Your last vote: left was").wait_for(timeout=WAIT)
    finally:
        context.close()
    page.get_by_role("button", name="Look again").click()
    page.get_by_text("Raters: 2. Votes so far: 1.").wait_for(timeout=WAIT)
    page.get_by_role("heading", name="What the raters said").wait_for(timeout=WAIT)
    page.get_by_role("button", name="Close the room").click()
    page.get_by_text("Rate answers of your last run").wait_for(timeout=WAIT)
    assert beacon.asked == []


def vote(guest) -> None:
    """One answer right, the other wrong, the left one better."""
    form = guest.get_by_test_id("stForm")
    form.get_by_text("right answer and passage").first.click(timeout=WAIT)
    form.get_by_text("both wrong").last.click()
    form.get_by_text("The left one").click()
    form.get_by_role("button", name="Vote").click()


def test_reads_on_a_phone(browser, app_url) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    try:
        phone = context.new_page()
        phone.goto(f"{app_url}/evaluate")
        phone.get_by_role("tab", name="Results").wait_for(timeout=FIRST)
        load(phone, SET)
        run(phone)
        for name in ("Results", "Faults", "People rate", "Report"):
            tab(phone, name)
            phone.wait_for_timeout(500)
            assert phone.evaluate("document.documentElement.scrollWidth") <= 390, name
    finally:
        context.close()
