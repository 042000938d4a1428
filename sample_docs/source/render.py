"""Render the sample handbook: `python sample_docs/source/render.py`.

Every Markdown file beside this script becomes the file that its front matter names, in
sample_docs/. Edit a policy and run the script; the page numbers in questions.jsonl follow where
their evidence went. The same sources always give the same bytes: no clock, no random ids.

Reads only the Markdown that the policies use: headings, paragraphs, "- " lists, tables (the dashes
under a header set the widths of its columns), **bold**, and directives on a line of their own:

    [[page break]]   [[two columns]]   [[one column]]   [[contents]]   [[scan]] ... [[end scan]]

What stands between the last two becomes a picture of a page, without a text layer.
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.sax.saxutils import escape

import docx
import numpy as np
import pypdfium2 as pdfium
from PIL import Image as Picture
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    Image,
    ListFlowable,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

SOURCES = Path(__file__).resolve().parent
COMPANY = "Quillmere Instruments Ltd"
FIXED_DATE = datetime(2026, 1, 5, 9, 0)  # the only date that files carry inside
ROMAN = ("", "i", "ii", "iii", "iv", "v")

WIDTH, HEIGHT = A4
MARGIN, GUTTER = 25 * mm, 8 * mm
INK, GREY, PALE = HexColor("#1f3a4d"), HexColor("#5c6870"), HexColor("#e3eaee")
BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=11, leading=16.5, spaceAfter=8)
CELL = ParagraphStyle("cell", BODY, fontSize=9.5, leading=12.5, spaceAfter=0)
HEAD = ParagraphStyle("head", CELL, fontName="Helvetica-Bold", textColor=INK)
SUBTITLE = ParagraphStyle("subtitle", CELL, textColor=GREY, spaceAfter=14)
HEADINGS = [
    ParagraphStyle(
        f"heading{level}",
        fontName="Helvetica-Bold",
        fontSize=size,
        leading=size + 5,
        spaceBefore=size,
        spaceAfter=5,
        textColor=INK,
        keepWithNext=1,
    )
    for level, size in enumerate((22, 14, 11.5))
]
GRID = TableStyle(
    [
        ("BACKGROUND", (0, 0), (-1, 0), PALE),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, GREY),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 6),
    ]
)


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a source, e.g. ("bullets", ["First item.", "Second item."])."""

    kind: str  # heading1, heading2, text, bullets, table or directive
    lines: list[str]  # a table's first line is its header, its second the row of dashes


@dataclass(frozen=True, slots=True)
class Source:
    """One policy as it was written."""

    meta: dict[str, str]
    body: str

    @property
    def blocks(self) -> list[Block]:
        return [_block(part.strip()) for part in re.split(r"\n\s*\n", self.body)]

    @property
    def subtitle(self) -> str:
        meta = self.meta
        return f"{meta['reference']}  ·  Version {meta['version']}  ·  {meta['status']}"


def read(path: Path) -> Source:
    """A front matter of "key: value" lines between two lines of "---", then the text."""
    _, front, body = path.read_text(encoding="utf-8").split("---\n", 2)
    return Source(dict(line.split(": ", 1) for line in front.strip().splitlines()), body.strip())


def _block(part: str) -> Block:
    lines = part.splitlines()
    if part.startswith("[["):
        return Block("directive", [part.strip("[]")])
    if heading := re.fullmatch(r"(#{1,2}) (.+)", part):
        return Block(f"heading{len(heading[1])}", [heading[2]])
    if part.startswith("|"):
        return Block("table", lines)
    if part.startswith("- "):
        return Block("bullets", [" ".join(i.split()) for i in re.split(r"(?:^|\n)- ", part)[1:]])
    return Block("text", [" ".join(lines)])


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def _inline(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))


# PDF


class Handbook(BaseDocTemplate):
    """The pages of one PDF: header, footer, and, where it has front pages, labels and an outline.

    Built twice, because the number of pages and the contents are known only after a first build.
    """

    def __init__(self, source: Source, target: io.BytesIO, total: int = 0) -> None:
        title = source.meta["title"]
        super().__init__(
            target, pagesize=A4, title=title, author=COMPANY, lang="en-GB", invariant=1
        )
        self.source, self.total = source, total
        self.front = int(source.meta.get("front_pages", 0))
        self.contents: list[tuple[str, str]] = []
        full = WIDTH - 2 * MARGIN
        half = (full - GUTTER) / 2
        self.addPageTemplates(
            [
                self._template("one column", full, MARGIN),
                self._template("two columns", half, MARGIN, MARGIN + half + GUTTER),
                PageTemplate("scan", [Frame(0, 0, WIDTH, HEIGHT, 0, 0, 0, 0)]),
            ]
        )

    def _template(self, name: str, width: float, *lefts: float) -> PageTemplate:
        tall = HEIGHT - 2 * MARGIN
        frames = [Frame(left, MARGIN, width, tall, 0, 0, 0, 0) for left in lefts]
        return PageTemplate(name, frames, onPage=self._furniture)

    def label(self, page: int) -> str:
        """What is printed on a page: "ii" in front, then from "1"."""
        return ROMAN[page] if page <= self.front else str(page - self.front)

    def _furniture(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        page, right = canvas.getPageNumber(), WIDTH - MARGIN
        of = "" if self.front else f" of {self.total}"
        canvas.setFont("Helvetica", 8.5)
        canvas.setFillColor(GREY)
        canvas.setStrokeColor(PALE)
        canvas.line(MARGIN, HEIGHT - 18 * mm, right, HEIGHT - 18 * mm)
        canvas.line(MARGIN, 18 * mm, right, 18 * mm)
        canvas.drawString(MARGIN, HEIGHT - 15.5 * mm, COMPANY)
        canvas.drawRightString(right, HEIGHT - 15.5 * mm, self.source.meta["title"])
        canvas.drawString(MARGIN, 13 * mm, self.source.subtitle)
        canvas.drawRightString(right, 13 * mm, f"Page {self.label(page)}{of}")
        if self.front and page in (1, self.front + 1):
            canvas.addPageLabel(page - 1, "ROMAN_LOWER" if page == 1 else "ARABIC", start=1)

    def afterFlowable(self, flowable: Flowable) -> None:  # noqa: N802, reportlab calls it
        """Collect the headings for the outline and the contents page."""
        if self.front and getattr(getattr(flowable, "style", None), "name", "") == "heading1":
            text = flowable.getPlainText()
            self.canv.bookmarkPage(text)
            self.canv.addOutlineEntry(text, text)
            if self.page > self.front:
                self.contents.append((text, self.label(self.page)))


def render_pdf(source: Source) -> bytes:
    """The whole PDF."""
    total, contents = 0, [("", "")]
    for _ in range(2):
        target = io.BytesIO()
        book = Handbook(source, target, total)
        book.build(list(_story(source, contents)))
        total, contents = book.page, book.contents
    return target.getvalue()


def _story(source: Source, contents: list[tuple[str, str]]) -> Iterator[Flowable]:
    yield Paragraph(_inline(source.meta["title"]), HEADINGS[0])
    yield Paragraph(_inline(source.subtitle), SUBTITLE)
    width = WIDTH - 2 * MARGIN
    blocks = iter(source.blocks)
    for block in blocks:
        name = block.lines[0]
        if block.kind != "directive":
            yield from _flowables(block, width)
        elif name == "page break":
            yield PageBreak()
        elif name in ("one column", "two columns"):
            yield NextPageTemplate(name)
            yield PageBreak()
            width = (
                WIDTH - 2 * MARGIN if name == "one column" else (WIDTH - 2 * MARGIN - GUTTER) / 2
            )
        elif name == "contents":
            yield _table([["Section", "Page"], *contents], [9, 1], width)
            yield Spacer(0, 10)
        elif name == "scan":
            yield NextPageTemplate("scan")
            yield PageBreak()
            paper = iter(lambda: next(blocks), Block("directive", ["end scan"]))
            yield Image(io.BytesIO(_scan(list(paper))), WIDTH, HEIGHT)
            yield NextPageTemplate("one column")
            yield PageBreak()
        else:
            raise ValueError(f"unknown directive [[{name}]]")


def _flowables(block: Block, width: float) -> Iterator[Flowable]:
    if block.kind.startswith("heading"):
        yield Paragraph(_inline(block.lines[0]), HEADINGS[int(block.kind[-1])])
    elif block.kind == "table":
        header, dashes, *rows = map(_cells, block.lines)
        yield _table([header, *rows], [len(cell) for cell in dashes], width)
        yield Spacer(0, 10)
    elif block.kind == "bullets":
        items = [Paragraph(_inline(line), BODY) for line in block.lines]
        yield ListFlowable(items, bulletType="bullet", start="•", leftIndent=14, bulletFontSize=9)
    else:
        yield Paragraph(_inline(block.lines[0]), BODY)


def _table(rows: list, shares: list[int], width: float) -> Table:
    """The header is not repeated on a second page, as in many real handbooks."""
    styled = [
        [Paragraph(_inline(cell), CELL if row else HEAD) for cell in cells]
        for row, cells in enumerate(rows)
    ]
    return Table(styled, [width * share / sum(shares) for share in shares], style=GRID)


def _scan(blocks: list[Block]) -> bytes:
    """A page as an office scanner leaves it: grey, a little crooked, speckled, a JPEG."""
    paper = io.BytesIO()
    width = WIDTH - 2 * MARGIN
    SimpleDocTemplate(paper, pagesize=A4, invariant=1).build(
        [flowable for block in blocks for flowable in _flowables(block, width)]
    )
    sheet = pdfium.PdfDocument(paper.getvalue())[0].render(scale=120 / 72).to_pil().convert("L")
    sheet = sheet.rotate(0.8, resample=Picture.Resampling.BICUBIC, fillcolor=255)
    dots = np.asarray(sheet, dtype=np.float32) * 0.9
    dots += np.random.default_rng(7).normal(0, 7, dots.shape)
    jpeg = io.BytesIO()
    Picture.fromarray(dots.clip(0, 255).astype(np.uint8)).save(
        jpeg, "JPEG", quality=45, dpi=(120, 120)
    )
    return jpeg.getvalue()


# DOCX and Markdown


def render_docx(source: Source) -> bytes:
    """A Word file with real headings, lists and tables."""
    word = docx.Document()
    core = word.core_properties
    core.title, core.author = source.meta["title"], COMPANY
    core.created = core.modified = FIXED_DATE
    word.add_heading(source.meta["title"], 0)
    word.add_paragraph(source.subtitle)
    for block in source.blocks:
        if block.kind.startswith("heading"):
            word.add_heading(block.lines[0], int(block.kind[-1]))
        elif block.kind == "table":
            header, _, *rows = map(_cells, block.lines)
            table = word.add_table(0, len(header), style="Light Grid Accent 1")
            for cells in (header, *rows):
                for cell, text in zip(table.add_row().cells, cells, strict=True):
                    cell.text = text
        else:
            style = "List Bullet" if block.kind == "bullets" else None
            for line in block.lines:
                word.add_paragraph(line, style)
    saved = io.BytesIO()
    word.save(saved)
    return _without_clock(saved)


def _without_clock(saved: io.BytesIO) -> bytes:
    """The same zip with one fixed time on each member; python-docx writes the present time."""
    target = io.BytesIO()
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            member = zipfile.ZipInfo(name, FIXED_DATE.timetuple()[:6])
            new.writestr(member, old.read(name), zipfile.ZIP_DEFLATED)
    return target.getvalue()


def render_markdown(source: Source) -> bytes:
    """The text under its title, each heading one level down."""
    body = re.sub(r"^#", "##", source.body, flags=re.MULTILINE)
    return f"# {source.meta['title']}\n\n{source.subtitle}\n\n{body}\n".encode()


FORMATS = {".pdf": render_pdf, ".docx": render_docx, ".md": render_markdown}


def render_all(folder: Path) -> list[Path]:
    """Write every file of the handbook into `folder`."""
    written = []
    for path in sorted(SOURCES.glob("*.md")):
        source = read(path)
        target = folder / source.meta["file"]
        target.write_bytes(FORMATS[target.suffix](source))
        written.append(target)
    return written


# Questions


def page_texts(path: Path) -> list[str]:
    """Each page's text with its white space folded; one page where the format has none."""
    if path.suffix == ".pdf":
        texts = [page.get_textpage().get_text_bounded() for page in pdfium.PdfDocument(path)]
    elif path.suffix == ".docx":
        word = docx.Document(path)
        rows = [" ".join(c.text for c in row.cells) for t in word.tables for row in t.rows]
        texts = ["\n".join([p.text for p in word.paragraphs] + rows)]
    else:
        texts = [path.read_text(encoding="utf-8").replace("|", " ")]
    return [" ".join(text.split()) for text in texts]


def refresh_pages(questions: Path) -> None:
    """Point each question at the pages where its evidence now stands; a scan's stay as they are."""
    pages = {p.name: page_texts(p) for p in questions.parent.iterdir() if p.suffix in FORMATS}
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for gold in (row, *row.get("also", [])) if row["answerable"] else ():
            found = [n for n, text in enumerate(pages[gold["file"]], 1) if gold["evidence"] in text]
            gold["pages"] = found or gold["pages"]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    questions.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Render into sample_docs/, or into the folder given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES.parent
    for path in render_all(folder):
        print(f"{path.name}: {len(page_texts(path))} pages, {path.stat().st_size // 1024} KB")
    if (folder / "questions.jsonl").exists():
        refresh_pages(folder / "questions.jsonl")


if __name__ == "__main__":
    main()
