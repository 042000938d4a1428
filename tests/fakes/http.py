"""A local HTTP server that answers JSON, with failures on request. Knows no service."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# (method, path with query, body, headers) -> (status, JSON or None, headers)
Answer = Callable[[str, str, dict, dict], tuple[int, object, dict]]


class JsonServer:
    """Listens on a free local port until `close`; `failing` answers of 503 come first."""

    def __init__(self, answer: Answer) -> None:
        self.failing = 0
        self.requests: list[tuple[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # two small packets an answer would otherwise wait 40 ms for each other
            disable_nagle_algorithm = True

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                server.requests.append((self.command, self.path))
                if server.failing > 0:
                    server.failing -= 1
                    status, made, extra = 503, {"message": "try again"}, {}
                else:
                    headers = {k.lower(): v for k, v in self.headers.items()}
                    sent = json.loads(body) if body else {}
                    status, made, extra = answer(self.command, self.path, sent, headers)
                data = b"" if made is None else json.dumps(made).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                for name, value in extra.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _any  # noqa: N815

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
