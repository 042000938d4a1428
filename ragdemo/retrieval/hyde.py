"""Hypothetical document embeddings (Gao et al. 2022, https://arxiv.org/abs/2212.10496): search
with what an answer would look like, since an answer resembles a passage more than a question does.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ragdemo.generation.base import Generator, run
from ragdemo.retrieval.base import Retriever, asked, nothing
from ragdemo.types import Decoding, Hit

if TYPE_CHECKING:
    from ragdemo.corpus import Corpus

KEPT = 64  # answers kept, so that hits and scores of a question ask the generator once


class HyDE:
    """Score: the inner retriever's, for the generator's closed-book answer in place of the
    question. As wrong as the answer may be, its words and shape lead the search; a wrong answer
    leads it astray. The paper averages the vectors of several answers and of the question; here
    `keep_question` puts the question before the one answer, which word-level retrievers read too.
    """

    def __init__(
        self,
        inner: Retriever,
        generator: Generator,
        *,
        keep_question: bool = True,
        decoding: Decoding = Decoding(),
        name: str = "hyde",
    ) -> None:
        self.inner = inner
        self.corpus: Corpus = inner.corpus
        self.name = name
        self._generator = generator
        self._keep_question = keep_question
        self._decoding = decoding
        self._answers: OrderedDict[str, str] = OrderedDict()

    def query(self, question: str) -> str:
        """What is searched with: the answer, and the question where it is kept or there is none."""
        text = asked(question)
        if not text:
            return ""
        answer = self._answer(text)
        if not answer:
            return text
        return f"{text} {answer}" if self._keep_question else answer

    def search(self, question: str, k: int) -> list[Hit]:
        if not asked(question, k) or not self.corpus.chunks:
            return []
        hits = self.inner.search(self.query(question), k)
        return [replace(hit, retriever=self.name) for hit in hits]

    def scores(self, question: str) -> np.ndarray:
        if not asked(question) or not self.corpus.chunks:
            return nothing(self.corpus)
        return self.inner.scores(self.query(question))

    def _answer(self, text: str) -> str:
        if text not in self._answers:
            prompt = self._generator.prompt(text, [], decoding=self._decoding)
            self._answers[text] = asked(run(self._generator, [prompt], [self._decoding])[0].text)
            if len(self._answers) > KEPT:
                self._answers.popitem(last=False)
        return self._answers[text]
