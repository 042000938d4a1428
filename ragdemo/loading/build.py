"""Puts a Document together piece by piece, so that every offset is right by construction.

Every format's reader calls this and nothing else makes a Document. Pieces are cleaned here (the
boundary where strangers' characters come in) and kept apart by an empty line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ragdemo.settings import Limits
from ragdemo.text import clean
from ragdemo.types import Block, Document, FileReport, Page, Span

_BREAK = "\n\n"


class Builder:
    """Collects pieces in reading order; `full` says that the character limit was reached."""

    def __init__(self, data: bytes, name: str, limits: Limits) -> None:
        self.name = name
        self.full = False
        self._id = hashlib.sha256(data).hexdigest()
        self._size = len(data)
        self._limit = limits.characters
        self._parts: list[str] = []
        self._length = 0
        self._pages: list[Page] = []
        self._blocks: list[Block] = []
        self._page_start = 0
        self._dropped = 0

    @property
    def pages(self) -> int:
        """Pages closed so far."""
        return len(self._pages)

    def text(self, text: str) -> Span | None:
        """Add a paragraph (or any text that holds its own breaks). None if nothing is left."""
        text, dropped = clean(text)
        self._dropped += dropped
        text = text.strip()
        if not text or self.full:
            return None
        if self._length > self._page_start:
            self._append(_BREAK)
        room = self._limit - self._length
        if len(text) > room:
            self.full = True
            text = text[:room].rstrip()
            if not text:
                return None
        start = self._length
        self._append(text)
        return Span(start, self._length)

    def heading(self, text: str, level: int) -> None:
        span = self.text(" ".join(text.split()))
        if span is not None:
            self._blocks.append(Block("heading", span.start, span.end, level=max(1, level)))

    def furniture(self, text: str) -> None:
        """A running header or footer."""
        span = self.text(text)
        if span is not None:
            self._blocks.append(Block("furniture", span.start, span.end))

    def table(
        self, rows: Sequence[Sequence[str]], has_header: bool, header: Span | None = None
    ) -> Span | None:
        """Add rows, a line each. Returns the span of the header row that belongs to them.

        `header` is the row of an earlier table that this one goes on from.
        """
        lines = []
        for row in rows:
            line, dropped = clean(" | ".join(map(_one_line, row)))
            self._dropped += dropped
            if line.strip(" |"):
                lines.append(line.strip())
        span = self.text("\n".join(lines))
        if span is None:
            return header
        if has_header and lines:
            header = Span(span.start, min(span.end, span.start + len(lines[0])))
        self._blocks.append(Block("table", span.start, span.end, header=header))
        return header

    def piece(self, message: dict[str, Any]) -> None:
        """Write a piece that a child sent: {"heading", "level"}, {"rows", "header"}, {"text"} or
        {"furniture"}."""
        if "heading" in message:
            self.heading(message["heading"], message["level"])
        elif "rows" in message:
            self.table(message["rows"], message["header"])
        elif "furniture" in message:
            self.furniture(message["furniture"])
        else:
            self.text(message["text"])

    def limit_reached(self) -> str:
        """The sentence for the report of a text that was too long."""
        return (
            f"{self.name} holds more than the {self._limit:,} characters allowed; the rest was "
            "left out. Split the file to read it."
        )

    def end_page(self, number: int, label: str = "") -> bool:
        """Close the page; False when it has no text of its own."""
        end = self._length
        if self.full and end == self._page_start:
            return True  # the limit left no room for it, and the report says so
        label = " ".join(clean(label)[0].split()) or str(number)
        self._pages.append(Page(number, label[:20], self._page_start, end))
        self._page_start = end
        return end > self._pages[-1].start

    def start_page(self) -> None:
        """Open the next page; pages with text are kept apart by an empty line."""
        if self._length and not self._ends_with_break():
            self._append(_BREAK)
        self._page_start = self._length

    def document(self, report: FileReport) -> Document:
        """The Document, with `report` completed by what is known here."""
        text = "".join(self._parts)
        if text.endswith(_BREAK):  # left by pages without text at the end
            text = text[: -len(_BREAK)]
        pages = tuple(
            replace(page, start=min(page.start, len(text)), end=min(page.end, len(text)))
            for page in self._pages
        )
        report = replace(
            report,
            name=self.name,
            size=self._size,
            dropped_characters=report.dropped_characters + self._dropped,
        )
        return Document(self._id, self.name, text, pages, tuple(self._blocks), report)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _ends_with_break(self) -> bool:
        return bool(self._parts) and self._parts[-1] == _BREAK


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
