"""A comparison saved and opened again; what an altered file may not do."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdemo import report
from ragdemo.errors import DocumentError
from ragdemo.text import clean
from ragdemo.types import (
    Answer,
    Chunk,
    Comparison,
    Copied,
    Hit,
    Prompt,
    Segment,
    Span,
    Support,
)

NASTY = '<img src="http://x/y"><script>alert(1)</script> ![](http://x/z) "\'& 20 days.'


def comparison(text: str = NASTY, question: str = NASTY) -> Comparison:
    """One passage holding `text`, answered by `text` itself."""
    chunk = Chunk("d:0-1", "d" * 64, NASTY[:40], text, 0, len(text), (3,), heading=NASTY, tokens=9)
    hit = Hit(chunk, 0.5, 1, "dense", {"cosine": 0.5})
    prompt = Prompt(
        question, (hit,), (), {chunk.id: 2}, (Segment("question", 4),), 512, text=text,
        messages=({"role": "user", "content": text},),
    )  # fmt: skip
    answer = Answer(
        text, prompt, "mini", tokens=5, seconds={"write": 0.5}, shares=(1.0,), confidence=0.9,
        copied=(Copied(0, len(text), 0, 0, len(text)),),
    )  # fmt: skip
    held = (Support(0, len(text), 0.9, 1, Span(0, len(text)), (Span(0, min(2, len(text))),)),)
    return Comparison(
        question, (hit,), answer, answer, held, held, floor=0.2, weak=NASTY,
        seconds={"search": 0.1}, files={NASTY: "d" * 64},
        settings={"k": 5, "chunking": {"tokens": 200}, "template": None}, versions={"torch": "2"},
    )  # fmt: skip


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action", "srcset")]


def test_json_gives_back_the_same_comparison() -> None:
    made = comparison()
    assert report.from_json(report.to_json(made)) == made
    assert report.from_json(report.to_json(made).encode()) == made


@given(st.text(max_size=200), st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_text_survives_json_and_stays_text_in_html(text: str, question: str) -> None:
    made = comparison(clean(text)[0], clean(question)[0])
    assert report.from_json(report.to_json(made)) == made
    _harmless(report.to_html(made))


def test_html_runs_and_fetches_nothing() -> None:
    page = report.to_html(comparison())
    _harmless(page)
    assert "default-src 'none'" in page
    assert "&lt;script&gt;alert(1)" in page


def _harmless(page: str) -> None:
    found = _Tags()
    found.feed(page)
    assert not {"script", "img", "iframe", "link", "object", "embed", "form", "svg"} & set(
        found.tags
    )
    assert all(link.startswith("#passage-") for link in found.links)


def _changed(path: tuple, value: object) -> str:
    facts = json.loads(report.to_json(comparison("Twenty days of leave.")))
    at = facts["comparison"]
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(facts)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("question",), 7),
        (("question",), "a\u0000b"),
        (("question",), "lone \ud800"),
        (("support", 0, "end"), 10_000),
        (("support", 0, "citation"), 2),
        (("support", 0, "evidence"), {"start": 5, "end": 2}),
        (("support", 0, "score"), "high"),
        (("grounded", "copied", 0, "end"), 99_999),
        (("hits", 0, "chunk", "end"), 3),
        (("hits", 0, "chunk", "surprise"), 1),
        (("hits", 0, "score"), None),
        (("hits",), {}),
        (("grounded", "tokens"), True),
        (("settings", "chunking"), [["deep"]]),
        (("floor",), 1e999),
    ],
)
def test_an_altered_file_ends_in_one_sentence(path: tuple, value: object) -> None:
    with pytest.raises(DocumentError, match="not a comparison saved by ragdemo"):
        report.from_json(_changed(path, value))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match="not a comparison"):
        report.from_json(data)


def test_a_huge_file_is_not_even_parsed() -> None:
    with pytest.raises(DocumentError, match="larger than"):
        report.from_json(b" " * (report.MOST_BYTES + 1))
