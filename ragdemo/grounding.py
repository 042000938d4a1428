"""What bears an answer out: citations and support, computed from the text, never asked of a model.

A sentence of the answer is compared with every sentence of every passage (and with neighbouring
pairs): its support is the share of its content words, by stem and without those of the question,
that stand there. Numbers, dates and names that stand in no passage are listed whatever the score.
It is a lexical check: a true sentence in other words scores low, and a negation ("not allowed")
counts like any word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from ragdemo.text import STOP_WORDS, fold, sentences, word_spans
from ragdemo.types import Hit, Span, Support

CITE_FROM = 0.5  # share of content words from which a sentence counts as borne out
# "not" and its kin carry meaning here, unlike in retrieval
_NEGATIONS = frozenset("no not never without unless except neither nor".split())
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
} | {
    word: str(10 * number)
    for number, word in enumerate(
        "thirty forty fifty sixty seventy eighty ninety hundred".split(), start=3
    )
}


@cache
def _stemmer():
    import Stemmer

    return Stemmer.Stemmer("english")


def stems(text: str) -> list[tuple[str, Span]]:
    """Content words by stem, numbers in one form: "Twenty days'" -> [("20", ..), ("day", ..)]."""
    found = []
    for word, span in word_spans(text):
        if word in STOP_WORDS and word not in _NEGATIONS:
            continue
        found.append((_key(word), span))
    return found


def _number(word: str) -> str | None:
    """ "twenty-eight" -> "28"; None where the word is no number."""
    parts = [_NUMBER_WORDS.get(part) for part in word.split("-")]
    if None in parts or len(parts) > 2:
        return None
    return str(sum(map(int, parts)))


def _key(word: str) -> str:
    if (number := _number(word)) is not None:
        return number
    if any(c.isdigit() for c in word):
        # "1,250.50" and "£1250.50" are one number; 1.250,50 is left as it is
        bare = word.lstrip("£$€¥")
        return bare.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?%?", bare) else bare
    return _stemmer().stemWord(word.removesuffix("'s").removesuffix("’s"))


def support(answer: str, hits: Sequence[Hit], question: str = "") -> tuple[Support, ...]:
    """Each sentence of the answer with its best evidence among the hits, in order.

    Words of the question count for nothing: an answer that only echoes it is borne out by nobody.
    """
    asked = {word for word, _ in stems(question)}
    passages = [
        _Passage(hit.chunk.content, len(hit.chunk.content) - len(hit.chunk.text)) for hit in hits
    ]
    everything = set().union(*(p.words for p in passages)) if passages else set()
    return tuple(_judge(answer, span, passages, everything, asked) for span in sentences(answer))


class _Passage:
    """A passage's sentences, and neighbouring pairs of them, as sets of stems."""

    def __init__(self, content: str, context: int) -> None:
        parts = sentences(content)
        sets = [{w for w, _ in stems(content[s.start : s.end])} for s in parts]
        self.words = set().union(*sets) if sets else set()
        self.windows = [
            (_inside(span, context), held) for span, held in zip(parts, sets, strict=True)
        ]
        self.windows += [
            (_inside(Span(a.start, b.end), context), one | two)
            for a, b, one, two in zip(parts, parts[1:], sets, sets[1:], strict=False)
        ]


def _inside(span: Span, context: int) -> Span:
    """From the passage's content (table header in front) to its own text."""
    return Span(max(0, span.start - context), max(0, span.end - context))


def _judge(
    answer: str, span: Span, passages: Sequence[_Passage], everything: set[str], asked: set[str]
) -> Support:
    text = answer[span.start : span.end]
    said = stems(text)
    wanted = {word for word, _ in said} - asked
    best, citation, evidence = 0.0, None, None
    for number, passage in enumerate(passages, start=1):
        for window, held in passage.windows:
            share = len(wanted & held) / len(wanted) if wanted else 0.0
            if share > best + 1e-9:  # singles come before pairs, so the shorter evidence wins ties
                best, citation, evidence = share, number, window
    if best < CITE_FROM:
        citation, evidence = None, None
    loose = tuple(
        Span(span.start + at.start, span.start + at.end)
        for word, at in said
        if word not in everything and _checkable(text, at)
    )
    return Support(span.start, span.end, best, citation, evidence, loose)


def _checkable(text: str, at: Span) -> bool:
    """Numbers, dates and names: what must not be made up. A capital at the start is no name."""
    word = text[at.start : at.end]
    if any(c.isdigit() for c in word) or _number(fold(word)) is not None:
        return True
    return at.start > 0 and word[0].isupper()


def marked(question: str, passage: str) -> list[Span]:
    """The words of a passage that the question has too, by stem, in order."""
    wanted = {word for word, _ in stems(question)}
    return [span for word, span in stems(passage) if word in wanted]
