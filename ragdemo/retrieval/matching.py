"""Why a passage matched: which of its words met which words of the question.

Places are in the text given, so that a page can mark them in `chunk.text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ragdemo.embedding import Encoder, TokenVectors
from ragdemo.errors import RagdemoError
from ragdemo.retrieval.terms import Terms
from ragdemo.text import STOP_WORDS, word_spans
from ragdemo.types import Span


@dataclass(frozen=True, slots=True)
class Match:
    """One word of a passage."""

    span: Span  # where it stands in the passage
    word: str  # the word of the question it met
    weight: float


def matched_terms(weights: Mapping[str, float], text: str, terms: Terms) -> list[Match]:
    """Every word of `text` that counted for BM25 or TF-IDF, in reading order.

    `weights` is the hit's `parts` and `terms` the retriever's: {"policies": 2.1} marks each
    "policy" in the text. A weight belongs to all occurrences together, each carries the whole.
    """
    known = {term: word for word in weights for term in terms.of(word)}
    return [
        Match(span, known[term], float(weights[known[term]]))
        for term, span in terms.spans(text)
        if term in known
    ]


def matched_tokens(encoder: Encoder, question: str, text: str) -> list[Match]:
    """Every word of `text` with the question's word nearest to it and their cosine, -1..1.

    The vectors are contextual, of the encoder's tokens before pooling, a word's its tokens' mean;
    question words that say little ("what", "the") are left out while others remain. This shows
    what met, after ColBERT's MaxSim (Khattab & Zaharia 2020, https://arxiv.org/abs/2004.12832);
    the passage's score is made from the pooled vectors and is not a sum of these. Words beyond the
    encoder's limit are missing. RagdemoError for an encoder without token vectors.
    """
    if not hasattr(encoder, "token_vectors"):
        raise RagdemoError(
            f"The encoder {encoder.name!r} tells nothing of single words. Choose a "
            "sentence-transformers model to see which words met."
        )
    asked, read = encoder.token_vectors([question, text])
    wanted, query = _words(question, asked)  # [question's words, d]
    if telling := [i for i, (word, _) in enumerate(wanted) if word not in STOP_WORDS]:
        wanted, query = [wanted[i] for i in telling], query[telling]
    words, passage = _words(text, read)  # [passage's words, d]
    if not wanted or not words:
        return []
    cosine = passage @ query.T
    nearest = cosine.argmax(1)
    return [
        Match(span, question[wanted[i][1].start : wanted[i][1].end], float(cosine[row, i]))
        for row, ((_, span), i) in enumerate(zip(words, nearest.tolist(), strict=True))
    ]


def _words(text: str, tokens: TokenVectors) -> tuple[list[tuple[str, Span]], np.ndarray]:
    """The words that have tokens, and the mean of each one's token vectors, of length 1."""
    kept, rows, at = [], [], 0
    for word, span in word_spans(text):
        while at < len(tokens.spans) and tokens.spans[at].end <= span.start:
            at += 1
        end = at
        while end < len(tokens.spans) and tokens.spans[end].start < span.end:
            end += 1
        if end > at:
            mean = tokens.vectors[at:end].mean(0)
            kept.append((word, span))
            rows.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    return kept, np.array(rows, dtype=np.float32)
