"""ROUGE-1, ROUGE-2 and ROUGE-L as F1 (Lin 2004, https://aclanthology.org/W04-1013), with the words
of the rouge-score package: lower case, runs of a-z and 0-9, not stemmed. In 0..1; of several
references the best counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

_WORD = re.compile("[a-z0-9]+")


def tokens(text: str) -> list[str]:
    """ "£5.50 a day" -> ["5", "50", "a", "day"]."""
    return _WORD.findall(text.lower())


def rouge_n(answer: str, golds: Sequence[str], n: int) -> float:
    """F1 of the n-grams that both have, each as often as both have it."""

    def shared(a: Sequence[str], b: Sequence[str]) -> tuple[int, int, int]:
        own, other = _grams(a, n), _grams(b, n)
        return (own & other).total(), own.total(), other.total()

    return _best(answer, golds, shared)


def rouge_l(answer: str, golds: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words: same order, gaps allowed."""
    return _best(answer, golds, lambda a, b: (common(a, b), len(a), len(b)))


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for at, other in enumerate(b):
            row.append(before[at] + 1 if word == other else max(row[at], before[at + 1]))
    return row[-1]


def _grams(words: Sequence[str], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _best(answer: str, golds: Sequence[str], shared: Callable) -> float:
    found = (shared(tokens(answer), tokens(gold)) for gold in golds)
    # 2PR / (P + R), with P = both / own and R = both / other
    values = (2 * both / (own + other) if both else 0.0 for both, own, other in found)
    return max(values, default=0.0)
