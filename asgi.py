"""The same app with strict headers, for those who host it themselves: `streamlit run asgi.py`.

The content policy lets the page run and fetch only what comes from this server: should a text of a
stranger ever reach a sink that fetches, the browser refuses.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import streamlit
from starlette.middleware import Middleware
from streamlit.starlette import App

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


_PAGE = Path(streamlit.__file__).parent / "static" / "index.html"
HEADERS = {
    "Content-Security-Policy": content_policy(_PAGE.read_bytes()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

app = App(
    Path(__file__).with_name("streamlit_app.py"),
    middleware=[Middleware(Headers, headers=HEADERS)],
)
