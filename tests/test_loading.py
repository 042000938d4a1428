"""Telling formats apart, the formats other than PDF, and many files at once."""

from __future__ import annotations

import contextlib
import io
import threading
import zipfile

import docx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragdemo.errors import DocumentError, LimitReached, RagdemoError
from ragdemo.loading import child, load, load_many, read_folder, safe_name
from ragdemo.settings import Limits
from ragdemo.types import Document, FileReport


def blocks(document: Document, kind: str) -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks if b.kind == kind]


def header(document: Document) -> str:
    (block,) = [b for b in document.blocks if b.kind == "table"]
    return document.text[block.header.start : block.header.end]


def saved(document: docx.document.Document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


# -- what is it? -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pdf", b"\x89PNG\r\n\x1a\n....", "PNG picture"),
        ("a.pdf", b"hello", "no PDF"),
        ("a.docx", b"\xd0\xcf\x11\xe0....", "without a password"),
        ("a.docx", b"hello", "no DOCX"),
        ("a.txt", b"%PDF-1.7 ...", "is a PDF"),
        ("a.csv", b"PK\x03\x04....", "ZIP"),
        ("a.md", b"\x00\x01\x02\x03" * 40, "binary"),
        ("a.exe", b"MZ\x90\x00", "program"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "JPEG"),
        ("a", b"hello", "Load one of: .pdf"),
        ("a.txt", b"", "empty"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(name, data, words):
    with pytest.raises(DocumentError, match=words) as caught:
        load(data, name)
    assert str(caught.value).startswith(name)
    assert str(caught.value).endswith(".")


def test_a_file_that_is_too_large():
    with pytest.raises(LimitReached, match=r"a\.txt has 0\.0 MiB"):
        load(b"x" * 101, "a.txt", limits=Limits(file_bytes=100))


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\leave.pdf", "leave.pdf"),
        ("a\x00b\u202e.txt", "ab.txt"),
        ("", "file"),
        ("x" * 300 + ".pdf", "x" * 115 + "….pdf"),
    ],
)
def test_names_are_made_safe(given_name, shown):
    assert safe_name(given_name) == shown


# -- plain text and Markdown -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "noted"),
    [
        ("Café für alle – 20 €".encode(), False),
        ("Café für alle – 20 €".encode("utf-8-sig"), False),
        ("Café für alle – 20 €".encode("utf-16"), False),
        ("Café für alle – 20 €".encode("utf-16-be"), False),
        ("Café für alle – 20 €".encode("cp1252"), True),
    ],
    ids=["utf-8", "bom", "utf-16", "utf-16 without bom", "cp1252"],
)
def test_encodings(data, noted):
    document = load(data, "a.txt")
    assert document.text == "Café für alle – 20 €"
    assert bool(document.report.notes) is noted


def test_markdown_headings_tables_and_code():
    text = (
        "# Handbook\n\nHello.\n\nLeave\n-----\n\n| Grade | Days |\n|---|---|\n| A | 20 |\n\n"
        "```\n# no heading\n```\n"
    )
    document = load(text.encode(), "a.md")
    assert blocks(document, "heading") == ["Handbook", "Leave"]
    assert [b.level for b in document.blocks if b.kind == "heading"] == [1, 2]
    assert blocks(document, "table") == ["Grade | Days\nA | 20"]
    assert header(document) == "Grade | Days"
    assert "# no heading" in document.text


def test_form_feeds_part_pages():
    document = load(b"One.\fTwo.\f\fFour.", "a.txt")
    assert [document.text[p.start : p.end] for p in document.pages] == ["One.", "Two.", "", "Four."]
    assert document.report.empty_pages == (3,)


def test_control_characters_are_dropped_and_counted():
    document = load("a\x07b\u202ec\r\nd".encode(), "a.txt")
    assert (document.text, document.report.dropped_characters) == ("abc\nd", 2)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400))
def test_any_text_comes_back_but_for_white_space(text):
    try:
        document = load(text.encode("utf-8"), "a.txt")
    except DocumentError:
        return
    kept = {c for c in document.text if not c.isspace()}
    assert kept <= set(text)
    for page in document.pages:
        assert document.text[page.start : page.end].strip() == document.text[page.start : page.end]


# -- CSV -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_csv_rows_know_their_header(sign):
    rows = [["Grade", "Days", "Note"], ["A", "20", 'with "quotes"'], ["B", "25", "two\nlines"]]
    data = "\n".join(
        sign.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in rows
    )
    document = load(data.encode(), "a.csv")
    assert document.text == 'Grade | Days | Note\nA | 20 | with "quotes"\nB | 25 | two lines'
    assert header(document) == "Grade | Days | Note"


def test_csv_without_names_says_so():
    document = load(b"1,2\n3,4\n", "a.csv")
    assert document.blocks[0].header is None
    assert "no row was taken" in document.report.notes[0]


def test_csv_with_one_giant_cell():
    with pytest.raises(DocumentError, match="quotation marks"):
        load(b'a,b\n"' + b"x" * 200_000, "a.csv")


# -- HTML ------------------------------------------------------------------------------------------


def test_html_shows_what_a_reader_sees():
    page = """<!doctype html><html><head><title>T</title><style>p {color: red}</style></head>
    <body><nav>Home | About</nav><h1>Hand<b>book</b></h1><script>alert("x < y")</script>
    <p>Twenty&nbsp;days <i>a</i> year.<br>Really.<p>Second.
    <ul><li>one<li>two</ul><noscript>none</noscript>
    <table><tr><th>Grade</th><th>Days</th></tr><tr><td>A</td><td>20</td></tr></table>
    <!-- hidden --><template>t</template><footer>Imprint</footer></body></html>"""
    document = load(page.encode(), "a.html")
    assert document.text == (
        "Home | About\n\nHandbook\n\nTwenty days a year.\nReally.\n\nSecond.\n\n- one\n- two\n\n"
        "Grade | Days\nA | 20\n\nImprint"
    )
    assert blocks(document, "heading") == ["Handbook"]
    assert blocks(document, "furniture") == ["Home | About", "Imprint"]
    assert header(document) == "Grade | Days"


def test_html_declares_its_encoding():
    page = '<meta charset="iso-8859-2"><p>Łódź'.encode("iso-8859-2")
    assert load(page, "a.htm").text == "Łódź"


@pytest.mark.parametrize(
    "page",
    [
        b"<div>" * 200_000 + b"deep",
        b"<p>text <" + b"a" * 1_000_000,
        b"<p>text" + b"<!--" * 100_000,
        b"<p>text" + b"&" * 500_000,
        b"<table><tr>" + b"<td>x" * 100_000,
        b"<p>text</p><script>" + b"x" * 1_000_000,
    ],
)
def test_hostile_html_ends(page):
    limits = Limits(parse_seconds=4, parse_cpu_seconds=3)
    with contextlib.suppress(LimitReached):  # nothing was read in time, and the visitor is told so
        assert load(page, "a.html", limits=limits).text


# -- DOCX ------------------------------------------------------------------------------------------


def test_docx_headings_lists_and_tables():
    word = docx.Document()
    word.add_heading("Handbook", 0)
    word.add_heading("Leave", 1)
    paragraph = word.add_paragraph("Twenty ")
    paragraph.add_run("days").bold = True
    paragraph.add_run(" a year.")
    word.add_paragraph("one", style="List Bullet")
    word.add_paragraph("two", style="List Bullet")
    table = word.add_table(rows=2, cols=2)
    for cell, text in zip(
        (c for row in table.rows for c in row.cells), ("Grade", "Days", "A", "20"), strict=True
    ):
        cell.text = text
    word.add_paragraph("The end.")
    word.sections[0].header.paragraphs[0].text = "Running"
    document = load(saved(word), "a.docx")
    assert document.text == (
        "Handbook\n\nLeave\n\nTwenty days a year.\n\n- one\n- two\n\nGrade | Days\nA | 20\n\n"
        "The end."
    )
    assert [b.level for b in document.blocks if b.kind == "heading"] == [1, 1]
    assert header(document) == "Grade | Days"
    assert "Headers and footers" in document.report.notes[0]


def archive(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, data in parts.items():
            packed.writestr(name, data)
    return out.getvalue()


W = b'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def word_xml(body: bytes) -> dict[str, bytes]:
    return {"word/document.xml": b"<w:document %s><w:body>%s</w:body></w:document>" % (W, body)}


def test_docx_reads_content_controls_and_leaves_deleted_text_out():
    body = (
        b"<w:sdt><w:sdtContent><w:p><w:r><w:t>Controlled.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        b"<w:p><w:ins><w:r><w:t>Kept.</w:t></w:r></w:ins>"
        b"<w:del><w:r><w:delText>Gone.</w:delText></w:r></w:del></w:p>"
    )
    document = load(archive(word_xml(body)), "a.docx")
    assert document.text == "Controlled.\n\nKept."
    assert "tracked changes" in document.report.notes[0]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"word/document.xml": b" " * (200 * 2**20)}, "unpacks to far more"),
        ({"hello.txt": b"x"}, "not a Word document"),
        ({"word/document.xml": b"<w:document"}, "damaged"),
        (
            {
                "word/document.xml": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
                b"<x>&b;</x>"
            },
            "entities",
        ),
    ],
    ids=["bomb", "zip", "broken", "entities"],
)
def test_hostile_docx(parts, words):
    with pytest.raises(DocumentError, match=words):
        load(archive(parts), "a.docx")


def test_docx_nested_deeply_ends():
    body = b"<w:sdt><w:sdtContent>" * 50_000 + b"</w:sdtContent></w:sdt>" * 50_000
    with pytest.raises(RagdemoError):
        load(archive(word_xml(body + b"<w:p>")), "a.docx")


def test_docx_says_that_automatic_numbers_are_missing():
    body = (
        b'<w:p><w:pPr><w:outlineLvl w:val="0"/><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'
        b"<w:r><w:t>Leave</w:t></w:r></w:p>"
    )
    document = load(archive(word_xml(body)), "a.docx")
    assert blocks(document, "heading") == ["Leave"]
    assert "Numbers that Word" in document.report.notes[0]


def test_docx_cut_short():
    data = archive(word_xml(b"<w:p><w:r><w:t>Hello</w:t></w:r></w:p>"))
    with pytest.raises(DocumentError, match="damaged"):
        load(data[: len(data) // 2], "a.docx")


# -- many files ------------------------------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others():
    files = [
        ("one.txt", b"One."), ("bad.pdf", b"no pdf"), ("again.txt", b"One."), ("two.md", b"# Two"),
    ]  # fmt: skip
    one, bad, again, two = load_many(files)
    assert isinstance(one, Document)
    assert one.report.name == "one.txt"
    assert isinstance(bad, FileReport)
    assert "no PDF" in bad.error
    assert isinstance(again, FileReport)
    assert again.duplicate_of == "one.txt"
    assert isinstance(two, Document)


def test_known_documents_count():
    (first,) = load_many([("one.txt", b"One.")])
    again, other = load_many(
        [("copy.txt", b"One."), ("b.txt", b"B")], known=[first], limits=Limits(files=1)
    )
    assert again.duplicate_of == "one.txt"
    assert "at most 1 files" in other.hit_limit


def test_total_limits_leave_room_for_smaller_files():
    files = [("a.txt", b"a" * 60), ("b.txt", b"b" * 60), ("c.txt", b"c" * 30)]
    a, b, c = load_many(files, limits=Limits(total_bytes=100))
    assert isinstance(a, Document)
    assert "all files together" in b.hit_limit
    assert isinstance(c, Document)


def test_a_folder_gives_its_supported_files(tmp_path):
    for name in ("b.TXT", "a.md", "questions.jsonl", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "c.txt").mkdir()
    assert list(read_folder(tmp_path)) == [("a.md", b"a.md"), ("b.TXT", b"b.TXT")]


# -- fuzz ------------------------------------------------------------------------------------------

SEEDS = {
    "a.txt": b"Some text.\n\nMore \xc3\xa9 text.",
    "a.md": b"# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "a.csv": b'a,b\n1,"2\n3"\n',
    "a.html": b"<h1>T</h1><table><tr><th>a<td>b</table><p>text &amp; <b>more",
    "a.docx": archive(word_xml(b"<w:p><w:r><w:t>Hello</w:t></w:r></w:p><w:tbl/>")),
    "a.pdf": b"",  # filled below
}


def _seed_pdf() -> bytes:
    import hostile_pdfs

    return hostile_pdfs.pdf(hostile_pdfs.pages([hostile_pdfs.GOOD]))


SEEDS["a.pdf"] = _seed_pdf()
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=12)), min_size=1, max_size=6
)
QUICK = Limits(parse_seconds=3, parse_cpu_seconds=2)


@pytest.mark.parametrize("name", SEEDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(edits=EDITS)
def test_any_damage_ends_in_a_document_or_in_a_sentence(name, edits):
    data = bytearray(SEEDS[name])
    for at, removed, put in edits:
        start = int(at * len(data))
        data[start : start + removed] = put
    try:
        document = load(bytes(data), name, limits=QUICK)
    except RagdemoError:
        pass  # the only error there may be
    else:
        document.text.encode()
        for block in document.blocks:
            assert 0 <= block.start < block.end <= len(document.text)


@pytest.mark.parametrize("name", [name for name in SEEDS if name not in ("a.pdf", "a.docx")])
@settings(max_examples=25, deadline=None)
@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_end_in_a_document_or_in_a_sentence(name, data):
    with contextlib.suppress(RagdemoError):  # the only error there may be
        load(data, name, limits=QUICK)


def test_no_more_children_run_at_once_than_the_machine_holds(monkeypatch):
    running, most, one = [0], [0], threading.Lock()
    child_run = child._run

    def counted(*given):
        with one:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            yield from child_run(*given)
        finally:
            with one:
                running[0] -= 1

    monkeypatch.setattr(child, "_run", counted)
    page = b"<html><body><p>Staff get 28 days of leave.</p></body></html>"
    threads = [threading.Thread(target=load, args=(page, f"{n}.html")) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == child.AT_ONCE
