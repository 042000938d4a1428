"""PDF bytes -> Document, and a page as a picture with a passage marked.

A child process does everything that touches the file (`pdf_worker.py`, `pdf_render.py`); this
side makes text of its lines: running headers and footers, headings, paragraphs, words broken at
a line's end, tables that go on on the next page.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from ragdemo.errors import DocumentError
from ragdemo.loading import child
from ragdemo.loading.build import Builder
from ragdemo.loading.furniture import find_furniture
from ragdemo.loading.hidden import note
from ragdemo.loading.layout import Line, Table
from ragdemo.loading.prose import Vocabulary, flow
from ragdemo.settings import Limits
from ragdemo.types import Document, FileReport, Span

_SCAN_SHARE = 0.5  # a page without text is a scan when images cover this much of it
_HEADING_RATIO = 1.12  # a heading's letters are this much larger than the body's
_HEADING_CHARACTERS = 120


@dataclass(slots=True)
class RawPage:
    """A page as the child read it."""

    number: int
    label: str = ""
    items: list[Line | Table] = field(default_factory=list)
    height: float = 0.0
    images: float = 0.0
    broken: bool = False
    hidden: dict[str, int] = field(default_factory=dict)  # characters by kind, see `hidden.KINDS`


def load_pdf(
    data: bytes,
    name: str,
    *,
    limits: Limits,
    password: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Raises PasswordNeeded, DocumentError when nothing opens it, LimitReached when a limit struck
    before the first page was read. A limit that strikes later is in `report.hit_limit`."""
    pages: list[RawPage] = []
    outline: list[list[Any]] = []
    total, repaired, characters = 0, False, 0
    notes: list[str] = []
    hit: str | None = None
    options = {"name": name, "password": password, "pages": limits.pages}
    with closing(child.run("pdf", options, data, limits)) as messages:
        for message in messages:
            if "pages" in message:
                total, repaired = message["pages"], message["repaired"]
            elif "page" in message:
                page = _raw_page(message)
                pages.append(page)
                characters += sum(_length(item) for item in page.items)
                if message.get("cut"):
                    notes.append(f"Page {page.number} was cut: it holds too many characters.")
                if progress is not None:
                    progress(len(pages), min(total, limits.pages))
                if characters > 2 * limits.characters:
                    break  # more than the builder will take
            elif "outline" in message:
                outline = message["outline"]
            elif message["end"] is not None:
                if not pages:
                    raise child.nothing_read(message["end"], name, limits)
                if len(pages) < min(total, limits.pages):
                    read = f"{len(pages)} of {total} pages were read"
                    hit = child.ended(message["end"], name, read, limits)
                else:
                    notes.append(
                        "The outline could not be read; headings were told by their looks."
                    )
    builder = Builder(data, name, limits)
    empty, scanned = _assemble(pages, outline, builder)
    if builder.full:
        hit = f"{builder.limit_reached()} Pages read: {builder.pages} of {total}."
    elif hit is None and total > limits.pages:
        hit = (
            f"{name} has {total:,} pages and {limits.pages:,} are allowed; the first "
            f"{limits.pages:,} were read. Split the file to read the rest."
        )
    broken = [page.number for page in pages if page.broken]
    if broken:
        notes.append(f"Damaged and left out: {_pages(broken)}.")
    if repaired:
        notes.append("The file is damaged and was repaired; text may be missing.")
    if scanned:
        notes.append(
            f"Pictures without text: {_pages(scanned)}. Scanned pages need text recognition (OCR) "
            "before they can be searched."
        )
    notes += _hidden(pages[: builder.pages])
    return builder.document(
        FileReport(
            name,
            len(data),
            pages=builder.pages,
            empty_pages=tuple(empty),
            scanned_pages=tuple(scanned),
            repaired=repaired,
            hit_limit=hit,
            notes=tuple(notes),
        )
    )


def page_image(
    data: bytes,
    page: int,
    passage: str = "",
    *,
    scale: float = 1.5,
    limits: Limits | None = None,
    password: str | None = None,
) -> bytes:
    """PNG of one page (from 1) at `scale` times 72 dots an inch, `passage` marked in yellow.

    The passage may begin or end on another page and need not match in white space, hyphens or
    case; where less than a few words of it stand on the page, nothing is marked. Raises
    DocumentError, PasswordNeeded or LimitReached.
    """
    limits = limits or Limits()
    if not data.startswith(b"%PDF-") and b"%PDF-" not in data[:1024]:
        raise DocumentError("Only pages of PDF files can be shown as pictures.")
    options = {
        "name": "the file", "password": password, "page": page, "passage": passage, "scale": scale,
    }  # fmt: skip
    with closing(child.run("page image", options, data, limits)) as messages:
        message = next(messages)
    if "png" in message:
        return base64.b64decode(message["png"])
    raise child.nothing_read(message["end"] or child.CRASH, f"page {page}", limits)


def _raw_page(message: dict[str, Any]) -> RawPage:
    page = RawPage(
        message["page"],
        message.get("label", ""),
        height=message.get("height", 0.0),
        images=message.get("images", 0.0),
        broken=message.get("broken", False),
        hidden=message.get("hidden", {}),
    )
    for item in message.get("lines", ()):
        if item[0] == "line":
            _, group, x0, x1, y, size, bold, text, cells = item
            page.items.append(Line(text, x0, x1, y, size, bold, group, cells))
        else:
            _, group, lefts, y, bottom, header, rows = item
            page.items.append(Table(rows, lefts, header, y, bottom, group))
    return page


def _hidden(pages: Sequence[RawPage]) -> list[str]:
    """A note for each kind of hidden text."""
    kinds = dict.fromkeys(kind for page in pages for kind in page.hidden)
    notes = []
    for kind in kinds:
        with_it = [page for page in pages if kind in page.hidden]
        characters = sum(page.hidden[kind] for page in with_it)
        notes.append(note(kind, characters, _pages([page.number for page in with_it])))
    return notes


def _length(item: Line | Table) -> int:
    if isinstance(item, Line):
        return len(item.text) + 1
    return sum(len(cell) + 3 for row in item.rows for cell in row)


def _pages(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
    return f"page{'s' if len(numbers) > 1 else ''} {shown}{more}"


# -- lines -> text -----------------------------------------------------------------------------


def _assemble(
    pages: list[RawPage], outline: list[list[Any]], builder: Builder
) -> tuple[list[int], list[int]]:
    """Fill the builder; returns the numbers of empty and of scanned pages."""
    empty: list[int] = []
    scanned: list[int] = []
    furniture = find_furniture(
        [(p.number, p.height, [i for i in p.items if isinstance(i, Line)]) for p in pages]
    )
    lines = [
        item
        for p in pages
        for item in p.items
        if isinstance(item, Line)
        if id(item) not in furniture
    ]
    headings = _Headings(lines, outline)
    vocabulary = Vocabulary(line.text for line in lines)
    carried: _Carried | None = None
    for page in pages:
        if builder.full:
            break
        builder.start_page()
        top = [i for i in page.items if furniture.get(id(i)) == "top"]
        bottom = [i for i in page.items if furniture.get(id(i)) == "bottom"]
        body = [i for i in page.items if id(i) not in furniture]
        for line in top:
            builder.furniture(line.text)
        body, carried = _going_on(body, carried, builder)
        carried = _body(page, body, headings, vocabulary, builder) or (
            carried if all(_at_edge(item, page) for item in body) else None
        )
        for line in bottom:
            builder.furniture(line.text)
        if not builder.end_page(page.number, page.label):
            (scanned if page.images >= _SCAN_SHARE else empty).append(page.number)
        elif page.images >= _SCAN_SHARE:  # a few characters on a scan: a stamp, a page number
            scanned.append(page.number)
    return empty, scanned


@dataclass(slots=True)
class _Carried:
    """The table a page ended with."""

    lefts: list[float]
    names: list[str]  # its header row's cells
    header: Span


def _going_on(
    items: list[Line | Table], carried: _Carried | None, builder: Builder
) -> tuple[list[Line | Table], _Carried | None]:
    """Write what goes on from the table that the page before ended with; returns the rest.

    A line or two above it (a header that was not told as one) do not stand in its way.
    """
    if carried is None:
        return items, None
    for at, item in enumerate(items[:3]):
        if isinstance(item, Table):
            if not _fits(item.lefts, carried.lefts):
                return items, None
            rows, stop = item.rows, at + 1
        else:
            stop = at
            while (
                stop < len(items)
                and isinstance(items[stop], Line)
                and _cells_fit(items[stop], carried.lefts)
            ):
                stop += 1
            if stop == at:
                continue
            rows = [_row(line, carried.lefts) for line in items[at:stop]]
        for line in items[:at]:
            builder.text(line.text)
        builder.table(rows, rows[0] == carried.names, carried.header)
        return items[stop:], carried
    return items, None


def _fits(lefts: list[float], wanted: list[float]) -> bool:
    # a column set to the right or centred begins where its widest cell of that page does
    return (
        len(lefts) == len(wanted)
        and abs(lefts[0] - wanted[0]) < 12
        and all(abs(a - b) < 45 for a, b in zip(lefts, wanted, strict=True))
    )


def _cells_fit(line: Line, lefts: list[float]) -> bool:
    return len(line.cells) >= 2 and all(
        min(abs(x - left) for left in lefts) < 25 for x, _ in line.cells
    )


def _row(line: Line, lefts: list[float]) -> list[str]:
    row = ["" for _ in lefts]
    for x, text in line.cells:
        nearest = min(range(len(lefts)), key=lambda i: abs(lefts[i] - x))
        row[nearest] = f"{row[nearest]} {text}".strip()
    return row


def _at_edge(item: Line | Table, page: RawPage) -> bool:
    return isinstance(item, Line) and not 0.09 < item.y / max(1.0, page.height) < 0.91


def _body(
    page: RawPage,
    items: list[Line | Table],
    headings: _Headings,
    vocabulary: Vocabulary,
    builder: Builder,
) -> _Carried | None:
    """Write the items; returns the table with a header that the page ends with, if it does."""
    at = 0
    carried: _Carried | None = None
    while at < len(items):
        item = items[at]
        if isinstance(item, Table):
            carried = _table(item, builder)
            at += 1
            continue
        level, count = headings.at(page.number, items, at)
        if count:
            builder.heading(" ".join(line.text for line in items[at : at + count]), level)
            stop = at + count
        else:
            stop = at + 1
            while (
                stop < len(items)
                and isinstance(items[stop], Line)
                and not headings.at(page.number, items, stop)[1]
            ):
                stop += 1
            for paragraph in flow(items[at:stop], vocabulary):
                builder.text(paragraph)
        if not all(_at_edge(line, page) for line in items[at:stop]):
            carried = None
        at = stop
    return carried


def _table(table: Table, builder: Builder) -> _Carried | None:
    if len(table.rows) < 2:  # a framed line
        builder.text(" ".join(cell for cell in table.rows[0] if cell))
        return None
    header = builder.table(table.rows, table.header)
    return None if header is None else _Carried(table.lefts, table.rows[0], header)


class _Headings:
    """Which lines are headings: those the outline names, and those that look like one."""

    def __init__(self, lines: list[Line], outline: list[list[Any]]) -> None:
        weights: Counter[float] = Counter()
        bold: Counter[bool] = Counter()
        for line in lines:
            weights[round(line.size * 2) / 2] += len(line.text)
            bold[line.bold] += len(line.text)
        self._body = weights.most_common(1)[0][0] if weights else 0.0
        self._bold_tells = bold[True] < 0.3 * (bold[False] + 1)
        larger = {
            round(line.size)
            for line in lines
            if line.size > _HEADING_RATIO * self._body and len(line.text) <= _HEADING_CHARACTERS
        }
        ranks = sorted(larger, reverse=True)
        self._levels = {size: min(4, rank + 1) for rank, size in enumerate(ranks)}
        self._lowest = min(4, len(ranks) + 1)
        self._named: dict[tuple[int, str], int] = {}
        for level, title, page in outline:
            self._named.setdefault((page, _letters(title)), level)

    def at(self, page: int, items: list[Line | Table], at: int) -> tuple[int, int]:
        """(level, number of lines) of the heading that begins at `at`; (0, 0) for none."""
        line = items[at]
        if not isinstance(line, Line):
            return 0, 0
        named = self._outlined(page, items, at)
        if named[1]:
            return named
        if not self._body or line.group < 0 or not any(c.isalpha() for c in line.text):
            return 0, 0
        large = line.size > _HEADING_RATIO * self._body
        if not large and not (self._bold_tells and line.bold and self._stands_alone(items, at)):
            return 0, 0
        stop = at + 1
        while large and stop < len(items) and self._continues(items[stop - 1], items[stop]):
            stop += 1
        text = " ".join(item.text for item in items[at:stop])
        if stop - at > 3 or len(text) > _HEADING_CHARACTERS or text.endswith((",", ";")):
            return 0, 0
        return self._levels.get(
            round(line.size), self._lowest
        ) if large else self._lowest, stop - at

    def _outlined(self, page: int, items: list[Line | Table], at: int) -> tuple[int, int]:
        if not self._named:
            return 0, 0
        text = ""
        for count in (1, 2, 3):
            if at + count > len(items) or not isinstance(items[at + count - 1], Line):
                break
            text += _letters(items[at + count - 1].text)
            if len(text) > 300:
                break
            # the printed number ("3.2 Leave") may be missing from the outline's title
            for key in (text, text.lstrip("0123456789")):
                level = self._named.get((page, key))
                if level is not None and key:
                    return level, count
        return 0, 0

    def _stands_alone(self, items: list[Line | Table], at: int) -> bool:
        """A bold line that is neither a sentence nor a part of a paragraph."""
        line = items[at]
        if len(line.text) > 80 or line.text.rstrip().endswith((".", ",", ";", ":")):
            return False
        if line.size < 0.95 * self._body:
            return False
        neighbours = [items[i] for i in (at - 1, at + 1) if 0 <= i < len(items)]
        return not any(
            isinstance(n, Line)
            and n.group == line.group
            and n.bold
            and abs(n.y - line.y) < 2 * line.size
            for n in neighbours
        )

    @staticmethod
    def _continues(before: Line | Table, line: Line | Table) -> bool:
        return (
            isinstance(line, Line)
            and isinstance(before, Line)
            and line.group == before.group
            and abs(line.size - before.size) < 0.5
            and line.bold == before.bold
            and 0 < line.y - before.y < 1.5 * line.size
        )


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
