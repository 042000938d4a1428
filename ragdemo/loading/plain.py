"""Markdown and plain text bytes -> Document; the text stays as it was written.

Headings are found (`# Title`, underlined titles), so are Markdown tables. A form feed begins a
new page. `decode` tells a text's encoding for the other formats too.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from ragdemo.errors import DocumentError
from ragdemo.loading.build import Builder
from ragdemo.settings import Limits
from ragdemo.types import Document, FileReport

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HASHES = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-{3,})[ \t]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_RULE = re.compile(r":?-+:?")  # a cell of the row under a table's head


def decode(data: bytes, name: str, declared: str | None = None) -> tuple[str, list[str]]:
    """The text and notes about how it was read. Raises DocumentError for what is no text."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return _lossy(data[len(bom) :], encoding)
    sample = data[:4096]
    if sample.count(0) > 0.3 * len(sample):  # UTF-16 without its mark: every other byte is 0
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        if len(data) % 2 or min(even, odd) * 10 > max(even, odd):
            raise _no_text(name)
        return _lossy(data, "utf-16-le" if odd > even else "utf-16-be")
    if b"\x00" in sample or sum(b < 9 or 13 < b < 27 for b in sample) > 0.1 * len(sample):
        raise _no_text(name)
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        pass
    if declared is not None:
        try:
            # utf-16 in a file whose declaration could be read as ASCII is not utf-16
            if not codecs.lookup(declared).name.startswith(("utf-16", "utf-32")):
                return data.decode(declared), []
        except (LookupError, UnicodeError, ValueError):
            pass  # a wrong declaration is common; the fallback below is said in a note
    text, notes = _lossy(data, "cp1252")
    return text, ["Not UTF-8: read as Western European (cp1252); accents may be wrong.", *notes]


def _lossy(data: bytes, encoding: str) -> tuple[str, list[str]]:
    text = data.decode(encoding, "replace")
    lost = text.count("\ufffd") - data.count("\ufffd".encode(encoding, "replace"))
    notes = [f"{lost:,} characters could not be read and became \ufffd."] if lost > 0 else []
    return text, notes


def _no_text(name: str) -> DocumentError:
    return DocumentError(
        f"{name} holds binary data, not text. Save it as PDF, DOCX or UTF-8 text and load that."
    )


def load_plain(
    data: bytes,
    name: str,
    *,
    limits: Limits,
    markdown: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Raises DocumentError for what is no text."""
    text, notes = decode(data, name)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    builder = Builder(data, name, limits)
    pages = text.split("\f")
    kept = pages[: limits.pages]
    empty: list[int] = []
    for number, page in enumerate(kept, 1):
        if builder.full:
            break
        builder.start_page()
        _blocks(page, builder, markdown)
        if not builder.end_page(number):
            empty.append(number)
        if progress is not None:
            progress(number, len(kept))
    hit = builder.limit_reached() if builder.full else None
    if hit is None and len(pages) > len(kept):
        hit = f"{name} has more than the {limits.pages:,} pages allowed; the rest was left out."
    return builder.document(
        FileReport(
            name,
            len(data),
            pages=builder.pages,
            empty_pages=tuple(empty),
            hit_limit=hit,
            notes=tuple(notes),
        )
    )


def _blocks(text: str, builder: Builder, markdown: bool) -> None:
    lines = text.split("\n")
    waiting: list[str] = []

    def write() -> None:
        # an empty line between paragraphs stays one, however many there were
        builder.text(re.sub(r"\n[ \t]*(?:\n[ \t]*)+\n?", "\n\n", "\n".join(waiting)))
        waiting.clear()

    fenced = False
    at = 0
    while at < len(lines):
        line = lines[at]
        following = lines[at + 1] if at + 1 < len(lines) else ""
        if markdown and _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            if markdown and (match := _HASHES.fullmatch(line)):
                write()
                builder.heading(match.group(2).rstrip("# \t"), len(match.group(1)))
                at += 1
                continue
            alone = not waiting or not waiting[-1].strip()
            if line.strip() and alone and len(line) <= 120 and _UNDERLINE.fullmatch(following):
                write()
                builder.heading(line, 1 if "=" in following else 2)
                at += 2
                continue
            if markdown and "|" in line and "|" in following and _rules(following):
                write()
                stop = at + 2
                while stop < len(lines) and "|" in lines[stop]:
                    stop += 1
                builder.table([_cells(row) for row in [line, *lines[at + 2 : stop]]], True)
                at = stop
                continue
        waiting.append(line.rstrip())
        at += 1
    write()


def _rules(row: str) -> bool:
    """One border on either side at most: "||---|" has an empty cell, and is no rule."""
    cells = row.strip().removeprefix("|").removesuffix("|").split("|")
    return all(_RULE.fullmatch(cell.strip()) for cell in cells)


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]
