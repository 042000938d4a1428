"""In the child: how much of a PDF page's text cannot be seen, by kind (see `hidden.KINDS`).

Looks at the first letter of every drawn text object. Light or transparent letters are rendered: in
the picture of the page, a word that nobody sees leaves its place all one colour. Text under a
picture or box drawn after it, and dark letters on a dark ground, are not found.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Sequence
from math import hypot
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as c

from ragdemo.loading.hidden import TINY_POINTS

_LIGHT = 170  # of 255; darker letters show on the usual ground
_CLEAR = 128  # of 255; below this letters let their ground through
_LEAST_CONTRAST = 24  # of 255, between the lightest and darkest point of a word's place
_MAX_PIXELS = 1_000_000  # of the picture; an A4 page at one pixel a point has half of it
_MOST_LOOKS = 4_000  # words looked up in the picture, a page
_MARGIN = 1.0  # points
_INVISIBLE = (c.FPDF_TEXTRENDERMODE_INVISIBLE, c.FPDF_TEXTRENDERMODE_CLIP)

_Word = tuple[int, int]  # first character and the one after the last


def find(page: pdfium.PdfPage, raw: Any, words: Sequence[_Word]) -> dict[str, int]:
    """Hidden characters by kind; `words` are pdfium's own character indices, white space out."""
    found: Counter[str] = Counter()
    pale: list[_Word] = []
    last, kind = None, ""
    bounds = page.get_bbox()
    for begin, end in words:
        drawn = c.FPDFText_GetTextObject(raw, begin)
        address = ctypes.cast(drawn, ctypes.c_void_p).value
        if address != last or address is None:
            last, kind = address, _kind(raw, begin, drawn, bounds)
        if kind == "pale":
            pale.append((begin, end))
        elif kind:
            found[kind] += end - begin
    if pale and (unseen := _unseen(page, raw, pale[:_MOST_LOOKS])):
        found["colour"] += unseen
    return dict(found)


def _kind(raw: Any, index: int, drawn: Any, bounds: tuple[float, float, float, float]) -> str:
    """ "" for a letter in plain sight, "pale" for one that depends on its ground."""
    if drawn and c.FPDFTextObj_GetTextRenderMode(drawn) in _INVISIBLE:
        return "invisible"
    box = _box(raw, index)
    if box is not None:
        left, bottom, right, top = box
        inside = (
            right > bounds[0] - _MARGIN
            and left < bounds[2] + _MARGIN
            and top > bounds[1] - _MARGIN
            and bottom < bounds[3] + _MARGIN
        )
        if not inside:
            return "outside"
    matrix = c.FS_MATRIX()
    if c.FPDFText_GetMatrix(raw, index, matrix):
        size = c.FPDFText_GetFontSize(raw, index) * hypot(matrix.c, matrix.d)
        if 0 < size < TINY_POINTS:
            return "tiny"
    red, green, blue, alpha = (ctypes.c_uint() for _ in range(4))
    if not c.FPDFText_GetFillColor(raw, index, red, green, blue, alpha):
        return ""
    light = (299 * red.value + 587 * green.value + 114 * blue.value) / 1000  # ITU-R BT.601
    return "pale" if light >= _LIGHT or alpha.value < _CLEAR else ""


def _box(raw: Any, index: int) -> tuple[float, float, float, float] | None:
    """(left, bottom, right, top) in the file's points."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    if not c.FPDFText_GetCharBox(raw, index, left, right, bottom, top):
        return None
    return left.value, bottom.value, right.value, top.value


def _unseen(page: pdfium.PdfPage, raw: Any, words: Sequence[_Word]) -> int:
    """Characters of the words whose places in the picture of the page are all one colour."""
    width, height = page.get_size()
    scale = min(1.0, (_MAX_PIXELS / max(1.0, width * height)) ** 0.5)
    picture = page.render(scale=scale, grayscale=True)
    points = memoryview(picture.buffer).cast("B")
    x, y = ctypes.c_int(), ctypes.c_int()
    unseen = 0
    for begin, end in words:
        boxes = [box for box in (_box(raw, begin), _box(raw, end - 1)) if box is not None]
        xs, ys = [], []
        for left, bottom, right, top in boxes:
            for px, py in ((left, bottom), (right, top)):
                c.FPDF_PageToDevice(page, 0, 0, picture.width, picture.height, 0, px, py, x, y)
                xs.append(min(max(x.value, 0), picture.width))
                ys.append(min(max(y.value, 0), picture.height))
        if not xs or max(xs) - min(xs) < 2 or max(ys) - min(ys) < 2:
            continue  # too small in the picture to be judged
        darkest, lightest = 255, 0
        for row in range(min(ys), max(ys)):
            place = points[row * picture.stride + min(xs) : row * picture.stride + max(xs)]
            darkest, lightest = min(darkest, min(place)), max(lightest, max(place))
        if lightest - darkest < _LEAST_CONTRAST:
            unseen += end - begin
    return unseen
