"""HTML bytes -> Document: the text a reader sees, with headings, lists and tables.

Scripts, styles, templates and comments are dropped; menus and page footers are kept as
furniture. Nothing is fetched. Parsing runs in the limited child (`parse` there).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from html.parser import HTMLParser
from typing import Any

from ragdemo.loading import child
from ragdemo.loading.build import Builder
from ragdemo.loading.hidden import note
from ragdemo.loading.plain import decode
from ragdemo.settings import Limits
from ragdemo.types import Document, FileReport

_DROPPED = frozenset("script style noscript template svg math head iframe object select".split())
_FURNITURE = frozenset({"nav", "footer"})
_INLINE = frozenset(
    "a abbr b bdi bdo cite code data del dfn em font i ins kbd label mark q s samp small span "
    "strong sub sup time tt u var wbr img input button".split()
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_MAX_CELLS = 200  # a row
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
# a tag of the first kind ends an open one of the second without a word
_CLOSES = {
    **{tag: {tag} for tag in ("li", "option", "tr")},
    **{tag: {"td", "th"} for tag in ("td", "th")},
    **{tag: {"p"} for tag in "p div ul ol table section h1 h2 h3 h4 h5 h6 pre".split()},
}
# what inline styles hide with; style sheets are not read
_UNSEEN = (
    (
        "marked",
        re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0*\.?0+(?![.\d])"),
    ),
    ("tiny", re.compile(r"font-size\s*:\s*(?:0*\.?0+(?![.\d])|(?:0?\.\d+|1(?:\.\d+)?)\s*p[xt]\b)")),
    (
        "white",
        re.compile(
            r"(?<![\w-])color\s*:\s*(?:white|#fff(?:fff)?\b|rgb\(\s*255,\s*255,\s*255\s*\))"
        ),
    ),
)
_MAX_VEILED = 1_000  # tags open inside a hidden one; looking through them costs time
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)


def load_html(
    data: bytes,
    name: str,
    *,
    limits: Limits,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Raises LimitReached when nothing could be read within the limits, DocumentError for what is
    no text."""
    declared = _CHARSET.search(data[:2048])
    text, notes = decode(data, name, declared.group(1).decode() if declared else None)
    builder = Builder(data, name, limits)
    builder.start_page()
    hit: str | None = None
    pieces = 0
    with closing(child.run("html", {}, text.encode("utf-8", "replace"), limits)) as messages:
        for message in messages:
            if "end" in message:
                if message["end"] is not None:
                    if not pieces:
                        raise child.nothing_read(message["end"], name, limits)
                    hit = child.ended(message["end"], name, "the text up to there was read", limits)
            elif "note" in message:
                notes.append(message["note"])
            else:
                builder.piece(message)
                pieces += 1
            if builder.full:
                hit = builder.limit_reached()
                break
    some = builder.end_page(1)
    if progress is not None:
        progress(1, 1)
    return builder.document(
        FileReport(
            name,
            len(data),
            pages=1,
            empty_pages=() if some else (1,),
            hit_limit=hit,
            notes=tuple(notes),
        )
    )


# -- in the child --------------------------------------------------------------------------------


def parse(data: bytes, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Pieces in reading order, as for DOCX."""
    reader = _Reader()
    text = data.decode("utf-8")
    # fed in parts, so that what was read before a limit struck has been handed over
    for at in range(0, len(text), 65_536):
        reader.feed(text[at : at + 65_536])
        yield from reader.take()
    reader.close()
    reader.flush()
    yield from reader.take()
    for kind, characters in reader.hidden.items():
        yield {"note": note(kind, characters)}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._pieces: list[dict[str, Any]] = []
        self._words: list[str] = []
        self._dropping: list[str] = []
        self._furniture = 0
        self._heading = 0
        self._prefix = ""
        self._rows: list[list[str]] | None = None
        self._cell: list[str] | None = None
        self._header_cells = 0
        self._first_row_cells = 0
        self._items: list[str] = []
        self._pre = 0
        self.hidden: Counter[str] = Counter()  # characters by kind, see `hidden.KINDS`
        self._veiled: list[str] = []  # tags open since one that hides what it holds
        self._veil = ""  # and in which way

    def take(self) -> list[dict[str, Any]]:
        taken, self._pieces = self._pieces, []
        return taken

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED:
            self._dropping.append(tag)
            return
        if self._dropping:
            if tag == "body":  # a head that was never closed
                self._dropping.clear()
            return
        self._look(tag, attrs)
        if tag == "br":
            self._add("\n")
            return
        if tag in _INLINE:
            return
        if self._rows is not None and tag not in ("table", "tr", "td", "th", "caption"):
            self._add(" ")
            return
        if tag in ("td", "th"):
            self._end_cell()
            self._cell = []
            if self._rows is not None and len(self._rows) == 1:
                self._header_cells += tag == "th"
                self._first_row_cells += 1
            return
        if tag == "tr":
            self._end_cell()
            if self._rows is not None:
                self._rows.append([])
            return
        self.flush(keep_items=tag == "li")
        if tag in _HEADINGS:
            self._heading = _HEADINGS[tag]
        elif tag == "li":
            self._prefix = "- "
        elif tag == "table":
            self._end_table()
            self._rows = []
        elif tag == "pre":
            self._pre += 1
        elif tag in _FURNITURE:
            self._furniture += 1

    def handle_endtag(self, tag: str) -> None:
        if self._dropping:
            if tag in self._dropping:
                del self._dropping[self._dropping.index(tag) :]
            return
        if tag in self._veiled:
            del self._veiled[len(self._veiled) - 1 - self._veiled[::-1].index(tag) :]
        if tag in _INLINE or tag == "br":
            return
        if tag in ("td", "th", "tr"):
            self._end_cell()
            return
        if tag == "table":
            self._end_cell()
            self._end_table()
            return
        if self._rows is not None:
            return
        self.flush(keep_items=tag == "li")
        if tag in _FURNITURE:
            self._furniture = max(0, self._furniture - 1)
        elif tag == "pre":
            self._pre = max(0, self._pre - 1)

    def handle_data(self, data: str) -> None:
        if not self._dropping:
            if self._veiled:
                self.hidden[self._veil] += len("".join(data.split()))
            self._add(data if self._pre else re.sub(r"\s+", " ", data))

    def _look(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep `_veiled`, the tags that are open inside a hidden one, that one included."""
        if self._veiled and self._veiled[-1] in _CLOSES.get(tag, ()):
            self._veiled.pop()
        if tag in _VOID:
            return
        if self._veiled:
            if len(self._veiled) < _MAX_VEILED:
                self._veiled.append(tag)
            return
        given = dict(attrs)
        style = (given.get("style") or "").lower()
        found = "marked" if "hidden" in given else ""
        found = found or next((kind for kind, look in _UNSEEN if look.search(style)), "")
        if found and not (found == "white" and "background" in style):
            self._veil = found
            self._veiled.append(tag)

    def _add(self, text: str) -> None:
        (self._words if self._cell is None else self._cell).append(text)

    def _end_cell(self) -> None:
        if self._cell is None:
            return
        text = " ".join("".join(self._cell).split())
        self._cell = None
        if self._rows is None:
            self._words.append(f" {text} ")
            return
        if not self._rows:
            self._rows.append([])
        if len(self._rows[-1]) < _MAX_CELLS:
            self._rows[-1].append(text)

    def _end_table(self) -> None:
        rows = [row for row in self._rows or [] if any(row)]
        headed = self._first_row_cells > 0 and self._header_cells == self._first_row_cells
        self._rows, self._header_cells, self._first_row_cells = None, 0, 0
        if not rows:
            return
        if max(map(len, rows)) < 2:  # a table for layout
            self._pieces += [self._kind(row[0]) for row in rows]
        elif self._furniture:
            self._pieces += [{"furniture": " | ".join(row)} for row in rows]
        else:
            self._pieces.append({"rows": rows, "header": headed})

    def flush(self, *, keep_items: bool = False) -> None:
        """End the paragraph; a list's items stay together until the list ends."""
        raw = "".join(self._words)
        self._words.clear()
        lines = raw.split("\n")
        text = "\n".join(
            (line.rstrip() if self._pre else " ".join(line.split())) for line in lines
        ).strip()
        if text:
            if self._prefix:
                self._items.append(self._prefix + text)
            else:
                self._write_items()
                self._pieces.append(
                    {"heading": text, "level": self._heading}
                    if self._heading and not self._furniture
                    else self._kind(text)
                )
            self._prefix = ""
            self._heading = 0
        if not keep_items:
            self._write_items()
            self._prefix = ""
            self._heading = 0

    def _write_items(self) -> None:
        if self._items:
            self._pieces.append(self._kind("\n".join(self._items)))
            self._items.clear()

    def _kind(self, text: str) -> dict[str, Any]:
        return {"furniture" if self._furniture else "text": text}

    def close(self) -> None:
        super().close()
        self._end_cell()
        if self._rows is not None:
            self._end_table()
