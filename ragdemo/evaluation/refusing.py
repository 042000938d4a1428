"""Whether an answer says that the documents don't hold one."""

from __future__ import annotations

import re

from ragdemo.text import sentences
from ragdemo.types import Answer

# What prompts.TEMPLATES asks for, and the ways models put it: nothing that answers has these words
# as its first sentence.
_SAYS_NOT = re.compile(
    r"\b(do(es)? not|don['’]t|doesn['’]t|cannot|can['’]t|could not|couldn['’]t|not|no|unable to)\b"
    r"[^.]{0,40}\b(say|state|stated|mention(ed)?|specif(y|ied)|contain|provide[ds]?|answer|know|"
    r"find|found|information)\b",
    re.IGNORECASE,
)
_SOURCE = re.compile(
    r"\b(I|documents?|passages?|context|texts?|information|answer)\b", re.IGNORECASE
)
_WORDS = 16  # a longer first sentence says something else as well


def refused(answer: Answer) -> bool:
    """The bundled model says so itself; of others the first sentence is read: "The passages do not
    say." """
    return answer.finish == "refused" or says_not(answer.text)


def says_not(text: str) -> bool:
    """The first sentence says that there is no answer. A rule for English, not a model."""
    first = next((text[s.start : s.end] for s in sentences(text)), "")
    short = len(first.split()) <= _WORDS
    return short and bool(_SAYS_NOT.search(first)) and bool(_SOURCE.search(first))
