"""What several tests make: small PDFs, and for browser tests the running app and a browser."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="session")
def make_pdf() -> Callable[..., bytes]:
    """A PDF with one paragraph of text a page: make_pdf("first page", "second", title="T")."""
    return _pdf


def _pdf(*pages: str, title: str = "", password: str = "") -> bytes:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    story: list = [Paragraph(title, styles["Heading1"])] if title else []
    for number, page in enumerate(pages):
        story += [PageBreak()] if number else []
        story.append(Paragraph(page, styles["BodyText"]))
    made = io.BytesIO()
    SimpleDocTemplate(made, pagesize=A4, encrypt=password or None).build(story)
    return made.getvalue()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(script: str, **variables: str) -> Iterator[str]:
    """The real app started from this file of the project, with these environment variables set."""
    port = free_port()
    command = [
        sys.executable, "-m", "streamlit", "run", script, f"--server.port={port}",
        "--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).read()
                break
            except OSError:
                assert process.poll() is None, "the app ended while starting"
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def app_url() -> Iterator[str]:
    """The real app, started once."""
    # the tests' own slow endpoint lies in this machine
    with served("streamlit_app.py", RAGDEMO_PRIVATE_ENDPOINTS="1") as url:
        yield url


@pytest.fixture(scope="session")
def browser():
    """Chromium through Playwright, without a network of its own."""
    chromium = shutil.which("chromium")
    if not chromium:
        if os.environ.get("RAGDEMO_NEED_BROWSER"):
            pytest.fail("no chromium on this machine")
        pytest.skip("no chromium on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield opened
        opened.close()
