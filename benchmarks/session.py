"""A visitor of the running app without a browser: Streamlit's own protocol over its websocket.

Thirty browsers would take the processor that is to be measured; this takes next to nothing. What it
does is what the page's script does: send the state of widgets, read deltas until the script ends.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import FileURLs
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0  # seconds for anything


class App:
    """The app in a process of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable, "-m", "streamlit", "run", "streamlit_app.py", f"--server.port={port}",
            "--server.address=127.0.0.1", "--server.headless=true",
            "--server.fileWatcherType=none",
        ]  # fmt: skip
        self.began = time.perf_counter()
        self.address = f"127.0.0.1:{port}"
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/_stcore/health", timeout=1).read()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("the app ended while starting") from None
                time.sleep(0.02)

    def megabytes(self) -> float:
        """Resident memory (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line[:6] == "VmRSS:")
        return int(kilobytes) / 1024

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGKILL)


@contextmanager
def running() -> Iterator[App]:
    app = App()
    try:
        yield app
    finally:
        app.close()


class Failed(Exception):
    """The page ended without what was wanted."""


class Session:
    """One visitor. `open`, then `ask` and `upload`; `close` is the closed tab."""

    def __init__(self, app: App) -> None:
        self._address = app.address
        self._cookie = self._xsrf()
        self._left = ExitStack()
        self._socket = self._left.enter_context(
            connect(
                f"ws://{app.address}/_stcore/stream",
                subprotocols=["streamlit", self._cookie.split("=", 1)[1]],
                additional_headers={"Cookie": self._cookie},
                origin=f"http://{app.address}",
                max_size=None,
            )
        )
        self._kept: dict[str, ForwardMsg] = {}
        self._pages: dict[str, str] = {}
        self._page = ""
        self._id = ""
        self._widgets: dict[str, str] = {}  # kind -> id
        self.heard = bytearray()  # all that came during the last visit to a page or action

    def _xsrf(self) -> str:
        with urllib.request.urlopen(f"http://{self._address}/_stcore/health") as response:
            return response.headers["Set-Cookie"].split(";")[0]

    def open(self, page: str = "") -> float:
        """Show a page, as "" or "documents"; seconds to its first element, when the whole of it
        has come."""
        self._page = self._pages[page] if page else ""
        begun = time.perf_counter()
        first: list[float] = []

        def see(message: ForwardMsg) -> bool:
            if message.HasField("delta") and not first:
                first.append(time.perf_counter() - begun)
            return False

        self._run(BackMsg(), see)
        wanted = "file_uploader" if page == "documents" else "chat_input"
        if wanted not in self._widgets:
            raise Failed(f"no {wanted} on the page")
        return first[0]

    def ask(self, question: str) -> dict[str, float]:
        """Seconds to "passages" and to "answers". Raises `Failed` where none came."""
        message = BackMsg()
        widget = message.rerun_script.widget_states.widgets.add()
        widget.id = self._widgets["chat_input"]
        widget.chat_input_value.data = question
        begun = time.perf_counter()
        seen: dict[str, float] = {}

        def see(message: ForwardMsg) -> bool:
            raw = message.SerializeToString()
            for name, mark in (("passages", b"passage-1"), ("answers", b"Comparison as JSON")):
                if name not in seen and mark in raw:
                    seen[name] = time.perf_counter() - begun
            return "answers" in seen

        self._run(message, see)
        if "answers" not in seen:
            raise Failed("the page ended without answers")
        return seen

    def upload(self, name: str, data: bytes) -> float:
        """Seconds until a file was read and indexed; the Documents page has to be open."""
        begun = time.perf_counter()
        where = self.deliver(name, data)
        message = BackMsg()
        widget = message.rerun_script.widget_states.widgets.add()
        widget.id = self._widgets["file_uploader"]
        file = widget.file_uploader_state_value.uploaded_file_info.add()
        file.name, file.size, file.file_id = name, len(data), where.file_id
        file.file_urls.CopyFrom(where)
        read: list[bool] = []

        def see(message: ForwardMsg) -> bool:
            read.extend([True] if b"hide-reports" in message.SerializeToString() else [])
            return False

        self._run(message, see)
        if not read:
            raise Failed("no report of the file")
        return time.perf_counter() - begun

    def deliver(self, name: str, data: bytes) -> FileURLs:
        """Put a file's bytes into the server's memory, where no page looks at them yet; where."""
        asked = BackMsg()
        asked.file_urls_request.request_id = uuid.uuid4().hex
        asked.file_urls_request.session_id = self._id
        asked.file_urls_request.file_names.append(name)
        self._socket.send(asked.SerializeToString())
        while True:
            answer = self._receive()
            if answer.HasField("file_urls_response"):
                break
        where = answer.file_urls_response.file_urls[0]
        self._put(where.upload_url, name, data)
        return where

    def close(self) -> None:
        self._left.close()

    def _put(self, url: str, name: str, data: bytes) -> None:
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        body = f"{head}\r\n".encode() + data + f"\r\n--{edge}--\r\n".encode()
        connection = http.client.HTTPConnection(self._address)
        headers = {
            "Content-Type": f"multipart/form-data; boundary={edge}",
            "Cookie": self._cookie,
            "X-Xsrftoken": self._cookie.split("=", 1)[1],
        }
        connection.request("PUT", urlsplit(url).path, body, headers)
        status = connection.getresponse().status
        connection.close()
        if status >= 300:
            raise Failed(f"the upload was refused ({status})")

    def _run(self, message: BackMsg, see: Callable[[ForwardMsg], bool]) -> None:
        """Send, and show `see` every message until it is content or the script has ended without
        starting anew."""
        message.rerun_script.page_script_hash = self._page
        self._socket.send(message.SerializeToString())
        content = False
        self.heard.clear()
        while True:
            got = self._receive()
            self.heard += got.SerializeToString()
            content = see(got) or content
            if got.HasField("script_finished"):
                # one that starts anew says that it ended early
                if content or got.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                    return
                if got.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                    raise Failed("the page has an error")

    def _receive(self) -> ForwardMsg:
        message = ForwardMsg.FromString(self._socket.recv(timeout=PATIENCE))
        if message.HasField("ref_hash"):
            kept = self._kept[message.ref_hash]
            message, metadata = ForwardMsg.FromString(kept.SerializeToString()), message.metadata
            message.metadata.CopyFrom(metadata)
        elif message.metadata.cacheable:
            self._kept[message.hash] = message
        if message.HasField("new_session"):
            self._id = message.new_session.initialize.session_id
            self._page = message.new_session.page_script_hash
        elif message.HasField("navigation"):
            self._pages = {
                page.url_pathname: page.page_script_hash for page in message.navigation.app_pages
            }
            self._page = message.navigation.page_script_hash or self._page
        elif message.HasField("delta") and message.delta.HasField("new_element"):
            kind = message.delta.new_element.WhichOneof("type")
            if kind == "chat_input" or (
                kind == "file_uploader" and "own" in message.delta.new_element.file_uploader.label
            ):
                self._widgets[kind] = getattr(message.delta.new_element, kind).id
        return message


def main() -> None:
    """One visit, told as JSON: a check that this file still speaks the app's protocol."""
    with running() as app:
        visitor = Session(app)
        told: dict[str, object] = {"first element": visitor.open()}
        told["asked"] = visitor.ask("How many days of annual leave do I get?")
        visitor.open("documents")
        told["uploaded"] = visitor.upload("lamp.md", b"# Lamp\n\nOttilie Brandt repairs the lamp.")
        visitor.close()
        told["MB"] = app.megabytes()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
