"""Names and numbers of a question that stand in none of its passages.

Who asks about "Fort Duquesne in 1760" where no passage has 1760 probably asks for something that
is not there; what SQuAD 2.0's writers did most (Rajpurkar et al. 2018, table 1: entity swap). The
network, which sees word pieces, overlooks it. What such a word adds to the log odds of "not here"
is counted on training questions: log p(has one | unanswerable) - log p(has one | answerable).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ragdemo.text import word_spans, words

STEM = 5  # characters that must agree: "Celeron's", "Norman" and "Normans"


def strange(question: str, passages: Iterable[str]) -> list[str]:
    """Such words in order: those with a digit, and capitalised ones but for the first. A question
    that capitalises most words, or all letters, says nothing of names."""
    asked = [(folded, question[span.start : span.end]) for folded, span in word_spans(question)]
    capitals = [word[0].isupper() for _, word in asked[1:]]
    names = sum(capitals) <= len(capitals) / 2
    looked_for = [
        (folded, word)
        for place, (folded, word) in enumerate(asked)
        if any(c.isdigit() for c in word)
        or (names and place > 0 and len(word) > 2 and word[0].isupper())
    ]
    if not looked_for:  # most questions: the passages need no reading
        return []
    held = {_stem(word) for text in passages for word in words(text)}
    return [word for folded, word in looked_for if _stem(folded) not in held]


def _stem(folded: str) -> str:
    own = folded.replace("’", "'").removesuffix("'s")
    return own if any(c.isdigit() for c in own) else own[:STEM]


def shifted(p: float, nats: float) -> float:
    """p with `nats` added to its log odds."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    return 1 / (1 + math.exp(-(math.log(p / (1 - p)) + nats)))


def telling(with_answer: Iterable[bool], without: Iterable[bool]) -> float:
    """Nats, from whether questions of either kind have a strange word; one of each kind is assumed
    beforehand."""
    yes, no = ([*kind] for kind in (with_answer, without))
    return math.log((sum(no) + 1) / (len(no) + 2)) - math.log((sum(yes) + 1) / (len(yes) + 2))
