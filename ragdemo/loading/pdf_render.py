"""In the child: one page of a PDF -> PNG, with the lines of a passage marked."""

from __future__ import annotations

import base64
import ctypes
import io
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as c
from PIL import Image, ImageDraw

from ragdemo.errors import DocumentError
from ragdemo.loading.pdf_worker import open_pdf

_MAX_PIXELS = 6_000_000  # a poster at full scale would not fit the child's memory
_MAX_CHARACTERS = 20_000  # of page and passage; matching costs more than linear time
_FEWEST_LETTERS = 12  # a shorter match is chance
_YELLOW = (255, 214, 0, 96)
_PAD = 2  # pixels around a line
_Box = tuple[float, float, float, float]  # left, bottom, right, top in the file's points


def render(data: bytes, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Options: name, password, page (from 1), passage, scale. One message: {"png": base64}."""
    document = open_pdf(data, options["name"], options["password"])
    if document is None:
        raise DocumentError("This file is too damaged to show its pages as pictures.")
    number = options["page"]
    if not 1 <= number <= len(document):
        raise DocumentError(f"There is no page {number}: the file has {len(document)} pages.")
    page = document[number - 1]
    width, height = page.get_size()
    scale = min(float(options["scale"]), (_MAX_PIXELS / max(1.0, width * height)) ** 0.5)
    image = page.render(scale=scale).to_pil().convert("RGBA")
    boxes = _find(page, options["passage"]) if options["passage"].strip() else []
    if boxes:
        layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(layer)
        for box in boxes:
            x0, y0, x1, y1 = _pixels(page, box, image.size)
            draw.rectangle((x0 - _PAD, y0 - _PAD, x1 + _PAD, y1 + _PAD), fill=_YELLOW)
        image = Image.alpha_composite(image, layer)
    out = io.BytesIO()
    image.convert("RGB").save(out, "PNG")
    yield {"png": base64.b64encode(out.getvalue()).decode(), "marked": len(boxes)}


def _find(page: pdfium.PdfPage, passage: str) -> list[_Box]:
    """One box for every line of the passage that stands on the page."""
    textpage = page.get_textpage()
    raw = textpage.raw
    total = min(c.FPDFText_CountChars(raw), _MAX_CHARACTERS)
    letters: list[str] = []
    places: list[int] = []  # the page's character each letter comes from
    for index in range(total):
        for letter in _letters(chr(min(c.FPDFText_GetUnicode(raw, index), 0x10FFFF))):
            letters.append(letter)
            places.append(index)
    on_page = "".join(letters)
    wanted = "".join(_letters(passage[:_MAX_CHARACTERS]))
    found: list[int] = []
    for start, end in _stretches(on_page, wanted):
        found += places[start:end]
    return _line_boxes(raw, _filled(sorted(set(found))))


def _filled(indices: list[int]) -> list[int]:
    """The marks and spaces between letters are marked with them: "night £165"."""
    out: list[int] = []
    for index in indices:
        if out and index - out[-1] <= 4:
            out += range(out[-1] + 1, index)
        out.append(index)
    return out


def _letters(text: str) -> list[str]:
    # letters and digits alone: spaces, hyphens and marks are what layout changes
    return [letter for letter in text.casefold() if letter.isalnum()]


def _stretches(on_page: str, wanted: str) -> list[tuple[int, int]]:
    """Where the passage stands among the page's letters: whole, or the stretches they share."""
    at = on_page.find(wanted)
    if at >= 0 and wanted:
        return [(at, at + len(wanted))]
    # it begins or ends on another page, or a table's cells are drawn in another order
    matcher = SequenceMatcher(None, on_page, wanted, autojunk=False)
    longest = matcher.find_longest_match()
    if longest.size < min(_FEWEST_LETTERS, max(1, len(wanted))):
        return []
    spans = [(longest.a, longest.a + longest.size)]
    # grow over small differences on both sides: a word read differently, a footnote's number
    spans += _grow(on_page, wanted, longest.a, longest.b, forward=False)
    spans += _grow(
        on_page, wanted, longest.a + longest.size, longest.b + longest.size, forward=True
    )
    return spans


def _grow(on_page: str, wanted: str, a: int, b: int, *, forward: bool) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    reach = 400
    while 0 < b < len(wanted):
        if forward:
            one, two = on_page[a : a + reach], wanted[b : b + reach]
        else:
            one, two = on_page[max(0, a - reach) : a], wanted[max(0, b - reach) : b]
        match = SequenceMatcher(None, one, two, autojunk=False).find_longest_match()
        if match.size < _FEWEST_LETTERS:
            break
        start = a + match.a if forward else a - len(one) + match.a
        spans.append((start, start + match.size))
        if forward:
            a, b = start + match.size, b + match.b + match.size
        else:
            a, b = start, b - len(two) + match.b
    return spans


def _line_boxes(raw: Any, indices: list[int]) -> list[_Box]:
    """Character boxes joined along each line; a gap wider than the line is high parts them."""
    boxes: list[_Box] = []
    value = [ctypes.c_double() for _ in range(4)]  # left, right, bottom, top
    for index in indices:
        if not c.FPDFText_GetCharBox(raw, index, *value):
            continue
        left, right, bottom, top = (v.value for v in value)
        if right <= left or top <= bottom:
            continue  # a space or a line break that pdfium added
        if boxes:
            l0, b0, r0, t0 = boxes[-1]
            high = max(top - bottom, t0 - b0)
            overlap = min(top, t0) - max(bottom, b0)
            if overlap > 0.25 * min(top - bottom, t0 - b0) and -high < left - r0 < 1.5 * high:
                boxes[-1] = (min(l0, left), min(b0, bottom), max(r0, right), max(t0, top))
                continue
        boxes.append((left, bottom, right, top))
    return boxes


def _pixels(page: pdfium.PdfPage, box: _Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    x, y = ctypes.c_int(), ctypes.c_int()
    xs, ys = [], []
    for px, py in ((box[0], box[1]), (box[2], box[3])):
        c.FPDF_PageToDevice(page, 0, 0, size[0], size[1], 0, px, py, x, y)
        xs.append(x.value)
        ys.append(y.value)
    return min(xs), min(ys), max(xs), max(ys)
