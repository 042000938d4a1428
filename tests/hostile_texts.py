"""Texts and files that are made to lure a browser, to hide from a reader or to break a widget."""

from __future__ import annotations

import io
import zipfile

import hostile_pdfs
from hostile_pdfs import line

# what breaks or hides: a lone surrogate, right-to-left override, zero-width, a tag character
ODD = "\ud800\u202eevil\u202c\u200bzero\u2060width\u2066iso\u2069\ufeff\U000e0041\x00\x1b[31m"


def lures(url: str) -> list[str]:
    """Each would fetch from `url`, or run something that does, in a sink that believes it."""
    return [
        f"![]({url}/image)", f"![a][b]\n\n[b]: {url}/reference", f"<img src='{url}/html'>",
        f"<script>fetch('{url}/script')</script>", f"<style>@import '{url}/css'</style>",
        f"[click](javascript:fetch('{url}/js'))", f"<iframe src='{url}/frame'></iframe>",
        f":material/home: ![x]({url}/y \"t\") <{url}/auto> {url}/bare",
        f"<svg onload=\"fetch('{url}/svg')\"><image href='{url}/svgimage'/></svg>",
        f"$\\includegraphics{{{url}/tex}}$", f"<a href='{url}/ping' ping='{url}/ping'>a</a>",
        f"<link rel=prefetch href='{url}/link'>",
        f"<meta http-equiv=refresh content='0;url={url}/meta'>",
        f"data:text/html,<img src={url}/data>", f"<body background='{url}/body'>",
    ]  # fmt: skip


# -- PDF: text that is there and not seen --------------------------------------------------------

SEEN = line(b"Everybody reads this line.")


def _text(content: bytes, y: int, before: bytes = b"") -> bytes:
    return b"q %s BT /F1 12 Tf 72 %d Td (%s) Tj ET Q\n" % (before, y, content)


def hidden_pdf(*contents: bytes) -> bytes:
    """A page for each content stream; a font called F1 is at hand."""
    return hostile_pdfs.pdf(hostile_pdfs.pages(list(contents)))


# kind (see `loading.hidden.KINDS`) -> (content stream, its hidden letters)
HIDDEN: dict[str, tuple[bytes, str]] = {
    "white on white": (SEEN + _text(b"Whisper", 600, b"1 1 1 rg"), "colour"),
    "white in another colour space": (SEEN + _text(b"Whisper", 600, b"0 0 0 0 k"), "colour"),
    "yellow on yellow": (
        b"1 1 0.8 rg 0 500 612 200 re f " + _text(b"Whisper", 600, b"1 1 0.8 rg"),
        "colour",
    ),
    "tiny letters": (SEEN + b"BT /F1 1.5 Tf 72 600 Td (Whisper) Tj ET", "tiny"),
    "tiny by the matrix": (SEEN + b"BT /F1 12 Tf 0.1 0 0 0.1 72 600 Tm (Whisper) Tj ET", "tiny"),
    "right of the page": (SEEN + b"BT /F1 12 Tf 700 600 Td (Whisper) Tj ET", "outside"),
    "below the page": (SEEN + b"BT /F1 12 Tf 72 -60 Td (Whisper) Tj ET", "outside"),
    "render mode 3": (SEEN + b"BT 3 Tr /F1 12 Tf 72 600 Td (Whisper) Tj ET", "invisible"),
    "render mode 7": (SEEN + b"q BT 7 Tr /F1 12 Tf 72 600 Td (Whisper) Tj ET Q", "invisible"),
}
PLAIN: dict[str, bytes] = {
    "black on white": SEEN + _text(b"Whisper", 600),
    "white on black": SEEN + _text(b"Whisper", 600, b"0 g 60 590 300 30 re f 1 1 1 rg"),
    "grey that can be read": SEEN + _text(b"Whisper", 600, b"0.7 g"),
    "small print": SEEN + b"BT /F1 5 Tf 72 600 Td (Whisper) Tj ET",
    "a font of size 1 drawn large": SEEN + b"BT /F1 1 Tf 12 0 0 12 72 600 Tm (Whisper) Tj ET",
    "outlined letters": SEEN + b"BT 1 Tr /F1 12 Tf 72 600 Td (Whisper) Tj ET",
    "at the edge": SEEN + b"BT /F1 12 Tf 0 2 Td (Whisper) Tj ET",
}


def scan_with_words() -> bytes:
    """A picture of the whole page with recognised words lying over it, invisibly."""
    words = b"(Recognised by a machine.) Tj"
    content = b"q 612 0 0 792 0 0 cm /Im0 Do Q BT 3 Tr /F1 12 Tf 72 600 Td " + words + b" ET"
    objects = hostile_pdfs.pages([content])
    objects[20] = (
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray "
        b"/BitsPerComponent 8 /Length 1 >>\nstream\n\x80\nendstream"
    )
    last = max(number for number, body in objects.items() if b"/Type /Page " in body)
    objects[last] = objects[last].replace(
        b"/Resources <<", b"/Resources << /XObject << /Im0 20 0 R >> "
    )
    return hostile_pdfs.pdf(objects)


# -- DOCX ----------------------------------------------------------------------------------------


def docx(body: str, styles: str = "") -> bytes:
    """A Word file of this body; `w:` is the usual name space."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>"
        )
        if styles:
            archive.writestr("word/styles.xml", f"<w:styles {space}>{styles}</w:styles>")
    return made.getvalue()


def run(text: str, look: str = "") -> str:
    return f"<w:p><w:r><w:rPr>{look}</w:rPr><w:t>{text}</w:t></w:r></w:p>"
