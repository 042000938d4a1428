"""The app as `streamlit run asgi.py` serves it: its headers, and a browser that obeys them."""

from __future__ import annotations

import asyncio
import re
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from conftest import ROOT, served

from asgi import HEADERS, Headers, UploadTotal, content_policy, inline_hashes
from ragdemo.settings import MIB

sys.path.insert(0, str(ROOT / "benchmarks"))

from session import Failed, Session

FIRST = 120_000  # ms; the first visit loads the models
WAIT = 30_000
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))


def complete(work) -> None:
    """Run a coroutine in a thread of its own: a browser test before may have a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def test_hashes_of_inline_scripts_only():
    page = b"<script src='a.js'></script><script>\n let a = 1\n</script><script type=x>b</script>"
    # printf b | openssl dgst -sha256 -binary | base64
    assert inline_hashes(page)[1:] == ["'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='"]
    assert len(inline_hashes(page)) == 2
    assert inline_hashes(b"<p>no script</p>") == []


def test_the_policy_names_no_other_host_and_no_inline_script():
    policy = content_policy(b"<script>1</script>")
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert re.fullmatch(r"script-src 'self' blob: 'wasm-unsafe-eval' 'sha256-[\w+/=]{44}'", scripts)
    assert "'unsafe-eval'" not in policy
    assert "http" not in policy
    assert "*" not in policy


def test_headers_replace_those_that_are_there():
    async def inner(scope, receive, send):
        headers = [(b"Referrer-Policy", b"unsafe-url"), (b"x-other", b"kept")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    sent = []

    async def send(message):
        sent.append(message)

    complete(Headers(inner, HEADERS)({"type": "http"}, None, send))
    headers = dict(sent[0]["headers"])
    assert len(headers) == len(sent[0]["headers"])
    assert headers[b"referrer-policy"] == b"no-referrer"
    assert headers[b"x-other"] == b"kept"
    assert sent[1]["body"] == b"ok"


def put(total: UploadTotal, session: str, length: int | None, method: str = "PUT"):
    """The status of an upload, as a coroutine."""

    async def go() -> int:
        sent = []

        async def send(message):
            sent.append(message)

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        headers = [] if length is None else [(b"content-length", str(length).encode())]
        scope = {"type": "http", "method": method, "headers": headers}
        scope["path"] = f"/_stcore/upload_file/{session}/f1"
        await total(scope, receive, send)
        return sent[0]["status"]

    return go()


def test_uploads_of_a_session_are_counted_before_they_are_received():
    async def inner(scope, receive, send):
        await asyncio.sleep(0)  # others arrive while this one does
        await send({"type": "http.response.start", "status": 204, "headers": []})

    total = UploadTotal(inner, 100, {"a": 60, "b": 0, "c": 0}.__getitem__)

    async def story():
        assert await put(total, "a", 41) == 413
        assert await put(total, "a", 40) == 204
        side_by_side = await asyncio.gather(*(put(total, "b", 40) for _ in range(3)))
        assert sorted(side_by_side) == [204, 204, 413]
        assert await put(total, "b", 100) == 204  # those have arrived; what is held says the rest
        assert await put(total, "c", None) == 411
        assert await put(total, "c", None, "DELETE") == 204

    complete(story())


@pytest.fixture(scope="module")
def strict_url() -> Iterator[str]:
    """The app behind asgi.py, as README says to start it."""
    with served("asgi.py") as url:
        yield url


@pytest.mark.parametrize("path", ["/", "/documents", "/static/manifest.json", "/_stcore/health"])
def test_every_response_carries_the_headers(strict_url, path):
    try:
        answer = urllib.request.urlopen(f"{strict_url}{path}", timeout=10)
    except urllib.error.HTTPError as refused:
        answer = refused
    for name, value in HEADERS.items():
        assert answer.headers.get_all(name) == [value]


@pytest.mark.browser
def test_no_page_breaks_the_policy(strict_url, browser):
    """Every page, a question, a passage shown on its page: nothing is refused by the browser."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    broken: list[str] = []
    context.expose_function("broken", lambda text: broken.append(text))
    context.add_init_script(
        "document.addEventListener('securitypolicyviolation', e => "
        "window.broken(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}`))"
    )
    try:
        page = context.new_page()
        page.on("console", lambda m: broken.append(m.text) if "Content Security" in m.text else 0)
        answer = page.goto(strict_url)
        assert answer.header_value("content-security-policy") == HEADERS["Content-Security-Policy"]
        page.get_by_text("Answers come from").wait_for(timeout=FIRST)
        page.get_by_role("button", name=re.compile("mobile phone policy")).first.click()
        page.get_by_role("button", name="Comparison as JSON").wait_for(timeout=WAIT)
        page.get_by_text("Show it on the page").first.click()
        page.locator(".st-key-passage-1 img").wait_for(timeout=WAIT)
        for name in PAGES:
            page.goto(f"{strict_url}/{name}")
            page.get_by_role("heading", level=1).wait_for(timeout=WAIT)
            page.get_by_test_id("stStatusWidget").wait_for(state="detached", timeout=WAIT)
            for tab in page.get_by_role("tab").all():
                tab.click()
                page.wait_for_timeout(300)
        assert broken == []
        # and the policy is in force: what it forbids is refused, and seen here
        page.evaluate("const i = new Image(); i.src = 'http://127.0.0.1:9/x'")
        page.wait_for_timeout(500)
        assert any("img-src" in one for one in broken)
    finally:
        context.close()


def test_started_as_the_readme_says():
    assert "streamlit run asgi.py" in Path(ROOT / "SECURITY.md").read_text("utf-8")


@pytest.mark.browser
def test_a_session_cannot_fill_the_memory_with_files(strict_url):
    session = Session(SimpleNamespace(address=urlsplit(strict_url).netloc))
    try:
        session.open()
        for number in range(11):
            session.deliver(f"{number}.bin", bytes(18 * MIB))  # 198 of 200 MiB
        with pytest.raises(Failed, match="413"):
            session.deliver("last.bin", bytes(18 * MIB))
        session.deliver("small.bin", bytes(MIB))
    finally:
        session.close()
