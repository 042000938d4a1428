"""DOCX bytes -> Document: headings by style, lists, tables with their header row, notes.

Reads the XML itself, since python-docx passes over content controls, text boxes and footnotes.
The archive's sizes are checked before anything is unpacked, XML that declares entities is
refused, and parsing runs in the limited child (`parse` there, `load_docx` here).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from xml.etree import ElementTree

from ragdemo.errors import DocumentError
from ragdemo.loading import child, hidden
from ragdemo.loading.build import Builder
from ragdemo.settings import Limits
from ragdemo.types import Document, FileReport

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# Word's own files stay below 1:30; a bomb is 1:1000
_MAX_RATIO = 200
_MAX_UNPACKED = 64 * 1024 * 1024  # bytes of the XML parts that are read
_MAX_PARTS = 5_000
_HEADING = re.compile(r"heading\s*([1-9])", re.IGNORECASE)
_ENTITIES = re.compile(rb"<!(?:DOCTYPE|ENTITY)")


def load_docx(
    data: bytes,
    name: str,
    *,
    limits: Limits,
    progress: Callable[[int, int], None] | None = None,
) -> Document:
    """Raises DocumentError, or LimitReached when nothing could be read within the limits."""
    builder = Builder(data, name, limits)
    builder.start_page()
    notes: list[str] = []
    hit: str | None = None
    pieces = 0
    with closing(child.run("docx", {"name": name}, data, limits)) as messages:
        for message in messages:
            if "note" in message:
                notes.append(message["note"])
            elif "end" in message:
                if message["end"] is not None:
                    if not pieces:
                        raise child.nothing_read(message["end"], name, limits)
                    hit = child.ended(message["end"], name, "the text up to there was read", limits)
            else:
                builder.piece(message)
                pieces += 1
            if builder.full:
                hit = builder.limit_reached()
                break
    return _finish(builder, data, name, notes, hit, progress)


def _finish(
    builder: Builder,
    data: bytes,
    name: str,
    notes: list[str],
    hit: str | None,
    progress: Callable[[int, int], None] | None,
) -> Document:
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
    """Pieces in reading order: {"heading", "level"}, {"text"}, {"rows", "header"}, {"note"}."""
    name = options["name"]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = _checked(archive, name)
            if "word/document.xml" not in parts:
                raise DocumentError(f"{name} is an archive but not a Word document (.docx).")
            xml = {part: _part(archive, part, name) for part in _read_parts(parts)}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise _broken(name) from error
    except (RuntimeError, OSError, ValueError) as error:  # an encrypted or broken member
        raise _broken(name) from error
    try:
        yield from _Reader(xml).pieces()
    except ElementTree.ParseError as error:
        raise _broken(name) from error


def _broken(name: str) -> DocumentError:
    return DocumentError(f"{name} is damaged. Open it in Word or LibreOffice and save it again.")


def _checked(archive: zipfile.ZipFile, name: str) -> set[str]:
    infos = archive.infolist()
    unpacked = sum(info.file_size for info in infos if info.filename.endswith(".xml"))
    packed = sum(info.compress_size for info in infos if info.filename.endswith(".xml"))
    if len(infos) > _MAX_PARTS or unpacked > min(
        _MAX_UNPACKED, _MAX_RATIO * max(packed, 1024 * 50)
    ):
        raise DocumentError(
            f"{name} unpacks to far more than its size; it was not opened. Save it again from the "
            "program it was made with, or split it."
        )
    return {info.filename for info in infos}


def _read_parts(parts: set[str]) -> list[str]:
    wanted = ("document", "styles", "footnotes", "endnotes")
    chosen = [f"word/{part}.xml" for part in wanted]
    chosen += sorted(p for p in parts if re.fullmatch(r"word/(header|footer)\d*\.xml", p))[:20]
    return [part for part in chosen if part in parts]


def _part(archive: zipfile.ZipFile, part: str, name: str) -> bytes:
    with archive.open(part) as stream:
        # the declared size may lie
        xml = stream.read(_MAX_UNPACKED + 1)
    if len(xml) > _MAX_UNPACKED:
        raise DocumentError(f"{name} unpacks to far more than it says; it was not opened.")
    if _ENTITIES.search(xml) or b"\x00" in xml[:200]:
        raise DocumentError(
            f"{name} declares XML entities, which Word never does; it was not opened."
        )
    return xml


class _Reader:
    """Walks the body in order; knows styles and notes."""

    def __init__(self, xml: dict[str, bytes]) -> None:
        self._xml = xml
        self._body = ElementTree.fromstring(xml["word/document.xml"])
        self._lists: set[str] = set()  # styles of list items
        self._vanishing: set[str] = set()  # styles whose text Word does not show
        self._hidden: Counter[str] = Counter()  # characters by kind, see `hidden.KINDS`
        self._levels = self._heading_styles()
        self._numbered = False

    def pieces(self) -> Iterator[dict[str, Any]]:
        body = self._body.find(f"{_W}body")
        if body is not None:
            yield from self._blocks(body)
        for part, kind in (("footnotes", "Footnote"), ("endnotes", "Endnote")):
            yield from self._notes(part, kind)
        for kind, characters in self._hidden.items():
            yield {"note": hidden.note(kind, characters)}
        running = [
            text
            for part, xml in self._xml.items()
            if re.match(r"word/(header|footer)", part)
            for text in [self._text(ElementTree.fromstring(xml)).strip()]
            if text
        ]
        if running:
            yield {"note": "Headers and footers of the document were left out."}
        if self._numbered:
            yield {"note": "Numbers that Word gives to headings by itself are not in the text."}
        if next(self._body.iter(f"{_W}del"), None) is not None:
            yield {"note": "Text struck out by tracked changes was left out."}

    def _heading_styles(self) -> dict[str, int]:
        """Style id -> heading level, for styles that are headings or built on one."""
        levels: dict[str, int] = {}
        based: dict[str, str] = {}
        if "word/styles.xml" not in self._xml:
            return levels
        for style in ElementTree.fromstring(self._xml["word/styles.xml"]).iter(f"{_W}style"):
            key = style.get(f"{_W}styleId", "")
            name = style.find(f"{_W}name")
            title = name.get(f"{_W}val", "") if name is not None else ""
            outline = style.find(f"{_W}pPr/{_W}outlineLvl")
            parent = style.find(f"{_W}basedOn")
            if parent is not None:
                based[key] = parent.get(f"{_W}val", "")
            if match := _HEADING.match(title):
                levels[key] = int(match.group(1))
            elif title.lower() == "title":
                levels[key] = 1
            elif outline is not None and outline.get(f"{_W}val", "9") in "012345678":
                levels[key] = int(outline.get(f"{_W}val", "0")) + 1
            if _on(style.find(f"{_W}rPr/{_W}vanish")):
                self._vanishing.add(key)
            if title.lower().startswith(("list bullet", "list number")):
                self._lists.add(key)
        for key in based:
            parent, steps = based[key], 0
            while key not in levels and parent and steps < 20:
                if parent in levels:
                    levels[key] = levels[parent]
                parent, steps = based.get(parent, ""), steps + 1
        return levels

    def _blocks(self, parent: ElementTree.Element) -> Iterator[dict[str, Any]]:
        items: list[str] = []  # a list's items stay together
        for element in _content(parent):
            if element.tag == f"{_W}tbl":
                if items:
                    yield {"text": "\n".join(items)}
                    items = []
                yield from self._table(element)
                continue
            text = self._text(element).strip()
            if not text:
                continue
            level = self._level(element)
            self._numbered |= bool(level) and element.find(f"{_W}pPr/{_W}numPr") is not None
            if not level and self._is_item(element):
                items.append(f"- {text}")
                continue
            if items:
                yield {"text": "\n".join(items)}
                items = []
            yield {"heading": text, "level": level} if level else {"text": text}
        if items:
            yield {"text": "\n".join(items)}

    def _level(self, paragraph: ElementTree.Element) -> int:
        direct = paragraph.find(f"{_W}pPr/{_W}outlineLvl")
        if direct is not None and direct.get(f"{_W}val", "9") in "012345678":
            return int(direct.get(f"{_W}val", "0")) + 1
        return self._levels.get(_style(paragraph), 0)

    def _is_item(self, paragraph: ElementTree.Element) -> bool:
        numbering = paragraph.find(f"{_W}pPr/{_W}numPr/{_W}numId")
        if numbering is not None:
            return numbering.get(f"{_W}val") != "0"
        return _style(paragraph) in self._lists

    def _table(self, table: ElementTree.Element) -> Iterator[dict[str, Any]]:
        rows: list[list[str]] = []
        marked = False
        for row in table.iter(f"{_W}tr"):
            cells: list[str] = []
            for cell in row:
                if cell.tag == f"{_W}sdt":
                    cell = next(cell.iter(f"{_W}tc"), None)
                if cell is None or cell.tag != f"{_W}tc":
                    continue
                paragraphs = (self._text(p).strip() for p in cell.iter(f"{_W}p"))
                cells.append(" ".join(p for p in paragraphs if p))
                span = cell.find(f"{_W}tcPr/{_W}gridSpan")
                if span is not None and span.get(f"{_W}val", "1").isdecimal():
                    cells += [""] * min(int(span.get(f"{_W}val", "1")) - 1, 20)
            if not rows and row.find(f"{_W}trPr/{_W}tblHeader") is not None:
                marked = True
            if any(cells):
                rows.append(cells)
        if not rows:
            return
        if max(map(len, rows)) < 2:  # a frame around text
            for row in rows:
                yield {"text": row[0]}
            return
        yield {"rows": rows, "header": marked or (len(rows) > 1 and all(rows[0]))}

    def _notes(self, part: str, kind: str) -> Iterator[dict[str, Any]]:
        xml = self._xml.get(f"word/{part}.xml")
        if xml is None:
            return
        for note in ElementTree.fromstring(xml):
            text = self._text(note).strip()
            if text and note.get(f"{_W}type") is None:
                yield {"text": f"{kind} {note.get(f'{_W}id', '')}: {text}"}

    def _text(self, element: ElementTree.Element) -> str:
        """All text below, in order; deleted text and old fallbacks of drawings are left out."""
        parts: list[str] = []
        stack = [element]
        while stack:
            here = stack.pop()
            if here.tag == f"{_W}r" and (kind := self._unseen(here, element)):
                letters = "".join(t.text or "" for t in here.iter(f"{_W}t"))
                self._hidden[kind] += len("".join(letters.split()))
            if here.tag == f"{_W}t":
                parts.append(here.text or "")
            elif here.tag in (f"{_W}tab", f"{_W}ptab"):
                parts.append("\t")
            elif here.tag in (f"{_W}br", f"{_W}cr"):
                parts.append("\n")
            elif here.tag == f"{_W}noBreakHyphen":
                parts.append("-")
            elif here.tag == f"{_W}footnoteReference":
                parts.append(f" [{here.get(f'{_W}id', '')}]")
            elif here.tag in (f"{_W}del", f"{_W}pPr", f"{_W}rPr", f"{_W}instrText", _FALLBACK):
                continue
            elif here.tag == f"{_W}p" and parts and not parts[-1].endswith("\n"):
                parts.append("\n")  # a paragraph within a text box
            stack.extend(reversed(here))
        return "".join(parts)

    def _unseen(self, run: ElementTree.Element, paragraph: ElementTree.Element) -> str:
        """The kind of hidden text that a run is, told from the run and its named styles; "" where
        it is none."""
        look = run.find(f"{_W}rPr")
        vanish = look.find(f"{_W}vanish") if look is not None else None
        if vanish is not None:
            return "marked" if _on(vanish) else ""
        named = look.find(f"{_W}rStyle") if look is not None else None
        styles = {_style(paragraph), named.get(f"{_W}val", "") if named is not None else ""}
        if styles & self._vanishing:
            return "marked"
        if look is None:
            return ""
        size, colour = look.find(f"{_W}sz"), look.find(f"{_W}color")
        half_points = size.get(f"{_W}val", "") if size is not None else ""
        if half_points.isdecimal() and int(half_points[:6]) < 2 * hidden.TINY_POINTS:
            return "tiny"
        white = colour is not None and colour.get(f"{_W}val", "").upper() == "FFFFFF"
        return "white" if white else ""


def _on(switch: ElementTree.Element | None) -> bool:
    """Word's switches are on unless they say otherwise."""
    return switch is not None and switch.get(f"{_W}val", "1").lower() not in ("0", "false", "off")


def _content(parent: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Paragraphs and tables in order, inside content controls and tracked insertions too."""
    stack = list(reversed(parent))
    while stack:
        element = stack.pop()
        if element.tag in (f"{_W}p", f"{_W}tbl"):
            yield element
        elif element.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml"):
            stack.extend(reversed(element))


def _style(paragraph: ElementTree.Element) -> str:
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return style.get(f"{_W}val", "") if style is not None else ""
