"""Take the README's picture again: `python tests/screenshot.py URL` against a running app."""

import sys
from pathlib import Path

from conftest import FLAGS
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parents[1] / "ragdemo" / "ui" / "screenshot.png"
QUESTION = "What is our company's mobile phone policy?"


def take(url: str, path: Path, width: int = 1280, height: int = 1000, scheme: str = "light"):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(url)
        page.get_by_role("button", name=QUESTION).click(timeout=90_000)
        page.get_by_role("button", name="Comparison as JSON").wait_for(timeout=90_000)
        page.wait_for_timeout(1500)  # the component's fonts and bars settle
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    take(sys.argv[1], PICTURE)
    for width, scheme in ((390, "light"), (1280, "dark")):
        take(sys.argv[1], Path(f"/tmp/ragdemo-{width}-{scheme}.png"), width, 1600, scheme)
