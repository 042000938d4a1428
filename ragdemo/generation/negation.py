"""A question that negates, asked of a sentence that does not.

"Which empires did not thrive?" is rarely answered by a sentence that tells of those which did; a
tenth of SQuAD 2.0's unanswerable questions were made so (Rajpurkar et al. 2018,
https://arxiv.org/abs/1806.03822, table 1: negation). What it adds to the log odds of "not here" is
counted as for `strange` names.
"""

from __future__ import annotations

import re

_NOT = r"\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|except)\b|n['’]t\b"
# what says so in other words, where a question's "not" may find its answer
_ALMOST = (
    r"|\b(?:unable|fail|lack|refus|reject|den[yi]|prohibit|forb|prevent|avoid|exclu)\w*"
    r"|\b(?:only|instead|rather|few|little|hardly|rarely)\b"
)
_NEGATES = re.compile(_NOT, re.IGNORECASE)
_ALMOST_NEGATES = re.compile(_NOT + _ALMOST, re.IGNORECASE)


def unmatched(question: str, sentence: str) -> bool:
    """The question negates, and nothing in the sentence does."""
    return bool(_NEGATES.search(question)) and not _ALMOST_NEGATES.search(sentence)
