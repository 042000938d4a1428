"""Lines of a column -> paragraphs: what the page's width broke is put together again.

A line end is kept where the next word would still have fitted: somebody wanted it there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from statistics import median

from ragdemo.loading.layout import Line

_ITEM = re.compile(r"(?:[•●▪◦‣·*–—-]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|\d+(?:\.\d+)+\.?)\s+\S")
_CLOSED = re.compile(r"[.!?…:][\"'”’)\]]*$")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SOFT = "\u00ad"  # also what the worker makes of pdfium's mark for a hyphen at a line's end
_BROKEN = re.compile(r"(?<![^\W\d_])([^\W\d_]++)[-‐\u00ad]$")


class Vocabulary:
    """The words that stand unbroken in the document; they decide whether a hyphen stays."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._words: set[str] = set()
        for line in lines:
            self._words.update(word.casefold() for word in _WORD.findall(line))

    def join(self, before: str, after: str) -> str | None:
        """Both lines put together where the first ends in a broken word; None where it does not.

        "the mobile pol-" + "icy applies" -> "the mobile policy applies"
        """
        match = _BROKEN.search(before)
        following = _WORD.match(after)
        if match is None or following is None:
            return None
        head, tail = match.group(1), following.group()
        whole = (head + tail.split("-")[0]).casefold() in self._words
        hyphened = f"{head}-{tail}".casefold() in self._words
        stem = before[: match.end(1)]
        if (hyphened and not whole) or not tail[0].islower():
            return f"{stem}-{after}"
        return stem + after


def flow(lines: list[Line], vocabulary: Vocabulary) -> list[str]:
    """Paragraphs in order; a list item begins a line of its own within its paragraph."""
    paragraphs: list[str] = []
    widths = _Widths(lines)
    before: Line | None = None
    for line in lines:
        text = line.text.strip()
        if not text:
            continue
        kind = "\n\n" if before is None else _between(before, line, widths)
        if kind == "\n\n":
            paragraphs.append(text)
        elif kind == " ":
            joined = vocabulary.join(paragraphs[-1], text)
            paragraphs[-1] = joined if joined is not None else f"{paragraphs[-1]} {text}"
        else:
            paragraphs[-1] += kind + text
        before = line
    return [p.replace(_SOFT, "-" if p.endswith(_SOFT) else "") for p in paragraphs]


class _Widths:
    """Each column's right edge and usual distance of lines, in points."""

    def __init__(self, lines: list[Line]) -> None:
        columns: dict[int, list[Line]] = {}
        for line in lines:
            columns.setdefault(line.group, []).append(line)
        self.right = {g: max(line.x1 for line in c) for g, c in columns.items()}
        self.left = {g: min(line.x0 for line in c) for g, c in columns.items()}
        self.pitch: dict[int, float] = {}
        for g, column in columns.items():
            steps = [b.y - a.y for a, b in pairwise(column) if 0 < b.y - a.y < 2.2 * b.size]
            self.pitch[g] = median(steps) if steps else 1.2 * column[0].size


def _between(before: Line, line: Line, widths: _Widths) -> str:
    """What stands between two lines: a space, a line break or an empty line."""
    if line.group < 0:
        return "\n"  # no geometry is known
    item = bool(_ITEM.match(line.text))
    closed = bool(_CLOSED.search(before.text))
    broken = bool(_BROKEN.search(before.text)) and line.text[:1].islower()
    if before.group != line.group:  # on at the top of the next column
        same = abs(before.size - line.size) < 0.6 and not item and not closed
        return " " if same and (broken or line.text[:1].islower()) else "\n\n"
    if abs(before.size - line.size) > 0.12 * max(before.size, line.size):
        return "\n\n"
    step = line.y - before.y
    pitch = min(widths.pitch[line.group], 1.9 * line.size)
    if step < 0 or step > 1.3 * pitch + 0.5:
        return "\n" if item and _ITEM.match(before.text) and step < 2 * pitch else "\n\n"
    if item:
        return "\n"
    if broken:
        return " "
    first_word = line.text.split(" ", 1)[0]
    space = (line.x1 - line.x0) / max(1, len(line.text)) * (len(first_word) + 1)
    fitted = before.x1 + space < widths.right[line.group] - 0.5 * line.size
    indented = line.x0 - before.x0 > 0.8 * line.size and before.x0 - widths.left[line.group] < 1
    if closed and (fitted or indented):
        return "\n\n" if not _ITEM.match(before.text) else "\n"
    if fitted:
        return "\n"
    return " "
