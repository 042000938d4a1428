"""A text in the tokens that an encoder reads, with their ids.

Each reading has a tokenizer of its own: one shared between threads gives wrong ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ragdemo.embedding import MINILM, Encoder, minilm_path
from ragdemo.embedding.hashing import bucket
from ragdemo.errors import RagdemoError
from ragdemo.text import content_words


@dataclass(frozen=True, slots=True)
class Token:
    """One token as it stands in the vocabulary: "##s" goes on with the word before it."""

    text: str
    id: int


def reader(encoder: Encoder) -> Callable[[str], list[Token]]:
    """How this encoder cuts a text, its special tokens included, up to its limit.

    Raises RagdemoError for an encoder whose tokenizer is not at hand.
    """
    if encoder.name == "hashing":
        return lambda text: [
            Token(word, bucket(word, encoder.dimension)[0])
            for word in content_words(text) or [text]
        ]
    folder = minilm_path() if encoder.name == MINILM else Path(encoder.name)
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise RagdemoError(
            f"The tokenizer of {encoder.name} is not on this machine, so its tokens can't be shown."
        )
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(encoder.limit)

    def read(text: str) -> list[Token]:
        found = tokenizer.encode(text)
        return [Token(t, i) for t, i in zip(found.tokens, found.ids, strict=True)]

    return read
