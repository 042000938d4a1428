"""One normaliser, tokeniser and sentence splitter for the whole project.

Highlights, BM25, TF-IDF, exact match, F1 and grounding all read words the same way, so that
a word that is marked on the screen is a word that scored. Knows nothing of model tokens.
"""

from __future__ import annotations

import re
import unicodedata

from ragdemo.types import Span

# Words as people count them: letters and digits, with inner apostrophes, points and commas in
# numbers ("1,250.50", "don't", "B2.3"); a currency sign or percent stays with its number.
_WORD = re.compile(r"[£$€¥]?\d+(?:[.,:]\d+)*%?|[^\W_]+(?:['’\-][^\W_]+)*", re.UNICODE)

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st no vs etc e.g i.e inc ltd co corp jan feb mar apr jun jul aug sep sept "
    "oct nov dec fig al approx dept est p pp vol ch sec art u.s u.k a.m p.m".split()
)
# Possessive, and begun only where a run begins: looked for anew at each of a hundred thousand dots,
# one boundary would hold the interpreter for minutes.
_BOUNDARY = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s|$)|[。！？]+|\n[ \t]*\n"
    r"|\n(?=[ \t]*(?:[-*•–·]|\(?\d+[.)])\s)"
    r"|\n(?=[^\n]* \| )"  # table rows
)

STOP_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his how "
    "i if in into is it its may me more most must my no not of on or our shall she should so "
    "some such than that the their them then there these they this those to too us was we were "
    "what when where which who whom whose why will with would you your am being any each about "
    "much many s t".split()
)


def clean(text: str) -> tuple[str, int]:
    """Take out what crashes tokenizers and widgets; returns the text and how many characters went.

    Lone surrogates, control characters other than newline and tab, and the bidirectional and
    zero-width controls that can hide or reorder text. Newlines become "\\n".
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    kept = "".join(c for c in text if c in "\n\t" or not _unwanted(c))
    return kept, len(text) - len(kept)


HIDDEN = frozenset(
    "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\ufffe\uffff\u061c"
    "\u2060\u2061\u2062\u2063\u2064\u206a\u206b\u206c\u206d\u206e\u206f\ufff9\ufffa\ufffb\u180e"
) | {chr(code) for code in range(0xE0000, 0xE0080)}  # tags: a second ASCII that nobody sees


def _unwanted(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in HIDDEN


def fold(text: str) -> str:
    """Lower case without accents or compatibility forms: "Ｅｘposé" -> "expose"."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words(text: str) -> list[str]:
    """Folded words in order: "The 20 days' leave" -> ["the", "20", "days", "leave"]."""
    return [fold(match.group()) for match in _WORD.finditer(text)]


def word_spans(text: str) -> list[tuple[str, Span]]:
    """Folded words with where they stand."""
    return [(fold(m.group()), Span(m.start(), m.end())) for m in _WORD.finditer(text)]


def content_words(text: str) -> list[str]:
    """`words` without the stop words."""
    return [word for word in words(text) if word not in STOP_WORDS]


def sentences(text: str) -> list[Span]:
    """Sentences, list items and table rows ("a | b") in order, white space trimmed; together they
    hold every other character of the text. A line break alone ends none, an empty line does."""
    spans: list[Span] = []
    start = 0
    for match in _BOUNDARY.finditer(text):
        end = match.end() if match.group().strip() else match.start()
        if match.group().strip() and _is_abbreviation(text, match.start()):
            continue
        _append(spans, text, start, end)
        start = end
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[Span], text: str, start: int, end: int) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if end > start:
        spans.append(Span(start, end))


def _is_abbreviation(text: str, dot: int) -> bool:
    if text[dot] != ".":
        return False
    start = dot
    while start > 0 and not text[start - 1].isspace() and text[start - 1] not in "([\"'“":
        start -= 1
    word = text[start:dot].lower()
    # a single capital is an initial ("J. Smith"), unless it ends a sentence like "grade B."
    following = text[dot + 1 : dot + 3].strip()
    initial = len(word) == 1 and text[start].isupper() and following[:1].isupper()
    return word in _ABBREVIATIONS or initial
