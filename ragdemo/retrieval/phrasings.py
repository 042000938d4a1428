"""One question put in several ways by rules, no model and no key; the rankings are fused, as
RAG-Fusion does with a model's phrasings (Rackauckas 2024, https://arxiv.org/abs/2402.03367).

The ways, each left out where it gives no new text:
- as asked;
- keywords: its words without the stop words ("How much leave do I get?" -> "leave get");
- statement: the question word left out, the auxiliary too or put behind the subject ("What is the
  notice period?" -> "the notice period is", "When must I leave?" -> "I must leave");
- heading: the headings above the first hit put before the question;
- vocabulary: its keywords and the words that the first hits use most (relevance model RM3: Lavrenko
  & Croft 2001, https://doi.org/10.1145/383952.383972; Abdul-Jaleel et al. 2004, TREC).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.retrieval.base import Retriever, asked, scattered
from ragdemo.retrieval.fused import DEPTH, fuse
from ragdemo.text import content_words
from ragdemo.types import Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

FEEDBACK_HITS = 5  # first hits whose words count
FEEDBACK_WORDS = 10  # words taken from them: RM3's usual number

_ASKING = r"(?:what|which|who|whom|whose|where|when|why|how)(?: (?:many|much|long|often))?"
_THE = r"(?:the|a|an|my|our|your|their|his|her|its|this|that|these|those|each|every)"
_SUBJECT = rf"(?:i|you|we|they|he|she|it|{_THE} [^ ]+)"
_MODAL = r"(?:can|could|may|might|must|shall|should|will|would)"
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), order)
    for pattern, order in (
        (rf"{_ASKING} (is|are|was|were) (.+)", (2, 1)),
        (rf"{_ASKING} (?:(.+?) )?(?:do|does|did) (.+)", (2, 1)),
        (r"(?:do|does|did) (.+)", (1,)),
        (rf"{_ASKING} (?:(.+?) )?({_MODAL}) ({_SUBJECT}) (.+)", (3, 2, 4, 1)),
        (rf"({_MODAL}) ({_SUBJECT}|[^ ]+) (.+)", (2, 1, 3)),
        (rf"{_ASKING} (.+)", (1,)),
    )
)


def statement(question: str) -> str:
    """The question as the start of a sentence that could answer it, or as it is.

    "How many days of leave do I get?" -> "I get days of leave"
    """
    text = " ".join(question.split()).rstrip("?!. ")
    for pattern, order in _RULES:
        if found := pattern.fullmatch(text):
            said = [found[part] for part in order if found[part]]
            return " ".join(w.lower() if re.fullmatch(_MODAL, w, re.I) else w for w in said)
    return question


def vocabulary(hits: Sequence[Hit], words: int = FEEDBACK_WORDS) -> list[str]:
    """The words most likely under the hits' own word distributions, a hit weighing 1 / rank."""
    likely: Counter[str] = Counter()
    for hit in hits:
        counts = Counter(w for w in content_words(hit.chunk.content) if not w[0].isdigit())
        for word, count in counts.items():
            likely[word] += count / counts.total() / hit.rank
    return [word for word, _ in likely.most_common(words)]


class Phrasings:
    """Score: the sum of 1 / (60 + rank) over the phrasings' rankings, as for rank fusion; `parts`
    tells what each phrasing added.
    """

    def __init__(self, inner: Retriever, *, depth: int = DEPTH, name: str = "phrasings") -> None:
        self.inner = inner
        self.corpus: Corpus = inner.corpus
        self.name = name
        self._depth = depth

    def phrasings(self, question: str) -> dict[str, str]:
        """Way -> text, the question as asked first."""
        text = asked(question)
        return self._phrased(text, self.inner.search(text, FEEDBACK_HITS)) if text else {}

    def search(self, question: str, k: int) -> list[Hit]:
        return self._fused(question, max(k, self._depth))[:k] if asked(question, k) else []

    def scores(self, question: str) -> np.ndarray:
        found = self._fused(question, self._depth) if asked(question) else []
        return scattered(self.corpus, found)

    def _fused(self, question: str, depth: int) -> list[Hit]:
        text = asked(question)
        first = self.inner.search(text, max(depth, FEEDBACK_HITS))
        phrased = self._phrased(text, first[:FEEDBACK_HITS])
        found = [
            (way, first[:depth] if way == "as asked" else self.inner.search(said, depth))
            for way, said in phrased.items()
        ]
        return fuse(found, self.name)

    def _phrased(self, text: str, hits: Sequence[Hit]) -> dict[str, str]:
        keywords = " ".join(content_words(text))
        ways = {"as asked": text, "keywords": keywords, "statement": statement(text)}
        if hits:
            if heading := hits[0].chunk.heading:
                ways["heading"] = f"{heading.replace(' > ', ' ')} {text}"
            ways["vocabulary"] = " ".join(dict.fromkeys([*keywords.split(), *vocabulary(hits)]))
        said: dict[str, str] = {}
        for way, words in ways.items():
            if asked(words) and words.casefold() not in map(str.casefold, said.values()):
                said[way] = words
        return said
