"""Texts -> the terms that word-level retrievers count: folded, without stop words, stemmed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from ragdemo.errors import RagdemoError
from ragdemo.text import content_words, word_spans
from ragdemo.types import Span


class Terms:
    """`language` names a Snowball stemmer (Porter 2001, https://snowballstem.org), "" is none.

    "The phones' policies" -> ["phone", "polici"]
    """

    def __init__(self, language: str = "english") -> None:
        import Stemmer

        if language and language not in Stemmer.algorithms():
            raise RagdemoError(
                f"There is no stemmer for {language!r}: choose from "
                f"{', '.join(Stemmer.algorithms())}, or leave it empty."
            )
        self._stemmer = Stemmer.Stemmer(language) if language else None

    def of(self, text: str) -> list[str]:
        return self._stems(content_words(text))

    def numbered(self, texts: Sequence[str]) -> tuple[list[list[int]], dict[str, int]]:
        """Each text as numbers of terms, and the vocabulary: term -> number.

        Each distinct word is stemmed once, however often it stands there.
        """
        split = [content_words(text) for text in texts]
        seen = list(dict.fromkeys(chain.from_iterable(split)))
        vocabulary: dict[str, int] = {}
        number = {
            word: vocabulary.setdefault(stem, len(vocabulary))
            for word, stem in zip(seen, self._stems(seen), strict=True)
        }
        return [[number[word] for word in words] for words in split], vocabulary

    def known(self, text: str, vocabulary: Mapping[str, int]) -> tuple[list[int], dict[int, str]]:
        """The numbers of a question's terms, a repeated one repeatedly, and the question's first
        word for each; without terms that the vocabulary lacks."""
        numbers: list[int] = []
        spoken: dict[int, str] = {}
        asked = content_words(text)
        for term, word in zip(self._stems(asked), asked, strict=True):
            if (number := vocabulary.get(term)) is not None:
                numbers.append(number)
                spoken.setdefault(number, word)
        return numbers, spoken

    def spans(self, text: str) -> Iterator[tuple[str, Span]]:
        """Every word's term with where the word stands; stop words too."""
        found = word_spans(text)
        terms = self._stems([word for word, _ in found])
        yield from zip(terms, (span for _, span in found), strict=True)

    def _stems(self, words: list[str]) -> list[str]:
        return self._stemmer.stemWords(words) if self._stemmer else words


def shared(
    data: np.ndarray,
    places: np.ndarray,
    start: np.ndarray,
    weights: Mapping[int, float],
    spoken: Mapping[int, str],
    found: np.ndarray,
) -> list[dict[str, float]]:
    """For each passage in `found` [hits], the question's words it shares with what each adds.

    Term t's passages are `places[start[t]:start[t + 1]]`, ascending, and its weights in them the
    same stretch of `data`, as in a sparse matrix with a row a term; `weights` has the question's.
    """
    found = found.astype(places.dtype)  # else searchsorted would convert the whole row
    parts: list[dict[str, float]] = [{} for _ in found]
    for number, weight in weights.items():
        first, last = int(start[number]), int(start[number + 1])
        row = places[first:last]
        at = np.minimum(row.searchsorted(found), last - first - 1)
        for hit in np.flatnonzero(row[at] == found).tolist():
            parts[hit][spoken[number]] = weight * float(data[first + at[hit]])
    return parts
