"""Questions and passages -> the `SourceBatch` that the network reads, with every token's place.

A passage is encoded as  [CLS] task  question [SEP] title [SEP] passage [SEP].
The task is one of BERT's unused word pieces, which no text can ever become.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from ragdemo.generation.mini.model import NULL, OUTSIDE, SEP, SourceBatch
from ragdemo.text import sentences
from ragdemo.types import Chunk, Span

CLS, PAD = 101, 0
TASKS = {"answer": 1, "closed": 2, "ask": 3}  # [unused0], [unused1], [unused2]
MAX_TOKENS = 320  # of one encoded passage with its question
QUESTION_TOKENS = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


def passage_of(chunk: Chunk) -> tuple[str, str]:
    """(text, title) as the model reads them: the file's name and headings say what it is about."""
    name = chunk.document_name.rsplit(".", 1)[0].replace("-", " ").replace("_", " ")
    return whole(chunk.content), whole(f"{name} {chunk.heading}".strip())


def whole(text: str) -> str:
    """Lone surrogates, which no tokenizer takes, as replacement characters: lengths stay."""
    return _SURROGATE.sub("\ufffd", text)


@dataclass(frozen=True)
class Tokens:
    """A text in word pieces, without special tokens."""

    ids: np.ndarray  # [n] int32
    start: np.ndarray  # [n] offset into the text
    end: np.ndarray  # [n]
    sentence: np.ndarray  # [n] sentence number from 0
    spans: tuple[Span, ...]  # the sentences

    def cut(self, limit: int) -> Tokens:
        if len(self.ids) <= limit:
            return self
        kept = slice(0, limit)
        return Tokens(
            self.ids[kept], self.start[kept], self.end[kept], self.sentence[kept], self.spans
        )

    def only(self, first: int, last: int) -> Tokens:
        """Sentences of it, from 0, the last one included."""
        kept = (self.sentence >= first) & (self.sentence <= last)
        return Tokens(
            self.ids[kept],
            self.start[kept],
            self.end[kept],
            self.sentence[kept] - first,
            self.spans[first : last + 1],
        )


def plain_tokenizer(path: str) -> Tokenizer:
    """MiniLM's word pieces without truncation, padding or special tokens found in the text."""
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[SEP]" in a document is three ordinary characters
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens]:
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [_tokens(text, encoding) for text, encoding in zip(texts, encodings, strict=True)]


def _tokens(text: str, encoding) -> Tokens:
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    spans = tuple(sentences(text))
    starts = np.array([span.start for span in spans], dtype=np.int32)
    number = np.searchsorted(starts, offsets[:, 0], side="right") - 1
    ids = np.array(encoding.ids, dtype=np.int32)
    return Tokens(ids, offsets[:, 0], offsets[:, 1], np.maximum(number, 0), spans)


@dataclass(frozen=True)
class Passage:
    """One passage of a row, and where its text begins in the encoded sequence."""

    ids: np.ndarray  # [l] with special tokens, task and question
    sentence: np.ndarray  # [l] NULL, OUTSIDE, or from 1 within this passage
    offset: int  # position of the passage's first token in `ids`
    count: int  # sentences in this passage


def passage(
    task: str, question: Tokens | None, text: Tokens | None, title: Tokens | None = None
) -> Passage:
    """Lay out one sequence; the passage's end is cut where it would pass MAX_TOKENS."""
    head = [CLS, TASKS[task]]
    if question is not None:
        head += [*question.ids[:QUESTION_TOKENS].tolist(), SEP]
    if title is not None and len(title.ids):
        head += [*title.ids[:24].tolist(), SEP]
    body = text.cut(MAX_TOKENS - len(head) - 1) if text is not None else None
    sentence = [NULL] + [OUTSIDE] * (len(head) - 1)
    ids = head
    count = 0
    if body is not None:
        ids = head + body.ids.tolist() + [SEP]
        if len(body.ids):
            count = int(body.sentence.max()) + 1
        sentence = sentence + (body.sentence + 1).tolist() + [OUTSIDE]
    return Passage(np.array(ids), np.array(sentence), len(head), count)


def locate(laid: Sequence[Passage], number: int) -> tuple[int, int] | None:
    """(passage, sentence in it), from 0, of the sentence that `batch` numbers so; None for NULL and
    for numbers that the row does not have."""
    for at, p in enumerate(laid):
        if NULL < number <= p.count:
            return at, number - 1
        number -= p.count
    return None


def batch(
    rows: Sequence[Sequence[Passage]], priors: Sequence[Sequence[np.ndarray]] | None = None
) -> SourceBatch:
    """Rows of passages -> tensors. Sentences are numbered through a row, passage after passage.

    `priors` holds, for each row and passage, a log prior of each of its sentences; only differences
    within a row count.
    """
    flat = [p for row in rows for p in row]
    length = max(len(p.ids) for p in flat)
    input_ids = np.zeros((len(flat), length), dtype=np.int64)
    mask = np.zeros((len(flat), length), dtype=np.int64)
    for i, p in enumerate(flat):
        input_ids[i, : len(p.ids)] = p.ids
        mask[i, : len(p.ids)] = 1
    width = max(sum(len(p.ids) for p in row) for row in rows)
    gather = np.zeros((len(rows), width), dtype=np.int64)
    valid = np.zeros((len(rows), width), dtype=bool)
    sentence = np.full((len(rows), width), OUTSIDE, dtype=np.int64)
    behind = np.zeros((len(rows), width), dtype=np.float32)
    opens = np.zeros((len(rows), width), dtype=bool)
    number, most = 0, 1
    for r, row in enumerate(rows):
        at, seen = 0, 0
        prior = priors[r] if priors and priors[r] else [np.zeros(p.count) for p in row]
        best = max((float(part.max()) for part in prior if len(part)), default=0.0)
        for p, favour in zip(row, prior, strict=True):
            here = slice(at, at + len(p.ids))
            gather[r, here] = number * length + np.arange(len(p.ids))
            valid[r, here] = True
            sentence[r, here] = np.where(p.sentence > NULL, p.sentence + seen, p.sentence)
            # the [CLS] of each passage keeps its say in "not here", whatever the passage's rank
            inside = p.sentence > NULL
            behind[r, here][inside] = favour[p.sentence[inside] - 1] - best
            if p.ids[1] == TASKS["answer"]:
                opens[r, here][1:] = inside[1:] & (p.sentence[1:] != p.sentence[:-1])
            at += len(p.ids)
            seen += p.count
            number += 1
        most = max(most, seen + 1)
    tokens = np.where(valid, input_ids.reshape(-1)[gather], PAD)
    return SourceBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(mask),
        gather=torch.from_numpy(gather),
        valid=torch.from_numpy(valid),
        tokens=torch.from_numpy(tokens),
        sentence=torch.from_numpy(sentence),
        behind=torch.from_numpy(behind),
        opens=torch.from_numpy(opens),
        sentences=most,
    )
