"""The sample handbook and its questions: files, pages, gold answers, and the way they are made."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import pypdfium2 as pdfium
import pytest

from ragdemo.text import content_words

FOLDER = Path(__file__).resolve().parent.parent / "sample_docs"
SUPERSEDED = "annual-leave-policy-2023.pdf"
SCANNED = ("grievance-policy.pdf", 4)


def _load_render() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "sample_docs_render", FOLDER / "source" / "render.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


render = _load_render()
FILES = sorted(p for p in FOLDER.iterdir() if p.suffix in render.FORMATS)
QUESTIONS = [
    json.loads(line)
    for line in (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]


@cache
def page_texts(name: str) -> list[str]:
    return render.page_texts(FOLDER / name)


def paragraphs(name: str) -> list[str]:
    """The paragraphs and list items a file was rendered from."""
    sources = map(render.read, render.SOURCES.glob("*.md"))
    [source] = (source for source in sources if source.meta["file"] == name)
    return [line for block in source.blocks for line in block.lines]


def of_kind(kind: str) -> list[dict]:
    return [row for row in QUESTIONS if row["kind"] == kind]


def golds(row: dict) -> list[tuple[str, int, str, list[str]]]:
    """Each fact a question asks for, on each of its gold pages: file, page, evidence, answers."""
    facts = row.get("short_all", [row["short"]])
    places = [row, *row.get("also", [])]
    return [
        (place["file"], page, place["evidence"], fact)
        for place, fact in zip(places, facts, strict=True)
        for page in place["pages"]
    ]


def stem(word: str) -> str:
    """Cut common endings: "carried" and "carry" -> "carr", "handsets" -> "handset"."""
    for ending in ("ings", "ing", "ied", "ies", "ed", "es", "er", "ly", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def stems(text: str) -> set[str]:
    return {stem(word) for word in content_words(text)}


def test_there_are_enough_files_and_pages() -> None:
    pages = {path.name: len(page_texts(path.name)) for path in FILES}
    assert len(FILES) >= 10
    assert {path.suffix for path in FILES} == {".pdf", ".docx", ".md"}
    assert sum(count for name, count in pages.items() if name.endswith(".pdf")) >= 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_are_small(path: Path) -> None:
    limit = 400 if path.name == SCANNED[0] else 150
    assert path.stat().st_size < limit * 1024


def test_one_page_is_a_picture_without_text() -> None:
    empty = [
        (path.name, number)
        for path in FILES
        for number, text in enumerate(page_texts(path.name), 1)
        if not text
    ]
    assert empty == [SCANNED]
    page = pdfium.PdfDocument(FOLDER / SCANNED[0])[SCANNED[1] - 1]
    assert [item.type for item in page.get_objects()] == [pdfium.raw.FPDF_PAGEOBJ_IMAGE]


def test_code_of_conduct_has_page_labels_and_an_outline() -> None:
    code = pdfium.PdfDocument(FOLDER / "code-of-conduct.pdf")
    labels = [code.get_page_label(index) for index in range(len(code))]
    assert labels[:4] == ["i", "ii", "1", "2"]
    assert len(list(code.get_toc())) >= 10


def test_the_table_of_limits_spans_a_page_break_with_one_header() -> None:
    pages = page_texts("expenses-policy.pdf")
    first, last = "Hotel in London, a night", "Eye test for screen work"
    begins, ends = (next(n for n, t in enumerate(pages) if row in t) for row in (first, last))
    assert ends == begins + 1
    assert ["Grades 4 and 5 Grades 6 and 7" in text for text in pages].count(True) == 1


def test_there_are_enough_questions_of_each_kind() -> None:
    counts = Counter(row["kind"] for row in QUESTIONS)
    assert len(QUESTIONS) >= 110
    assert set(counts) == {
        *("plain", "paraphrase", "two passages", "unanswerable", "table", "superseded")
    }
    assert counts["unanswerable"] >= 20
    assert counts["two passages"] >= 15
    assert counts["paraphrase"] >= 20
    assert QUESTIONS[0]["question"] == "What is our company's mobile phone policy?"
    assert len({row["id"] for row in QUESTIONS}) == len(QUESTIONS)
    assert len({row["question"] for row in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("row", QUESTIONS, ids=lambda row: row["id"])
def test_answers_stand_on_their_gold_pages(row: dict) -> None:
    if not row["answerable"]:
        assert (row["kind"], row["file"], row["pages"], row["short"]) == (
            "unanswerable",
            "",
            [],
            [],
        )
        return
    assert golds(row)
    assert row["short"] == row.get("short_all", [row["short"]])[0]
    for file, page, evidence, fact in golds(row):
        assert all(short in evidence for short in fact)
        if (file, page) != SCANNED:
            assert evidence in page_texts(file)[page - 1]


def test_the_superseded_policy_is_gold_only_for_questions_about_2023() -> None:
    for row in QUESTIONS:
        uses_it = any(file == SUPERSEDED for file, *_ in golds(row)) if row["answerable"] else False
        assert uses_it == ("2023" in row["question"]), row["id"]


@pytest.mark.parametrize("row", of_kind("paraphrase"), ids=lambda row: row["id"])
def test_paraphrases_share_no_content_word_with_their_paragraph(row: dict) -> None:
    [paragraph] = (text for text in paragraphs(row["file"]) if row["evidence"] in text)
    assert not stems(row["question"]) & stems(paragraph)


def test_rendering_again_gives_the_same_files(tmp_path: Path) -> None:
    written = render.render_all(tmp_path)
    assert [path.name for path in sorted(written)] == [path.name for path in FILES]
    for path in written:
        assert render.page_texts(path) == page_texts(path.name)


def test_rendering_is_deterministic(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        render.render_all(folder)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
