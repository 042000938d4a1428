"""BLEU (Papineni et al. 2002, https://aclanthology.org/P02-1040), as sacrebleu's defaults give it:
words parted as by NIST's mteval-v13a, and where no n-gram of a length matches, 1 / (2^i x their
number) for the i-th such length (smoothing "exp"; Chen and Cherry 2014,
https://aclanthology.org/W14-3346, method 3). In 0..1, where sacrebleu prints 0..100.
"""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 4  # n-grams

# mteval-v13a: these stand alone; a point or comma does where no digit is beside it, a hyphen after
# a digit
_ALONE = re.compile(r"""([!-&(-+:-@\[-`{-~/])""")
_AFTER_OTHER = re.compile(r"([^0-9])([.,])")
_BEFORE_OTHER = re.compile(r"([.,])([^0-9])")
_AFTER_DIGIT = re.compile(r"([0-9])(-)")
_ENTITIES = re.compile("&(?:quot|amp|lt|gt);")


def tokens(text: str) -> list[str]:
    """ "It costs £5.50, or 5-6." -> ["It", "costs", "£5.50", ",", "or", "5", "-", "6", "."]."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    text = f" {_ENTITIES.sub(lambda m: html.unescape(m[0]), text)} "
    text = _ALONE.sub(r" \1 ", text)
    text = _AFTER_OTHER.sub(r"\1 \2 ", text)
    text = _BEFORE_OTHER.sub(r" \1 \2", text)
    return _AFTER_DIGIT.sub(r"\1 \2 ", text).split()


def sentence_bleu(answer: str, golds: Sequence[str]) -> float:
    """One answer against its references; n-grams longer than the answer count for nothing
    (sacrebleu's effective order)."""
    return _score(_counts(answer, golds), effective_order=True)


def corpus_bleu(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> float:
    """All answers as one text: the figure that papers give. Counts are summed, then compared."""
    if not answers:
        return 0.0
    rows = [_counts(answer, refs) for answer, refs in zip(answers, golds, strict=True)]
    return _score([sum(column) for column in zip(*rows, strict=True)], effective_order=False)


def _counts(answer: str, golds: Sequence[str]) -> list[int]:
    """[length, length of the reference nearest in it, then of each n matches and n-grams]."""
    said, refs = tokens(answer), [tokens(gold) for gold in golds]
    near = min((abs(len(ref) - len(said)), len(ref)) for ref in refs)[1]
    row = [len(said), near]
    for n in range(1, LONGEST + 1):
        most: Counter = Counter()
        for ref in refs:
            most |= _grams(ref, n)  # the largest count of any reference
        own = _grams(said, n)
        row += [sum((own & most).values()), own.total()]
    return row


def _grams(words: Sequence[str], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _score(row: Sequence[int], *, effective_order: bool) -> float:
    length, reference, *pairs = row
    matches, totals = pairs[::2], pairs[1::2]
    if not any(matches):
        return 0.0
    logs, halved = [], 1
    for right, of in zip(matches, totals, strict=True):
        if of == 0:
            break
        if right == 0:
            halved *= 2
        logs.append(math.log(right / of if right else 1 / (halved * of)))
    if len(logs) < LONGEST and not effective_order:
        return 0.0
    brevity = min(0.0, 1 - reference / length)
    return math.exp(brevity + sum(logs) / len(logs))
