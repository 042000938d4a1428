"""Arms: the configurations that a question set is put to, and what they are made from.

[{"name": "BM25, 3 passages", "retriever": "bm25", "k": 3}, {"name": "none", "retriever": ""}]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from ragdemo.corpus import Corpus
from ragdemo.errors import DocumentError
from ragdemo.generation.base import Generator
from ragdemo.loading.plain import decode
from ragdemo.retrieval import RETRIEVERS
from ragdemo.retrieval.base import Retriever
from ragdemo.settings import Ask, Chunking
from ragdemo.text import clean

MOST = 12  # arms of one run
LONGEST = 60  # characters of a name


@dataclass(frozen=True, slots=True)
class Arm:
    """One configuration. Checked when made; ValueError says what is wrong."""

    name: str
    retriever: str = "dense"  # a name in RETRIEVERS; "": no retrieval, the question alone
    k: int = 5  # passages looked up
    tokens: int = 200  # of a chunk, see settings.Chunking
    overlap: int = 40
    generator: str = "mini"  # or a Hugging Face id or folder, where the runner allows one
    fusion: str = "together"
    order: str = "best first"

    def __post_init__(self) -> None:
        for field in fields(self):
            kind = int if field.type == "int" else str
            if type(getattr(self, field.name)) is not kind:
                raise ValueError(f"{field.name} must be a {'number' if kind is int else 'text'}")
        if not self.name.strip() or len(self.name) > LONGEST or clean(self.name)[1]:
            raise ValueError(f"an arm needs a name of at most {LONGEST} characters")
        if self.retriever and self.retriever not in RETRIEVERS:
            known = ", ".join(RETRIEVERS)
            raise ValueError(f"unknown retriever {self.retriever[:40]!r}: choose from {known}, ''")
        self.ask  # noqa: B018 (checks k, fusion and order)
        self.chunking  # noqa: B018

    @property
    def ask(self) -> Ask:
        return Ask(k=self.k, fusion=self.fusion, order=self.order)

    @property
    def chunking(self) -> Chunking:
        return Chunking(self.tokens, self.overlap)


USUAL = (Arm("no retrieval", ""), Arm("retrieval"))  # the first is what others are compared with
COLUMNS: Mapping[str, str] = {
    "name": "how it is called in tables",
    "retriever": f"one of {', '.join(RETRIEVERS)}; empty for no retrieval",
    "k": "passages looked up, 1 to 20",
    "tokens": "length of a passage in tokens, 16 to 512",
    "overlap": "tokens repeated from the passage before, at most half the length",
    "generator": "mini, or a Hugging Face id",
    "fusion": "together, or marginalise (RAG-Sequence)",
    "order": "best first, best last, or as in the document",
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What arms are made from. Each may load something, and raise RagdemoError."""

    corpus: Callable[[Chunking], Corpus]
    retriever: Callable[[str, Corpus], Retriever]
    generator: Callable[[str], Generator]


def read_arms(data: bytes, name: str) -> list[Arm]:
    """The arms of a JSON file, a list of objects; every fault is named by its number.

    Raises DocumentError.
    """
    text, _ = decode(data, name)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DocumentError(f"{name} is no JSON. It needs a list of objects, an arm each.") from (
            problem
        )
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST:
        raise DocumentError(f"{name} must be a list of 1 to {MOST} objects, an arm each.")
    found, faults = [], []
    for number, row in enumerate(rows, start=1):
        try:
            if not isinstance(row, dict) or not {*row} <= {*COLUMNS}:
                raise ValueError(f"its fields must be among {', '.join(COLUMNS)}")
            found.append(Arm(**{"name": f"arm {number}", **row}))
        except ValueError as fault:
            faults.append(f"arm {number}: {fault}")
    names = [arm.name for arm in found]
    faults += [f"the name {n[:40]!r} comes twice" for n in sorted({*names}) if names.count(n) > 1]
    if faults:
        raise DocumentError(f"{name} was not taken. {'; '.join(faults)}. Correct it.")
    return found


def write_arms(arms: Sequence[Arm]) -> str:
    """What `read_arms` reads."""
    return json.dumps([asdict(arm) for arm in arms], ensure_ascii=False, indent=1)


def recut(corpus: Corpus, chunking: Chunking) -> Corpus:
    """The same documents, cut this way; the corpus itself where it is cut so already."""
    if chunking == corpus.chunking:
        return corpus
    other = Corpus(corpus.encoder, chunking)
    for document in corpus.documents.values():
        other.add(document)
    return other
