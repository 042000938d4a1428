"""Several visitors of the started app at once, over its own websocket, without a browser."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import hostile_pdfs
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from session import Session

pytestmark = pytest.mark.browser
NAMES = ("Adler", "Brandt", "Conrad")
HOSTILE = (
    hostile_pdfs.zip_bomb, hostile_pdfs.nested_forms, hostile_pdfs.page_loop,
    hostile_pdfs.deep_operators, hostile_pdfs.garbage, hostile_pdfs.endless_strings,
)  # fmt: skip


@pytest.fixture
def visit(app_url):
    """Opens the app for one more visitor."""
    opened: list[Session] = []

    def new() -> Session:
        opened.append(Session(SimpleNamespace(address=urlsplit(app_url).netloc)))
        opened[-1].open()
        return opened[-1]

    yield new
    for session in opened:
        session.close()


def side_by_side(work, count: int) -> None:
    """`work(n)` in a thread each; raises what the first of them raised."""
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as problem:  # told below, in the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    if problems:
        raise problems[0]


def test_one_file_name_and_no_byte_crosses(visit) -> None:
    sessions = [visit() for _ in NAMES]
    everything: list[bytes] = [b""] * len(NAMES)

    def work(number: int) -> None:
        session, name = sessions[number], NAMES[number]
        body = f"# Lamps\n\nThe green lamp in the tower is repaired by Ottilie {name} in June.\n"
        for step in (
            lambda: session.open("documents"),
            lambda: session.upload("lamps.md", body.encode()),
            lambda: session.open("documents"),
            lambda: session.open(""),
            lambda: session.ask("Who repairs the green lamp?"),
        ):
            step()
            everything[number] += bytes(session.heard)
        assert f"Ottilie {name}".encode() in session.heard

    side_by_side(work, len(NAMES))
    for number, name in enumerate(NAMES):
        for other, heard in enumerate(everything):
            assert (name.encode() in heard) == (other == number)


def test_hostile_files_delay_nobody_for_good(visit) -> None:
    villain, asker = visit(), visit()
    files = [(f"{n}.pdf", data) for n, data in enumerate(f() for f in HOSTILE)]

    def work(number: int) -> None:
        if number == 0:
            villain.open("documents")
            for name, data in files:
                villain.upload(name, data)
            return
        for _ in range(3):
            asker.ask("How soon must I report a lost work phone?")
            assert b"mobile-phone-policy.pdf" in asker.heard

    side_by_side(work, 2)
