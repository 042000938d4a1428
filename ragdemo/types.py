"""The data, in the order it flows: Document -> Chunk -> Hit -> Prompt -> Answer -> Comparison.

Frozen and slotted throughout. Offsets are Python string offsets (code points), half open, so
`document.text[chunk.start:chunk.end] == chunk.text` always holds and a citation leads to a chunk,
to a page, and to a rectangle on that page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch `[start, end)` of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page as it stands in `Document.text[start:end]`; formats without pages have one."""

    number: int  # 1-based position in the file
    label: str  # what the document prints on it: "iv", "12"; str(number) where it prints none
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the text that chunking treats in its own way."""

    kind: str  # "heading", "table" or "furniture" (a running header or footer)
    start: int
    end: int
    level: int = 0  # headings: 1 is the highest
    header: Span | None = None  # tables: the header row that belongs to each of their rows


@dataclass(frozen=True, slots=True)
class FileReport:
    """What happened to one file; every loss has a line here."""

    name: str
    size: int  # bytes
    pages: int = 0  # pages read
    empty_pages: tuple[int, ...] = ()  # gave no text
    scanned_pages: tuple[int, ...] = ()  # gave no text and are mostly an image
    dropped_characters: int = 0  # control characters and lone surrogates taken out
    repaired: bool = False
    duplicate_of: str | None = None  # the name of the file with the same content
    hit_limit: str | None = None  # which limit cut it short, and what to do
    error: str | None = None  # why nothing could be read
    needs_password: bool = False
    notes: tuple[str, ...] = ()  # anything else worth saying, one sentence each
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Document:
    """A file's text with its pages. `id` is the SHA-256 of the file's bytes, in hex."""

    id: str
    name: str
    text: str
    pages: tuple[Page, ...]
    blocks: tuple[Block, ...] = ()
    report: FileReport | None = None

    def page_at(self, offset: int) -> Page:
        """The page that holds the character at `offset`."""
        for page in self.pages:
            if page.start <= offset < page.end:
                return page
        return self.pages[-1]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Chunk:
    """A passage: `text == document.text[start:end]`."""

    id: str  # f"{document_id[:16]}:{start}-{end}"
    document_id: str
    document_name: str
    text: str
    start: int
    end: int
    pages: tuple[int, ...]  # page numbers it touches, ascending
    heading: str = ""  # the headings above it, joined by " > "
    context: str = ""  # put before the text for encoder and generator: a table's header row
    tokens: int = 0  # in the encoder's own tokens, context included

    @property
    def content(self) -> str:
        """What models read: the table header that belongs to it, then the text."""
        return f"{self.context}\n{self.text}" if self.context else self.text

    def holds(self, other: Chunk) -> bool:
        """`other` is this stretch of the document or lies inside it."""
        same = self.document_id == other.document_id
        return same and self.start <= other.start and other.end <= self.end


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found by a retriever. Scores of different retrievers are not comparable."""

    chunk: Chunk
    score: float
    rank: int  # 1-based
    retriever: str
    parts: Mapping[str, float] = field(default_factory=dict)  # what the score was made from


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the generator picks words. Greedy unless `sample`."""

    max_tokens: int = 96
    sample: bool = False
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A named part of a prompt and what it costs, for the token budget bar."""

    name: str  # "template", "question", "passage 1", "history", "reserve"
    tokens: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator is given: a text (or chat messages), or passages to encode one by one."""

    question: str
    used: tuple[Hit, ...]  # in the order they stand in the prompt; empty for the baseline
    dropped: tuple[Hit, ...]  # the budget left no room for these
    cut: Mapping[str, int]  # chunk id -> tokens cut off its end
    segments: tuple[Segment, ...]
    limit: int  # the model's limit in tokens
    text: str = ""  # exactly what the model reads, special tokens shown
    messages: tuple[Mapping[str, str], ...] = ()  # chat models and endpoints
    passages: tuple[str, ...] = ()  # fusion-in-decoder: encoded one by one with the question


@dataclass(frozen=True, slots=True)
class Copied:
    """Provenance of a stretch of an answer: copied from `passage` of the prompt."""

    start: int  # in the answer
    end: int
    passage: int  # index into Prompt.used
    source_start: int  # in that passage's content
    source_end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a generator said."""

    text: str
    prompt: Prompt
    model: str
    tokens: int = 0
    finish: str = "stop"  # "stop", "length" (hit max_tokens), "cancelled" or "refused"
    seconds: Mapping[str, float] = field(default_factory=dict)  # stage -> seconds
    copied: tuple[Copied, ...] = ()
    shares: tuple[float, ...] = ()  # each used passage's share of attention; sums to 1
    confidence: float | None = None  # bundled model: p(the passages hold an answer), 0..1


@dataclass(frozen=True, slots=True)
class Support:
    """How far one sentence of an answer is borne out by the passages."""

    start: int  # in the answer
    end: int
    score: float  # 0..1, see grounding.py
    citation: int | None  # 1-based position in Comparison.hits; None when nothing bears it out
    evidence: Span | None  # in that passage's text
    unsupported: tuple[Span, ...] = ()  # numbers, dates and names in no passage; in the answer


@dataclass(frozen=True, slots=True)
class Marginal:
    """How RAG-Sequence weighed candidate answers y under passages z; see `fusion.py`.

    Rows are candidates, columns passages in the order of `Comparison.hits`.
    """

    candidates: tuple[str, ...]  # distinct; each was written from one passage or several alone
    written_from: tuple[tuple[int, ...], ...]  # columns
    prior: tuple[float, ...]  # p(z|x), sums to 1
    temperature: float  # of the softmax that made the prior from retrieval scores
    log_likelihoods: tuple[tuple[float, ...], ...]  # log p(y|x,z), natural

    @property
    def log_marginals(self) -> tuple[float, ...]:
        """log p(y|x) = log sum over z of p(z|x) p(y|x,z), a candidate each."""
        return tuple(_log_sum(joint) for joint in self._joint())

    @property
    def posteriors(self) -> tuple[tuple[float, ...], ...]:
        """p(z|x,y): which passage a candidate owes its probability to; each row sums to 1."""
        pairs = zip(self._joint(), self.log_marginals, strict=True)
        return tuple(tuple(math.exp(part - whole) for part in joint) for joint, whole in pairs)

    @property
    def winner(self) -> int:
        """The likeliest candidate; of equals the one written from the better passage."""
        sums = self.log_marginals
        return sums.index(max(sums))

    def _joint(self) -> list[list[float]]:
        """log p(z|x) + log p(y|x,z)."""
        known = [math.log(p) if p > 0 else -math.inf for p in self.prior]
        return [[a + b for a, b in zip(known, row, strict=True)] for row in self.log_likelihoods]


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs))


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question, its passages, and both answers: everything the Ask page shows."""

    question: str
    hits: tuple[Hit, ...]  # as in the prompt, then those it had no room for; `Hit.rank` is the rank
    grounded: Answer
    baseline: Answer
    support: tuple[Support, ...] = ()
    baseline_support: tuple[Support, ...] = ()
    floor: float | None = None  # the score a nonsense question reaches on this corpus
    weak: str = ""  # why the evidence is weak, or ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # document name -> SHA-256
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    marginal: Marginal | None = None  # where answers were written from each passage alone


@dataclass(frozen=True, slots=True)
class Example:
    """A question with what is known about its answer, for evaluation and training."""

    id: str
    question: str
    answer: str = ""
    short: tuple[str, ...] = ()  # accepted short answers
    file: str = ""  # gold file name
    pages: tuple[int, ...] = ()  # gold pages, 1-based
    answerable: bool = True
    kind: str = ""  # "plain", "paraphrase", "two passages", "unanswerable", ...
