"""An answer against its gold answers: one short pure function a formula.

Exact match and F1 follow SQuAD's evaluation (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250):
lower case, no punctuation, no articles, single spaces. Each value lies in 0..1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """ "The 20 days." -> "20 days"."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    return float(any(normalise(answer) == normalise(gold) for gold in golds))


def f1(answer: str, golds: Sequence[str]) -> float:
    """Best harmonic mean of word precision and recall over the gold answers."""
    return max((_f1(normalise(answer).split(), normalise(g).split()) for g in golds), default=0.0)


def _f1(answer: list[str], gold: list[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold))


def contains(answer: str, golds: Sequence[str]) -> float:
    """1 where a gold answer stands in the answer, as whole words after `normalise`."""
    padded = f" {normalise(answer)} "
    return float(any(normalise(gold) and f" {normalise(gold)} " in padded for gold in golds))
