"""Document -> chunks: passages small enough for the encoder, cut where the text itself pauses.

`document.text[chunk.start:chunk.end] == chunk.text` always holds, and every character that is
neither white space nor furniture stands in at least one chunk. Knows nothing of models: tokens
are counted by a function it is given.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ragdemo.settings import Chunking
from ragdemo.text import sentences
from ragdemo.types import Block, Chunk, Document, Span

# Counts a batch at once, since tokenizers are several times faster that way; the counts leave the
# special tokens out: ["two words", "x"] -> [2, 1]
CountTokens = Callable[[list[str]], list[int]]

_SPECIAL = 2  # tokens an encoder puts around the text: [CLS] and [SEP]
# A tokenizer may call a word of any length one token ("[UNK]"); a screen has no such mercy. Text
# has about 4 to 5 characters a token.
_CHARACTERS_PER_TOKEN = 12
_TINY = (
    5  # a chunk at a section's end with less than 1/5 of the aim of its own joins the one before
)
_HEADER_SHARE = 2  # a table's header row may take 1/2 of a chunk
_HEADING_CHARACTERS = 120  # of one heading in a chunk's path
_ATOM = re.compile(r"\S+\s*")
# Chinese and Japanese have no spaces, but they have full stops and commas
_CJK_PAUSE = re.compile(r"[。！？；，、：．]")


@dataclass(slots=True)
class _Unit:
    """The smallest stretch that is not cut unless it must be: a sentence, a row, a heading."""

    start: int
    end: int
    kind: str  # "sentence", "heading" or "row"
    path: str  # the headings above it, its own included
    stretch: int  # units of different stretches (furniture lies between) share no chunk
    table: int = -1  # which table the row belongs to
    header: Span | None = None
    tokens: int = 0  # or its characters' worth of them, where that is more


@dataclass(slots=True)
class _Range:
    """A chunk in the making: `units[first:last]`, of which `fresh` onwards are new in it."""

    first: int
    last: int
    fresh: int


def chunk(
    document: Document,
    count_tokens: CountTokens,
    settings: Chunking | None = None,
    limit: int = 256,
) -> list[Chunk]:
    """Passages in the order of the text.

    A heading begins a new chunk and stands at its start; `chunk.heading` holds the path to it. A
    chunk aims for `settings.tokens` tokens, its table header included, and repeats the last
    sentences of the one before it, up to `settings.overlap` tokens. It never has more than
    `limit - 2` tokens (`limit` is the encoder's, its two special tokens included), whatever that
    takes: a giant word is cut by characters. Table rows stay whole, and their header row is in
    the text or in `chunk.context`. Running headers and footers are in no chunk.
    """
    if limit < _SPECIAL + 4:
        raise ValueError(f"limit must be at least {_SPECIAL + 4}, got {limit}")
    settings = settings or Chunking()
    most = limit - _SPECIAL
    aim = min(settings.tokens, most)
    units = list(_units(document))
    if not units:
        return []
    headers = _Headers(document.text, units, count_tokens, max(1, aim // _HEADER_SHARE))
    units = _cut_long(document.text, units, count_tokens, aim, headers)
    ranges = _group(units, aim, most, min(settings.overlap, aim // 2), headers)
    ranges = _join_tiny(units, ranges, aim, most, headers)
    return _make(document, units, ranges, count_tokens, most, headers)


# -- the text's own parts ----------------------------------------------------------------------


def _units(document: Document) -> Iterator[_Unit]:
    """Sentences, headings and rows in order; furniture is left out."""
    path: list[tuple[int, str]] = []
    stretch = 0
    at = 0
    for number, block in enumerate([*_in_order(document), None]):
        start = block.start if block else len(document.text)
        shown = " > ".join(title for _, title in path)
        for span in sentences(document.text[at:start]):
            yield _Unit(at + span.start, at + span.end, "sentence", shown, stretch)
        if block is None:
            return
        at = block.end
        if block.kind == "furniture":
            stretch += 1
        elif block.kind == "heading":
            title = " ".join(document.text[block.start : block.end].split())
            while path and path[-1][0] >= block.level:
                path.pop()
            path.append((block.level, title[:_HEADING_CHARACTERS]))
            shown = " > ".join(title for _, title in path)
            for span in _trimmed(document.text, block.start, block.end):
                yield _Unit(span.start, span.end, "heading", shown, stretch)
        else:
            for span in _lines(document.text, block):
                yield _Unit(span.start, span.end, "row", shown, stretch, number, block.header)


def _in_order(document: Document) -> list[Block]:
    """Blocks by start, clipped to the text and to one another."""
    blocks: list[Block] = []
    at = 0
    for block in sorted(document.blocks, key=lambda b: (b.start, b.end)):
        start, end = max(at, block.start), min(block.end, len(document.text))
        if start < end:
            blocks.append(Block(block.kind, start, end, block.level, block.header))
            at = end
    return blocks


def _trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if end > start:
        yield Span(start, end)


def _lines(text: str, block: Block) -> Iterator[Span]:
    start = block.start
    while start < block.end:
        end = text.find("\n", start, block.end)
        end = block.end if end < 0 else end
        yield from _trimmed(text, start, end)
        start = end + 1


class _Headers:
    """The header rows of the tables: their text, cut to what a chunk can bear, and its tokens."""

    def __init__(self, text: str, units: list[_Unit], count_tokens: CountTokens, most: int) -> None:
        spans = list(dict.fromkeys(u.header for u in units if u.header is not None))
        texts = [
            " ".join(text[s.start : s.end].split())[: most * _CHARACTERS_PER_TOKEN] for s in spans
        ]
        counts = _counted(count_tokens, texts)
        self._known: dict[Span, tuple[str, int]] = {}
        for span, row, count in zip(spans, texts, counts, strict=True):
            while row and count > most:
                row = row[: _boundary(row, len(row) * 3 // 4)].rstrip()
                count = _counted(count_tokens, [row])[0]
            self._known[span] = (row, count + 1 if row else 0)  # 1: the line break may count

    def context(self, unit: _Unit, start: int) -> str:
        """What a chunk that begins at `start` with this unit must be told, if anything."""
        return self._known[unit.header][0] if self._missing(unit, start) else ""

    def tokens(self, unit: _Unit, start: int) -> int:
        return self._known[unit.header][1] if self._missing(unit, start) else 0

    @staticmethod
    def _missing(unit: _Unit, start: int) -> bool:
        header = unit.header
        return header is not None and not (start <= header.start and header.end <= unit.end)


def _counted(count_tokens: CountTokens, texts: list[str]) -> list[int]:
    counts = count_tokens(texts) if texts else []
    if len(counts) != len(texts):
        raise ValueError(f"count_tokens gave {len(counts)} counts for {len(texts)} texts")
    return counts


# -- units that are too long -------------------------------------------------------------------


def _cut_long(
    text: str, units: list[_Unit], count_tokens: CountTokens, aim: int, headers: _Headers
) -> list[_Unit]:
    """The same units with their tokens; those above the aim in pieces."""
    counts = _counted(count_tokens, [text[u.start : u.end] for u in units])
    out: list[_Unit] = []
    for unit, tokens in zip(units, counts, strict=True):
        unit.tokens = _weight(tokens, unit.end - unit.start)
        room = max(1, aim - headers.tokens(unit, unit.start))
        if unit.tokens <= room:
            out.append(unit)
            continue
        for span, count in _pieces(text, Span(unit.start, unit.end), count_tokens, room):
            weight = _weight(count, span.end - span.start)
            out.append(replace(unit, start=span.start, end=span.end, tokens=weight))
    return out


def _weight(tokens: int, characters: int) -> int:
    """Tokens, or characters' worth of them; never none: a hundred thousand units of no weight would
    all go into one chunk."""
    return max(1, tokens, characters // _CHARACTERS_PER_TOKEN)


def _pieces(
    text: str, span: Span, count_tokens: CountTokens, room: int
) -> Iterator[tuple[Span, int]]:
    """Runs of whole words of at most `room` tokens; a word that is longer is cut itself."""
    atoms: list[Span] = []
    for match in _ATOM.finditer(text, span.start, span.end):
        atoms += _pauses(text, match.start(), match.end())
    counts = _counted(count_tokens, [text[a.start : a.end].rstrip() for a in atoms])
    longest = room * _CHARACTERS_PER_TOKEN
    start, end, total = span.start, span.start, 0
    for atom, tokens in zip(atoms, counts, strict=True):
        if end > start and (total + tokens > room or atom.end - start > longest):
            yield from ((s, total) for s in _trimmed(text, start, end))
            start, total = atom.start, 0
        if tokens > room or atom.end - atom.start > longest:
            yield from _halves(text, atom, count_tokens, room)
            start, end, total = atom.end, atom.end, 0
        else:
            end, total = atom.end, total + tokens
    yield from ((s, total) for s in _trimmed(text, start, end))


def _pauses(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _CJK_PAUSE.finditer(text, start, end):
        if match.end() > start:
            yield Span(start, match.end())
            start = match.end()
    if end > start:
        yield Span(start, end)


def _halves(
    text: str, span: Span, count_tokens: CountTokens, room: int
) -> Iterator[tuple[Span, int]]:
    """Equal pieces of an unbroken string, none above `room` tokens or the longest in characters."""
    longest = room * _CHARACTERS_PER_TOKEN
    waiting = [span]
    while waiting:
        # a whole generation is counted at once: the halving costs few calls, not one a piece
        kept = [s for piece in waiting for s in _trimmed(text, piece.start, piece.end)]
        short = [s for s in kept if s.end - s.start <= longest]
        counts = dict(
            zip(short, _counted(count_tokens, [text[s.start : s.end] for s in short]), strict=True)
        )
        if all(counts.get(s, room + 1) <= room or s.end - s.start == 1 for s in kept):
            yield from ((s, counts[s]) for s in kept)
            return
        waiting = []
        for s in kept:
            if counts.get(s, room + 1) <= room or s.end - s.start == 1:
                waiting.append(s)
            else:
                middle = s.start + _boundary(text[s.start : s.end], (s.end - s.start) // 2)
                waiting += [Span(s.start, middle), Span(middle, s.end)]


def _boundary(text: str, at: int) -> int:
    """A place at or shortly before `at` that parts no letter from its accent and no emoji."""
    for place in range(at, max(0, at - 24), -1):
        if 0 < place < len(text) and not _joined(text[place - 1], text[place]):
            return place
    return max(1, at)


def _joined(before: str, after: str) -> bool:
    joiner = "\u200d"
    return (
        after == joiner
        or before == joiner
        or unicodedata.category(after) in ("Mn", "Mc", "Me")
        or "\ufe00" <= after <= "\ufe0f"  # variation selectors
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
    )


# -- chunks --------------------------------------------------------------------------------------


def _group(
    units: list[_Unit], aim: int, most: int, overlap: int, headers: _Headers
) -> list[_Range]:
    """Fill chunks in order; `fresh` tells what is not repeated from the chunk before."""
    ranges: list[_Range] = []
    first = fresh = 0
    total = units[0].tokens + headers.tokens(units[0], units[0].start)
    for index in range(1, len(units)):
        unit, before = units[index], units[index - 1]
        apart = _apart(units, first, index, headers)
        # a heading is worth a few tokens above the aim to stay with its text
        room = most if all(u.kind == "heading" for u in units[first:index]) else aim
        if not apart and total + unit.tokens <= room:
            total += unit.tokens
            continue
        ranges.append(_Range(first, index, fresh))
        first = fresh = index
        if not apart and unit.kind == before.kind == "sentence":
            room = min(overlap, aim - unit.tokens)
            while (
                first - 1 > ranges[-1].first
                and units[first - 1].kind == "sentence"
                and units[first - 1].tokens <= room
            ):
                first -= 1
                room -= units[first].tokens
        total = sum(u.tokens for u in units[first : index + 1])
        total += headers.tokens(units[first], units[first].start)
    ranges.append(_Range(first, len(units), fresh))
    return ranges


def _apart(units: list[_Unit], first: int, index: int, headers: _Headers) -> bool:
    """Must `units[index]` begin a new chunk, given that the current one began at `first`?"""
    unit, before = units[index], units[index - 1]
    if unit.stretch != before.stretch:
        return True
    if unit.kind == "heading":
        # a title right under a chapter's title stays with it; so do a heading's own pieces
        return before.kind != "heading"
    if unit.kind == "row" and unit.table != before.table:
        # a chunk has one context, and it must be right for each of its rows
        start = units[first].start
        return headers.context(unit, start) != "" or headers.context(units[first], start) != ""
    return False


def _join_tiny(
    units: list[_Unit], ranges: list[_Range], aim: int, most: int, headers: _Headers
) -> list[_Range]:
    """A heading with nothing under it, or the few words left at a section's end, go to the chunk
    before if it has room."""
    out: list[_Range] = []
    for piece in ranges:
        own = units[piece.fresh : piece.last]
        lone = all(u.kind == "heading" for u in own)
        tiny = own[0].kind != "heading" and sum(u.tokens for u in own) * _TINY < aim
        if out and (lone or tiny):
            last = out[-1]
            joined = sum(u.tokens for u in units[last.first : piece.last])
            joined += headers.tokens(units[last.first], units[last.first].start)
            fits = joined <= most and _length(units, last.first, piece.last) <= (
                most * _CHARACTERS_PER_TOKEN
            )
            if fits and _may_join(units, last, piece, headers, lone):
                out[-1] = _Range(last.first, piece.last, last.fresh)
                continue
        out.append(piece)
    return out


def _length(units: list[_Unit], first: int, last: int) -> int:
    return units[last - 1].end - units[first].start


def _may_join(
    units: list[_Unit], before: _Range, piece: _Range, headers: _Headers, lone: bool
) -> bool:
    if units[piece.fresh].stretch != units[before.last - 1].stretch:
        return False
    if lone:
        return True
    return not any(
        _apart(units, before.first, index, headers) for index in range(piece.fresh, piece.last)
    )


def _make(
    document: Document,
    units: list[_Unit],
    ranges: list[_Range],
    count_tokens: CountTokens,
    most: int,
    headers: _Headers,
) -> list[Chunk]:
    """Chunks with their exact counts; a sum of counts may fall short of the count of the whole."""
    text = document.text
    drafts: list[tuple[Span, str, str]] = []
    for piece in ranges:
        head = units[piece.first]
        body = next((u for u in units[piece.first : piece.last] if u.kind != "heading"), None)
        path = (body or units[piece.last - 1]).path
        # a path changes only at a heading, and a heading begins a chunk: the lone ones at a
        # chunk's end do not count
        span = Span(head.start, units[piece.last - 1].end)
        rows = next((u for u in units[piece.first : piece.last] if u.kind == "row"), head)
        drafts.append((span, headers.context(rows, head.start), path))
    counted: list[tuple[Span, str, str, int]] = []
    while drafts:
        counts = _counted(
            count_tokens, [_content(text, span, context) for span, context, _ in drafts]
        )
        again: list[tuple[Span, str, str]] = []
        for (span, context, path), tokens in zip(drafts, counts, strict=True):
            if tokens <= most or (span.end - span.start == 1 and not context):
                counted.append((span, context, path, tokens))
            elif span.end - span.start == 1 or (context and tokens > 2 * most):
                again.append((span, "", path))  # the passage matters more than its header
            else:
                middle = _middle(text, span)
                again += [
                    (part, context, path)
                    for half in (Span(span.start, middle), Span(middle, span.end))
                    for part in _trimmed(text, half.start, half.end)
                ]
        drafts = again
    # two overlapping drafts that had to be split can leave the same stretch twice
    counted = list({(item[0].start, item[0].end): item for item in counted}.values())
    counted.sort(key=lambda item: (item[0].start, item[0].end))
    pages = _Pages(document)
    return [
        Chunk(
            id=f"{document.id[:16]}:{span.start}-{span.end}",
            document_id=document.id,
            document_name=document.name,
            text=text[span.start : span.end],
            start=span.start,
            end=span.end,
            pages=pages.touched(span),
            heading=path,
            context=context,
            tokens=tokens,
        )
        for span, context, path, tokens in counted
    ]


def _content(text: str, span: Span, context: str) -> str:
    # the same as Chunk.content, before there is a Chunk
    return f"{context}\n{text[span.start : span.end]}" if context else text[span.start : span.end]


def _middle(text: str, span: Span) -> int:
    """The white space nearest to the middle, or else a place between two characters."""
    half = (span.start + span.end) // 2
    after = next((m.start() for m in re.finditer(r"\s", text[half : span.end])), None)
    before = text[span.start : half].rstrip()
    cut = max(before.rfind(" "), before.rfind("\n"))
    if cut > 0 and (after is None or half - (span.start + cut) <= after):
        return span.start + cut
    if after is not None and half + after > span.start:
        return half + after
    return span.start + _boundary(text[span.start : span.end], half - span.start)


class _Pages:
    """Finds pages by offset without walking over all of them."""

    def __init__(self, document: Document) -> None:
        self._pages = [page for page in document.pages if page.end > page.start]
        self._fallback = tuple(page.number for page in document.pages[:1])
        self._starts = [page.start for page in self._pages]
        self._ends = [page.end for page in self._pages]

    def touched(self, span: Span) -> tuple[int, ...]:
        first = bisect_right(self._ends, span.start)
        last = bisect_left(self._starts, span.end)
        return tuple(p.number for p in self._pages[first:last]) or self._fallback


def overlap_of(chunks: Sequence[Chunk], index: int) -> int:
    """How many characters at the start of `chunks[index]` repeat the end of the chunk before."""
    if index == 0 or chunks[index].document_id != chunks[index - 1].document_id:
        return 0
    return max(0, chunks[index - 1].end - chunks[index].start)
