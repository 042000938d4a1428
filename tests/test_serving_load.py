"""A class at the models that come with the app: everybody is answered from their own documents,
those who leave free their place, and a long upload delays nobody by more than a second."""

from __future__ import annotations

import statistics
import threading
import time

import pytest
from samples import FILES, encoder, mini

from ragdemo import pipeline
from ragdemo.corpus import Corpus
from ragdemo.errors import RagdemoError
from ragdemo.loading import load
from ragdemo.serving import SharedEncoder, SharedGenerator, Ticket
from ragdemo.settings import Limits

NAMES = "Adler Brandt Conrad Dorn Ebert Falk Gruber Huber Imhof Jung Keller Lang".split()


def own_file(number: int) -> bytes:
    """The same name for everybody, with content of their own."""
    return (
        "# Lamps\n\nThe green lamp in the tower is repaired by Ottilie "
        f"{NAMES[number]} every June. Spare bulbs of type {7100 + number} lie in the cellar.\n"
    ).encode()


def visit(number: int, shared: tuple[SharedEncoder, SharedGenerator], leaves: bool):
    """What one visitor gets; who leaves is gone shortly after asking."""
    corpus = pipeline.build([("lamps.md", own_file(number)), *FILES], shared[0])
    ticket = Ticket()
    if leaves:
        threading.Timer(0.3, ticket.cancelled.set).start()
    begun = time.monotonic()
    try:
        with ticket:
            return pipeline.compare(
                "Who repairs the green lamp?", corpus, shared[1], cancelled=ticket.cancelled
            )
    except RagdemoError as problem:
        return problem
    finally:
        if leaves:
            assert time.monotonic() - begun < 1.3


def side_by_side(count: int, work) -> list:
    results: list = [None] * count
    threads = [
        threading.Thread(target=lambda n=n: results.__setitem__(n, work(n))) for n in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return results


def a_class(count: int) -> None:
    encoding = SharedEncoder(encoder())
    shared = encoding, SharedGenerator(mini())
    found = side_by_side(count, lambda n: visit(n, shared, leaves=n % 4 == 3))
    for number, comparison in enumerate(found):
        if number % 4 == 3:
            continue
        assert not isinstance(comparison, RagdemoError | None), comparison
        said = repr(comparison)
        assert comparison.hits[0].chunk.document_name == "lamps.md"
        assert NAMES[number] in said
        assert not [name for n, name in enumerate(NAMES) if n != number and name in said]
    assert shared[1].waiting() == 0


def test_a_small_class_is_answered_from_its_own_documents():
    a_class(4)


@pytest.mark.long
def test_a_class_is_answered_from_its_own_documents():
    a_class(len(NAMES))


@pytest.mark.long
def test_an_upload_of_500_pages_delays_a_question_by_less_than_a_second():
    sentence = "Rule {}: the crew checks valve {} before the tide turns and notes it in book {}. "
    text = "\n\n".join(
        "".join(sentence.format(page, page * 7 + n, n) for n in range(24)) for page in range(500)
    )
    limits = Limits(characters=10_000_000)
    document = load(text.encode(), "valves.md", limits=limits)
    encoding = SharedEncoder(encoder())
    generator = SharedGenerator(mini())
    corpus = pipeline.build(FILES, encoding)

    def asked() -> float:
        """Seconds, the middle of several: other things run on a test machine too."""
        taken = []
        for _ in range(5):
            begun = time.monotonic()
            pipeline.compare("How many days of leave do I get?", corpus, generator)
            taken.append(time.monotonic() - begun)
        return statistics.median(taken)

    asked()
    before = asked()
    stop = Ticket()
    gone = threading.Event()
    told: list[int] = []

    def upload() -> None:
        try:
            with stop:
                Corpus(encoding).add(document, progress=lambda done, _: told.append(done))
        except RagdemoError:
            gone.set()

    threading.Thread(target=upload, daemon=True).start()
    while len(told) < 3:
        time.sleep(0.1)
    at = told[-1]
    meanwhile = asked()
    assert told[-1] > at  # the upload went on
    stop.cancelled.set()
    assert gone.wait(1.5)  # and was still under way, and is gone at once
    assert meanwhile - before < 1
