"""PDF reading, on files made here and on the sample files of others."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import hostile_pdfs
import pypdf
import pytest
from PIL import Image
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen import canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    PageTemplate,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    TableStyle,
)
from reportlab.platypus import Table as DrawnTable

from ragdemo.errors import DocumentError, LimitReached, PasswordNeeded
from ragdemo.loading import load, pdf_worker
from ragdemo.loading.pdf import page_image
from ragdemo.settings import MIB, Limits
from ragdemo.types import Document

SAMPLES = Path(__file__).parents[2] / "shared" / "pdfs" / "sample-files"
STYLES = getSampleStyleSheet()
BODY = STYLES["BodyText"]


def drawn(*pages: list[tuple[float, float, str]], size: float = 11, **info: object) -> bytes:
    """A PDF with each page's (x, y from the top, text) drawn as it stands."""
    out = io.BytesIO()
    pen = canvas.Canvas(out, pagesize=A4, **info)
    for page in pages:
        pen.setFont("Helvetica", size)
        for x, y, text in page:
            pen.drawString(x, A4[1] - y, text)
        pen.showPage()
    pen.save()
    return out.getvalue()


def flowed(story: list[object], **options: object) -> bytes:
    out = io.BytesIO()
    SimpleDocTemplate(out, pagesize=A4, **options).build(story)
    return out.getvalue()


def encrypted(data: bytes, user: str, owner: str, algorithm: str = "AES-256") -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(user, owner, algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def blocks(document: Document, kind: str) -> list[str]:
    return [document.text[b.start : b.end] for b in document.blocks if b.kind == kind]


def check(document: Document) -> None:
    """What holds for every document."""
    assert document.report is not None
    assert len(document.id) == 64
    end = 0
    for page in document.pages:
        assert 0 <= page.start <= page.end <= len(document.text)
        assert page.start >= end
        end = page.end
        if page.start and page.end > page.start:
            assert document.text[page.start - 2 : page.start] == "\n\n"
    for block in document.blocks:
        assert 0 <= block.start < block.end <= len(document.text)
        assert block.header is None or document.text[block.header.start : block.header.end].strip()
    document.text.encode("utf-8")
    named = {*document.report.empty_pages, *document.report.scanned_pages}
    for page in document.pages:
        assert document.text[page.start : page.end].strip() or page.number in named


# -- text ------------------------------------------------------------------------------------------


def test_paragraphs_hyphens_and_lists():
    text = [
        (72, 100, "Employees may claim the cost of mobile tele-"),
        (72, 114, "phones that they use for well-known business reasons, as"),
        (72, 128, "the telephones of the company are short."),
        (72, 156, "The second paragraph stands apart from the well-"),
        (72, 170, "known first one, and is followed by a list of items here:"),
        (72, 184, "• the first item"),
        (72, 198, "• the second item"),
    ]
    document = load(drawn(text), "a.pdf")
    check(document)
    assert document.text == (
        "Employees may claim the cost of mobile telephones that they use for well-known business "
        "reasons, as the telephones of the company are short.\n\n"
        "The second paragraph stands apart from the well-known first one, and is followed by a "
        "list of items here:\n• the first item\n• the second item"
    )


def test_pages_stand_apart_and_have_exact_offsets():
    document = load(drawn([(72, 300, "One.")], [], [(72, 300, "Three.")]), "a.pdf")
    check(document)
    assert document.text == "One.\n\nThree."
    assert [document.text[p.start : p.end] for p in document.pages] == ["One.", "", "Three."]
    assert document.report.empty_pages == (2,)
    assert document.page_at(document.text.index("Three")).number == 3


def test_running_headers_and_footers_are_furniture():
    pages = [
        [
            (72, 40, "Handbook of the company"),
            (72, 200, f"Something of its own stands on page {'abcde'[n]}."),
            (72, 214, f"The allowance is {n * n + 7} pounds."),
            (280, 810, f"Page {n + 1} of 5"),
        ]
        for n in range(5)
    ]
    document = load(drawn(*pages), "a.pdf")
    check(document)
    assert blocks(document, "furniture") == [
        part for n in range(5) for part in ("Handbook of the company", f"Page {n + 1} of 5")
    ]


def test_numbers_that_do_not_count_pages_are_no_furniture():
    pages = [
        [(72, 40, f"The allowance is {value} pounds"), (72, 300, f"Text {'abc'[n]}.")]
        for n, value in enumerate((10, 45, 5))
    ]
    assert blocks(load(drawn(*pages), "a.pdf"), "furniture") == []


@pytest.mark.parametrize("count", [2, 3])
def test_pages_that_are_all_alike_keep_their_text(count):
    document = load(drawn(*[[(72, 50, "The same words on each page.")]] * count), "a.pdf")
    assert blocks(document, "furniture") == []


def columns() -> bytes:
    out = io.BytesIO()
    template = BaseDocTemplate(out, pagesize=A4)
    width = 220
    frames = [Frame(60, 60, width, 700, id="l"), Frame(60 + width + 25, 60, width, 700, id="r")]
    template.addPageTemplates(PageTemplate(frames=frames))
    template.build(
        [
            Paragraph(f"Sentence number {n} stands in its column and is read in order.", BODY)
            for n in range(60)
        ]
    )
    return out.getvalue()


def test_two_columns_are_read_one_after_the_other():
    document = load(columns(), "a.pdf")
    check(document)
    at = [document.text.index(f"number {n} stands") for n in range(60)]
    assert at == sorted(at)
    assert not blocks(document, "table")


def test_two_columns_drawn_line_by_line():
    left = [f"On the left the line {n} of the text goes on" for n in range(20)]
    right = [f"while on the right line {n} says other things" for n in range(20)]
    page = []
    for n in range(20):
        page += [(60, 100 + 14 * n, left[n]), (320, 100 + 14 * n, right[n])]
    text = " ".join(load(drawn(page), "a.pdf").text.split())
    assert " ".join(left) in text
    assert " ".join(right) in text


def test_headings_by_size_and_by_outline():
    out = io.BytesIO()
    pen = canvas.Canvas(out, pagesize=A4)
    body = "This is an ordinary line of the body, which is long enough to count for much."
    for size, y, text in (
        (20, 100, "Handbook"), (14, 140, "Leave"), (10, 160, body), (10, 172, body),
        (10, 220, "Named by the outline"), (10, 250, body), (14, 300, "Pay"), (10, 320, body),
    ):  # fmt: skip
        pen.setFont("Helvetica", size)
        pen.drawString(72, A4[1] - y, text)
    pen.bookmarkPage("here")
    pen.addOutlineEntry("Named by the Outline", "here", level=0)
    pen.save()
    document = load(out.getvalue(), "a.pdf")
    found = [
        (b.level, document.text[b.start : b.end]) for b in document.blocks if b.kind == "heading"
    ]
    assert found == [(1, "Handbook"), (2, "Leave"), (1, "Named by the outline"), (2, "Pay")]


def test_page_labels():
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(drawn(*[[(72, 99, "Text.")]] * 4)))
    writer.set_page_label(0, 1, style="/r")
    writer.set_page_label(2, 3, style="/D", start=1)
    out = io.BytesIO()
    writer.write(out)
    assert [p.label for p in load(out.getvalue(), "a.pdf").pages] == ["i", "ii", "1", "2"]


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_turned_pages_are_read_as_they_are_looked_at(turned):
    out = io.BytesIO()
    pen = canvas.Canvas(out, pagesize=A4)
    pen.translate(A4[0] / 2, A4[1] / 2)
    pen.rotate(turned)  # the page turns back what the pen turns
    for n, text in enumerate(
        ("This paragraph goes on over the end of its", "first line.", "Next.")
    ):
        pen.drawString(-200, -14 * n - 14 * (n > 1), text)
    pen.save()
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(out.getvalue()))
    writer.pages[0].rotate(turned)
    out = io.BytesIO()
    writer.write(out)
    document = load(out.getvalue(), "a.pdf")
    assert document.text == "This paragraph goes on over the end of its first line.\n\nNext."
    assert yellow(page_image(out.getvalue(), 1, "goes on over the end"))


def test_slanted_text_keeps_its_lines():
    out = io.BytesIO()
    pen = canvas.Canvas(out, pagesize=A4)
    pen.rotate(60)
    pen.drawString(300, 0, "Some slanted text.")
    pen.drawString(300, -20, "And more of it.")
    pen.save()
    assert load(out.getvalue(), "a.pdf").text == "Some slanted text.\nAnd more of it."


def test_what_pdfium_refuses_is_read_with_pypdf():
    data = drawn([(72, 99, "One.")], [(72, 99, "Two.")])
    options = {"name": "a.pdf", "password": None, "pages": 10}
    first, *pages = pdf_worker._read_with_pypdf(data, options)
    assert first == {"pages": 2, "repaired": True}
    assert [page["lines"][0][-2] for page in pages] == ["One.", "Two."]
    with pytest.raises(PasswordNeeded):
        next(pdf_worker._read_with_pypdf(encrypted(data, "open", "owner"), options))


# -- tables ----------------------------------------------------------------------------------------

GRID = TableStyle([("GRID", (0, 0), (-1, -1), 0.5, colors.black)])
LINES = TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.5, colors.grey)])
PLAIN = TableStyle([("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold")])
ROWS = [
    ["Grade", "Hotel a night", "Meals a day"],
    *([f"Grade {n}", f"£{100 + n}", f"£{20 + n}"] for n in range(1, 8)),
]


@pytest.mark.parametrize("style", [GRID, LINES, PLAIN], ids=["grid", "lines", "plain"])
def test_tables_are_rows_with_a_header(style):
    story = [Paragraph("Before the table.", BODY), DrawnTable(ROWS, style=style)]
    story.append(Paragraph("After the table stands a sentence of some length.", BODY))
    document = load(flowed(story), "a.pdf")
    check(document)
    assert blocks(document, "table") == ["\n".join(" | ".join(row) for row in ROWS)]
    (block,) = [b for b in document.blocks if b.kind == "table"]
    assert document.text[block.header.start : block.header.end] == " | ".join(ROWS[0])
    assert document.text.startswith("Before the table.\n\nGrade |")
    assert document.text.endswith("After the table stands a sentence of some length.")


@pytest.mark.parametrize("style", [GRID, LINES, PLAIN], ids=["grid", "lines", "plain"])
@pytest.mark.parametrize("left", [1, 2, 5])
def test_a_table_keeps_its_header_on_the_next_page(style, left):
    rows = [ROWS[0], *([f"Grade {n}", f"£{100 + n}", f"£{20 + n}"] for n in range(1, 20))]
    # as much space above it as puts `left` rows onto the second page
    height = A4[1] - 144 - 12 - (len(rows) - left) * 18 - 4
    document = load(flowed([Spacer(1, height), DrawnTable(rows, style=style)]), "a.pdf")
    check(document)
    tables = [b for b in document.blocks if b.kind == "table"]
    assert len(tables) == 2
    assert document.text[tables[1].start : tables[1].end].count("\n") == left - 1
    assert {document.text[b.header.start : b.header.end] for b in tables} == {" | ".join(ROWS[0])}


def test_cells_that_wrap_stay_one_row():
    long = "A cell whose text is so long that it has to be set on three lines of the column"
    rows = [
        [Paragraph(c, BODY) for c in row]
        for row in (["Topic", "Rule"], ["Phones", long], ["Cars", long], ["Keys", "Short"])
    ]
    document = load(flowed([DrawnTable(rows, colWidths=[90, 150], style=GRID)]), "a.pdf")
    assert blocks(document, "table") == [
        f"Topic | Rule\nPhones | {long}\nCars | {long}\nKeys | Short"
    ]


def test_a_numbered_list_is_no_table():
    page = []
    for n in range(1, 7):
        page += [(72, 100 + 14 * n, f"{n}."), (100, 100 + 14 * n, f"Item {n} of the list")]
    document = load(drawn(page), "a.pdf")
    assert not blocks(document, "table")
    assert "1. Item 1 of the list\n2. Item 2" in document.text


# -- passwords, damage, limits ---------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_passwords(algorithm):
    data = encrypted(drawn([(72, 99, "A secret text.")]), "open", "owner", algorithm)
    with pytest.raises(PasswordNeeded, match="encrypted"):
        load(data, "a.pdf")
    with pytest.raises(PasswordNeeded, match="does not open"):
        load(data, "a.pdf", password="wrong")
    for password in ("open", "owner"):
        assert load(data, "a.pdf", password=password).text == "A secret text."


def test_an_owner_password_alone_does_not_stand_in_the_way():
    data = encrypted(drawn([(72, 99, "A restricted text.")]), "", "owner")
    assert load(data, "a.pdf").text == "A restricted text."


def test_repair_is_said():
    document = load(hostile_pdfs.shifted(), "a.pdf")
    assert document.report.repaired
    assert "repaired" in document.report.notes[0]
    assert not load(drawn([(72, 99, "Sound.")]), "a.pdf").report.repaired


def test_scanned_pages_are_named():
    out = io.BytesIO()
    pen = canvas.Canvas(out, pagesize=A4)
    picture = io.BytesIO()
    Image.new("L", (60, 80), 200).save(picture, "PNG")
    from reportlab.lib.utils import ImageReader

    for width in (550, 100):
        picture.seek(0)
        pen.drawImage(ImageReader(picture), 20, 20, width, width * 1.4)
        pen.showPage()
    pen.save()
    document = load(out.getvalue(), "a.pdf")
    assert document.text == ""
    assert (document.report.scanned_pages, document.report.empty_pages) == ((1,), (2,))
    assert "OCR" in document.report.notes[0]


def test_limits_keep_what_was_read():
    data = drawn(*[[(72, 300, f"Page {n} has this text.")] for n in range(12)])
    document = load(data, "a.pdf", limits=Limits(pages=5))
    check(document)
    assert len(document.pages) == document.report.pages == 5
    assert "12 pages" in document.report.hit_limit
    document = load(data, "a.pdf", limits=Limits(characters=50))
    check(document)
    assert len(document.text) <= 50
    assert "50 characters" in document.report.hit_limit


def test_progress_counts_pages():
    seen = []
    data = drawn(*[[(72, 300, "Text.")]] * 4)
    load(data, "a.pdf", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_progress_that_raises_leaves_no_child_behind():
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = children.read_text().split() if children.exists() else []  # other tests' servers
    with pytest.raises(Stop) as caught:
        load(hostile_pdfs.shared_operators(), "a.pdf", progress=stop)
    assert caught.tb  # holds the frames, and still the child is gone
    assert not children.exists() or set(children.read_text().split()) <= set(before)


SMALL = Limits(parse_seconds=4.0, parse_cpu_seconds=3, parse_memory=384 * MIB)


@pytest.mark.parametrize("name", hostile_pdfs.ALL)
def test_hostile_files_end_within_limits(name):
    data = hostile_pdfs.ALL[name]()
    began = time.monotonic()
    try:
        document = load(data, f"{name}.pdf", limits=SMALL)
    except (DocumentError, LimitReached):
        assert name == "garbage"
    else:
        check(document)
        if name != "truncated":
            assert "can be read by everyone" in document.text
        if name == "shared_operators":
            assert document.report.hit_limit
            assert 1 <= document.report.pages < 201
        if name in ("truncated", "shifted"):
            assert document.report.repaired
    assert time.monotonic() - began < SMALL.parse_seconds + 2.5


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample PDFs are not at {SAMPLES}")
def test_the_sample_files_of_others_load_or_say_why():
    files = sorted(SAMPLES.rglob("*.pdf"))
    assert len(files) == 31
    for file in files:
        began = time.monotonic()
        try:
            document = load(file.read_bytes(), file.name)
        except PasswordNeeded:
            assert file.parent.name == "005-libreoffice-writer-password"
            document = load(file.read_bytes(), file.name, password="openpassword")
            assert document.text
        except DocumentError:
            assert file.parent.name == "017-unreadable-meta-data"
        else:
            check(document)
        assert time.monotonic() - began < 10


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"the sample PDFs are not at {SAMPLES}")
def test_the_multicolumn_sample_is_read_in_order():
    file = SAMPLES / "026-latex-multicolumn" / "multicolumn.pdf"
    document = load(file.read_bytes(), file.name)
    assert "columns filled with Lorem Ipsum text.\n\nLorem ipsum dolor sit amet" in document.text
    assert "Austria | 8.9 | 83,879 | Vienna | German" in document.text


# -- pictures --------------------------------------------------------------------------------------


def yellow(png: bytes) -> list[tuple[int, int]]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    pixels = image.load()
    return [
        (x, y)
        for y in range(0, image.height, 2)
        for x in range(0, image.width, 2)
        if pixels[x, y][2] < 200 < min(pixels[x, y][:2])
    ]


def test_a_passage_is_marked_where_it_stands():
    lines = ["The first line stands here.", "The mobile tele-", "phone policy is this.", "Last."]
    data = drawn([(72, 100 + 14 * n, text) for n, text in enumerate(lines)])
    marked = yellow(page_image(data, 1, "the  MOBILE telephone\npolicy is", scale=1.0))
    assert marked
    ys = [y for _, y in marked]
    assert 100 < min(ys) < max(ys) <= 132
    assert not yellow(page_image(data, 1, "Words of quite another document altogether"))
    assert not yellow(page_image(data, 1))


def test_a_passage_that_ends_on_the_next_page_is_marked_on_both():
    data = drawn(
        [(72, 700, "It begins on this first page and")], [(72, 90, "ends on the second page.")]
    )
    passage = "It begins on this first page and\n\nends on the second page."
    assert yellow(page_image(data, 1, passage))
    assert yellow(page_image(data, 2, passage))


def test_pages_that_are_not_there_and_files_that_are_no_pdf():
    data = drawn([(72, 99, "Text.")])
    with pytest.raises(DocumentError, match="no page 7"):
        page_image(data, 7)
    with pytest.raises(DocumentError, match="Only pages of PDF"):
        page_image(b"text", 1)
    with pytest.raises(PasswordNeeded):
        page_image(encrypted(data, "open", "owner"), 1)


def test_a_giant_page_gives_a_small_picture():
    png = page_image(hostile_pdfs.giant_page(), 1, "can be read")
    image = Image.open(io.BytesIO(png))
    assert image.width * image.height < 7_000_000
