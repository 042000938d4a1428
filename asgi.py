"""The same app with strict headers, for those who host it themselves: `streamlit run asgi.py`.

The content policy lets the page run and fetch only what comes from this server: should a text of a
stranger ever reach a sink that fetches, the browser refuses. And a session's uploads are counted
before they are received: Streamlit limits each file, but holds all of a session's in memory.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import streamlit
from starlette.middleware import Middleware
from streamlit.runtime import get_instance
from streamlit.starlette import App

from ragdemo.settings import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


def inline_hashes(page: bytes) -> list[str]:
    """The policy's source for each inline script of an HTML page: "'sha256-...'"."""
    return [
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
        for script in _INLINE.findall(page)
    ]


def content_policy(page: bytes) -> str:
    """For the app whose index.html is `page`.

    Streamlit's components are modules at blob: addresses, its style sheets are made in the page,
    and its reader of messages compiles a few lines of WebAssembly for 64-bit numbers
    ('wasm-unsafe-eval' lets no JavaScript be evaluated). Everything else comes from this server; a
    WebSocket to it counts as 'self'.
    """
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(("script-src 'self' blob: 'wasm-unsafe-eval'", *inline_hashes(page))),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    )


class Headers:
    """Adds `headers` to every HTTP response; one of the same name that is there is replaced."""

    def __init__(self, app: Callable, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        names = {name for name, _ in self._headers}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [(k, v) for k, v in message.get("headers", ()) if k.lower() not in names]
                message = {**message, "headers": [*others, *self._headers]}
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class UploadTotal:
    """Refuses (413) a file that would take what a session holds above `most` bytes.

    Files of one drop arrive side by side, so those under way count as held. A length must be
    announced (411 without): the server lets no body be longer than it says.
    """

    def __init__(self, app: Callable, most: int, held: Callable[[str], int]) -> None:
        """`held` gives the bytes of a session's files that are kept already."""
        self._app, self._most, self._held = app, most, held
        self._coming: Counter[str] = Counter()  # bytes by session

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        upload = _UPLOAD.search(scope["path"]) if scope.get("method") == "PUT" else None
        if upload is None:
            return await self._app(scope, receive, send)
        session = upload[1]
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            return await _refuse(receive, send, 411, b"An upload has to announce its length.")
        if self._held(session) + self._coming[session] + int(length) > self._most:
            return await _refuse(receive, send, 413, b"This visit's files are too large together.")
        self._coming[session] += int(length)
        try:
            await self._app(scope, receive, send)
        finally:
            self._coming[session] -= int(length)
            if not self._coming[session]:
                del self._coming[session]


_UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+$")


async def _refuse(receive: Receive, send: Send, status: int, why: bytes) -> None:
    # a browser that is cut off while it sends never reads the answer
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": why})


def held(session: str) -> int:
    """Bytes of a session's uploads in Streamlit's memory."""
    files = get_instance().uploaded_file_mgr.file_storage.get(session, {})
    return sum(len(file.data) for file in list(files.values()))


_PAGE = Path(streamlit.__file__).parent / "static" / "index.html"
HEADERS = {
    "Content-Security-Policy": content_policy(_PAGE.read_bytes()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

app = App(
    Path(__file__).with_name("streamlit_app.py"),
    middleware=[
        Middleware(Headers, headers=HEADERS),
        # twice what a visitor may keep: files may be taken out and others put in
        Middleware(UploadTotal, most=2 * Limits().total_bytes, held=held),
    ],
)
