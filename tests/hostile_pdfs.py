"""Writes PDFs that are made to exhaust or to mislead a reader.

Each function returns the bytes of one file. `pdf` puts objects together with a right cross
reference table, so that a file is hostile in one way only.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

FORM = b" /Type /XObject /Subtype /Form /BBox [0 0 612 792]"
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(objects: dict[int, bytes], root: int = 1) -> bytes:
    """Object number -> its body; streams come ready made from `stream`."""
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places: dict[int, int] = {}
    for number, body in objects.items():
        places[number] = len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    size = max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % size
    for number in range(1, size):
        if number in places:
            out += b"%010d 00000 n \n" % places[number]
        else:
            out += b"0000000000 00000 f \n"
    out += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, root, start)
    return bytes(out)


def stream(data: bytes, packed: bool = True, extra: bytes = b"") -> bytes:
    if packed:
        data, extra = zlib.compress(data, 9), extra + b" /Filter /FlateDecode"
    return b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(data), extra, data)


def pages(contents: list[bytes], first: int = 10) -> dict[int, bytes]:
    """A document with a page for each content stream; equal streams are shared."""
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"", 3: FONT}
    kids: list[bytes] = []
    made: dict[bytes, int] = {}
    number = first
    for content in contents:
        if content not in made:
            made[content] = number
            objects[number] = stream(content)
            number += 1
        objects[number] = (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % made[content]
        )
        kids.append(b"%d 0 R" % number)
        number += 1
    objects[2] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    return objects


def line(text: bytes, y: int = 700) -> bytes:
    return b"BT /F1 12 Tf 72 %d Td (%s) Tj ET\n" % (y, text)


GOOD = line(b"This page can be read by everyone.")


def shared_operators() -> bytes:
    """A good page, then 200 pages that share one stream of 600,000 operators."""
    return pdf(pages([GOOD] + [b"BT /F1 1 Tf " + b"(a) Tj " * 600_000 + b"ET"] * 200))


def giant_string() -> bytes:
    """A good page, then one string of 70 MB."""
    return pdf(pages([GOOD, b"BT /F1 1 Tf (" + b"ab " * 23_000_000 + b") Tj ET"]))


def zip_bomb() -> bytes:
    """A good page, then a stream of zeros packed twice: 1 GB from 4 KB."""
    objects = pages([GOOD, b"q Q"])
    inner = zlib.compress(bytes(64 * 1024 * 1024), 9)
    middle = inner * 16
    packed = zlib.compress(middle, 9)
    objects[12] = b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n%s\nendstream" % (
        len(packed),
        packed,
    )
    return pdf(objects)


def nested_forms() -> bytes:
    """A good page, then forms that draw one another ten times over: 10^9 drawings."""
    objects = pages([GOOD, b"/X0 Do"])
    last = max(objects)
    objects[last] = objects[last].replace(
        b"/Resources <<", b"/Resources << /XObject << /X0 100 0 R >> "
    )
    for depth in range(9):
        resources = b" /Resources << /XObject << /X0 %d 0 R >> >>" % (101 + depth)
        objects[100 + depth] = stream(b"/X0 Do\n" * 10, extra=FORM + resources)
    resources = b" /Resources << /Font << /F1 3 0 R >> >>"
    objects[109] = stream(line(b"deep"), extra=FORM + resources)
    return pdf(objects)


def page_loop() -> bytes:
    """The page tree contains itself."""
    objects = pages([GOOD])
    objects[2] = b"<< /Type /Pages /Kids [11 0 R 2 0 R] /Count 2 >>"
    return pdf(objects)


def outline_loop() -> bytes:
    """A good page, and an outline whose entries are their own brothers."""
    objects = pages([GOOD])
    objects[1] = b"<< /Type /Catalog /Pages 2 0 R /Outlines 50 0 R >>"
    objects[50] = b"<< /Type /Outlines /First 51 0 R /Last 51 0 R /Count 1 >>"
    objects[51] = (
        b"<< /Title (Round) /Parent 50 0 R /Next 51 0 R /First 51 0 R /Dest [11 0 R /Fit] >>"
    )
    return pdf(objects)


def deep_arrays() -> bytes:
    """An array nested 200,000 times in the page's resources."""
    objects = pages([GOOD])
    objects[60] = b"[" * 200_000 + b"]" * 200_000
    objects[11] = objects[11].replace(b"/Resources <<", b"/Resources << /Nest 60 0 R")
    return pdf(objects)


def deep_operators() -> bytes:
    """A good page, then 300,000 unclosed graphics states."""
    return pdf(pages([GOOD, b"q " * 300_000 + line(b"below")]))


def many_pages() -> bytes:
    """5,000 pages that are one."""
    return pdf(pages([GOOD] * 5_000))


def claimed_pages() -> bytes:
    """Two pages that say they are two thousand million."""
    objects = pages([GOOD])
    objects[2] = b"<< /Type /Pages /Kids [11 0 R] /Count 2000000000 >>"
    return pdf(objects)


def giant_page() -> bytes:
    """A page of 14 million points each way."""
    objects = pages([GOOD])
    objects[11] = objects[11].replace(b"[0 0 612 792]", b"[0 0 14400000 14400000]")
    return pdf(objects)


def empty_page() -> bytes:
    """A page without any height."""
    objects = pages([GOOD])
    objects[11] = objects[11].replace(b"[0 0 612 792]", b"[0 0 0 0]")
    return pdf(objects)


def wild_numbers() -> bytes:
    """Positions and sizes that are no numbers any more."""
    content = b"BT /F1 1e38 Tf 1e38 -1e38 Td (far away) Tj ET BT /F1 0 Tf (nothing) Tj ET " + GOOD
    return pdf(pages([content]))


def truncated() -> bytes:
    """Two thirds of a file of ten pages."""
    whole = pdf(pages([line(b"Page %d of ten can be read." % n) for n in range(10)]))
    return whole[: len(whole) * 2 // 3]


def shifted() -> bytes:
    """A right file whose cross references all point elsewhere."""
    whole = pdf(pages([GOOD]))
    return whole.replace(b"\xd3\n", b"\xd3\n% something that was put in later\n", 1)


def garbage() -> bytes:
    """Nothing of a PDF but its first line."""
    return b"%PDF-1.7\n" + bytes(range(256)) * 40


def endless_strings() -> bytes:
    """Parentheses that never close."""
    return pdf(pages([GOOD, b"BT /F1 12 Tf " + b"(" * 1_000_000]))


ALL: dict[str, Callable[[], bytes]] = {
    f.__name__: f
    for f in (
        shared_operators, giant_string, zip_bomb, nested_forms, page_loop, outline_loop,
        deep_arrays, deep_operators, many_pages, claimed_pages, giant_page, empty_page,
        wild_numbers, truncated, shifted, garbage, endless_strings,
    )
}  # fmt: skip
