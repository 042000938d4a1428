"""In the child: a PDF's bytes -> one message a page, with its lines and tables in reading order.

pdfium reads; what pdfium refuses goes to pypdf, slower but forgiving. Nothing here looks at more
than one page: headings, paragraphs and running headers need the whole file and are `pdf.py`'s.

A page's message: {"page": 1, "label": "i", "lines": [["line", group, x0, x1, y, size, bold,
text, cells], ["table", group, lefts, y, bottom, header, rows]], "images": 0.9, "width", "height",
"hidden": {"tiny": 40}}, the last only where there is hidden text.
"""

from __future__ import annotations

import ctypes
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as c

from ragdemo.errors import DocumentError, PasswordNeeded
from ragdemo.loading import pdf_hidden
from ragdemo.loading.hidden import OCR
from ragdemo.loading.layout import Line, Rule, Table, Word, arrange

_MAX_CHARACTERS = 100_000  # a page; a dense one holds about 6,000
_MAX_OBJECTS = 3_000  # drawn objects looked at for a table's rules
_MAX_RULES = 2_000  # a page; a drawing, not a table, has more
_MAX_SEGMENTS = 400  # pieces of one drawn path
_MAX_OUTLINE = 2_000
_OCR_SHARE = 0.5  # invisible letters on a page that pictures cover so far were recognised in them
_THIN = 4.0  # points; what is thinner is a rule, not a box
_SOFT = "\u00ad"
# pdfium writes U+0002 or U+FFFE for a hyphen at a line's end, and leaves the line break out
_WORD = re.compile("[^\x00\x01\x03-\x20\xa0\u3000\x02\ufffe]+[\x02\ufffe]?|[\x02\ufffe]")
_READABLE = {
    0x02: _SOFT, 0xFFFE: _SOFT, 0xA0: " ", 0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl",
    0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st",
}  # fmt: skip
_BOLD = re.compile(rb"bold|black|heavy|semib|demi|cmbx|cmssbx|-bd", re.IGNORECASE)
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


def read(data: bytes, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Options: name, password, pages (at most so many are read)."""
    repaired = _damaged(data)
    document = open_pdf(data, options["name"], options["password"])
    if document is None and (mended := _with_trailer(data)) is not None:
        document = open_pdf(mended, options["name"], options["password"])
    if document is None:
        yield from _read_with_pypdf(data, options)
        return
    count = len(document)
    if not count:
        yield from _read_with_pypdf(data, options)
        return
    yield {"pages": count, "repaired": repaired}
    for index in range(min(count, options["pages"])):
        message: dict[str, Any] = {"page": index + 1, "label": ""}
        try:
            message["label"] = document.get_page_label(index)
            page = document[index]
        except (pdfium.PdfiumError, UnicodeDecodeError):
            message["broken"] = True
            yield message
            continue
        try:
            message.update(_page(page))
        except pdfium.PdfiumError:
            message["broken"] = True
        finally:
            page.close()
        yield message
    # last, since an outline made to loop must not cost the pages
    yield {"outline": _outline(document)}


def open_pdf(data: bytes, name: str, password: str | None) -> pdfium.PdfDocument | None:
    """The file as pdfium sees it, or None where pdfium gives up. Raises PasswordNeeded."""
    try:
        return pdfium.PdfDocument(data, password=password)
    except pdfium.PdfiumError as error:
        if error.err_code == c.FPDF_ERR_PASSWORD:
            raise PasswordNeeded(password_sentence(name, password)) from error
        return None


def password_sentence(name: str, password: str | None) -> str:
    if password:
        return f"This password does not open {name}. Type it again."
    return f"{name} is encrypted. Type its password, or save it without one."


def _damaged(data: bytes) -> bool:
    """Does the file's own table of contents (its cross references) lead nowhere?

    pdfium rebuilds such files without a word, and what it finds may be incomplete.
    """
    header = data.find(b"%PDF-", 0, 1024 + 5)
    found = re.findall(rb"startxref\s+(\d{1,12})\s+%%EOF", data[-2048:])
    if header < 0 or not found:
        return True
    start = int(found[-1])
    for base in {0, header}:
        target = data[start + base : start + base + 64]
        if re.match(rb"\s*\d+\s+\d+\s+obj", target):
            return False
        if re.match(rb"\s*xref", target):
            entries = re.findall(rb"(\d{10}) \d{5} n", data[start + base : start + base + 20 * 200])
            return not all(
                re.match(rb"\s*\d+\s+\d+\s+obj", data[int(e) + base : int(e) + base + 40])
                for e in entries
            )
    return True


def _with_trailer(data: bytes) -> bytes | None:
    """The file with the end it lost put back, if its catalogue is there: pdfium does the rest."""
    catalogue = re.search(rb"(\d{1,9}) (\d{1,5}) obj\s{0,9}<<[^>]{0,500}?/Type\s?/Catalog", data)
    if catalogue is None or b"trailer" in data[-2048:]:
        return None
    return data + b"\nendstream\nendobj\ntrailer\n<< /Root %s %s R >>\n%%%%EOF\n" % (
        catalogue.groups()
    )


# -- one page ----------------------------------------------------------------------------------


@dataclass(slots=True)
class _View:
    """Turns the file's coordinates into the page as it is looked at, y downwards."""

    left: float
    bottom: float
    width: float  # as looked at
    height: float
    turned: int  # degrees clockwise: 0, 90, 180 or 270

    def point(self, x: float, y: float) -> tuple[float, float]:
        x, y = x - self.left, y - self.bottom
        if self.turned == 90:
            return y, x
        if self.turned == 180:
            return self.width - x, y
        if self.turned == 270:
            return self.width - y, self.height - x
        return x, self.height - y

    def direction(self, a: float, b: float) -> tuple[float, float]:
        """The vector (a, b) as it is looked at, y upwards."""
        if self.turned == 90:
            return b, -a
        if self.turned == 180:
            return -a, -b
        if self.turned == 270:
            return -b, a
        return a, b


def _page(page: pdfium.PdfPage) -> dict[str, Any]:
    width, height = page.get_size()
    left, bottom, _, _ = page.get_bbox()
    view = _View(left, bottom, width, height, page.get_rotation())
    textpage = page.get_textpage()
    try:
        raw = textpage.raw
        count = c.FPDFText_CountChars(raw)
        text = _text(raw, min(count, _MAX_CHARACTERS))
        if _plain(raw, text, view):
            lines = _plain_lines(text.translate(_READABLE))
        else:
            arranged = arrange(_words(raw, text, view), _rules(page, view))
            lines = [_message(item) for item in arranged]
        hidden = pdf_hidden.find(page, raw, [match.span() for match in _WORD.finditer(text)])
    finally:
        textpage.close()
    message: dict[str, Any] = {"lines": lines, "width": width, "height": height}
    if count > _MAX_CHARACTERS:
        message["cut"] = count - _MAX_CHARACTERS
    if len("".join(text.split())) < 20:
        message["images"] = _image_share(page, width * height)
    if "invisible" in hidden and _image_share(page, width * height) >= _OCR_SHARE:
        hidden[OCR] = hidden.pop("invisible")
    if hidden:
        message["hidden"] = hidden
    return message


def _text(raw: Any, count: int) -> str:
    """The first characters, one for each that pdfium counts, so that indices are pdfium's own."""
    buffer = (ctypes.c_ushort * (count + 1))()
    written = c.FPDFText_GetText(raw, 0, count, buffer) - 1  # with a closing 0
    if written == count:
        return bytes(buffer)[:-2].decode("utf-16-le", "surrogatepass")[:count].ljust(count)
    # pdfium leaves some characters out of the text that it counts; one call a character is slower
    codes = [c.FPDFText_GetUnicode(raw, index) for index in range(count)]
    return "".join([chr(code) if code <= 0x10FFFF else " " for code in codes])


def _plain(raw: Any, text: str, view: _View) -> bool:
    """Right-to-left script and slanted text keep pdfium's own order: geometry would break it."""
    if len(_RIGHT_TO_LEFT.findall(text)) * 5 > len(text):
        return True
    matrix = c.FS_MATRIX()
    samples = range(0, len(text), max(1, len(text) // 40))
    turned = 0
    for index in samples:
        if text[index] > " " and c.FPDFText_GetMatrix(raw, index, matrix):
            across, up = view.direction(matrix.a, matrix.b)
            turned += not across > 2 * abs(up)
    return turned * 3 > len(samples)


def _plain_lines(text: str) -> list[list[Any]]:
    return [
        ["line", -1, 0, 0, 0, 0, False, line.strip(), []]
        for line in text.replace("\r", "").split("\n")
        if line.strip()
    ]


def _words(raw: Any, text: str, view: _View) -> list[Word]:
    words: list[Word] = []
    x, y = ctypes.c_double(), ctypes.c_double()
    left, right, low, high = (ctypes.c_double() for _ in range(4))
    matrix = c.FS_MATRIX()
    flags = ctypes.c_int()
    name = ctypes.create_string_buffer(128)
    fonts: dict[bytes, bool] = {}
    size = 10.0
    for match in _WORD.finditer(text):
        begin, end = match.span()
        c.FPDFText_GetMatrix(raw, begin, matrix)
        size = c.FPDFText_GetFontSize(raw, begin) * hypot(matrix.c, matrix.d) or size
        c.FPDFText_GetFontInfo(raw, begin, name, 128, flags)
        font = name.value
        if font not in fonts:
            fonts[font] = bool(_BOLD.search(font))
        c.FPDFText_GetCharOrigin(raw, begin, x, y)
        x0, baseline = view.point(x.value, y.value)
        c.FPDFText_GetCharBox(raw, end - 1, left, right, low, high)
        x1 = max(view.point(left.value, low.value)[0], view.point(right.value, high.value)[0])
        word = match.group().translate(_READABLE)
        words.append(Word(word, x0, max(x0, x1), baseline, size, fonts[font]))
    return words


def _rules(page: pdfium.PdfPage, view: _View) -> list[Rule]:
    """Thin lines, and the edges of drawn boxes: what a table is ruled with."""
    rules: list[Rule] = []
    bounds = [ctypes.c_float() for _ in range(4)]
    for index in range(min(c.FPDFPage_CountObjects(page), _MAX_OBJECTS)):
        if len(rules) > _MAX_RULES:
            return []
        drawn = c.FPDFPage_GetObject(page, index)
        if c.FPDFPageObj_GetType(drawn) != c.FPDF_PAGEOBJ_PATH:
            continue
        pieces = c.FPDFPath_CountSegments(drawn)
        if pieces > 6:
            rules += _path_rules(drawn, min(pieces, _MAX_SEGMENTS), view)
        elif c.FPDFPageObj_GetBounds(drawn, *bounds):
            left, low, right, high = (b.value for b in bounds)
            _add_box(rules, view.point(left, low), view.point(right, high), view)
    return rules


def _add_box(
    rules: list[Rule], one: tuple[float, float], two: tuple[float, float], view: _View
) -> None:
    x0, x1 = sorted((one[0], two[0]))
    y0, y1 = sorted((one[1], two[1]))
    if x1 - x0 > 0.98 * view.width and y1 - y0 > 0.5 * view.height:
        return  # the page's own background
    if y1 - y0 < _THIN or x1 - x0 < _THIN:
        if max(x1 - x0, y1 - y0) > 6:
            if y1 - y0 < x1 - x0:
                y0 = y1 = (y0 + y1) / 2
            else:
                x0 = x1 = (x0 + x1) / 2
            rules.append(Rule(x0, y0, x1, y1))
        return
    if x1 - x0 > 12 and y1 - y0 > 6:
        rules += [Rule(x0, y, x1, y) for y in (y0, y1)]
        rules += [Rule(x, y0, x, y1) for x in (x0, x1)]


def _path_rules(drawn: Any, pieces: int, view: _View) -> list[Rule]:
    """Straight pieces of a path that draws many lines at once."""
    rules: list[Rule] = []
    x, y = ctypes.c_float(), ctypes.c_float()
    matrix = c.FS_MATRIX()
    c.FPDFPageObj_GetMatrix(drawn, matrix)
    last: tuple[float, float] | None = None
    for index in range(pieces):
        segment = c.FPDFPath_GetPathSegment(drawn, index)
        kind = c.FPDFPathSegment_GetType(segment)
        if not c.FPDFPathSegment_GetPoint(segment, x, y):
            continue
        here = view.point(
            matrix.a * x.value + matrix.c * y.value + matrix.e,
            matrix.b * x.value + matrix.d * y.value + matrix.f,
        )
        if kind == c.FPDF_SEGMENT_LINETO and last is not None:
            straight = abs(here[0] - last[0]) < 1 or abs(here[1] - last[1]) < 1
            if straight:
                _add_box(rules, last, here, view)
        last = here
    return rules


def _image_share(page: pdfium.PdfPage, area: float) -> float:
    """The part of the page that images cover, 0..1; overlaps count twice."""
    covered = 0.0
    for number, drawn in enumerate(page.get_objects(max_depth=3)):
        if number >= _MAX_OBJECTS:
            break
        if drawn.type == c.FPDF_PAGEOBJ_IMAGE:
            left, low, right, high = drawn.get_bounds()
            covered += abs(right - left) * abs(high - low)
    return min(1.0, covered / area) if area > 0 else 0.0


def _message(item: Line | Table) -> list[Any]:
    if isinstance(item, Line):
        place = [round(v, 1) for v in (item.x0, item.x1, item.y, item.size)]
        cells = [[round(x, 1), text] for x, text in item.cells]
        return ["line", item.group, *place, item.bold, item.text, cells]
    lefts = [round(x, 1) for x in item.lefts]
    return ["table", item.group, lefts, item.y, item.bottom, item.header, item.rows]


def _outline(document: pdfium.PdfDocument) -> list[list[Any]]:
    """[level from 1, title, page from 1] in the outline's order."""
    entries: list[list[Any]] = []
    for number, bookmark in enumerate(document.get_toc(max_depth=6)):
        if number >= _MAX_OUTLINE:
            break
        try:
            title = bookmark.get_title().strip()
        except UnicodeDecodeError:
            continue
        target = bookmark.get_dest()
        index = target.get_index() if target else None
        if title and index is not None and index >= 0:
            entries.append([bookmark.level + 1, title[:300], index + 1])
    return entries


# -- what pdfium refuses ------------------------------------------------------------------------


def _read_with_pypdf(data: bytes, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data), password=options["password"])
        if reader.is_encrypted and not reader.decrypt(options["password"] or ""):
            raise PasswordNeeded(password_sentence(options["name"], options["password"]))
        count = len(reader.pages)
        labels = reader.page_labels
    except PasswordNeeded:
        raise
    except MemoryError:
        raise
    except Exception as error:  # pypdf lets IndexError, KeyError and their like out of broken files
        raise _unreadable(options["name"]) from error
    if not count:
        raise _unreadable(options["name"])
    yield {"pages": count, "repaired": True}
    for index in range(min(count, options["pages"])):
        message: dict[str, Any] = {"page": index + 1, "label": labels[index]}
        try:
            text = reader.pages[index].extract_text()
            message["lines"] = _plain_lines(text[:_MAX_CHARACTERS])
        except (PyPdfError, ValueError, KeyError, IndexError, TypeError, AttributeError):
            message["broken"] = True
        yield message


def _unreadable(name: str) -> DocumentError:
    return DocumentError(
        f"{name} begins like a PDF but is too damaged to open. Open it in a PDF viewer and save "
        "it again, or export it anew."
    )
